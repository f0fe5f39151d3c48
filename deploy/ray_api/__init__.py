"""Ray's REST API on the head: its nodes, its jobs and what they print. A session says how to reach it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO
from urllib.parse import quote

import requests

from deploy.errors import Failure
from deploy.ray_api.answers import PLACE, Job, RayNode, job_of, jobs_of, nodes_of, stopped_of, submitted
from deploy.ray_api.calls import Calls, NoAnswer, Patience, may_pass
from deploy.ray_api.lines import program_lines
from deploy.ray_api.log import Log
from deploy.secret import Secret

__all__ = ["Job", "RayApi", "RayNode"]

BASE = "http://node"
LIMIT = 10_000  # rows; Ray's own greatest, its default is 100 and dead nodes count


class RayApi:
    """Ray's REST API. Every error is a `Failure`; times are seconds."""

    def __init__(
        self,
        session: requests.Session,
        token: Secret | None,
        *,
        base: str = BASE,
        timeout: float = 20,
        poll: float = 0.5,
        patience: float = 30,
        silence: float = 300,
        reconnect: Callable[[], None] = lambda: None,
        see: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask through a session. `patience` is for a head that is gone, `silence` for a silent program.

        `reconnect` has the session use a new connection, where the one that it had is lost; `see` looks at the head
        where only Ray does not answer, and raises where it will not.
        """
        self._calls = Calls(session, token, base, timeout)
        self._patience = Patience(patience, poll, reconnect, see)
        self._silence = silence

    def nodes(self) -> list[RayNode]:
        """Give Ray's node list; empty while nothing answers."""
        try:
            return nodes_of(self._calls.json("GET", f"/api/v0/nodes?limit={LIMIT}"))
        except NoAnswer:
            return []

    def has_package(self, name: str) -> bool:
        """Tell whether the head holds the package."""
        return self._calls.text("GET", _package(name), absent=True) is not None

    def upload(self, name: str, content: BinaryIO) -> None:
        """Send a package, a zip file, to the head."""
        content.seek(0)
        # A file object goes in small pieces; one bytes object would take the square of its size in time.
        self._calls.text("PUT", _package(name), data=content, timeout=6 * self._calls.timeout)

    def submit(self, entrypoint: str, submission_id: str, package: str) -> None:
        """Have the head run the shell line `entrypoint` in the package's folder."""
        wanted = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "runtime_env": {"working_dir": f"gcs://{package}"},
        }
        try:
            self._calls.json("POST", "/api/jobs/", json=wanted, timeout=3 * self._calls.timeout)
        except Failure as lost:
            if not may_pass(lost):
                raise
            # Only the answer may have been lost: then the job is there.
            self._find(submission_id, lost)

    def jobs(self) -> list[Job]:
        """Give all jobs that were submitted and that Ray still knows, the newest last."""
        return jobs_of(self._calls.json("GET", "/api/jobs/"))

    def job(self, submission_id: str) -> Job:
        """Give what Ray knows of a job; `JOB_NOT_FOUND` where it knows none of this id."""
        answer = self._calls.json("GET", _job_path(submission_id), absent=True)
        if answer is None or not submitted(answer):
            raise _not_found(submission_id)
        return job_of(submission_id, answer)

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end, by SIGTERM, and 3 s later by SIGKILL; tell whether it ran."""
        path = f"{_job_path(submission_id)}/stop"
        answer = self._patience.ask(lambda: self._calls.json("POST", path, absent=True))
        if answer is None:
            raise _not_found(submission_id)
        return stopped_of(answer)

    def ended(self, submission_id: str, within: float) -> Job:
        """Give a job as soon as it has ended, or as it is when the time is over."""
        until = time.monotonic() + within
        while True:
            job = self._patience.ask(lambda: self.job(submission_id))
            if job.final or time.monotonic() > until:
                return job
            time.sleep(self._patience.poll)

    def log_lines(self, submission_id: str, *, follow: bool = True) -> Iterator[bytes]:
        r"""Give what a job prints, as it prints it, until it has ended: lines with their ends (`\n` or `\r`).

        Each line comes once. The live stream does not end with the job and may be cut before it has given
        the last lines: so what it has not given is read from the file afterwards. Without `follow` what there
        is by now.
        """

        def ask() -> Job:
            return self.job(submission_id)

        job = self._patience.ask(ask)
        log = Log(self._calls, self._patience, self._silence, ask)
        return program_lines(log.until_its_end(job) if follow else log.so_far(job), job.entrypoint)

    def _find(self, submission_id: str, lost: Failure) -> None:
        """Pass where a job is there of which the answer was lost."""
        try:
            self._patience.ask(lambda: self.job(submission_id))
        except Failure as failure:
            if failure.code == "JOB_NOT_FOUND":
                raise lost from failure
            unknown = f"whether the program was submitted is not known: {failure.error}"
            raise Failure(
                "JOB_LOST", unknown, "See whether it is there: invoke job.list", place=submission_id
            ) from lost


def _package(name: str) -> str:
    return f"/api/packages/gcs/{quote(name, safe='')}"


def _job_path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _not_found(submission_id: str) -> Failure:
    known = f"Ray knows no job {shlex.quote(submission_id)}"
    return Failure("JOB_NOT_FOUND", known, "See what there is: invoke job.list", place=PLACE)
