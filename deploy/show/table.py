"""The nodes of a report as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from deploy.show.text import clean

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.report import Outcome, Report

STYLES = {"ok": "green", "failed": "red", "unreachable": "red", "skipped": "dim"}
TITLES = ("node", "outcome", "container", "id", "ray", "done")
GAP = "  "  # between two columns
SHOWN = 5  # names that one line lists

Row = tuple[str, ...]


def table(report: Report, width: int) -> Table | Text:
    """Give the nodes in the inventory's order; what is wider than so many columns has cells of several lines."""
    rows = list(rows_of(report))
    widths = [max(map(cell_len, column)) for column in zip(TITLES, *rows, strict=True)]
    fits = sum(widths) + len(GAP) * (len(TITLES) - 1) <= width
    return aligned(rows, widths) if fits else folded(rows)


def rows_of(report: Report) -> Iterator[Row]:
    """Give what is told of each node that was asked, or that something is wrong with."""
    for outcome in report.outcomes:
        if not outcome.asked and not outcome.problem:
            continue
        facts = outcome.facts
        shown_facts = [facts[key] for key in ("container", "container_id", "ray")]
        known = ["" if fact in ("unknown", None) else clean(str(fact)) for fact in shown_facts]
        did = ", ".join(filter(None, [*outcome.done, outcome.problem.code if outcome.problem else ""])) or "-"
        yield outcome.node.name, outcome.word, *known, clean(did)


def aligned(rows: Sequence[Row], widths: Sequence[int]) -> Text:
    """Write a line for each row: of thousands, that takes a moment."""
    lines = [Text(GAP.join(map(padded, TITLES, widths)), style="bold")]
    for name, word, *others in rows:
        line = Text(f"{padded(name, widths[0])}{GAP}").append(padded(word, widths[1]), style=STYLES[word])
        lines.append(
            line.append("".join(f"{GAP}{padded(cell, width)}" for cell, width in zip(others, widths[2:], strict=True)))
        )
    return Text("\n").join(lines)


def padded(cell: str, width: int) -> str:
    """Fill a cell with blanks to its column's width."""
    return cell + " " * (width - cell_len(cell))


def folded(rows: Sequence[Row]) -> Table:
    """Give a table whose cells are folded where they are too wide."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in TITLES:
        shown.add_column(title)
    for name, word, *others in rows:
        # As Text: in a string rich reads [fe80::1] as its own markup.
        shown.add_row(Text(name), Text(word, STYLES[word]), *map(Text, others))
    return shown


def names(outcomes: list[Outcome]) -> str:
    """Name the nodes of a problem, the first few of many."""
    listed = [outcome.node.name for outcome in outcomes]
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")
