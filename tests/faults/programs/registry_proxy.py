"""Stands before the practice registry, and answers some requests by itself.

Its argument is the port to listen at; its certificate and key are in `crt` and `key` beside it. Which requests, and
how, the file `rule` says: a method, a pattern of paths, a status and a text; with status 0 what the registry answers
comes slowly. Its process id goes into `pid`.
"""

import http.client
import json
import os
import re
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORT = int(sys.argv[1])
PIECE = 1 << 20  # bytes
HOP = {"connection", "content-length", "transfer-encoding", "date", "server"}


class Between(BaseHTTPRequestHandler):
    """Passes a request on, or answers it."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        """Read the request's body, which may come in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def pass_on(self) -> None:
        """Answer as is wanted, or as the registry does."""
        body = self.body()
        method, path, status, said = json.loads((HERE / "rule").read_text())
        meant = self.command == method and re.search(path, self.path)
        if meant and status:
            self.give(status, [("Content-Type", "application/json")], said.encode())
            return
        itself = ssl.create_default_context(cafile="/srv/tls/ca.crt")
        itself.check_hostname = False  # its certificate is for the name by which hosts call it
        upstream = http.client.HTTPSConnection("127.0.0.1", 443, context=itself)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        # One by one: of some there are several.
        for name, value in self.headers.items():
            if name.lower() not in HOP:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        answer = upstream.getresponse()
        length = answer.getheader("Content-Length")
        self.give(answer.status, answer.getheaders(), answer.read(), length, slowly=bool(meant))
        upstream.close()

    def give(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        length: str | None = None,
        *,
        slowly: bool = False,
    ) -> None:
        """Write an answer; one to HEAD tells the length of what it does not have."""
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", (length if self.command == "HEAD" else None) or str(len(body)))
        self.end_headers()
        for begin in range(0, len(body), PIECE):
            self.wfile.write(body[begin : begin + PIECE])
            time.sleep(0.1 if slowly else 0)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        """Say nothing."""


(HERE / "pid").write_text(str(os.getpid()))
server = ThreadingHTTPServer(("", PORT), Between)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(HERE / "crt", HERE / "key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
