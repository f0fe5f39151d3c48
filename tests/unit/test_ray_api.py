"""Ray's REST API, played by a server of our own: what it answers, and how it can fail."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from deploy.errors import Failure
from deploy.job import exit_code, follow, new_id, run_job, shortened
from deploy.parcel import Parcel
from deploy.ray_api import Job, RayApi, RayNode, calls
from deploy.ray_api.lines import LINE_LIMIT, program_lines
from deploy.secret import Secret

TOKEN = "planted-token"
LOG = b"one\ntwo\nthree\nno end"


@dataclass
class Head:
    """A head as its API shows it; a test sets what it answers and how its streams behave."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=lambda: {"status": "RUNNING", "driver_node_id": "n1"})
    log: bytes = LOG
    cuts: list[int] = field(default_factory=list)  # after so many bytes a stream is cut, one number for each
    file_cuts: list[int] = field(default_factory=list)
    streams: int = 0
    files: int = 0
    drip: float = 0  # seconds for each byte
    packages: dict[str, bytes] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    ending: threading.Event = field(default_factory=threading.Event)

    def end(self, status: str, code: int | None = None) -> None:
        self.job |= {"status": status, "driver_exit_code": code}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    head: Head

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, code: int, body: bytes = b"{}") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # whoever asked may have gone
            step = 1 if self.head.drip else len(body) or 1
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(self.head.drip)

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        self.head.tokens.add(self.headers.get("Authorization"))
        path = urlsplit(self.path).path
        if path in self.head.answers:
            self.answer(*self.head.answers[path])
        elif path.startswith("/api/v0/logs/"):
            assert parse_qs(urlsplit(self.path).query)["lines"] == ["-1"]
            self.logs(path.rpartition("/")[2])
        elif path.startswith("/api/jobs/"):
            self.answer(200, json.dumps(self.head.job).encode())
        else:
            known = path.rpartition("/")[2] in self.head.packages
            self.answer(200 if known else 404, b"")

    def do_PUT(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.head.packages[self.path.rpartition("/")[2]] = body
        self.answer(200, b"")

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path in self.head.answers:
            self.answer(*self.head.answers[self.path])
            return
        if self.path == "/api/jobs/":
            self.head.submitted.append(json.loads(body))
        self.answer(200, b'{"stopped": true}')

    def logs(self, kind: str) -> None:
        if kind == "stream":
            self.head.streams += 1
            cuts = self.head.cuts
        else:
            self.head.files += 1
            cuts = self.head.file_cuts
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cut = cuts.pop(0) if cuts else None
        text = self.head.log[:cut]
        for start in range(0, len(text), 5):
            piece = text[start : start + 5]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if cut is not None:
            self.close_connection = True  # in the middle: no last chunk
        elif kind == "stream":
            self.head.ending.wait(10)
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def head() -> Iterator[tuple[Head, str]]:
    played = Head()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Played", (Handler,), {"head": played}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield played, f"http://127.0.0.1:{server.server_address[1]}"
    played.ending.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.fixture
def api(head: tuple[Head, str], session: requests.Session) -> RayApi:
    return RayApi(session, Secret(TOKEN), base=head[1], timeout=2, poll=0.02, patience=0.3, silence=5)


@pytest.fixture
def played(head: tuple[Head, str]) -> Head:
    return head[0]


def listed(*rows: Mapping[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps({"result": True, "msg": "", "data": {"result": {"result": rows}}}).encode()


def row(state: str = "ALIVE", **other: Any) -> dict[str, Any]:
    return {"node_ip": "10.0.0.7", "state": state, "node_id": "n1", "is_head_node": False, **other}


def test_nodes_are_rays_rows_with_the_dead_ones_among_them(played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = listed(row(), row("DEAD", node_id="n0"))
    assert api.nodes() == [
        RayNode(address="10.0.0.7", state="ALIVE", node_id="n1", is_head=False),
        RayNode(address="10.0.0.7", state="DEAD", node_id="n0", is_head=False),
    ]
    assert [node.alive for node in api.nodes()] == [True, False]
    assert played.tokens == {f"Bearer {TOKEN}"}


def test_there_are_no_nodes_while_nothing_answers(session: requests.Session) -> None:
    assert RayApi(session, None, base="http://127.0.0.1:1").nodes() == []


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, b"Unauthorized: Missing authentication token"), "TOKEN_MISMATCH", "HTTP 401"),
        ((403, b"Forbidden: Invalid authentication token"), "TOKEN_MISMATCH", "HTTP 403"),
        ((500, b"Traceback\n  File\nOSError: no\x1b[31m disk\n"), "RAY_API_FAILED", "HTTP 500: OSError: no?[31m disk"),
        ((302, b""), "RAY_API_FAILED", "HTTP 302"),
        ((200, b"<html>"), "RAY_API_FAILED", "no JSON but '<html>'"),
        ((200, b"\xff\xfe"), "RAY_API_FAILED", "no JSON"),
        ((200, b"null"), "RAY_API_FAILED", "None where a dict was due"),
        ((200, b"[]"), "RAY_API_FAILED", "[] where a dict was due"),
        ((200, b'{"data": {"result": {"result": {}}}}'), "RAY_API_FAILED", "{} where a list was due"),
        (listed(row(node_ip=7)), "RAY_API_FAILED", "7 where a str was due"),
        (listed(row(is_head_node="no")), "RAY_API_FAILED", "'no' where a bool was due"),
    ],
)
def test_an_odd_answer_is_told(answer: tuple[int, bytes], code: str, said: str, played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = answer
    with pytest.raises(Failure) as told:
        api.nodes()
    assert (told.value.code, said in str(told.value)) == (code, True)
    assert TOKEN not in str(told.value)


def test_a_head_that_is_not_ready_has_no_nodes_yet(played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = (503, b"")
    assert api.nodes() == []


def test_a_package_is_sent_once(played: Head, api: RayApi) -> None:
    assert not api.has_package("_ray_pkg_1.zip")
    content = bytes(range(256)) * 20_000
    api.upload("_ray_pkg_1.zip", io.BytesIO(content))
    assert api.has_package("_ray_pkg_1.zip")
    assert played.packages == {"_ray_pkg_1.zip": content}


def test_a_job_is_submitted_in_its_package(played: Head, api: RayApi) -> None:
    api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")
    assert played.submitted == [
        {
            "entrypoint": "python run.py",
            "submission_id": "raydock-1",
            "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"},
        }
    ]


def test_a_job_of_which_only_the_answer_was_lost_is_submitted(played: Head, api: RayApi) -> None:
    played.answers["/api/jobs/"] = (502, b"")
    api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")


def test_a_job_that_was_not_taken_is_not_submitted(played: Head, api: RayApi) -> None:
    played.answers |= {"/api/jobs/": (502, b""), "/api/jobs/raydock-1": (404, b"")}
    with pytest.raises(Failure, match="HTTP 502"):
        api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")


@pytest.mark.parametrize("ask", [RayApi.job, RayApi.stop])
def test_a_job_that_ray_does_not_know_is_not_found(ask: Any, played: Head, api: RayApi) -> None:
    played.answers |= {"/api/jobs/raydock-1": (404, b""), "/api/jobs/raydock-1/stop": (404, b"")}
    with pytest.raises(Failure) as told:
        ask(api, "raydock-1")
    assert told.value.code == "JOB_NOT_FOUND"


def test_a_job_can_be_stopped(api: RayApi) -> None:
    assert api.stop("raydock-1")


@pytest.mark.parametrize(
    "job", [{"status": "DREAMING"}, {"status": None}, {"status": "FAILED", "driver_exit_code": "7"}]
)
def test_an_odd_job_is_told(job: dict[str, Any], played: Head, api: RayApi) -> None:
    played.job = job
    with pytest.raises(Failure) as told:
        api.job("raydock-1")
    assert told.value.code == "RAY_API_FAILED"


def later(seconds: float, act: Any) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def test_output_is_live_and_ends_with_the_job(played: Head, api: RayApi) -> None:
    lines = api.log_lines("raydock-1")
    assert [next(lines) for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
    assert played.job["status"] == "RUNNING"
    played.end("SUCCEEDED", 0)
    assert list(lines) == [b"no end"]


def test_a_cut_stream_goes_on_where_it_was_cut(played: Head, api: RayApi) -> None:
    played.cuts = [0, 2, 4, 11, 17]
    later(0.5, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.streams == 6


def test_a_silent_stream_is_opened_again(played: Head, head: tuple[Head, str], session: requests.Session) -> None:
    api = RayApi(session, None, base=head[1], poll=0.02, silence=0.1)
    later(0.6, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.streams > 2


def test_what_is_printed_after_the_stream_was_cut_comes_from_the_file(played: Head, api: RayApi) -> None:
    lines = api.log_lines("raydock-1")
    assert next(lines) == b"one\n"
    played.log += b"\nlast words\n"  # the stream gives no more
    played.end("FAILED", 7)
    assert b"".join(lines) == b"two\nthree\nno end\nlast words\n"


def test_a_job_that_had_ended_before_gives_all_its_output(played: Head, api: RayApi) -> None:
    played.end("SUCCEEDED", 0)
    assert list(api.log_lines("raydock-1")) == [b"one\n", b"two\n", b"three\n", b"no end"]
    assert (played.streams, played.files) == (0, 1)


def test_a_cut_file_goes_on_where_it_was_cut(played: Head, api: RayApi) -> None:
    played.end("SUCCEEDED", 0)
    played.file_cuts = [0, 3, 12]
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.files == 4


@pytest.mark.parametrize("node", [None, "n1"])
def test_a_job_that_never_began_prints_nothing(node: str | None, played: Head, api: RayApi) -> None:
    played.job = {"status": "FAILED", "driver_node_id": node}
    played.answers["/api/v0/logs/file"] = (500, b"A file is not found at: /tmp/ray/x.log")
    assert list(api.log_lines("raydock-1")) == []


def test_a_job_waits_for_its_node(played: Head, api: RayApi) -> None:
    played.job = {"status": "PENDING", "driver_node_id": None}
    later(0.1, lambda: played.job.update(status="RUNNING", driver_node_id="n1"))
    later(0.3, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG


def test_a_short_silence_of_the_head_is_borne(played: Head, api: RayApi) -> None:
    played.answers["/api/jobs/raydock-1"] = (503, b"")
    later(0.15, lambda: played.answers.clear())
    later(0.3, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b""), "Ray knows no job raydock-1"),
        ((403, b""), "Ray refused our token"),
        ((503, b""), "HTTP 503"),
    ],
)
def test_a_job_that_is_lost_from_sight_is_told(answer: tuple[int, bytes], said: str, played: Head, api: RayApi) -> None:
    written: list[bytes] = []

    def write(line: bytes) -> None:
        written.append(line)
        played.answers["/api/jobs/raydock-1"] = answer

    with pytest.raises(Failure) as told:
        follow(api, "raydock-1", write)
    assert (told.value.code, told.value.place) == ("JOB_LOST", "raydock-1")
    assert said in told.value.error
    assert written[:1] == [b"one\n"]


def test_a_long_line_comes_in_pieces_and_nothing_is_lost(played: Head, api: RayApi) -> None:
    played.log = b"x" * (LINE_LIMIT * 2) + b"\nend\n"
    played.end("SUCCEEDED", 0)
    lines = list(api.log_lines("raydock-1"))
    assert b"".join(lines) == played.log
    assert max(map(len, lines)) <= LINE_LIMIT + 5


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"10%\r20%\rdone\n", [b"10%\r", b"20%\r", b"done\n"]),
        (b"dos\r\nline\r\n", [b"dos\r\n", b"line\r\n"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"", []),
        ("é\u2028ü\n".encode(), ["é\u2028ü\n".encode()]),
        (b"\xff\x00\n", [b"\xff\x00\n"]),
    ],
)
def test_lines_keep_their_bytes_and_their_ends(log: bytes, lines: list[bytes], played: Head, api: RayApi) -> None:
    played.log = log
    played.end("SUCCEEDED", 0)
    assert list(api.log_lines("raydock-1")) == lines


SETTING_UP = b"2026-11-22 23:42:50,747\tINFO job_manager.py:581 -- Runtime env is setting up.\n"


@pytest.mark.parametrize(
    ("entrypoint", "before"),
    [
        ("python f.py", [SETTING_UP, b"Running entrypoint for job raydock-1: python f.py\n"]),
        ("python f.py 'a\nb'", [SETTING_UP, b"Running entrypoint for job raydock-1: python f.py 'a\n", b"b'\n"]),
        ("python f.py", []),
    ],
)
def test_what_ray_prints_before_the_program_is_left_out(entrypoint: str, before: list[bytes]) -> None:
    printed = [b"pip says this\n", b"mine\n", b"b'\n", b"more\n"]
    assert list(program_lines(iter([printed[0], *before, *printed[1:]]), entrypoint)) == printed


def test_what_a_program_prints_like_ray_is_its_own() -> None:
    lines = [b"Running entrypoint for job raydock-1: python f.py\n", b"Running entrypoint for job x: y\n", SETTING_UP]
    assert list(program_lines(iter(lines), "python f.py")) == lines[1:]


def test_a_program_runs_and_its_package_is_sent_if_it_is_new(played: Head, api: RayApi) -> None:
    told: list[str] = []
    written: list[bytes] = []
    played.end("FAILED", 7)
    for _ in range(2):
        parcel = Parcel("_ray_pkg_1.zip", io.BytesIO(b"zip"), 3, "run.py", ("run.py",), ())
        job = run_job(api, parcel, "python run.py", written.append, submitted=told.append)
    assert played.packages == {"_ray_pkg_1.zip": b"zip"}
    assert [one["submission_id"] for one in played.submitted] == told
    assert len(set(told)) == 2
    assert b"".join(written) == LOG * 2
    assert exit_code(job) == 7


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (Job("j", "SUCCEEDED", 0), 0),
        (Job("j", "SUCCEEDED"), 0),
        (Job("j", "FAILED", 7), 7),
        (Job("j", "FAILED", 125), 125),
        (Job("j", "FAILED", -9), 137),
        (Job("j", "FAILED", 137), 137),
        (Job("j", "FAILED", -2), 130),
        (Job("j", "STOPPED"), 143),
    ],
)
def test_the_exit_code_is_the_programs_own(job: Job, code: int) -> None:
    assert exit_code(job) == code


def test_a_program_that_ray_did_not_run_has_no_exit_code() -> None:
    with pytest.raises(Failure) as told:
        exit_code(Job("j", "FAILED", message="runtime_env setup failed:\n  no such package"))
    assert told.value.code == "JOB_FAILED"
    assert told.value.error.endswith("runtime_env setup failed: no such package")


def test_a_long_message_keeps_its_end() -> None:
    short = shortened("begin\n" + "x" * 1000 + "\nthe reason")
    assert len(short) < 310
    assert short.startswith("begin x")
    assert short.endswith("x the reason")


def test_the_ids_of_jobs_are_ours_and_new() -> None:
    found = {new_id() for _ in range(100)}
    assert len(found) == 100
    assert all(one.startswith("raydock-") for one in found)


def test_a_slow_drip_has_the_deadline_of_the_whole_answer(
    played: Head, head: tuple[Head, str], session: requests.Session
) -> None:
    played.drip = 0.05
    played.answers["/api/v0/nodes"] = (200, b" " * 100)
    begun = time.monotonic()
    assert RayApi(session, None, base=head[1], timeout=0.3).nodes() == []
    assert time.monotonic() - begun < 2


def test_an_endless_answer_is_refused(played: Head, api: RayApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "BODY_LIMIT", 1 << 20)
    played.answers["/api/v0/nodes"] = (200, b" " * (2 << 20))
    with pytest.raises(Failure, match="more than 1 MiB"):
        api.nodes()
