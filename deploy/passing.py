"""What passes through a task to a program and back: its arguments, and its output."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TextIO

Write = Callable[[bytes], object]


def arguments_after_dashes(argv: Sequence[str]) -> list[str]:
    """Give what follows the first ` -- ` of a command line: Invoke keeps it from its tasks."""
    return list(argv[argv.index("--") + 1 :]) if "--" in argv else []


def writer(stream: TextIO) -> Write:
    """Give what passes a program's bytes on at once, as they are."""

    def write(content: bytes) -> None:
        try:
            stream.buffer.write(content)
            stream.buffer.flush()
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that is gone
                raise
            raise BrokenPipeError(str(error)) from error

    return write
