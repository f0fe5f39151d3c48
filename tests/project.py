"""A project of the operator's, as the tests of git have one; fixtures for tests/conftest.py."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.observer import PracticeHost

# What the private git server wants.
TOKEN = "planted-token-91bc"  # noqa: S105 - it is one that nobody has

ALONE = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@dataclass(frozen=True)
class Project:
    """A repository of the operator's."""

    folder: Path

    def git(self, *words: str) -> str:
        """Have git do something in it, past everything of this machine's."""
        done = subprocess.run(("git", *words), cwd=self.folder, env=ALONE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, **files: str) -> None:
        """Write files; a name's `__` is a slash."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, **files: str) -> str:
        """Write files, commit all there is, and give the commit."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=a")
        return self.git("rev-parse", "HEAD")

    @property
    def url(self) -> str:
        """Its address, which git treats as another machine's."""
        return f"file://{self.folder}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository without a commit."""
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    return made


@pytest.fixture
def private(project: Project) -> Iterator[str]:
    """The URL of a git server on this machine that answers only to the token."""
    secret = base64.b64encode(f"operator:{TOKEN}".encode()).decode()

    class Smart(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Basic {secret}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            environ = {
                **ALONE,
                "GIT_PROJECT_ROOT": str(project.folder.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            done = subprocess.run(("git", "http-backend"), input=body, env=environ, capture_output=True, check=True)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200 OK").split()[0]))
            for name, value in {**lines, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 - as the server looks for it

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Smart)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/project/.git"
    server.shutdown()
    server.server_close()


def saved(head: PracticeHost, image: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give all that `docker save` writes of an image, each part by its name, unpacked."""
    archive = folder / "image.tar"
    with archive.open("wb") as file:
        subprocess.run(("docker", "exec", str(head.box.name), "docker", "save", image), stdout=file, check=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if part := tar.extractfile(member):
                found = part.read()
                yield member.name, gzip.decompress(found) if found.startswith(b"\x1f\x8b") else found
