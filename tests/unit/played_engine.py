"""An engine that is played, for what no real one does on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.client import parse_headers
from pathlib import Path

from deploy.plan import Late, Word
from deploy.ray import Container


class Stub:
    """A socket at which an engine answers requests with what the test says, and to others says nothing."""

    def __init__(self, path: Path, answers: dict[str, bytes]) -> None:
        self.answers, self.path = answers, path
        self.asked: list[str] = []
        self.silent = False
        self.slow: dict[str, float] = {}  # seconds before an answer
        self.ends: set[str] = set()  # where it ends after its answer
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                end, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(end,), daemon=True).start()

    def answer(self, end: socket.socket) -> None:
        with end, end.makefile("rb") as heard, contextlib.suppress(OSError):  # whoever asked may have gone
            while request := heard.readline():
                path = request.split()[1].decode().partition("?")[0]
                headers = parse_headers(heard)
                assert "Transfer-Encoding" not in headers, "no body in chunks is read here"
                self.asked.append(path)
                last = self.say(end, path)
                # Of the body no more than that: the next request may come with its end.
                heard.read(int(headers.get("Content-Length", 0)))
                if last:
                    return

    def say(self, end: socket.socket, path: str) -> bool:
        """Answer, and tell whether that was the last."""
        wanted = [(key, body) for key, body in self.answers.items() if path.endswith(key)]
        for key, body in wanted[:1]:
            time.sleep(self.slow.get(key, 0))
            if not self.silent:
                end.sendall(body)
            return key in self.ends
        return False


def answer(body: str, head: str = "") -> bytes:
    """Give an answer as it goes over the socket."""
    return f"HTTP/1.1 200 OK\r\n{head or f'Content-Length: {len(body)}'}\r\n\r\n{body}".encode()


ID = "sha256:" + 64 * "1"
WORKER = Container("ray", "blue", "worker", "{}", Late("image", "", lambda _: ID), ("ray",), (), "64M", "", (), (), ())
VERSION = answer(json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}))


def chunk(text: str) -> bytes:
    """Give the beginning of an answer of which more is to come."""
    return answer(f"{len(text):x}\r\n{text}\r\n", "Transfer-Encoding: chunked")


def word(asked: Word) -> str:
    """Give a word of a container as it is, and what is found out as an image."""
    return asked if isinstance(asked, str) else ID
