"""The log of a job, each line once: from a live stream, opened again where it was cut, and at the end from the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlencode

import requests

from deploy.channel.http import pieces
from deploy.errors import Failure
from deploy.ray_api.answers import CURE, PLACE, Job, short
from deploy.ray_api.calls import LOST, Calls, NoAnswer, Patience, no_answer
from deploy.ray_api.lines import Lines, Tail

Ask = Callable[[], Job]


class Log:
    """What one job prints. `silence`: seconds after which a stream that gives nothing is opened again."""

    def __init__(self, calls: Calls, patience: Patience, silence: float, ask: Ask) -> None:
        """`ask` tells how the job is now."""
        self._calls = calls
        self._patience = patience
        self._silence = silence
        self._ask = ask

    def so_far(self, job: Job) -> Iterator[bytes]:
        """Give the lines that there are by now, Ray's own among them."""
        return self._rest(job, Lines())

    def until_its_end(self, job: Job) -> Iterator[bytes]:
        """Give the lines of a job until it has ended, Ray's own among them."""
        lines = Lines()
        with closing(Tail()) as tail:
            while not job.final:
                if job.driver_node_id and not tail.open:
                    tail.start(self._log("stream", job, lines.taken, timeout=self._silence))
                for chunk in tail.chunks(self._patience.poll):
                    yield from lines.add(chunk)
                job = self._patience.ask(self._ask)
        yield from self._rest(job, lines)

    def _rest(self, job: Job, lines: Lines) -> Iterator[bytes]:
        """Give what a job printed beyond the lines taken so far."""
        since = None
        while job.driver_node_id:
            try:
                for chunk in self._log("file", job, lines.taken, timeout=self._calls.timeout):
                    since = None
                    yield from lines.add(chunk)
                break
            except Failure as failure:
                since = self._patience.bear(failure, since)
        yield from lines.end()

    def _log(self, kind: str, job: Job, start: int, *, timeout: float) -> Iterator[bytes]:
        """Give the bytes of a job's output from `start` on: a `file` has an end, a `stream` grows."""
        path = f"/api/v0/logs/{kind}?{urlencode(_query(kind, job))}"
        try:
            with self._calls.send("GET", path, timeout=timeout) as response:
                if response.status_code == requests.codes.internal_server_error:
                    return _no_file_is_no_output(self._calls.read(response))
                self._calls.check(response)
                for chunk in pieces(response):
                    yield chunk[start:]
                    start = max(0, start - len(chunk))
        except LOST as error:
            raise no_answer(error) from error


def _query(kind: str, job: Job) -> dict[str, str]:
    return {
        "node_id": job.driver_node_id,
        "filename": f"job-driver-{job.id}.log",
        "lines": "-1",
        # Ray stops reading a file after 30 s otherwise, however long it is; it takes an interval for a stream only.
        **({"interval": "0.25"} if kind == "stream" else {"timeout": "86400"}),
    }


def _no_file_is_no_output(text: str) -> None:
    """Pass where Ray has no file of the output yet: a job that could not begin never has one."""
    if "file is not found" not in text.lower():
        raise NoAnswer("RAY_API_FAILED", f"Ray gave no output: {short(text)}", CURE, place=PLACE)
