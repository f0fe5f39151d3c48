"""How far a task about programs came, and what the operator is told of it: its exit code, and what stands."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.desk import say, write
from deploy.errors import INTERRUPTED, Mistake, RaydockError
from deploy.hints import next_command
from deploy.report import Report

if TYPE_CHECKING:
    from types import FrameType

    from deploy.errors import Problem
    from deploy.settings import Settings

OUR_FAILURE = 125
OUTPUT_GONE = 141  # 128 + SIGPIPE, as any other program of a pipe that nobody reads
# Tasks that end with the exit code of a program.
PASSING_ON = frozenset({"job.run", "cluster.exec", "cluster.shell", "build.shell"})


class Signalled(KeyboardInterrupt):
    """A signal that ends us, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        """Have the exit code of what a signal ends."""
        super().__init__(number)
        self.exit = 128 + number


def raise_signal(number: int, _frame: FrameType | None) -> None:
    """Have a signal end what we do; a handler for it."""
    raise Signalled(number)


@dataclass
class Course:
    """How far a task came, also one that was broken off."""

    task: str
    cluster: str = ""
    loosened: tuple[str, ...] = ()
    changed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    exit: int = 0

    def about(self, settings: Settings) -> None:
        """Say which cluster the task is about, and what its settings loosen."""
        self.cluster, self.loosened = settings.cluster_name, tuple(settings.loosened())

    def fail(self, error: RaydockError) -> None:
        """End with what went wrong; where the program's own code is passed on, a failure of ours has its own."""
        self.problems = error.problems
        passed_on = self.task in PASSING_ON and not isinstance(error, Mistake)
        self.exit = OUR_FAILURE if passed_on else Report(self.task, problems=error.problems).exit

    @property
    def broken_off(self) -> bool:
        """Whether nobody waited for its end."""
        return self.exit in (INTERRUPTED, OUTPUT_GONE)

    def standing(self) -> list[str]:
        """Say what stands after a task that was broken off, or that ended with a code."""
        return []

    def document_facts(self) -> dict[str, Any]:
        """Give the document's own fields of the task."""
        return self.facts

    def document(self) -> str:
        """Give the one document that a program reads."""
        report = Report(
            self.task, self.cluster, problems=self.problems, facts=self.document_facts(), loosened=self.loosened
        )
        ended = {"ok": self.exit == 0, "exit": self.exit, "changed": self.changed}
        return json.dumps(report.json() | ended)

    def tell(self, *, as_json: bool) -> None:
        """Say how it ended, to people and, if they want it, to programs."""
        for problem in self.problems:
            say(f"{' '.join(filter(None, (problem.place, problem.code)))}: {problem.told}")
            if problem.cure:
                say(f"  → {problem.cure}")
        for line in self.standing():
            say(line)
        if self.exit == 0 and not as_json and (command := next_command(self.task, sys.argv[1:])):
            say(f"next: {command}")
        if as_json:
            write(self.document() + "\n")


@contextmanager
def ended(course: Course) -> Iterator[None]:
    """Turn whatever breaks off a task into its exit code."""
    from deploy.signals import ENDING, heed_no_more, on_signals

    try:
        with (
            on_signals(raise_signal, signal.SIGTERM, signal.SIGHUP),
            on_signals(signal.default_int_handler, signal.SIGINT),
        ):
            yield
    except KeyboardInterrupt as interrupt:
        course.exit = interrupt.exit if isinstance(interrupt, Signalled) else INTERRUPTED
        heed_no_more(*ENDING)
    except BrokenPipeError:  # of stdout: a connection's is a Failure
        course.exit = OUTPUT_GONE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python trips over it at its end
    except RaydockError as error:
        course.fail(error)
