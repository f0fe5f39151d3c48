"""Commands on a node, by Invoke's runners: their output whole, or line by line while it comes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invoke.context import Context
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
    """Run a command by a runner's `run`, without a terminal or an input to ask at.

    Args:
        run: `Connection.run` of Fabric, or `Context.run` of Invoke.
        argv: the command and its arguments.
        timeout: seconds; `COMMAND_FAILED` when they are over.
        say: who hears the lines while they come, if anybody.
    """
    streams = {"out_stream": Lines(say), "err_stream": Lines(say), "hide": False} if say else {"hide": True}
    line = f"{shlex.join(argv)} </dev/null"
    try:
        # Bytes come as they are: Latin-1 takes any, and what is not UTF-8 is replaced below.
        done = run(line, warn=True, in_stream=False, timeout=timeout, encoding="latin-1", **streams)
    except CommandTimedOut as error:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {timeout:.0f} s") from error
    return Result(done.exited, _utf8(done.stdout), _utf8(done.stderr))


def run_here(argv: tuple[str, ...], timeout: float, say: Say | None) -> Result:
    """Run a command on this machine."""
    return run_command(Context().run, argv, timeout, say)


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
