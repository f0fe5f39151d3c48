"""What is told of an engine or a registry that stands still: which of them, and in time."""

from __future__ import annotations

import base64
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import docker
import pytest
from docker.errors import NotFound

from deploy import ssh_hosts
from deploy.channel import connected, docker_local, docker_over
from deploy.channel.api import NodeApi
from deploy.engine import Engine
from deploy.engine.containers import PATH_STAT, is_file
from deploy.errors import Failure
from deploy.reading import Fields, Odd
from deploy.run import Run
from deploy.secret import Secret
from deploy.site import Credentials, Found, Listed
from deploy.ssh_hosts import SshHost
from deploy.stdio import Line

from .fakes import scope
from .played_engine import ID, VERSION, WORKER, Stub, answer, chunk, word

Start = Callable[..., tuple[Stub, str]]
OF_WORKER = {"User": "1000:100", "Labels": {"of": "the image", "raydock.role": "none"}}
OF_IMAGE = {f"{ID}/json": answer(json.dumps({"Id": ID, "Config": OF_WORKER}))}
LOGIN = Credentials("AWS", Secret("hunter2"), "r.example")


def quiet(_news: object) -> None:
    pass


def refusal(call: Callable[..., object], *args: Any) -> Failure:
    with pytest.raises(Failure) as told:
        call(*args)
    return told.value


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Start]:
    made: list[Stub] = []

    def start(**answers: bytes) -> tuple[Stub, str]:
        path = tmp_path / "stub.sock"
        made.append(Stub(path, answers))
        return made[-1], f"unix://{path}"

    yield start
    for one in made:
        one.server.close()


def test_an_engine_that_does_not_answer_is_given_up(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.channel.api.FIRST_ANSWER", 0.5)
    _, host = stub()
    assert refusal(docker_local, host).code == "DOCKER_TIMEOUT"


class Drips(Stub):
    """An engine that says its answers byte for byte, and never all of one."""

    def say(self, end: socket.socket, path: str) -> bool:
        for byte in self.answers["version"] if path.endswith("version") else b"":
            end.sendall(bytes([byte]))
            time.sleep(0.02)
        return True


@pytest.mark.parametrize("body", ["", "{"], ids=["in its headers", "in its body"])
def test_an_engine_that_answers_byte_for_byte_is_given_up(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.channel.api.FIRST_ANSWER", 0.5)
    slow = b"HTTP/1.1 200 OK\r\n" + (b"" if body else b"X: " + 200 * b"x" + b"\r\n")
    said = slow + b"Content-Length: 2000\r\n\r\n" + body.encode() + 100 * b" "
    engine = Drips(tmp_path / "stub.sock", {"version": said})
    begun = time.monotonic()
    assert refusal(docker_local, f"unix://{engine.path}").code == "DOCKER_TIMEOUT"
    assert time.monotonic() - begun < 2
    engine.server.close()


def test_an_engine_whose_answer_stands_still_is_given_up(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.channel.api.FIRST_ANSWER", 0.5)
    _, host = stub(version=answer("{", "Content-Length: 2000"))
    assert refusal(docker_local, host).code == "DOCKER_TIMEOUT"


def test_the_operators_own_docker_configuration_is_not_read(
    stub: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"r.example": {"auth": "%%%"}}, "HttpHeaders": 3}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    _, host = stub(version=VERSION)
    assert isinstance(docker_local(host), docker.DockerClient)


def test_silence_in_a_stream_is_borne_while_the_engine_lives_and_no_longer(
    stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.engine.calls.QUIET", 0.3)
    monkeypatch.setattr("deploy.engine.calls.PING", 3)
    first = '{"status":"Pulling"}\n'
    engine, host = stub(
        version=VERSION,
        _ping=answer("OK"),
        push=answer(f"{len(first):x}\r\n{first}\r\n", "Transfer-Encoding: chunked"),
    )
    client = Engine(docker_local(host))
    threading.Timer(3, lambda: setattr(engine, "silent", True)).start()
    assert refusal(client.push, "r.example/x", "y", None, quiet).code == "DOCKER_TIMEOUT"
    assert sum(path.endswith("_ping") for path in engine.asked) > 1


def test_a_pull_into_which_nothing_comes_is_given_up_though_the_engine_lives(
    stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.engine.calls.QUIET", 0.3)
    first = '{"status":"Pulling"}\n'
    begun = answer(f"{len(first):x}\r\n{first}\r\n", "Transfer-Encoding: chunked")
    engine, host = stub(version=VERSION, _ping=answer("OK"), create=begun)
    wrong = refusal(Engine(docker_local(host)).pull, "r.example/x:y", None, quiet)
    assert (wrong.code, engine.asked.count("/_ping")) == ("PULL_FAILED", 1)


def test_a_pull_whose_engine_unpacks_in_silence_goes_on(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.engine.calls.QUIET", 0.3)
    monkeypatch.setattr("deploy.engine.calls.PING", 3)
    first = '{"status":"Extracting","id":"0123456789ab"}\n'
    begun = answer(f"{len(first):x}\r\n{first}\r\n", "Transfer-Encoding: chunked")
    engine, host = stub(version=VERSION, _ping=answer("OK"), create=begun)
    threading.Timer(3, lambda: setattr(engine, "silent", True)).start()
    wrong = refusal(Engine(docker_local(host)).pull, "r.example/x:y", None, quiet)
    assert (wrong.code, engine.asked.count("/_ping") > 1) == ("DOCKER_TIMEOUT", True)


def test_a_pull_that_ends_without_the_image_is_no_success(stub: Start) -> None:
    none = answer('{"message":"No such image"}').replace(b"200 OK", b"404 Not Found")
    _, host = stub(version=VERSION, create=answer('{"status":"Done"}\n'), json=none)
    assert refusal(Engine(docker_local(host)).pull, "r.example/x:y", None, quiet).code == "PULL_FAILED"


def test_a_pull_that_brings_something_else_is_no_success(stub: Start) -> None:
    shown = answer(json.dumps({"Id": ID, "RepoDigests": [f"r.example/x@sha256:{64 * 'b'}"]}))
    _, host = stub(version=VERSION, create=answer('{"status":"Done"}\n'), json=shown)
    wrong = refusal(Engine(docker_local(host)).pull, "r.example/x@sha256:" + 64 * "a", None, quiet)
    assert wrong.code == "DIGEST_MISMATCH"


ASKED = {
    "pull": lambda engine: engine.pull("r.example/x:y", None, quiet),
    "push": lambda engine: engine.push("r.example/x", "y", None, quiet),
    "digest": lambda engine: engine.published("r.example/x:y", None),
    "login": lambda engine: engine.login(LOGIN),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("lives", [True, False], ids=["engine lives", "engine dead"])
def test_a_registry_that_says_nothing_is_told_and_not_the_engine_that_asks_it(
    stub: Start, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Engine], object], lives: bool
) -> None:
    monkeypatch.setattr("deploy.engine.calls.ASKED", 0.5)
    monkeypatch.setattr("deploy.engine.calls.PING", 3)
    _, host = stub(version=VERSION, **({"_ping": answer("OK")} if lives else {}))
    wrong = refusal(ask, Engine(docker_local(host)))
    assert wrong.code == ("REGISTRY_UNREACHABLE" if lives else "DOCKER_TIMEOUT")
    assert not lives or "r.example did not answer" in wrong.error


def test_a_push_that_stands_still_is_given_up_though_the_engine_lives(
    stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.engine.calls.QUIET", 0.3)
    monkeypatch.setattr("deploy.engine.images.PUSH_STALL", 1.0)
    begun = chunk('{"status":"Preparing","id":"0123456789ab"}\n')
    engine, host = stub(version=VERSION, _ping=answer("OK"), push=begun)
    wrong = refusal(Engine(docker_local(host)).push, "r.example/x", "y", None, quiet)
    # Of that many silences: a registry that stores a great layer says nothing either.
    assert (wrong.code, engine.asked.count("/_ping") > 1) == ("PUSH_FAILED", True)


def test_an_engine_that_ends_in_the_middle_of_a_pull_is_told_as_what_it_broke_off(stub: Start) -> None:
    begun = chunk('{"status":"Downloading","id":"0123456789ab"}\n')
    engine, host = stub(version=VERSION, create=begun)
    engine.ends.add("create")
    wrong = refusal(Engine(docker_local(host)).pull, "r.example/x:y", None, quiet)
    assert (wrong.code, "run the task again" in wrong.cure) == ("PULL_INTERRUPTED", True)


def test_an_engine_that_ends_before_a_pull_begins_is_down(stub: Start) -> None:
    engine, host = stub(version=VERSION, create=b"")
    engine.ends.add("create")
    assert refusal(Engine(docker_local(host)).pull, "r.example/x:y", None, quiet).code == "DOCKER_DOWN"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.channel.http.LOOK", 1.5)
    monkeypatch.setattr("deploy.engine.calls.PING", 1.5)


SHOWN = answer(json.dumps({"Id": ID}))


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_hangs_after_its_first_answer_is_told_soon(stub: Start) -> None:
    engine, host = stub(version=VERSION, _ping=answer("OK"), json=SHOWN)
    one = Engine(docker_local(host))
    assert one.image_id("x") == ID
    engine.silent = True
    assert refusal(one.image_id, "x").code == "DOCKER_TIMEOUT"


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_is_slow_and_lives_is_waited_for(stub: Start) -> None:
    engine, host = stub(version=VERSION, _ping=answer("OK"), json=SHOWN)
    engine.slow["json"] = 4.0
    assert Engine(docker_local(host)).image_id("x") == ID
    assert engine.asked.count("/_ping") >= 2


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_lives_and_never_does_it_is_not_waited_for_without_end(stub: Start) -> None:
    engine, host = stub(version=VERSION, _ping=answer("OK"))
    assert refusal(Engine(docker_local(host, timeout=4)).image_id, "x").code == "DOCKER_TIMEOUT"
    assert engine.asked.count("/_ping") >= 2


DATE = "Date: Thu, 01 Jan 1970 01:00:00 GMT\r\n"  # an hour, in seconds since 1970
OLD, NEW = 3600 - 121, 3600 - 119


@pytest.mark.parametrize(("clock", "expected"), [(DATE, ["old"]), ("", []), ("Date: soon\r\n", [])])
def test_what_was_created_to_run_once_and_never_started_is_removed_once_it_is_old_by_the_engines_clock(
    clock: str, expected: list[str], stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = json.dumps([{"Id": "old", "Created": OLD}, {"Id": "new", "Created": NEW}])
    removed: list[str] = []
    monkeypatch.setattr(Engine, "delete", lambda _self, *path, **_: removed.append(path[-1]))
    monkeypatch.setattr(Engine, "made", lambda *_, **__: fails("DISK_FULL"))
    one = Engine(docker_local(stub(version=VERSION, json=answer(listed, f"{clock}Content-Length: {len(listed)}"))[1]))
    assert refusal(one.run_once, "x", ("git",)).code == "DISK_FULL"
    assert removed == expected


def fails(code: str) -> str:
    raise Failure(code, "full")


def test_what_runs_once_has_its_connections_before_it_is_created(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, host = stub(version=VERSION, json=answer("[]"))
    open_then: list[int] = []

    def made(self: Engine, *_path: str, **_: object) -> str:
        idle = list(self.api._wires._wire_pool.pool.queue)  # type: ignore[attr-defined]
        open_then.append(sum(connection is not None and connection.is_connected for connection in idle))
        return fails("DISK_FULL")

    monkeypatch.setattr(Engine, "made", made)
    assert refusal(Engine(docker_local(host)).run_once, "x", ("git",)).code == "DISK_FULL"
    assert open_then == [3]
    assert engine.asked.count("/v1.41/containers/json") == 1


@pytest.mark.parametrize("network", ["none", "host"])
def test_what_runs_once_has_no_capability_and_no_network_that_is_not_asked_for(
    network: str, stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {}

    def made(_self: Engine, *_path: str, json: dict[str, Any]) -> str:
        wanted.update(json)
        raise Failure("DISK_FULL", "full")

    monkeypatch.setattr(Engine, "made", made)
    one = Engine(docker_local(stub(version=VERSION, json=answer("[]"))[1]))
    how = {} if network == "none" else {"network": network}
    assert refusal(lambda: one.run_once("x", ("git",), **how)).code == "DISK_FULL"
    assert wanted["HostConfig"] == {
        "NetworkMode": network,
        "AutoRemove": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
    }


def test_what_was_laid_into_a_container_is_read_once_of_each(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def get_file(_self: Engine, name: str, _path: str) -> bytes | None:
        read.append(name)
        return b"laid" if len(read) > 1 else None

    monkeypatch.setattr(Engine, "get_file", get_file)
    engine = Engine(docker_local(stub(version=VERSION)[1]))
    first, second = (Found(id, "head", "running", {}, "i") for id in "ab")
    assert [engine.laid_file(one, "/x") for one in (first, first, first, second)] == [None, *3 * [b"laid"]]
    assert read == ["a", "a", "b"]  # what was not there may be laid yet, and another container has another


def test_who_asks_while_a_laid_file_is_read_has_it_of_that(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def get_file(_self: Engine, name: str, _path: str) -> bytes | None:
        read.append(name)
        time.sleep(0.3)  # the others ask within it
        return b"laid"

    monkeypatch.setattr(Engine, "get_file", get_file)
    engine = Engine(docker_local(stub(version=VERSION)[1]))
    one = Found("a", "head", "running", {}, "i")
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda _: engine.laid_file(one, "/x"), range(3))) == 3 * [b"laid"]
    assert read == ["a"]


def test_what_was_seen_of_a_container_holds_until_something_is_done_to_one(stub: Start) -> None:
    shown = {"Id": "c", "Name": "/ray", "Image": ID, "Created": "", "Config": {"Image": "i", "Labels": {}}}
    state = {"Status": "created", "ExitCode": 0, "FinishedAt": ""}
    answers = {"ray/json": answer(json.dumps({**shown, "State": state})), "start": answer("")}
    played, host = stub(version=VERSION, **answers)
    engine = Engine(docker_local(host))
    looks = []
    for do in (engine.seen, engine.seen, engine.find, engine.start, engine.seen, engine.seen):
        do("ray")
        looks.append(played.asked.count("/v1.41/containers/ray/json"))
    assert looks == [1, 1, 2, 2, 3, 3]


def test_what_was_seen_before_something_was_done_is_not_kept(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(docker_local(stub(version=VERSION, start=answer(""))[1]))

    def looked(_self: Engine, *_path: str) -> Fields:
        engine.start("ray")  # by another thread, while the engine answers this one
        raise NotFound("no such container")

    monkeypatch.setattr(Engine, "answer", looked)
    assert engine.find("ray") is None
    there = Found("c", "ray", "running", {}, "i")
    monkeypatch.setattr(Engine, "_find", lambda *_: there)
    assert engine.seen("ray") is there


def test_what_was_just_created_is_known_without_a_look(stub: Start) -> None:
    played, host = stub(version=VERSION, create=answer('{"Id": "c"}'), **OF_IMAGE)
    engine = Engine(docker_local(host))
    engine.create(WORKER, word)
    seen = engine.seen("ray")
    assert seen
    assert (seen.id, seen.name, seen.state, seen.image) == ("c", "ray", "created", ID)
    assert seen.labels.items() >= {"of": "the image", "raydock.cluster": "blue", "raydock.role": "worker"}.items()
    assert engine.user_id("ray") == 1000
    assert not any("containers/ray" in path for path in played.asked)


def test_a_file_of_its_image_is_none_that_was_laid_into_a_new_container(stub: Start) -> None:
    mode = base64.b64encode(json.dumps({"mode": 0o600}).encode()).decode()
    there = answer("", f"{PATH_STAT}: {mode}\r\nContent-Length: 0")
    answers = {"create": answer('{"Id": "c"}'), "archive": there, "start": answer("")}
    played, host = stub(version=VERSION, **answers, **OF_IMAGE)
    engine = Engine(docker_local(host))
    assert engine.has_laid("ray", "/run/token")  # one of before, which is asked
    engine.create(WORKER, word)
    laid = [engine.has_laid("ray", "/run/token")]
    engine.put_file("ray", "/run/token", b"x", 0)
    laid.append(engine.has_laid("ray", "/run/token"))
    archive = "/v1.41/containers/ray/archive"
    assert (laid, played.asked.count(archive)) == ([False, True], 2)  # what was asked before, and what was laid
    engine.start("ray")
    assert engine.has_laid("ray", "/run/token")
    assert played.asked[-1] == archive  # once it ran, it is asked again


def test_a_list_is_asked_for_again_once_something_was_done(stub: Start) -> None:
    played, host = stub(version=VERSION, json=answer("[]"), stop=answer(""))
    engine = Engine(docker_local(host))
    one, two = {"a": "b"}, {"a": "c"}
    lists = []
    for do in (
        lambda: engine.seen_in_list(one), lambda: engine.seen_in_list(one), lambda: engine.listed(one),
        lambda: engine.seen_in_list(two), lambda: engine.stop("ray", 1), lambda: engine.seen_in_list(one),
    ):  # fmt: skip
        do()
        lists.append(sum("containers/json" in path for path in played.asked))
    assert lists == [1, 1, 2, 3, 3, 4]


def test_a_list_says_of_each_container_what_it_is_known_by(stub: Start) -> None:
    row = {"Id": "c", "Names": ["/ray"], "State": "exited", "Labels": {"a": "b"}, "Created": 0}
    played, host = stub(version=VERSION, json=answer(json.dumps([row])))
    assert Engine(docker_local(host)).listed({"a": "b"}) == (Listed("c", "ray", "exited", {"a": "b"}),)
    assert played.asked.count("/v1.41/containers/json") == len(played.asked) - 1  # the version


@pytest.mark.parametrize(
    ("mode", "file"),
    [(0o600, True), (1 << 23 | 0o755, True), (1 << 31 | 0o755, False), (1 << 27 | 0o777, False), (1 << 25, False)],
    ids=["file", "setuid", "folder", "link", "pipe"],
)
def test_only_a_file_is_one(mode: int, file: bool) -> None:
    assert is_file(base64.b64encode(json.dumps({"mode": mode}).encode()).decode()) is file


@pytest.mark.parametrize("shown", ["", "?", "\xe9", "e30=", "W10=", "eyJtb2RlIjogIjYwMCJ9"])
def test_what_shows_no_path_is_odd(shown: str) -> None:
    with pytest.raises(Odd):
        is_file(shown)


def test_of_a_node_that_is_closed_nothing_is_kept(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    _, socket_of_engine = stub(version=VERSION)
    monkeypatch.setattr(ssh_hosts, "dial_engine", lambda _: None)
    monkeypatch.setattr("deploy.channel.docker_over", lambda *_, **__: docker_local(socket_of_engine))
    of = scope("one")
    host = SshHost(of.inventory.workers[0], Run(of, cast("Any", None)))
    client = weakref.ref(host.docker.api)  # with all that its connections hold: the session, and its keys
    host.close()
    gc.collect()
    assert client() is None


def test_the_line_that_was_dialled_before_is_used_first_and_once(stub: Start) -> None:
    engine, socket_of_engine = stub(version=VERSION)
    first = Line(cast("Any", connected(socket_of_engine.removeprefix("unix://"), 5)), b"")

    def another() -> Any:
        raise ConnectionAbortedError

    client = docker_over(another, dialled=first)
    assert [path.rpartition("/")[2] for path in engine.asked] == ["version"]
    with pytest.raises(Failure) as told:
        cast("NodeApi", client.api).warm(2)
    assert told.value.code == "SSH_LOST"
