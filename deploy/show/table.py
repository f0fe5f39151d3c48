"""The nodes of a report as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from deploy.show.text import clean

if TYPE_CHECKING:
    from deploy.report import Outcome, Report

STYLES = {"ok": "green", "failed": "red", "unreachable": "red", "skipped": "dim"}
SHOWN = 5  # names that one line lists


def table(report: Report) -> Table:
    """Give the nodes in the inventory's order."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("node", "outcome", "container", "id", "ray", "done"):
        shown.add_column(title)
    for outcome in report.outcomes:
        if not outcome.asked and not outcome.problem:
            continue
        facts = outcome.facts
        known = [
            "" if facts[key] in ("unknown", None) else str(facts[key]) for key in ("container", "container_id", "ray")
        ]
        did = ", ".join(filter(None, [*outcome.done, outcome.problem.code if outcome.problem else ""])) or "-"
        # As Text: in a string rich reads [fe80::1] as its own markup.
        name, word = Text(outcome.node.name), Text(outcome.word, STYLES[outcome.word])
        shown.add_row(name, word, *map(Text, known), Text(clean(did)))
    return shown


def names(outcomes: list[Outcome]) -> str:
    """Name the nodes of a problem, the first few of many."""
    listed = [outcome.node.name for outcome in outcomes]
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")
