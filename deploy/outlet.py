"""Where text goes out: a terminal, a pipe, a file, any of which may be gone by now."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TextIO


class Outlet(io.TextIOBase):
    """A stream whose reader may have gone: what is written then is lost, and nobody stumbles over it."""

    def __init__(self, stream: TextIO | None) -> None:
        """Go out by a stream; there is none where it was closed before we began."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, at once."""
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                _lose(self._stream)
        return len(text)

    def flush(self) -> None:
        """Nothing: what is written goes out at once."""

    def fileno(self) -> int:
        """Give its descriptor, for who asks about a terminal."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # there it may be set
        """How it writes characters."""
        return (self._stream and self._stream.encoding) or "utf-8"


def _lose(stream: TextIO) -> None:
    """Have nothing come of what is still in a stream, also when Python flushes it at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
