"""Commands on a node: their output whole, or line by line while it comes."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invoke.exceptions import CommandTimedOut

from deploy.errors import Failure
from deploy.progress import Output, Say


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


def run_command(run: Callable[..., Any], argv: tuple[str, ...], timeout: float, say: Say | None) -> Result:
    """Run a command by Fabric's `Connection.run`, without a terminal or an input to ask at.

    Args:
        run: the connection's.
        argv: the command and its arguments.
        timeout: seconds; `COMMAND_FAILED` when they are over.
        say: who hears the lines while they come, if anybody.
    """
    streams = {"out_stream": Lines(say), "err_stream": Lines(say), "hide": False} if say else {"hide": True}
    line = f"{shlex.join(argv)} </dev/null"
    try:
        # Bytes come as they are: Latin-1 takes any, and what is not UTF-8 is replaced below. Somebody's ~/.invoke.yaml
        # may want a terminal, or each command on stdout.
        done = run(
            line, warn=True, pty=False, echo=False, in_stream=False, timeout=timeout, encoding="latin-1", **streams
        )
    except CommandTimedOut as error:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {timeout:.0f} s") from error
    return Result(done.exited, _utf8(done.stdout), _utf8(done.stderr))


def run_here(argv: tuple[str, ...], timeout: float, say: Say | None) -> Result:
    """Run a command on this machine; with `say` its errors are among its output."""
    try:
        return _heard(argv, timeout, say) if say else _unheard(argv, timeout)
    except subprocess.TimeoutExpired as error:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {timeout:.0f} s") from error
    except OSError as error:
        return Result(127, "", f"{argv[0]}: {error.strerror}")


def _unheard(argv: tuple[str, ...], timeout: float) -> Result:
    done = subprocess.run(  # noqa: S603 - argv of ours, no shell
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _heard(argv: tuple[str, ...], timeout: float, say: Say) -> Result:
    lines, text, end = Lines(say), [], time.monotonic() + timeout
    with subprocess.Popen(  # noqa: S603 - argv of ours, no shell
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="latin-1"
    ) as child:
        killer = threading.Timer(timeout, child.kill)
        killer.daemon = True
        killer.start()
        for line in child.stdout or ():
            lines.write(line)
            text.append(line)
        killer.cancel()
    if child.returncode < 0 and time.monotonic() >= end:
        raise subprocess.TimeoutExpired(argv, timeout)
    return Result(child.returncode, _utf8("".join(text)), "")


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
