"""A head of Ray's that the quick tests play: what its API answers, and how it can fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from deploy.errors import Failure

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
    asked_to_end: threading.Event = field(default_factory=threading.Event)

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
        if self.path.endswith("/stop"):
            self.head.asked_to_end.set()
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


def listed(*rows: Mapping[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps({"result": True, "msg": "", "data": {"result": {"result": rows}}}).encode()


def row(state: str = "ALIVE", **other: Any) -> dict[str, Any]:
    return {"node_ip": "10.0.0.7", "state": state, "node_id": "n1", "is_head_node": False, **other}


def once_asked(head: Head, act: Any) -> None:
    """Do something shortly after the head was asked to end a job."""

    def wait() -> None:
        head.asked_to_end.wait(30)
        time.sleep(0.1)
        act()

    threading.Thread(target=wait, daemon=True).start()


def later(seconds: float, act: Any) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


class Link(requests.Session):
    """A session over a link that a test cuts; `reconnect` mends it if it can be mended by then."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cut = False
        self.repairs: list[bool] = []  # whether the next attempts mend it; after the last one it is mended

    def request(self, *args: Any, **options: Any) -> requests.Response:
        if self.cut:
            raise Failure("SSH_LOST", "lost contact during a call")
        return super().request(*args, **options)

    def reconnect(self) -> None:
        self.cut = not self.repairs.pop(0) if self.repairs else False
