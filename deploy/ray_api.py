"""Ray's REST API on the head: its nodes, its jobs and what they print. A session says how to reach it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from queue import Empty, Full, Queue
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

import requests
import urllib3

from deploy.errors import Failure
from deploy.secret import Secret

BASE = "http://node"
PLACE = "head"
CURE = "See what runs: invoke cluster.status"
LIMIT = 10_000  # rows; Ray's own greatest, its default is 100 and dead nodes count
BODY_LIMIT = 64 << 20  # bytes; a job's message holds the end of its output
LINE_LIMIT = 1 << 16  # bytes; a longer line is passed on in pieces
FINAL = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
STATUSES = FINAL | {"PENDING", "RUNNING"}
NOT_READY = frozenset({502, 503, 504})
# What a cut, closed or silent connection raises; requests' own errors are OSErrors.
LOST = (OSError, EOFError, urllib3.exceptions.HTTPError)
SETTING_UP = re.compile(rb"\tINFO job_manager\.py:\d+ -- Runtime env is setting up\.\s*\Z")

T = TypeVar("T")


class NoAnswer(Failure):
    """Nothing answers at Ray's API, or it stopped in the middle: asking again may help."""


@dataclass(frozen=True)
class RayNode:
    """A row of Ray's node list. A dead node keeps its row, and a restarted one has two."""

    address: str
    state: str
    node_id: str
    is_head: bool

    @property
    def alive(self) -> bool:
        """Whether Ray counts the node alive."""
        return self.state == "ALIVE"


@dataclass(frozen=True)
class Job:
    """A program that was submitted, as Ray tells of it."""

    id: str
    status: str
    driver_exit_code: int | None = None
    driver_node_id: str = ""
    message: str = ""
    entrypoint: str = ""

    @property
    def final(self) -> bool:
        """Whether it has ended, however it did."""
        return self.status in FINAL


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
        self._session = session
        self._token = token
        self._base = base
        self._timeout = timeout
        self._poll = poll
        self._patience = patience
        self._silence = silence

    def nodes(self) -> list[RayNode]:
        """Give Ray's node list; empty while nothing answers."""
        try:
            answer = self._json("GET", f"/api/v0/nodes?limit={LIMIT}")
        except NoAnswer:
            return []
        return [_node(row) for row in _rows(answer)]

    def has_package(self, name: str) -> bool:
        """Tell whether the head holds the package."""
        return self._call("GET", _package(name), absent=True) is not None

    def upload(self, name: str, content: BinaryIO) -> None:
        """Send a package, a zip file, to the head."""
        content.seek(0)
        # A file object goes in small pieces; one bytes object would take the square of its size in time.
        self._call("PUT", _package(name), data=content, timeout=6 * self._timeout)

    def submit(self, entrypoint: str, submission_id: str, package: str) -> None:
        """Have the head run the shell line `entrypoint` in the package's folder."""
        wanted = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "runtime_env": {"working_dir": f"gcs://{package}"},
        }
        try:
            self._json("POST", "/api/jobs/", json=wanted, timeout=3 * self._timeout)
        except NoAnswer as lost:
            # Only the answer may have been lost: then the job is there.
            if not self._known(submission_id):
                raise lost

    def job(self, submission_id: str) -> Job:
        """Give what Ray knows of a job; `JOB_NOT_FOUND` where it knows none of this id."""
        answer = self._json("GET", _job_path(submission_id), absent=True)
        if answer is None:
            raise Failure("JOB_NOT_FOUND", f"Ray knows no job {submission_id}", place=PLACE)
        return _job(submission_id, answer)

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end, by SIGTERM, and 3 s later by SIGKILL; tell whether it ran."""
        answer = self._json("POST", f"{_job_path(submission_id)}/stop", absent=True)
        if answer is None:
            raise Failure("JOB_NOT_FOUND", f"Ray knows no job {submission_id}", place=PLACE)
        return bool(_typed(answer, dict).get("stopped"))

    def log_lines(self, submission_id: str) -> Iterator[bytes]:
        r"""Give what a job prints, as it prints it, until it has ended: lines with their ends (`\n` or `\r`).

        Each line comes once. The live stream does not end with the job and may be cut before it has given
        the last lines: so what it has not given is read from the file afterwards.
        """
        job = self._patiently(lambda: self.job(submission_id))
        return program_lines(self._log_lines(job), job.entrypoint)

    def _log_lines(self, job: Job) -> Iterator[bytes]:
        lines, submission_id = _Lines(), job.id
        with closing(_Tail()) as tail:
            while not job.final:
                if job.driver_node_id and not tail.open:
                    tail.start(self._log("stream", job, lines.taken, timeout=self._silence))
                for chunk in tail.chunks(self._poll):
                    yield from lines.add(chunk)
                job = self._patiently(lambda: self.job(submission_id))
        yield from self._rest(job, lines)

    def _rest(self, job: Job, lines: _Lines) -> Iterator[bytes]:
        """Give what a job that has ended printed beyond the lines taken so far."""
        until = time.monotonic() + self._patience
        while job.driver_node_id:
            try:
                for chunk in self._log("file", job, lines.taken, timeout=self._timeout):
                    until = time.monotonic() + self._patience
                    yield from lines.add(chunk)
                break
            except NoAnswer:
                if time.monotonic() > until:
                    raise
                time.sleep(self._poll)
        yield from lines.end()

    def _log(self, kind: str, job: Job, start: int, *, timeout: float) -> Iterator[bytes]:
        """Give the bytes of a job's output from `start` on: a `file` has an end, a `stream` grows."""
        path = f"/api/v0/logs/{kind}?{urlencode(_log_query(kind, job))}"
        try:
            with self._send("GET", path, timeout=timeout) as response:
                if response.status_code == requests.codes.internal_server_error:
                    return _no_file_is_no_output(self._text(response))
                self._check(response)
                for chunk in response.iter_content(chunk_size=None):
                    yield chunk[start:]
                    start = max(0, start - len(chunk))
        except LOST as error:
            raise _no_answer(error) from error

    def _known(self, submission_id: str) -> bool:
        with suppress(Failure):
            return bool(self.job(submission_id))
        return False

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, or patience has run out."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except NoAnswer:
                if time.monotonic() > until:
                    raise
                time.sleep(self._poll)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        """Give the JSON of an answer; None where the thing is absent and may be."""
        text = self._call(method, path, **options)
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise _odd(f"no JSON but {_short(text or '')!r}") from error

    def _call(self, method: str, path: str, *, absent: bool = False, **options: Any) -> str | None:
        """Give an answer's text; None where the thing is absent and may be."""
        try:
            with self._send(method, path, **options) as response:
                if absent and response.status_code == requests.codes.not_found:
                    return None
                self._check(response)
                return self._text(response)
        except LOST as error:
            raise _no_answer(error) from error

    def _send(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return self._session.request(
            method,
            self._base + path,
            headers=headers,
            timeout=timeout or self._timeout,
            allow_redirects=False,
            stream=True,
            **options,
        )

    def _check(self, response: requests.Response) -> None:
        code = response.status_code
        if code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise Failure("TOKEN_MISMATCH", f"Ray refused our token (HTTP {code})", CURE, place=PLACE)
        if code != requests.codes.ok:
            error = NoAnswer if code in NOT_READY else Failure
            said = _short(self._text(response))
            raise error("RAY_API_FAILED", f"Ray's API answered HTTP {code}: {said}", CURE, place=PLACE)

    def _text(self, response: requests.Response) -> str:
        """Read an answer to its end: a slow drip has the same deadline, and an endless one ends."""
        until = time.monotonic() + self._timeout
        body = bytearray()
        while piece := response.raw.read1(1 << 16):  # `iter_content` would wait for all of a piece
            body += piece
            if len(body) > BODY_LIMIT:
                raise _odd(f"more than {BODY_LIMIT >> 20} MiB")
            if time.monotonic() > until:
                raise requests.ReadTimeout("the whole answer took too long")
        return body.decode(errors="replace")


def program_lines(lines: Iterator[bytes], entrypoint: str) -> Iterator[bytes]:
    """Give a job's output without the lines that Ray itself puts before its program's."""
    for line in lines:
        if line.startswith(b"Running entrypoint for job "):
            # An argument with a line break makes it several.
            more = len(entrypoint.encode().splitlines()) - 1
            yield from islice(lines, max(0, more), None)
        elif not SETTING_UP.search(line):
            yield line


class _Lines:
    """What was taken of a job's output: how many bytes, and the beginning of a line that has not ended."""

    def __init__(self) -> None:
        self.taken = 0
        self._begun = b""

    def add(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and give the lines that it ends; a progress bar ends its own with carriage returns."""
        self.taken += len(chunk)
        *ended, begun = _split(self._begun + chunk)
        self._begun = begun if len(begun) <= LINE_LIMIT else b""
        return ended if self._begun or not begun else [*ended, begun]

    def end(self) -> Iterator[bytes]:
        """Give the line that never ended, if there is one."""
        if self._begun:
            yield self._begun
        self._begun = b""


class _Tail:
    """A live stream, read in a thread of its own: its silence keeps nobody from asking for the status."""

    def __init__(self) -> None:
        self._chunks: Queue[bytes | None] = Queue(maxsize=64)
        self._closed = threading.Event()
        self.open = False

    def start(self, stream: Iterator[bytes]) -> None:
        """Begin to read a stream."""
        self.open = True
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def chunks(self, seconds: float) -> Iterator[bytes]:
        """Give what comes within so many seconds; `open` is false when the stream has ended or was cut."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self.open:
                time.sleep(left)
                return
            with suppress(Empty):
                chunk = self._chunks.get(timeout=left)
                self.open = chunk is not None
                yield chunk or b""

    def close(self) -> None:
        """Want no more; the thread ends with the next byte, the next time-out or the connection."""
        self._closed.set()

    def _read(self, stream: Iterator[bytes]) -> None:
        try:
            with suppress(Failure):  # a cut stream is opened again where it was cut
                for chunk in stream:
                    if not self._put(chunk):
                        return
        finally:
            self._put(None)

    def _put(self, chunk: bytes | None) -> bool:
        while not self._closed.is_set():
            with suppress(Full):
                self._chunks.put(chunk, timeout=0.5)
                return True
        return False


def _split(text: bytes) -> list[bytes]:
    r"""Cut behind each `\n`, and each `\r` that no `\n` follows; the last piece has no end yet."""
    pieces = text.splitlines(keepends=True)
    begun = pieces and (not pieces[-1].endswith((b"\n", b"\r")) or pieces[-1].endswith(b"\r"))
    return pieces if begun else [*pieces, b""]


def _package(name: str) -> str:
    return f"/api/packages/gcs/{quote(name, safe='')}"


def _job_path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _log_query(kind: str, job: Job) -> dict[str, str]:
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
        raise NoAnswer("RAY_API_FAILED", f"Ray gave no output: {_short(text)}", CURE, place=PLACE)


def _rows(answer: object) -> list[Any]:
    """Give the rows of `{"result": true, "data": {"result": {"result": […]}}}`."""
    listed = _typed(answer, dict)
    for key in ("data", "result"):
        listed = _typed(listed.get(key), dict)
    return _typed(listed.get("result"), list)


def _node(row: object) -> RayNode:
    fields = _typed(row, dict)
    return RayNode(
        address=_field(fields, "node_ip", str),
        state=_field(fields, "state", str),
        node_id=_field(fields, "node_id", str),
        is_head=_field(fields, "is_head_node", bool),
    )


def _job(submission_id: str, answer: object) -> Job:
    fields = _typed(answer, dict)
    status = _field(fields, "status", str)
    if status not in STATUSES:
        raise _odd(f"the status {_short(status)!r}")
    code = fields.get("driver_exit_code")
    return Job(
        id=submission_id,
        status=status,
        driver_exit_code=None if code is None else _typed(code, int),
        driver_node_id=_typed(fields.get("driver_node_id") or "", str),
        message=_typed(fields.get("message") or "", str),
        entrypoint=_typed(fields.get("entrypoint") or "", str),
    )


def _field(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    return _typed(fields.get(key), kind)


def _typed(value: object, kind: type[T]) -> T:
    if isinstance(value, kind):
        return value
    raise _odd(f"{_short(repr(value))} where a {kind.__name__} was due")


def _odd(what: str) -> Failure:
    return Failure("RAY_API_FAILED", f"Ray's API answered {what}", CURE, place=PLACE)


def _no_answer(error: BaseException) -> NoAnswer:
    while error.__context__:  # the innermost one says why: the others wrap it
        error = error.__context__
    why = getattr(error, "strerror", None) or type(error).__name__
    return NoAnswer("RAY_API_FAILED", f"Ray's API does not answer ({why})", CURE, place=PLACE)


def _short(text: str) -> str:
    """Give the last line, where a traceback says what is wrong, in at most 200 printable characters."""
    lines = text.strip().splitlines() or [""]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:200]
