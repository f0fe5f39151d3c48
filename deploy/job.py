"""Programs on the running cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from deploy.passing import Write, arguments_after_dashes, writer

if TYPE_CHECKING:
    from deploy.jobs import JobCourse
    from deploy.ray_api import RayApi

Line = Callable[[], str]
Act = Callable[["JobCourse"], None]

JSON = "Print one JSON document on stdout, whatever happens."
OUTPUT_JSON = "Print one JSON document on stdout; the program's output goes to stderr."
ID = "The job's id, as job.run and job.list tell it"


class IdMayBeLeftOut(Task[Callable[..., object]]):
    """A task whose ID may be left out: what Invoke takes by its place it always insists on."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> Any:
        """Give the arguments for this command line."""
        from deploy.programs import id_in

        self.positional = ["id"] if id_in(sys.argv, "job.logs") else []
        return super().get_arguments(ignore_unknown_help)


@task(
    help={
        "file": "The Python program; its own arguments follow after ` -- `.",
        "folder": "Ship the folder that holds the program too, without secrets and what git ignores.",
        "json": OUTPUT_JSON,
    }
)
def run(c: Context, file: str, folder: str = "", json: bool = False) -> None:
    """Run a program on the cluster, with its output live, and end with its exit code."""
    arguments = arguments_after_dashes(sys.argv)

    def act(course: JobCourse) -> None:
        _run(c, course, file, folder, arguments, writer(sys.stderr if json else sys.stdout))

    _perform(c, "job.run", lambda: _submit_line(file, folder, arguments), act, json=json)


@task(name="list", help={"json": JSON})
def list_(c: Context, json: bool = False) -> None:
    """Show the programs that were submitted to the cluster, the newest last."""
    _perform(c, "job.list", lambda: _on_head("list"), lambda course: _list(c, course, shown=not json), json=json)


@task(
    klass=IdMayBeLeftOut,
    help={
        "id": f"{ID}, with or without --id before it; left out, it is the latest job.",
        "follow": "Go on until the job has ended, and end with its exit code.",
        "json": OUTPUT_JSON,
    },
)
def logs(c: Context, id: str | None = None, follow: bool = False, json: bool = False) -> None:
    """Print what a program printed so far, or with --follow all that it prints until it ends."""

    def act(course: JobCourse) -> None:
        _logs(c, course, id, follow, writer(sys.stderr if json else sys.stdout))

    _perform(c, "job.logs", lambda: _logs_line(id, follow), act, json=json)


@task(help={"id": f"{ID}.", "json": JSON})
def stop(c: Context, id: str, json: bool = False) -> None:
    """Stop a program, and wait until it has ended."""
    from deploy.programs import checked_id

    _perform(c, "job.stop", lambda: _on_head("stop", checked_id(id)), lambda course: _stop(c, course, id), json=json)


def _submit_line(file: str, folder: str, arguments: Sequence[str]) -> str:
    from deploy.parcel import entrypoint, locate

    root, program = locate(file, folder)
    return f"{_on_head('submit', '--working-dir', str(root))} -- {entrypoint(program, arguments)}"


def _logs_line(id: str | None, follow: bool) -> str:
    from deploy.programs import checked_id

    flags = ("--follow",) if follow else ()
    if id is not None:
        return _on_head("logs", checked_id(id), *flags)
    return f"{_on_head('logs', 'ID', *flags)}  # ID: the latest of {_on_head('list')}"


def _on_head(*words: str) -> str:
    """Give the command of Ray's own that does the same, typed on the head."""
    from deploy.desk import scope_of
    from deploy.flags import Flags

    return shlex.join(("docker", "exec", scope_of(Flags()).container("head"), "ray", "job", *words))


def _run(c: Context, course: JobCourse, file: str, folder: str, arguments: Sequence[str], write: Write) -> None:
    from deploy.desk import say
    from deploy.jobs import left_or_stopped
    from deploy.parcel import entrypoint, pack
    from deploy.programs import exit_code, follow, new_id, ship

    with pack(file, folder) as parcel:
        _say_withheld(parcel.withheld)
        with _api(c, course) as api, left_or_stopped(course, api):
            course.begin()
            ship(api, parcel)
            course.submitting = new_id()
            api.submit(entrypoint(parcel.program, arguments), course.submitting, parcel.name)
            course.job_id, course.changed = course.submitting, True
            say(f"submitted {course.job_id}")
            course.job = follow(api, course.job_id, write)
    course.exit = exit_code(course.job)


def _list(c: Context, course: JobCourse, *, shown: bool) -> None:
    import time

    from deploy.desk import say
    from deploy.listing import TITLES, columns, record
    from deploy.show.jobs import listing

    with _api(c, course) as api:
        jobs = api.jobs()
    course.facts = {"jobs": [record(job) for job in jobs]}
    if not jobs:
        say("no jobs: nothing was submitted to this cluster yet")
    elif shown:
        listing(TITLES, [columns(job, time.time()) for job in jobs])


def _logs(c: Context, course: JobCourse, id: str | None, following: bool, write: Write) -> None:
    from deploy.desk import say
    from deploy.jobs import left_or_stopped
    from deploy.programs import checked_id, ending, exit_code, follow, follow_line, latest, shortened

    wanted = None if id is None else checked_id(id)
    with _api(c, course) as api:
        course.job = api.job(wanted) if wanted else latest(api)
        course.job_id = course.job.id
        if not wanted:
            say(f"the latest job is {course.job_id}: {shortened(course.job.entrypoint)}")
        if following:
            with left_or_stopped(course, api):
                course.job = follow(api, course.job_id, write)
            course.exit = exit_code(course.job)
            return
        for line in api.log_lines(course.job_id, follow=False):
            write(line)
    say(
        f"{course.job_id} {ending(course.job)}" + ("" if course.job.final else f"; go on: {follow_line(course.job_id)}")
    )


def _stop(c: Context, course: JobCourse, id: str) -> None:
    from deploy.desk import say
    from deploy.programs import checked_id, ending, stop

    wanted = checked_id(id)
    with _api(c, course) as api:
        course.job = api.job(wanted)
        course.job_id = course.job.id
        if course.job.final:
            say(f"nothing to do: {course.job_id} {ending(course.job)}, before")
            return
        course.begin()
        course.asked_to_end = True
        course.job = stop(api, course.job_id, say)
    course.changed = course.job.status == "STOPPED"
    say(f"{course.job_id} {ending(course.job)}")


def _perform(c: Context, name: str, line: Line, act: Act, *, json: bool) -> None:
    """Do what a task does, or with `--dry` print the line that it stands for; tell how it ended."""
    from deploy.course import ended
    from deploy.desk import dry
    from deploy.jobs import JobCourse

    course = JobCourse(name)
    with ended(course):
        if dry(c):
            print(line())
            return
        act(course)
    course.tell(as_json=json)
    if course.exit:
        raise Exit(code=course.exit)


@contextmanager
def _api(c: Context, course: JobCourse) -> Iterator[RayApi]:
    """Have the API of the running head for a block."""
    from deploy.desk import open_head

    with open_head(c) as head:
        course.about(head.settings)
        course.note = partial(head.note, course.task)
        yield head.ray


def _say_withheld(withheld: Sequence[str]) -> None:
    from deploy.desk import say
    from deploy.withheld import told

    for line in told(withheld, "shipped"):
        say(line)
