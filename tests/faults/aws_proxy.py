"""A small HTTP proxy before the practice AWS: it answers by itself where a fault is wanted, late or wrongly."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat

FIVE_MINUTES = timedelta(minutes=5)
STAMP = "%Y%m%dT%H%M%SZ"
HOP = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


@dataclass(frozen=True)
class Answer:
    """An answer as ECR would give it."""

    status: int
    code: str = ""
    message: str = ""
    body: bytes = b""
    # Seconds between two of its bytes.
    drip: float = 0

    @property
    def content(self) -> bytes:
        """The body: what was given, else an error in the form of AWS's JSON protocol."""
        return self.body or json.dumps({"__type": self.code, "message": self.message}).encode()


def throttled() -> Answer:
    """Give what AWS says to who asks too often."""
    return Answer(400, "ThrottlingException", "Rate exceeded")


def broken() -> Answer:
    """Give what AWS says when it is at fault itself; what stands before it says it in HTML."""
    return Answer(503, body=b"<html><body><h1>503 Service Unavailable</h1></body></html>")


def denied(action: str) -> Answer:
    """Give what IAM says where nothing allows an action."""
    who, which = "arn:aws:iam::123456789012:user/operator", "arn:aws:ecr:us-west-2:123456789012:repository/x"
    said = f"User: {who} is not authorized to perform: {action} on resource: {which} because no identity-based policy"
    return Answer(400, "AccessDeniedException", f"{said} allows the {action} action")


@dataclass
class AwsProxy:
    """What is asked, and what is answered in the real one's stead."""

    upstream: str = ""
    asked: list[str] = field(default_factory=list)
    # By how much its clock is ahead of this machine's: it judges the time of each signature, as AWS does.
    ahead: timedelta = timedelta()
    url: str = ""
    _answers: dict[str, Iterator[Answer]] = field(default_factory=dict)

    def answers(self, operation: str, *answers: Answer, always: bool = False) -> None:
        """Have the next questions for an operation answered so; always, or else as the real one answers after them."""
        self._answers[operation] = repeat(answers[0]) if always else iter(answers)

    def answer(self, operation: str, signed: str) -> Answer | None:
        """Give the answer to a question, None where it is the real one's to give."""
        self.asked.append(operation)
        return self._untimely(signed) or next(self._answers.get(operation, iter(())), None)

    def now(self) -> datetime:
        """Give the time."""
        return datetime.now(UTC) + self.ahead

    def _untimely(self, signed: str) -> Answer | None:
        now, then = self.now(), datetime.strptime(signed, STAMP).replace(tzinfo=UTC)
        if abs(now - then) <= FIVE_MINUTES:
            return None
        late, edge = then < now, now - FIVE_MINUTES if then < now else now + FIVE_MINUTES
        what = "Signature expired" if late else "Signature not yet current"
        than = f"is now earlier than {edge:{STAMP}}" if late else f"is still later than {edge:{STAMP}}"
        return Answer(
            400, "InvalidSignatureException", f"{what}: {signed} {than} ({now:{STAMP}} {'-' if late else '+'} 5 min.)"
        )


@contextmanager
def aws_proxy(upstream: str = "") -> Iterator[AwsProxy]:
    """Have the proxy for a block, before the practice AWS at `upstream`."""
    proxy = AwsProxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(proxy))
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


def handler_of(proxy: AwsProxy) -> Callable[..., BaseHTTPRequestHandler]:
    """Give what handles a request to the proxy."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the library's name
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            if found := proxy.answer(operation, self.headers["X-Amz-Date"]):
                self.give(found.status, found.content, found.drip)
            else:
                self.give(*self.real(asked))

        def real(self, asked: bytes) -> tuple[int, bytes]:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            request = urllib.request.Request(proxy.upstream, asked, headers)  # noqa: S310 - the practice AWS
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def give(self, status: int, body: bytes, drip: float = 0) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(proxy.now(), usegmt=True))
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for piece in [body[at : at + 1] for at in range(len(body))] if drip else [body]:
                time.sleep(drip)
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
