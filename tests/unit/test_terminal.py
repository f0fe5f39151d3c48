"""The operator's terminal, and the feeding of a program from it or from a pipe: real ones, and a program that notes."""

from __future__ import annotations

import fcntl
import os
import pty
import queue
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from deploy.course import Signalled, raise_signal
from deploy.engine.attach import Program, Size
from deploy.errors import Failure
from deploy.signals import on_signals
from deploy.terminal import fed, raw, size_of

SOON = 5.0  # seconds


class Notes:
    """A program that notes what it is fed."""

    def __init__(self) -> None:
        self.fed: queue.Queue[object] = queue.Queue()

    def write(self, content: bytes) -> None:
        self.fed.put(content)

    def end_input(self) -> None:
        self.fed.put("end")

    def resize(self, size: Size) -> None:
        self.fed.put(size)

    def next(self) -> object:
        return self.fed.get(timeout=SOON)

    @property
    def as_program(self) -> Program:
        return cast("Program", self)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    keys, end = pty.openpty()
    resize(end, 24, 80)
    yield keys, end
    for one in (keys, end):
        try:
            os.close(one)
        except OSError:
            assert one == keys, "a test closes the keys alone"


def resize(end: int, rows: int, columns: int) -> None:
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def mode(end: int) -> list[Any]:
    return termios.tcgetattr(end)


@pytest.mark.parametrize("error", [Failure("SSH_LOST", "gone"), Signalled(signal.SIGTERM), SystemExit(1)], ids=repr)
def test_a_terminal_is_restored_whatever_happens(terminal: tuple[int, int], error: BaseException) -> None:
    _, end = terminal
    before = mode(end)
    with raw(end):
        assert not mode(end)[3] & (termios.ISIG | termios.ICANON | termios.ECHO)
    assert mode(end) == before
    with pytest.raises(type(error)), raw(end):
        raise error
    assert mode(end) == before


def test_a_terminal_that_is_gone_is_no_error(terminal: tuple[int, int]) -> None:
    keys, end = terminal
    with raw(end):
        os.close(keys)


def test_a_program_at_a_terminal_has_its_size_and_its_keys(terminal: tuple[int, int]) -> None:
    keys, end = terminal
    program = Notes()
    with raw(end), fed(program.as_program, end, terminal=True):
        assert program.next() == Size(24, 80)
        os.write(keys, b"ls\r\x03")
        assert program.next() == b"ls\r\x03"
        resize(end, 50, 132)
        signal.raise_signal(signal.SIGWINCH)
        assert program.next() == Size(50, 132) == size_of(end)
    os.write(keys, b"later")
    time.sleep(0.1)
    assert program.fed.empty()
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


def test_a_program_is_fed_from_a_pipe_until_its_end() -> None:
    reading, writing = os.pipe()
    program = Notes()
    with fed(program.as_program, reading, terminal=False):
        os.write(writing, b"\xff\0")
        assert program.next() == b"\xff\0"
        os.close(writing)
        assert program.next() == "end"
    os.close(reading)


def test_a_descriptor_that_cannot_be_read_is_at_its_end() -> None:
    folder = os.open("/", os.O_RDONLY)
    program = Notes()
    with fed(program.as_program, folder, terminal=False):
        assert program.next() == "end"
    os.close(folder)


def test_a_terminal_that_goes_ends_us_as_its_signal_does(terminal: tuple[int, int]) -> None:
    keys, end = terminal
    threading.Timer(0.1, os.close, [keys]).start()
    feeding = fed(Notes().as_program, end, terminal=True)
    with on_signals(raise_signal, signal.SIGHUP), feeding, pytest.raises(Signalled) as ended:
        time.sleep(SOON)
    assert ended.value.exit == 129


def test_a_program_that_takes_nothing_more_is_told_of_elsewhere() -> None:
    class Gone(Notes):
        def write(self, _: bytes) -> None:
            raise Failure("SSH_LOST", "gone")

    reading, writing = os.pipe()
    os.write(writing, b"more")
    with fed(Gone().as_program, reading, terminal=False):
        pass
    os.close(reading)
    os.close(writing)
