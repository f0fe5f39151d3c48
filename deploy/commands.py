"""Commands on a node: their output whole, or line by line while it comes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from invoke.exceptions import CommandTimedOut

from deploy.errors import Failure
from deploy.progress import Output, Say

# A command that goes on where nobody reads its output any more: what would end it is a pipe without a reader. A package
# manager that ends in the middle leaves packages half installed.
OUTLIVING = ("bash", "-c", 'set -o pipefail; "$@" 2>&1 | tee -p /dev/null', "bash")
# Those of this machine that end with us.
_children: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Result:
    """What came of a command."""

    code: int
    output: str
    errors: str


class Lines:
    """A stream that passes each whole line on."""

    def __init__(self, say: Say) -> None:
        """Begin with an empty line."""
        self._say, self._rest = say, ""

    def write(self, text: str) -> None:
        """Take a piece of output."""
        *lines, self._rest = (self._rest + text).replace("\r", "\n").split("\n")
        for line in filter(None, map(str.strip, lines)):
            self._say(Output(_utf8(line)))

    def flush(self) -> None:
        """Nothing: a line is passed on when it has ended."""


def run_command(
    run: Callable[..., Any], argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool = False
) -> Result:
    """Run a command by Fabric's `Connection.run`, without a terminal or an input to ask at.

    Args:
        run: the connection's.
        argv: the command and its arguments.
        timeout: seconds; `COMMAND_FAILED` when they are over.
        say: who hears the lines while they come, if anybody.
        outlives: whether it goes on where the connection ends.
    """
    streams = {"out_stream": Lines(say), "err_stream": Lines(say), "hide": False} if say else {"hide": True}
    line = f"{shlex.join((*OUTLIVING, *argv) if outlives else argv)} </dev/null"
    try:
        # Bytes come as they are: Latin-1 takes any, and what is not UTF-8 is replaced below. Somebody's ~/.invoke.yaml
        # may want a terminal, or each command on stdout.
        done = run(
            line, warn=True, pty=False, echo=False, in_stream=False, timeout=timeout, encoding="latin-1", **streams
        )
    except CommandTimedOut as error:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {timeout:.0f} s") from error
    return Result(done.exited, _utf8(done.stdout), _utf8(done.stderr))


def run_here(argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool = False) -> Result:
    """Run a command on this machine; with `say` its errors are among its output, and one that outlives us is let go."""
    try:
        with _child(argv, outlives=outlives, errors_apart=say is None) as child:
            return _heard(child, timeout, say) if say else _unheard(child, timeout)
    except subprocess.TimeoutExpired as error:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {timeout:.0f} s") from error
    except OSError as error:
        return Result(127, "", f"{argv[0]}: {error.strerror}")


@contextmanager
def _child(argv: tuple[str, ...], *, outlives: bool, errors_apart: bool) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(  # noqa: S603 - argv of ours, no shell
        (*OUTLIVING, *argv) if outlives else argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
        # A terminal's Ctrl-C is for us: what becomes of a child is for us to say.
        process_group=0,
    ) as child:
        if not outlives:
            _children.add(child)
        try:
            yield child
        except BaseException:
            _end(child)
            raise
        finally:
            _children.discard(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a child, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def end_children() -> None:
    """Kill what was started on this machine, but for what outlives us."""
    for child in list(_children):
        _end(child)


def _unheard(child: subprocess.Popen[bytes], timeout: float) -> Result:
    output, errors = child.communicate(timeout=timeout)
    return Result(child.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def _heard(child: subprocess.Popen[bytes], timeout: float, say: Say) -> Result:
    lines, text, end = Lines(say), [], time.monotonic() + timeout
    killer = threading.Timer(timeout, _end, (child,))
    killer.daemon = True
    killer.start()
    for line in child.stdout or ():
        text.append(line.decode("latin-1"))
        lines.write(text[-1])
    killer.cancel()
    if child.wait() < 0 and time.monotonic() >= end:
        raise subprocess.TimeoutExpired(child.args, timeout)
    return Result(child.returncode, _utf8("".join(text)), "")


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
