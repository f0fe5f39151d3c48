"""A terminal of our own: what a person sees of a task, piece by piece, for tests and for the manual's pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pyte

COLUMNS, ROWS = 100, 30
TIMEOUT = 180  # seconds without a byte

Line = Mapping[int, Any]


@dataclass(frozen=True)
class Seen:
    """What was seen of a program: its exit code, and what it wrote, piece by piece."""

    code: int
    pieces: tuple[str, ...]

    @property
    def raw(self) -> str:
        """All that it wrote."""
        return "".join(self.pieces)

    def screens(self) -> Iterator[pyte.HistoryScreen]:
        """Give the screen after each piece; it is the same one each time."""
        screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000)
        stream = pyte.Stream(screen)
        for piece in self.pieces:
            stream.feed(piece)
            yield screen

    def lines(self, until: Callable[[str], bool] = lambda _: False) -> list[Line]:
        """Give the lines at the end, or at the first moment when the screen is as wanted, those scrolled away first."""
        screen = pyte.HistoryScreen(COLUMNS, ROWS)
        for screen in self.screens():  # noqa: B007 - the last one is wanted
            if until("\n".join(screen.display)):
                break
        return [*screen.history.top, *(screen.buffer[row] for row in range(ROWS))]

    @property
    def left(self) -> list[str]:
        """The lines at the end, as text."""
        return [text(line) for line in self.lines()]


def text(line: Line) -> str:
    """Give a line's letters."""
    return "".join(line[column].data for column in range(COLUMNS)).rstrip()


def watch(argv: list[str], environ: Mapping[str, str], folder: Path) -> Seen:
    """Type a command at a terminal, and watch it to its end."""
    child = pexpect.spawn(
        argv[0],
        argv[1:],
        cwd=str(folder),
        env={**environ, "TERM": "xterm-256color"},  # type: ignore[arg-type]  # its stub wants os.environ's own type
        dimensions=(ROWS, COLUMNS),
        encoding="utf-8",
    )
    pieces = []
    while True:
        try:
            pieces.append(child.read_nonblocking(4096, timeout=TIMEOUT))
        except pexpect.EOF:
            break
    child.close()
    return Seen(int(child.exitstatus or 0), tuple(pieces))
