"""An engine that lies: whatever it answers, it is a Failure of its node's, and takes no more memory than it may."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.channel import docker_local
from deploy.engine import Engine
from deploy.engine.archive import only_file
from deploy.errors import Failure
from deploy.reading import Odd
from deploy.secret import Secret
from deploy.site import Credentials

from .played_engine import VERSION, WORKER, Stub, word

MEGABYTE = 1 << 20
LOGIN = Credentials("AWS", Secret("hunter2-password"), "r.example.com")
IMAGE = "r.example.com/a:1"


def quiet(_news: object) -> None:
    pass


# Each question that has an answer to be read, and the end of its path.
QUESTIONS: dict[str, tuple[str, Callable[[Engine], object]]] = {
    "find": ("/json", lambda engine: engine.find("c")),
    "listed": ("/json", lambda engine: engine.listed({"a": "b"})),
    "seen_in_list": ("/json", lambda engine: engine.seen_in_list({"a": "b"})),
    "create": ("/create", lambda engine: engine.create(WORKER, word)),
    "containers": ("/json", lambda engine: engine.containers({"a": "b"})),
    "diff": ("/changes", lambda engine: engine.diff("c")),
    "get_file": ("/archive", lambda engine: engine.get_file("c", "/x")),
    "has_file": ("/archive", lambda engine: engine.has_file("c", "/x")),
    "logs": ("/logs", lambda engine: engine.logs("c", 10)),
    "exec": ("/exec", lambda engine: engine.exec("c", ("x",), 2)),
    "facts": ("/info", lambda engine: engine.facts()),
    "platform": ("/v1.41/version", lambda engine: engine.platform()),
    "image_id": ("/json", lambda engine: engine.image_id("i")),
    "image_labels": ("/json", lambda engine: engine.image_labels("i")),
    "image_command": ("/json", lambda engine: engine.image_command("i")),
    "image_user": ("/json", lambda engine: engine.image_user("i")),
    "image_digests": ("/json", lambda engine: engine.image_digests("i")),
    "image_weight": ("/json", lambda engine: engine.image_weight("i")),
    "image_platform": ("/json", lambda engine: engine.image_platform("i")),
    "pull": ("/images/create", lambda engine: engine.pull(IMAGE, LOGIN, quiet)),
    "push": ("/push", lambda engine: engine.push("r.example.com/a", "1", LOGIN, quiet)),
    "published": ("/json", lambda engine: engine.published(IMAGE, LOGIN)),
    "login": ("/auth", lambda engine: engine.login(LOGIN)),
    "build": ("/build", lambda engine: engine.build({"Dockerfile": b"FROM x"}, "t", {}, quiet)),
    "run_once": ("/json", lambda engine: engine.run_once("i", ("x",))),
}


class Liar(Stub):
    """An engine that answers whatever is told it, to all but the first question."""

    said = b""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {})

    def say(self, end: socket.socket, path: str) -> bool:
        end.sendall(VERSION if path == "/version" else self.said)
        if path != "/version":
            end.shutdown(socket.SHUT_WR)
        return False


def http(body: bytes, code: int = 200, head: str = "") -> bytes:
    return f"HTTP/1.1 {code} So\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def chunked(body: bytes, size: int | None = None) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body) if size is None else size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    engine = Liar(tmp_path_factory.mktemp("liar") / "sock")
    yield engine
    engine.server.close()


def asked(liar: Liar, said: bytes, question: str) -> object:
    """Give what comes of a question; everything but a Failure is raised."""
    liar.said = said
    engine = Engine(docker_local(f"unix://{liar.path}"))
    try:
        return QUESTIONS[question][1](engine)
    except Failure as failure:
        return failure
    finally:
        engine.close()


NAMES = st.sampled_from(
    ["Id", "Name", "State", "Config", "Labels", "Status", "ExitCode", "Kind", "Path", "error", "errorDetail", "message"]
    + ["status", "id", "progressDetail", "current", "total", "aux", "Digest", "ID", "stream", "Descriptor", "digest"]
    + ["Image", "User", "Created", "FinishedAt", "MemTotal", "NCPU", "Runtimes", "Size", "RootFS", "RepoDigests", "Cmd"]
)
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("0123456789ab")
ODD |= st.sampled_from(["Downloading", "Digest: \x1b[2J", "\x1b]0;x\x07", 10**30, -1])
LIES = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=8), max_leaves=20
)
BODIES = LIES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
ANSWERS = st.builds(http, BODIES, st.sampled_from([200, 200, 200, 201, 304, 404, 409, 500])) | st.builds(
    chunked, BODIES, st.none() | st.sampled_from([-1, -5, 0, 1, 10**12])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=ANSWERS, question=st.sampled_from(sorted(QUESTIONS)))
def test_whatever_an_engine_answers_it_is_a_failure_or_makes_sense(said: bytes, question: str, liar: Liar) -> None:
    asked(liar, said, question)


SHAPES = {
    "nothing": http(b""),
    "an object": http(b"{}"),
    "a list": http(b"[]"),
    "a list of lists": http(b"[[1]]"),
    "a text": http(b'"x"'),
    "no json": http(b"not json"),
    "deep json": http(b"[" * 100_000),
    "a refusal that is a list": http(b"[1]", 500),
    "a refusal in depth": http(b"[" * 100_000, 500),
    "a record that is null": chunked(b"null"),
    "a record that is deep": chunked(b'{"a":' * 20_000),
    "an odd errorDetail": chunked(b'{"errorDetail":"x"}'),
    "an odd error": chunked(b'{"error":["x"]}'),
    "an odd progress": chunked(
        b'{"status":"Downloading","id":"0123456789ab","progressDetail":{"current":"a","total":"b"}}'
    ),
    "an odd aux": chunked(b'{"aux":[1]}'),
}


@pytest.mark.parametrize("said", SHAPES.values(), ids=SHAPES)
def test_an_answer_of_another_shape_is_a_failure_whatever_was_asked(said: bytes, liar: Liar) -> None:
    for question in QUESTIONS:
        asked(liar, said, question)


def test_an_answer_without_sense_says_so_and_what_to_look_at(liar: Liar) -> None:
    failure = asked(liar, http(b'{"State":{"Status":"running"},"Id": 3}'), "find")
    assert isinstance(failure, Failure)
    assert (failure.code, failure.error) == (
        "DOCKER_FAILED",
        "inspect c: the engine's answer makes no sense: 3 where a str was due",
    )


@pytest.mark.parametrize("digest", ["\x1b[31mX\n--privileged", "sha256:12", 3, None, "sha256:" + "A" * 64])
def test_a_digest_is_a_digest(digest: object, liar: Liar) -> None:
    failure = asked(liar, http(json.dumps({"Descriptor": {"digest": digest}}).encode()), "published")
    assert isinstance(failure, Failure)
    assert failure.code == "DOCKER_FAILED"


ENDLESS = 40 * MEGABYTE
FLOODS = {
    "one chunk": chunked(b" " * ENDLESS),
    "one record": chunked(b'{"stream":"' + b"x" * ENDLESS),
    "a body": http(b"[" + b" " * ENDLESS),
    "a refusal": http(b"x" * ENDLESS, 500),
    "packed": http(gzip.compress(b" " * (8 * ENDLESS)), head="Content-Encoding: gzip\r\n"),
    "many layers": chunked(b"".join(b'{"id":"%012x","status":"Waiting"}' % one for one in range(200_000))),
    "a size line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * ENDLESS,
    "a size below nothing": chunked(b"x" * ENDLESS, -1),
}


@pytest.mark.parametrize("said", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("question", ["pull", "find", "get_file", "logs"])
def test_an_answer_takes_no_more_memory_than_it_may(said: bytes, question: str, liar: Liar) -> None:
    tracemalloc.start()
    try:
        asked(liar, said, question)
        assert tracemalloc.get_traced_memory()[1] < 60 * MEGABYTE
    finally:
        tracemalloc.stop()


class Zeros(io.RawIOBase):
    """A file that has nothing in it, and as much of that as is wanted."""

    def read(self, size: int = -1) -> bytes:
        return b"\0" * size


def archive(size: int, mode: Any = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as packed:
        member = tarfile.TarInfo("ray-token")
        member.size = size
        packed.addfile(member, Zeros())
    return file.getvalue()


ARCHIVES = {
    "garbage": b"garbage" * 500,
    "nothing": b"",
    "a great file": archive(20 * MEGABYTE),
    "a packed one": archive(20 * MEGABYTE, "w:gz"),
    "a torn one": archive(9000)[:2000],
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_is_none_or_too_great_is_odd(content: bytes) -> None:
    with pytest.raises(Odd):
        only_file([content[at : at + 65536] for at in range(0, len(content), 65536)])


@given(st.binary(max_size=600), st.integers(0, 511))
def test_an_archive_that_was_tampered_with_gives_a_small_file_or_is_odd(noise: bytes, at: int) -> None:
    whole = archive(3000)
    try:
        found = only_file([whole[:at] + noise + whole[at + len(noise) :]])
    except Odd:
        return
    assert found is None or len(found) < MEGABYTE


HEADER = base64.urlsafe_b64encode(
    json.dumps({"username": "AWS", "password": "hunter2-password", "serveraddress": "r.example.com"}).encode()
).decode()
FORMS = {
    "as it is": "hunter2-password",
    "as in a registry's header": base64.b64encode(b"AWS:hunter2-password").decode(),
    "as in the engine's header": HEADER,
    "in that without its end": HEADER.rstrip("="),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("question", ["pull", "push", "login", "published"])
@pytest.mark.parametrize("said", ["refused", "record"])
def test_a_password_that_is_repeated_is_not_told(said: str, question: str, form: str, liar: Liar) -> None:
    words = f"denied for {form}"
    refused = http(json.dumps({"message": words}).encode(), 500)
    record = chunked(json.dumps({"error": words, "Descriptor": {"digest": form}}).encode())
    failure = asked(liar, refused if said == "refused" else record, question)
    assert form not in str(failure)
    assert isinstance(failure, Failure) == ("[secret]" in str(failure)) or said == "record"
