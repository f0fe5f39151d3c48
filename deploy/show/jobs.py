"""The listing of jobs, on stdout: it is what was asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.show.text import clean

STATES = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "bold", "STOPPED": "dim"}
PIPE_WIDTH = 10_000  # columns of a listing that is piped: a row is a line, and nothing is cut off


def listing(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a line for each row; on a terminal the last column is cut off where it has no room."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    shown = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for title in titles[:-1]:
        shown.add_column(title, no_wrap=True)
    shown.add_column(titles[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        shown.add_row(*(Text(clean(" ".join(cell.split())), STATES.get(cell, "")) for cell in row))
    with console.capture() as written:
        console.print(shown)
    for line in written.get().splitlines():
        print(line.rstrip())
    sys.stdout.flush()
