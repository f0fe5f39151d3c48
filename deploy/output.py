"""What a command writes: how much of it is kept, which lines are told, where it begins and ends."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deploy.progress import Output

if TYPE_CHECKING:
    from deploy.progress import Say

PIECE = 128 * 1024  # bytes
HEAD, TAIL = 1024 * 1024, 256 * 1024  # bytes of an output that are kept: from its beginning, and to its end
LINE = 8 * 1024  # bytes of a line that are told
CODE = len(" 255\n")  # bytes that follow the second mark
NOISE = 200  # bytes of what a login shell says by itself that are told


class Kept:
    """An output: all of it, or its beginning, how much was left out, and its end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._head, self._tail, self._between = bytearray(), bytearray(), 0

    def add(self, piece: bytes) -> None:
        """Take a piece."""
        room = HEAD - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        if len(self._tail) > 2 * TAIL:
            self._between += len(self._tail) - TAIL
            del self._tail[:-TAIL]

    @property
    def text(self) -> str:
        """What is kept."""
        between = f"\n[{self._between} bytes left out]\n".encode() if self._between else b""
        return bytes(self._head + between + self._tail).decode(errors="replace")


class Lines:
    """An output that passes each whole line on."""

    def __init__(self, say: Say) -> None:
        """Begin with an empty line."""
        self._say, self._rest = say, bytearray()

    def add(self, piece: bytes) -> None:
        """Take a piece; of a line that does not end only the beginning is told."""
        *lines, rest = piece.replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._add(line)
            if told := self._rest.decode(errors="replace").strip():
                self._say(Output(told))
            self._rest.clear()
        self._add(rest)

    def _add(self, part: bytes) -> None:
        self._rest += part[: LINE - len(self._rest)]


class Marked:
    """One of the streams of a login shell, of which the command's output is what stands between two marks."""

    def __init__(self, mark: str, takers: Iterable[Kept | Lines]) -> None:
        """Begin before the first mark."""
        self._mark, self._takers = mark.encode(), tuple(takers)
        self._end = re.compile(re.escape(self._mark) + rb" ([0-9]{1,3})\n")
        self._held = b""
        self.begun = False
        self.code: int | None = None
        self._noise = b""

    @property
    def noise(self) -> str:
        """What came before the first mark, as far as it is told."""
        return (self._noise + (b"" if self.begun else self._held)).decode(errors="replace").strip()[:NOISE]

    def add(self, piece: bytes) -> bool:
        """Take a piece, and tell whether the second mark was in it."""
        self._held += piece
        if not self.begun:
            before, mark, after = self._held.partition(self._mark + b"\n")
            # What may be the mark's beginning stays.
            sure = len(before) if mark else max(len(before) - len(self._mark), 0)
            self._noise = (self._noise + before[:sure])[:NOISE]
            self.begun, self._held = bool(mark), after if mark else before[sure:]
        if self.begun:
            ended = self._end.search(self._held)
            self._pass(ended.start() if ended else self._sure())
            self.code = int(ended.group(1)) if ended else None
        return self.code is not None

    def _pass(self, length: int) -> None:
        content, self._held = self._held[:length], self._held[length:]
        for taker in self._takers:
            taker.add(content)

    def _sure(self) -> int:
        """Give how much of what is held cannot belong to the second mark."""
        # The node knows the mark, too: what follows it is not held for longer than a code can be.
        if (at := self._held.rfind(self._mark)) >= 0 and len(self._held) - at < len(self._mark) + CODE:
            return at
        for length in range(min(len(self._mark), len(self._held)), 0, -1):
            if self._held.endswith(self._mark[:length]):
                return len(self._held) - length
        return len(self._held)


class Whole:
    """A stream that is taken in to its end."""

    def __init__(self, *takers: Kept | Lines) -> None:
        """Have some take it."""
        self._takers = takers

    def add(self, piece: bytes) -> bool:
        """Take a piece; there is no end but the stream's own."""
        for taker in self._takers:
            taker.add(piece)
        return False


def gather(seconds: float, *streams: tuple[Callable[[int], bytes], Marked | Whole]) -> bool:
    """Have streams taken in until each has ended; tell whether they have within so many seconds."""
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=_take, args=stream, daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return not any(thread.is_alive() for thread in threads)


def _take(read: Callable[[int], bytes], stream: Marked | Whole) -> None:
    # A channel that acknowledges what it has read may meet the end of its connection.
    with contextlib.suppress(OSError, EOFError, ValueError):
        while (piece := read(PIECE)) and not stream.add(piece):
            pass
