"""Programs on the running cluster."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from deploy.errors import Problem
    from deploy.parcel import Parcel
    from deploy.ray_api import Job, RayApi

OUR_FAILURE = 125
INTERRUPTED = 130
STOPPED = 143  # 128 + SIGTERM, by which Ray stops a program
OUTPUT_GONE = 141  # 128 + SIGPIPE, as any other program of a pipe that nobody reads
TOLD = 10  # files that stay, by name; of more, their number

Write = Callable[[bytes], object]
Say = Callable[[str], object]


@task(
    help={
        "file": "The Python program; its own arguments follow after ` -- `.",
        "folder": "Ship the folder that holds the program too, without secrets and what git ignores.",
        "json": "Print one JSON document on stdout; the program's output goes to stderr.",
    }
)
def run(c: Context, file: str, folder: str = "", json: bool = False) -> None:
    """Run a program on the cluster, with its output live, and end with its exit code."""
    from deploy.desk import dry
    from deploy.parcel import arguments_after_dashes

    arguments = arguments_after_dashes(sys.argv)
    course = Course()
    with _ended(course):
        if dry(c):
            print(by_hand(file, folder, arguments))
            return
        _run(c, course, file, folder, arguments, _writer(sys.stderr if json else sys.stdout))
    _tell(course, json=json)
    if course.exit:
        raise Exit(code=course.exit)


@dataclass
class Course:
    """How far a run came, also one that was broken off."""

    cluster: str = ""
    job_id: str = ""
    job: Job | None = None
    job_exit: int | None = None
    problems: tuple[Problem, ...] = ()
    exit: int = OUR_FAILURE


def by_hand(file: str, folder: str, arguments: Sequence[str]) -> str:
    """Give the command that does the same, typed on the head."""
    from deploy.desk import scope_of
    from deploy.flags import Flags
    from deploy.parcel import entrypoint, locate

    root, program = locate(file, folder)
    head = scope_of(Flags()).container("head")
    there = shlex.quote(str(root))
    return f"docker exec {head} ray job submit --working-dir {there} -- {entrypoint(program, arguments)}"


def run_job(
    api: RayApi,
    parcel: Parcel,
    entrypoint: str,
    write: Write,
    *,
    job_id: str = "",
    submitted: Say = lambda _job_id: None,
) -> Job:
    """Ship a parcel, run its program and write what it prints, until it has ended; give its job.

    `submitted` is told the job's id: from then on it runs without us. `JOB_LOST` where we lost sight of it.
    """
    job_id = job_id or new_id()
    if not api.has_package(parcel.name):
        api.upload(parcel.name, parcel.content)
    api.submit(entrypoint, job_id, parcel.name)
    submitted(job_id)
    return follow(api, job_id, write)


def follow(api: RayApi, job_id: str, write: Write) -> Job:
    """Write what a job prints until it has ended, and give the job."""
    from deploy.errors import Failure

    try:
        for line in api.log_lines(job_id):
            write(line)
        return api.job(job_id)
    except Failure as failure:
        lost = f"the job was lost from sight and may still run: {failure.error}"
        raise Failure("JOB_LOST", lost, "See what runs: invoke cluster.status", place=job_id) from failure


def new_id() -> str:
    """Give an id for a job that no other has."""
    import secrets

    return f"raydock-{secrets.token_hex(6)}"


def exit_code(job: Job) -> int:
    """Give a shell's exit code for a job that has ended; `JOB_FAILED` where Ray did not run it to its end."""
    from deploy.errors import Failure

    if job.status == "STOPPED":
        return STOPPED
    code = 0 if job.status == "SUCCEEDED" else job.driver_exit_code
    if code is None:
        said = shortened(job.message) or "Ray does not say why"
        raise Failure("JOB_FAILED", f"Ray did not run the program to its end: {said}", place=job.id)
    return code if code >= 0 else 128 - code


def shortened(message: str, limit: int = 300) -> str:
    """Give a message in one line; of a long one, a traceback, the beginning and, above all, the end."""
    line = " ".join(message.split())
    return line if len(line) <= limit else f"{line[: limit // 3]} … {line[-limit * 2 // 3 :]}"


def _run(c: Context, course: Course, file: str, folder: str, arguments: Sequence[str], write: Write) -> None:
    from deploy.desk import open_head
    from deploy.parcel import entrypoint, pack

    def submitted(job_id: str) -> None:
        course.job_id = job_id
        _say(f"submitted {job_id}")

    with pack(file, folder) as parcel:
        _say_withheld(parcel.withheld)
        line = entrypoint(parcel.program, arguments)
        with open_head(c) as head:
            course.cluster = head.settings.cluster_name
            course.job = run_job(head.ray, parcel, line, write, submitted=submitted)
    course.exit = course.job_exit = exit_code(course.job)


@contextmanager
def _ended(course: Course) -> Iterator[None]:
    """Turn whatever breaks off a run into its exit code."""
    from deploy.errors import Mistake, RaydockError

    try:
        yield
    except KeyboardInterrupt:
        course.exit = INTERRUPTED
    except BrokenPipeError:  # of stdout: a connection's is a Failure
        course.exit = OUTPUT_GONE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python trips over it at its end
    except RaydockError as error:
        course.problems = error.problems
        course.exit = error.problems[0].kind.value if isinstance(error, Mistake) else OUR_FAILURE


def _tell(course: Course, *, json: bool) -> None:
    """Say how it ended, to people and, if they want it, to programs."""
    for problem in course.problems:
        _say(f"{problem.code} {problem}")
    if course.exit in (INTERRUPTED, OUTPUT_GONE) and course.job_exit is None:
        _say(f"{course.job_id} goes on without us" if course.job_id else "interrupted: nothing was submitted")
    elif course.job_exit:
        _say(f"{course.job_id} ended with exit code {course.job_exit}")
    if json:
        print(_document(course), flush=True)


def _document(course: Course) -> str:
    from json import dumps

    from deploy.report import Report

    facts = {"job": course.job_id or None, "job_exit": course.job_exit}
    report = Report("job.run", course.cluster, problems=course.problems, facts=facts)
    ended = {"ok": course.exit == 0, "exit": course.exit, "changed": bool(course.job_id)}
    return dumps(report.json() | ended)


def _say_withheld(withheld: Sequence[str]) -> None:
    for reason in withheld[:TOLD]:
        _say(f"not shipped: {reason}")
    if len(withheld) > TOLD:
        _say(f"not shipped: {len(withheld) - TOLD} more")


def _writer(stream: object) -> Write:
    """Give what passes a program's bytes on at once, as they are."""
    from typing import TextIO, cast

    buffer = cast(TextIO, stream).buffer

    def write(line: bytes) -> None:
        buffer.write(line)
        buffer.flush()

    return write


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
