"""The report as a person reads it: one table, each cause once with its next move. rich's only door."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from deploy.errors import Problem
    from deploy.inventory import Node
    from deploy.report import Outcome, Report

STYLES = {"ok": "green", "failed": "red", "unreachable": "red", "skipped": "dim"}
PIPE_WIDTH = 160  # columns of a table that is piped
SHOWN = 5  # names that one line lists


class Screen:
    """Where progress and reports go: stderr, so that stdout is for programs."""

    def __init__(self) -> None:
        """Ask the terminal what it can do; a pipe gets plain lines."""
        # What reads a pipe has no width of its own.
        width = None if sys.stderr.isatty() else PIPE_WIDTH
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True, width=width)

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self._console.print(Text(clean(text), style=style))

    def progress(self, node: Node, text: str) -> None:
        """Write what a node does."""
        self._console.print(Text(f"{node.name:<16} ", style="dim").append(clean(text), style=""))

    def report(self, report: Report) -> None:
        """Write the table, the problems and the time."""
        if len(report.outcomes) > 1 or any(outcome.facts["container"] != "unknown" for outcome in report.outcomes):
            self._console.print(table(report))
        for problem, outcomes in report.alike().items():
            self.problem(names(outcomes), problem, outcomes[0])
        for problem in report.problems:
            self.problem("", problem, None)
        done = "nothing to do" if report.exit == 0 and not report.changed else "done" if report.exit == 0 else "failed"
        self.line(f"{report.task}: {done} in {report.seconds:.1f} s", "bold" if report.exit == 0 else "bold red")

    def problem(self, who: str, problem: Problem, outcome: Outcome | None) -> None:
        """Write a problem: who has it, its code, its cause, the next move."""
        words = [who, problem.place if not outcome else "", problem.code]
        words += [f"({outcome.step})"] if outcome and outcome.step else []
        self.line(f"{' '.join(filter(None, words))}: {problem.error}", "red")
        for line in (outcome.facts["log_tail"] if outcome else ())[-10:]:
            self.line(f"    {line}", "dim")
        if problem.cure:
            self.line(f"  → {problem.cure}")


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


def clean(text: str) -> str:
    """Show control characters of a node's output as what they are: none reaches the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}" for letter in text)
