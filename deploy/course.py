"""How far a task about programs came, and what the operator is told of it: its exit code, what stands, what to type."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.desk import say
from deploy.errors import Mistake, RaydockError
from deploy.hints import next_command
from deploy.programs import ending, follow_line, stop, stop_line
from deploy.report import INTERRUPTED, Report

if TYPE_CHECKING:
    from deploy.errors import Problem
    from deploy.ray_api import Job, RayApi

OUR_FAILURE = 125
OUTPUT_GONE = 141  # 128 + SIGPIPE, as any other program of a pipe that nobody reads


@dataclass
class Course:
    """How far a task came, also one that was broken off."""

    task: str
    cluster: str = ""
    submitting: str = ""  # the id of a job that was sent, whether it arrived or not
    job_id: str = ""
    job: Job | None = None
    asked_to_end: bool = False
    changed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    exit: int = 0

    def fail(self, error: RaydockError) -> None:
        """End with what went wrong; where the program's own code is passed on, a failure of ours has its own."""
        self.problems = error.problems
        passed_on = self.task == "job.run" and not isinstance(error, Mistake)
        self.exit = OUR_FAILURE if passed_on else Report(self.task, problems=error.problems).exit

    @property
    def broken_off(self) -> bool:
        """Whether nobody waited for its end."""
        return self.exit in (INTERRUPTED, OUTPUT_GONE)

    def standing(self) -> list[str]:
        """Say what stands after a task that was broken off, or that ended with a code."""
        if self.job and self.job.final:
            return [f"{self.job_id} {ending(self.job)}"] if self.exit else []
        if not self.broken_off:
            return []
        if self.asked_to_end:
            return [f"{self.job_id} was asked to end: see whether it has: invoke job.list"]
        if self.job_id:
            return [
                f"{self.job_id} goes on without us",
                f"  → Its output: {follow_line(self.job_id)}",
                f"  → Its end: {stop_line(self.job_id)}",
            ]
        if self.submitting:
            return [f"interrupted: see whether {self.submitting} was submitted: invoke job.list"]
        return ["interrupted: nothing was submitted" if self.task == "job.run" else "interrupted: nothing was changed"]

    def document(self) -> str:
        """Give the one document that a program reads."""
        job_exit = self.job.exit_code if self.job else None
        facts = {"job": self.job_id or None, "job_exit": job_exit, **self.facts}
        report = Report(self.task, self.cluster, problems=self.problems, facts=facts)
        ended = {"ok": self.exit == 0, "exit": self.exit, "changed": self.changed}
        return json.dumps(report.json() | ended)

    def tell(self, *, as_json: bool) -> None:
        """Say how it ended, to people and, if they want it, to programs."""
        for problem in self.problems:
            say(f"{problem.code} {problem}")
        if not self.problems or self.broken_off:
            for line in self.standing():
                say(line)
        if self.exit == 0 and not as_json and (command := next_command(self.task, sys.argv[1:])):
            say(f"next: {command}")
        if as_json:
            print(self.document(), flush=True)


@contextmanager
def ended(course: Course) -> Iterator[None]:
    """Turn whatever breaks off a task into its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        course.exit = INTERRUPTED
    except BrokenPipeError:  # of stdout: a connection's is a Failure
        course.exit = OUTPUT_GONE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python trips over it at its end
    except RaydockError as error:
        course.fail(error)


@contextmanager
def left_or_stopped(course: Course, api: RayApi) -> Iterator[None]:
    """At Ctrl-C ask whether the job shall end too; unless somebody says so, it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if course.job_id and _shall_end(course.job_id):
            course.asked_to_end = True
            try:
                course.job = stop(api, course.job_id, say)
            except RaydockError as error:
                course.problems = error.problems
        raise


def _shall_end(job_id: str) -> bool:
    """Ask, where somebody is there to be asked; another Ctrl-C is a no."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    sys.stderr.write(f"\n{job_id} runs. Stop it? Otherwise it goes on. [y/N] ")
    sys.stderr.flush()
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):
            sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")
