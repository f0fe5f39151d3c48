"""Progress as lines, for a pipe, a file, or a terminal that cannot move its cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from deploy.progress import Amount, News, Output, Watch
from deploy.show.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.inventory import Node

NAME_WIDTH = 16  # columns; a longer name pushes its line to the right
SELDOM = 10.0  # seconds between two lines on how far one step is


class Lines(Watch):
    """Progress as lines, each of which says which node it is of."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        """With `verbose` what the nodes print is shown too."""
        self._console, self._verbose = console, verbose
        self._next: dict[Node, float] = {}

    def stage(self, nodes: int) -> None:
        """Nothing: each line names its node."""

    def begins(self, node: Node) -> None:
        """Nothing: the first step is told."""

    def step(self, node: Node, title: str) -> None:
        """Say that a step begins."""
        self._next[node] = time.monotonic() + SELDOM
        self._line(node, f"{title} …")

    def hear(self, node: Node, news: News) -> None:
        """Say what is worth a line; how far a step is only from time to time."""
        if isinstance(news, Output):
            if self._verbose:
                self._line(node, news.text)
        elif isinstance(news, str):
            self._line(node, news)
        elif time.monotonic() >= self._next.get(node, 0.0):
            self._next[node] = time.monotonic() + SELDOM
            self._line(node, far(news))

    def did(self, node: Node, title: str, seconds: float) -> None:
        """Say that a step is done, and how long it took."""
        self._line(node, f"{title}: done in {seconds:.1f} s")

    def ends(self, node: Node) -> None:
        """Nothing: the report tells how it ended."""

    def _line(self, node: Node, text: str) -> None:
        name, said = f"{node.name:<{NAME_WIDTH}} ", clean(text)
        if self._console.is_terminal:
            self._console.print(Text(name, style="dim").append(said, style="not dim"), soft_wrap=True)
        else:
            # Of a thousand nodes there are many, and nothing is coloured.
            self._console.file.write(f"{name}{said}\n")


def far(amount: Amount) -> str:
    """Give how far a step is, in words."""
    megabytes = f"{amount.done // 1_000_000} of {amount.total // 1_000_000} MB" if amount.total >= 1_000_000 else ""
    return ", ".join(filter(None, (amount.text, megabytes)))
