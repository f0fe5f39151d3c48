"""Programs as jobs of Ray's: shipped, followed to their end or stopped before it, and what came of them."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deploy import errors
from deploy.errors import Failure, Mistake

if TYPE_CHECKING:
    from deploy.parcel import Parcel
    from deploy.passing import Write
    from deploy.ray_api import Job, RayApi

STOP_DEADLINE = 30.0  # seconds; Ray itself kills what has not ended 3 s after it was asked to
ID_LIMIT = 200  # letters

Say = Callable[[str], object]


def new_id() -> str:
    """Give an id for a job that no other has."""
    return f"raydock-{secrets.token_hex(6)}"


def checked_id(text: str) -> str:
    """Give an id that somebody typed; `USAGE` where no job that can be named in a URL has it."""
    text = text.strip()
    if 0 < len(text) <= ID_LIMIT and text.isprintable() and "/" not in text and text.strip(".") and text[0] != "-":
        return text
    raise Mistake.of("USAGE", f"{text[:ID_LIMIT]!r} is no id of a job", "See what there is: invoke job.list")


def latest(api: RayApi) -> Job:
    """Give the job that was submitted last; `JOB_NOT_FOUND` where there is none."""
    jobs = api.jobs()
    if not jobs:
        raise Failure("JOB_NOT_FOUND", "no program was submitted to this cluster", "Run one: invoke job.run FILE")
    return jobs[-1]


def ship(api: RayApi, parcel: Parcel) -> None:
    """Have the head hold a parcel."""
    if not api.has_package(parcel.name):
        api.upload(parcel.name, parcel.content)


def follow(api: RayApi, job_id: str, write: Write) -> Job:
    """Write what a job prints until it has ended, and give the job; `JOB_LOST` where we lost sight of it."""
    try:
        for line in api.log_lines(job_id):
            write(line)
        return api.ended(job_id, within=0)
    except Failure as failure:
        if failure.code == "HEAD_NOT_RUNNING":
            ended = f"{failure.error}, and the job with it"
            raise Failure("JOB_LOST", ended, f"{failure.cure}; then run the program again", place=job_id) from failure
        lost = f"the job was lost from sight and may still run: {failure.error}"
        raise Failure("JOB_LOST", lost, f"Take it up again: {follow_line(job_id)}", place=job_id) from failure


def stop(api: RayApi, job_id: str, say: Say, *, deadline: float = STOP_DEADLINE) -> Job:
    """Have a job end, and give it when it has; `JOB_STILL_RUNS` where it has not in time (seconds)."""
    api.stop(job_id)
    say(f"{job_id} was asked to end, waiting up to {deadline:.0f} s")
    job = api.ended(job_id, deadline)
    if not job.final:
        late = f"it was asked to end, and has not within {deadline:.0f} s ({job.status})"
        raise Failure("JOB_STILL_RUNS", late, f"Ask again: {stop_line(job_id)}", place=job_id)
    return job


def exit_code(job: Job) -> int:
    """Give a shell's exit code for a job that has ended; `JOB_FAILED` where Ray did not run it to its end."""
    if job.exit_code is None:
        raise Failure("JOB_FAILED", f"Ray did not run the program to its end: {reason(job)}", place=job.id)
    return job.exit_code


def ending(job: Job) -> str:
    """Say how a job ended, or that it has not."""
    if job.status == "STOPPED":
        return "was stopped"
    if not job.final:
        return "has not begun yet" if job.status == "PENDING" else "runs"
    if job.exit_code is None:
        return f"was not run to its end: {reason(job)}"
    return f"ended with exit code {job.exit_code}"


def reason(job: Job) -> str:
    """Give what Ray says of a job that it could not run."""
    return shortened(job.message) or "Ray does not say why"


def shortened(message: str, limit: int = 300) -> str:
    """Give a message in one line; of a long one, a traceback, the beginning and, above all, the end."""
    return errors.shortened(" ".join(message.split()), limit)


def follow_line(job_id: str) -> str:
    """Give the command that takes a job's output up again."""
    return f"invoke job.logs {shlex.quote(job_id)} --follow"


def stop_line(job_id: str) -> str:
    """Give the command that ends a job."""
    return f"invoke job.stop {shlex.quote(job_id)}"


def id_in(argv: Sequence[str], task: str) -> bool:
    """Tell whether an id follows a task's name on a command line, rather than flags, another task or nothing."""
    words = list(argv[: argv.index("--")] if "--" in argv else argv)
    if task not in words:
        return False
    after = words[words.index(task) + 1 :]
    if any(word in ("-i", "--id") or word.startswith("--id=") for word in after):
        return False
    first = next((word for word in after if not word.startswith("-")), "")
    return bool(first) and first.partition(".")[0] not in ("build", "publish", "cluster", "job", "sandbox")
