"""`job.list`: the jobs as a person and as a program read them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.programs import shortened

if TYPE_CHECKING:
    from deploy.ray_api import Job

TITLES = ("id", "status", "since", "took", "exit", "entrypoint")


def columns(job: Job, now: float) -> tuple[str, ...]:
    """Give a job's row of the table; `now` in seconds since 1970."""
    code = "" if job.exit_code is None else str(job.exit_code)
    since = "" if job.begun is None else f"{datetime.fromtimestamp(job.begun):%Y-%m-%d %H:%M:%S}"
    return job.id, job.status, since, took(job, now), code, shortened(job.entrypoint)


def took(job: Job, now: float) -> str:
    """Say how long a job ran, or has been running."""
    if job.begun is None:
        return ""
    # The head's clock may be ahead of ours.
    seconds = max(0, round((job.ended or now) - job.begun))
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"


def record(job: Job) -> dict[str, Any]:
    """Give a job's object in the JSON document; times in UTC."""
    return {
        "job": job.id,
        "status": job.status,
        "begun": _moment(job.begun),
        "ended": _moment(job.ended),
        "job_exit": job.exit_code,
        "entrypoint": job.entrypoint,
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
