"""The operator's terminal: raw while a program has it, and then again as it was; its size; what is typed at it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.engine.attach import Size
from deploy.errors import Failure
from deploy.signals import on_signals

if TYPE_CHECKING:
    from deploy.engine.attach import Program

PIECE = 64 * 1024  # bytes
RESIZED = b"."
PATIENCE = 1.0  # seconds for who still reads, at the end


def size_of(terminal: int) -> Size:
    """Give the size of a terminal."""
    size = os.get_terminal_size(terminal)
    return Size(size.lines, size.columns)


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Have every key go to the program for the block, Ctrl-C too; then the terminal is as it was."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may be gone
            termios.tcsetattr(terminal, termios.TCSANOW, before)


@contextmanager
def fed(program: Program, source: int, *, terminal: bool) -> Iterator[None]:
    """For the block, have a program read what comes from a descriptor, and at a terminal follow its size."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def resized(_number: int, _frame: object) -> None:
        # No call from here: what it interrupts may hold the locks of the connection.
        with contextlib.suppress(OSError):
            os.write(wake, RESIZED)

    feeder = threading.Thread(target=_feed, args=(program, source, woken), kwargs={"terminal": terminal}, daemon=True)
    with on_signals(resized, signal.SIGWINCH):
        feeder.start()
        try:
            yield
        finally:
            os.close(wake)
            feeder.join(PATIENCE)


def _feed(program: Program, source: int, woken: int, *, terminal: bool) -> None:
    # Who reads the output is told of what went wrong.
    with contextlib.suppress(Failure):
        if terminal:
            _resize(program, source)
        for content in _pieces(program, source, woken):
            if content:
                program.write(content)
            elif terminal:  # it is gone, whether or not the kernel has told us
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)
            else:
                program.end_input()
    os.close(woken)


def _pieces(program: Program, source: int, woken: int) -> Iterator[bytes]:
    """Give what comes until the block ends; nothing as the last piece where it ends before."""
    content = b"?"
    while content:
        ready, _, _ = select.select([source, woken], [], [])
        if woken in ready:
            if not os.read(woken, PIECE):
                return
            _resize(program, source)
        if source in ready:
            yield (content := _read(source))


def _read(source: int) -> bytes:
    try:
        return os.read(source, PIECE)
    except OSError:  # a folder, a terminal that is gone
        return b""


def _resize(program: Program, source: int) -> None:
    with contextlib.suppress(Failure, OSError):
        program.resize(size_of(source))
