"""How far a task about jobs came: what becomes of its job where it is broken off, and what to type then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.course import Course, Signalled
from deploy.desk import say
from deploy.errors import RaydockError
from deploy.programs import ending, follow_line, stop, stop_line

if TYPE_CHECKING:
    from deploy.ray_api import Job, RayApi


@dataclass
class JobCourse(Course):
    """How far a task about jobs came, also one that was broken off."""

    submitting: str = ""  # the id of a job that was sent, whether it arrived or not
    job_id: str = ""
    job: Job | None = None
    asked_to_end: bool = False
    # Has the audit on the head say that this task acted.
    note: Callable[[], None] = lambda: None
    noted: bool = False

    def begin(self) -> None:
        """Have the audit say so, before anything is done: a task that is cut off has acted, too."""
        if not self.noted:
            self.noted = True
            self.note()

    def standing(self) -> list[str]:
        """Say what stands after a task that was broken off, or that ended with a code."""
        if self.problems and not self.broken_off:
            return []
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

    def document_facts(self) -> dict[str, Any]:
        """Give the document's fields about the job."""
        job_exit = self.job.exit_code if self.job else None
        return {"job": self.job_id or None, "job_exit": job_exit, **self.facts}


@contextmanager
def left_or_stopped(course: JobCourse, api: RayApi) -> Iterator[None]:
    """At Ctrl-C ask whether the job shall end too; unless somebody says so, it goes on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if course.job_id and not isinstance(interrupt, Signalled) and _shall_end(course.job_id):
            course.begin()
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
