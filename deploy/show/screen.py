"""Where progress and reports go."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.text import Text

from deploy.errors import Kind, shortened
from deploy.hints import typed
from deploy.outlet import Outlet
from deploy.report import LONGEST_LINE
from deploy.show.lines import Lines
from deploy.show.table import names, table
from deploy.show.text import BAR, clean

if TYPE_CHECKING:
    from deploy.errors import Problem
    from deploy.progress import Watch
    from deploy.report import Outcome, Report

PIPE_WIDTH = 160  # columns of a table that is piped


class Screen:
    """Where progress and reports go: stderr, so that stdout is for programs."""

    def __init__(self, environment: str | None = None) -> None:
        """Ask the terminal what it can do; a pipe gets plain lines. Commands are shown as typed in `environment`."""
        self._environment = environment
        # What reads a pipe has no width of its own.
        outlet = Outlet(sys.stderr)
        width = None if outlet.isatty() else PIPE_WIDTH
        self._console = Console(file=cast("TextIO", outlet), highlight=False, width=width)

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self._console.print(Text(clean(text), style=style), soft_wrap=True)

    def lines(self, *, verbose: bool = False) -> Lines:
        """Give who is told of a run and leaves a line of each thing."""
        return Lines(self._console, verbose=verbose)

    @contextmanager
    def watch(self, *, verbose: bool = False) -> Iterator[Watch]:
        """Give who is told of a run: rows that move on a terminal, lines anywhere else."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield self.lines(verbose=verbose)
            return
        # Loaded here, as is the chart: most runs that a program reads have neither, and both take a while to load.
        from deploy.show.rows import Rows

        with Rows(self._console, verbose=verbose) as rows:
            yield rows

    def report(self, report: Report) -> None:
        """Write the table, the problems and the time."""
        if len(report.outcomes) > 1 or any(outcome.facts["container"] != "unknown" for outcome in report.outcomes):
            shown = table(report, self._console.width)
            self._console.print(shown, soft_wrap=isinstance(shown, Text))
        for problem, outcomes in report.alike().items():
            self.problem(names(outcomes), problem, outcomes[0])
        for problem in report.problems:
            self.problem("", problem, None)
        if any(problem.kind is Kind.INPUT and not problem.cure for problem in report.problems):
            self.line("  → Correct what is told, then run it again: nothing was touched")
        if report.timings:
            from deploy.show.bars import chart

            for part in chart(report.outcomes, report.seconds, self._console.width):
                self._console.print(part)
        done = "nothing to do" if report.exit == 0 and not report.changed else "done" if report.exit == 0 else "failed"
        done = "interrupted" if report.interrupted else done
        self.line(f"{report.task}: {done} in {report.seconds:.1f} s", "bold" if report.exit == 0 else "bold red")

    def bugs(self, bugs: Sequence[BaseException]) -> None:
        """Write the traceback of the first, and how many more there are: others are mostly the same."""
        if bugs:
            self.line("".join(traceback.format_exception(bugs[0])).rstrip())
        if len(bugs) > 1:
            self.line(f"and {len(bugs) - 1} more like it, or not")

    def problem(self, who: str, problem: Problem, outcome: Outcome | None) -> None:
        """Write a problem: who has it, its code, its cause, the next move."""
        words = [who, problem.place if not outcome else "", problem.code]
        words += [f"({outcome.step})"] if outcome and outcome.step else []
        self.line(f"{' '.join(filter(None, words))}: {problem.told}", "red")
        for line in (outcome.facts["log_tail"] if outcome else ())[-10:]:
            self.line(f"{BAR}{shortened(line, LONGEST_LINE)}", "dim")
        if problem.cure:
            self.line(f"  → {typed(problem.cure, self._environment)}")
