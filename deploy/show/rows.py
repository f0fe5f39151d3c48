"""Progress as rows that move: one for each node at work, one for all of them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from deploy.progress import Amount, News, Output
from deploy.show.lines import Lines
from deploy.show.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.inventory import Node

FEW = 10  # nodes whose steps have a line each that stays; of more, the table at the end tells
BAR = 12  # columns
WIDE, NARROW = 90, 60  # columns of a terminal that has room for the bar, and for the bytes
CONNECTING = "connect"


class Bytes(ProgressColumn):
    """How many bytes of how many, and how fast."""

    def render(self, task: Task) -> Text:
        """Give nothing for a step that has no bytes."""
        if not task.total or not task.fields["counted"]:
            return Text()
        speed = task.finished_speed or task.speed
        rate = f" {decimal(int(speed))}/s" if speed else ""
        return Text(f"{decimal(int(task.completed))}/{decimal(int(task.total))}{rate}", style="dim")


class Since(ProgressColumn):
    """How long a step goes on, in minutes and seconds."""

    def render(self, task: Task) -> Text:
        """Give it as a stopwatch does."""
        minutes, seconds = divmod(int(task.elapsed or 0), 60)
        return Text(f"{minutes}:{seconds:02}", style="dim")


class Bar(BarColumn):
    """A bar for what can be counted, nothing for what cannot."""

    def render(self, task: Task) -> Text:  # type: ignore[override]  # an empty cell is no bar
        """Give nothing for a step whose end nobody knows."""
        return super().render(task) if task.total else Text()  # type: ignore[return-value]


def columns(width: int) -> tuple[ProgressColumn, ...]:
    """Give what a row shows on a terminal of so many columns: what it is at, before how far it is."""
    name = Column(no_wrap=True, overflow="ellipsis", max_width=min(28, width // 3))
    words = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    far: tuple[ProgressColumn, ...] = (Bar(bar_width=BAR), Bytes(table_column=Column(no_wrap=True)))
    return (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}", style="bold", markup=False, table_column=name),
        TextColumn("{task.description}", markup=False, table_column=words),
        *(far if width >= WIDE else far[1:] if width >= NARROW else ()),
        Since(table_column=Column(no_wrap=True)),
    )


class Rows(Lines):
    """Rows that move, below the lines that stay; gone when the run has ended."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        """Nothing moves before the block begins."""
        super().__init__(console, verbose=verbose)
        self._progress = Progress(
            *columns(console.width),
            console=console,
            transient=True,
            expand=True,
            # stdout is for programs, and none of our business.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lock = threading.Lock()
        self._rows: dict[Node, TaskID] = {}
        self._all: TaskID | None = None
        self._nodes, self._ended = 0, 0

    def __enter__(self) -> Self:
        """Begin to move."""
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the lines that stay, and nothing else."""
        self._progress.stop()

    def stage(self, nodes: int) -> None:
        """Count the nodes anew."""
        with self._lock:
            self._nodes, self._ended = nodes, 0
            if nodes > 1 and self._all is None:
                self._all = self._progress.add_task("", name="all", total=nodes, counted=False)
            self._count()

    def begins(self, node: Node) -> None:
        """Give the node a row."""
        row = self._progress.add_task(CONNECTING, name=node.name, total=None, counted=False)
        with self._lock:
            self._rows[node] = row

    def step(self, node: Node, title: str) -> None:
        """Have the row tell the step, and since when."""
        if (row := self._rows.get(node)) is not None:
            words = clean(title)
            # What is not said again is forgotten.
            self._progress.reset(row, description=words, total=None, counted=False, title=words, name=node.name)

    def hear(self, node: Node, news: News) -> None:
        """Keep a line that is worth it; have the row tell the rest while it is news."""
        row = self._rows.get(node)
        if isinstance(news, str) or (isinstance(news, Output) and self._verbose):
            super().hear(node, news)
        elif row is not None and isinstance(news, Amount):
            self._progress.update(
                row,
                description=self._title(row, news.text),
                total=news.total or None,
                completed=news.done,
                counted=bool(news.total),
            )
        elif row is not None:
            self._progress.update(row, description=self._title(row, news.text))

    def did(self, node: Node, title: str, seconds: float) -> None:
        """Keep a line of it where the nodes are few."""
        if self._nodes <= FEW:
            super().did(node, title, seconds)

    def ends(self, node: Node) -> None:
        """Take the node's row away."""
        with self._lock:
            self._ended += 1
            row = self._rows.pop(node, None)
            self._count()
        if row is not None:
            self._progress.remove_task(row)

    def _count(self) -> None:
        if self._all is not None:
            words = f"{self._ended} of {self._nodes} nodes"
            self._progress.update(self._all, description=words, total=self._nodes, completed=self._ended)

    def _title(self, row: TaskID, text: str) -> str:
        title = next((task.fields.get("title", "") for task in self._progress.tasks if task.id == row), "")
        return ": ".join(filter(None, (title, clean(text))))
