"""Ray's REST API on the head: its nodes, its jobs and what they print. A session says how to reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO
from urllib.parse import quote

import requests

from deploy.errors import Failure
from deploy.ray_api.answers import PLACE, Job, RayNode, job_of, nodes_of, stopped_of
from deploy.ray_api.calls import Calls, NoAnswer, Patience
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
    ) -> None:
        """Ask through a session. `patience` is for a head that is gone, `silence` for a silent program."""
        self._calls = Calls(session, token, base, timeout)
        self._patience = Patience(patience, poll)
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
        except NoAnswer as lost:
            # Only the answer may have been lost: then the job is there.
            if not self._known(submission_id):
                raise lost

    def job(self, submission_id: str) -> Job:
        """Give what Ray knows of a job; `JOB_NOT_FOUND` where it knows none of this id."""
        answer = self._calls.json("GET", _job_path(submission_id), absent=True)
        if answer is None:
            raise _not_found(submission_id)
        return job_of(submission_id, answer)

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end, by SIGTERM, and 3 s later by SIGKILL; tell whether it ran."""
        answer = self._calls.json("POST", f"{_job_path(submission_id)}/stop", absent=True)
        if answer is None:
            raise _not_found(submission_id)
        return stopped_of(answer)

    def log_lines(self, submission_id: str) -> Iterator[bytes]:
        r"""Give what a job prints, as it prints it, until it has ended: lines with their ends (`\n` or `\r`).

        Each line comes once. The live stream does not end with the job and may be cut before it has given
        the last lines: so what it has not given is read from the file afterwards.
        """

        def ask() -> Job:
            return self.job(submission_id)

        job = self._patience.ask(ask)
        log = Log(self._calls, self._patience, self._silence, ask)
        return program_lines(log.lines(job), job.entrypoint)

    def _known(self, submission_id: str) -> bool:
        with suppress(Failure):
            return bool(self.job(submission_id))
        return False


def _package(name: str) -> str:
    return f"/api/packages/gcs/{quote(name, safe='')}"


def _job_path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _not_found(submission_id: str) -> Failure:
    return Failure("JOB_NOT_FOUND", f"Ray knows no job {submission_id}", place=PLACE)
