"""The engine, behind this machine's socket and behind a session of SSH: the same answers from both."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import paramiko
import pytest
import requests
from dotenv import dotenv_values

from deploy.channel import docker_local, docker_over, http_local, http_over
from deploy.channel.endings import START
from deploy.engine import Engine
from deploy.errors import Failure, Mistake
from deploy.plan import Late, Word, parts_of
from deploy.progress import Amount, News, Output
from deploy.ray import TOKEN_PATH, Container, create_line
from deploy.secret import Secret
from deploy.site import Credentials, Weight
from deploy.steps.containers import LayToken
from tests.unit.played_engine import Stub, answer

ROOT = Path(__file__).parents[2]
RUN = ROOT / "conf/sandbox/run"
DEBIAN = "raydock/debian-root:bookworm"
IMAGE = "raydock-engine-test/root:1"
DERIVED = "raydock-engine-test/derived:1"
MARK = {"raydock-engine-test": "1"}
REGISTRY = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
LOGIN = Credentials("AWS", Secret("123456789012-auth-token"), REGISTRY)
WRONG = replace(LOGIN, password=Secret("planted-wrong-token"))
PUBLISHED = f"{REGISTRY}/raydock-engine-test"


def quiet(_text: str) -> None:
    pass


class Machine:
    """An engine and a shell on the same machine."""

    def __init__(self, engine: Engine, shell: Callable[[str], str]) -> None:
        self.engine = engine
        self.shell = shell


@pytest.fixture(scope="module")
def connection(practice_hosts: object) -> Iterator[paramiko.SSHClient]:  # noqa: ARG001 - they must be up
    client = to_head()
    yield client
    client.close()


def to_head() -> paramiko.SSHClient:
    host, _, port = str(dotenv_values(ROOT / "conf/sandbox.env")["HEAD"]).rpartition("@")[2].partition(":")
    client = paramiko.SSHClient()
    client.load_host_keys(str(RUN / "known_hosts"))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(host, int(port), "ubuntu", key_filename=str(RUN / "id_ed25519"), allow_agent=False)
    return client


def transport(connection: paramiko.SSHClient) -> paramiko.Transport:
    found = connection.get_transport()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def head(connection: paramiko.SSHClient) -> Iterator[Machine]:
    def shell(line: str) -> str:
        _, out, err = connection.exec_command(line, timeout=30)
        said = out.read().decode()
        assert out.channel.recv_exit_status() == 0, err.read().decode()
        return said

    client = docker_over(lambda: transport(connection).open_session(timeout=10))
    machine = Machine(Engine(client), shell)
    if not (had := machine.engine.has(DEBIAN)):
        client.images.load(docker_local(None).api.get_image(DEBIAN))
    machine.engine.tag(DEBIAN, *IMAGE.split(":"))
    yield machine
    sweep(machine, *(() if had else (DEBIAN,)))
    client.close()


@pytest.fixture(scope="module")
def local() -> Iterator[Machine]:
    def shell(line: str) -> str:
        return subprocess.run(("/bin/bash", "-c", line), check=True, capture_output=True, text=True).stdout

    client = docker_local(None)
    machine = Machine(Engine(client), shell)
    machine.engine.tag(DEBIAN, *IMAGE.split(":"))
    yield machine
    sweep(machine)
    client.close()


def sweep(machine: Machine, *images: str) -> None:
    api = machine.engine.api
    for one in machine.engine.containers(MARK):
        api.remove_container(one.id, force=True)
    names = [name for image in api.images() for name in (image["RepoTags"] or []) + (image["RepoDigests"] or [])]
    for name in (*images, *(name for name in names if "raydock-engine-test" in name)):
        with contextlib.suppress(docker.errors.ImageNotFound):
            api.remove_image(name, force=True)
    machine.engine.post("images", "prune", params={"filters": json.dumps({"dangling": ["true"], "label": list(MARK)})})


@pytest.fixture(params=["local", "head"])
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def running(machine: Machine) -> Iterator[str]:
    name = "raydock-engine-test-running"
    made = machine.engine.api.create_container(IMAGE, ["sleep", "600"], name=name, labels=MARK)
    machine.engine.start(name)
    yield name
    machine.engine.api.remove_container(made, force=True)


def refusal(call: Callable[..., Any], *args: Any) -> Failure:
    with pytest.raises(Failure) as refused:
        call(*args)
    return refused.value


# ---- containers


VALUES = {"image": IMAGE, "shm": "268435456", "none": "raydock-engine-test/none", "derived": DERIVED}


def words(word: Word) -> str:
    return "".join(part if isinstance(part, str) else VALUES[part.name]
                   for part in parts_of(word))  # fmt: skip


def container(**changed: Any) -> Container:
    late = Late("image", f"echo {IMAGE}", lambda _: IMAGE)
    wanted = Container(
        name="raydock-engine-test-created", cluster="engine-test", role="head", asked='{"role":"head","x":"a b"}',
        image=late, command=("sleep", "600", "it's"), environment=(("A", "1"), ("B", "two words")), shm_size="256M",
        gpus="", volumes=(), capabilities=(), labels=(("raydock.image", late), ("raydock-engine-test", "1")),
    )  # fmt: skip
    return replace(wanted, **changed)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"shm_size": Late("shm", "echo 268435456", lambda _: "268435456")},
        {"gpus": "all"},
        {"gpus": "2"},
        {"volumes": ("/tmp:/data:ro", "/scratch")},  # noqa: S108
        {"capabilities": ("IPC_LOCK", "SYS_PTRACE")},
        {"memory": "1.5g", "pids_limit": 4096},
    ],
    ids=["plain", "shm-late", "all-gpus", "two-gpus", "volumes", "capabilities", "limits"],
)
def test_create_makes_what_the_line_of_the_script_makes(machine: Machine, changed: dict[str, Any]) -> None:
    asked = container(**changed)
    machine.engine.create(asked, words)
    made = machine.engine.api.inspect_container(asked.name)
    machine.engine.api.remove_container(asked.name, v=True)
    machine.shell(f"image={IMAGE}; shm=268435456; {create_line(asked)}")
    typed = machine.engine.api.inspect_container(asked.name)
    machine.engine.api.remove_container(asked.name, v=True)
    for shown in (made, typed):
        shown["Config"].pop("Hostname")
        shown["Config"]["Env"].sort()
        # Where the CLI says nothing and where it says the default is one and the same to the engine.
        for part in (shown["Config"], shown["HostConfig"]):
            for key in [key for key, value in part.items() if value in (None, [], {}, "", [0, 0])]:
                part.pop(key)
    assert made["HostConfig"] == typed["HostConfig"]
    assert made["Config"] == typed["Config"]
    assert {mount["Destination"] for mount in made["Mounts"]} == {mount["Destination"] for mount in typed["Mounts"]}


def test_a_name_that_is_taken_is_a_conflict(machine: Machine, running: str) -> None:
    assert refusal(machine.engine.create, container(name=running), words).code == "NAME_CONFLICT"


def test_a_container_without_its_image_is_not_created(machine: Machine) -> None:
    asked = container(image=Late("none", "", lambda _: ""))
    assert refusal(machine.engine.create, asked, words).code == "IMAGE_NOT_FOUND"


def test_a_life_of_a_container(machine: Machine) -> None:
    engine, name = machine.engine, "raydock-engine-test-created"
    engine.create(container(command=("sh", "-c", "echo one; echo two >&2; exec sleep 600")), words)
    created = engine.find(name)
    assert created is not None
    assert (created.name, created.state, created.exit_code, created.image) == (name, "created", None, IMAGE)
    engine.start(name)
    assert [one.name for one in engine.containers({"raydock.cluster": "engine-test"})] == [name]
    time.sleep(0.5)
    assert sorted(engine.logs(name, 5)) == ["one", "two"]
    assert len(engine.logs(name, 1)) == 1
    engine.stop(name, 1)
    ended = engine.find(name)
    assert ended is not None
    assert (ended.state, ended.exit_code, ended.running) == ("exited", 137, False)
    engine.remove(name)
    assert engine.find(name) is None
    engine.remove(name)
    engine.stop(name, 1)


def test_what_is_known_of_a_new_container_is_what_the_engine_shows_of_it(machine: Machine) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN echo theirs >/srv/laid\nUSER daemon\nLABEL raydock.role=none of=image\n"
    machine.engine.build({"Dockerfile": dockerfile.encode()}, DERIVED, {"labels": MARK}, lambda _: None)
    asked = container(image=Late("derived", f"echo {DERIVED}", lambda _: DERIVED))
    machine.engine.create(asked, words)
    try:
        known, uid = machine.engine.seen(asked.name), machine.engine.user_id(asked.name)
        laid = machine.engine.has_laid(asked.name, "/srv/laid")
        shown = machine.engine.find(asked.name)
        assert shown
        assert known == replace(shown, created="", finished="")
        assert (uid, shown.labels["raydock.role"], shown.labels["of"]) == (1, "head", "image")
        assert (laid, machine.engine.has_file(asked.name, "/srv/laid")) == (False, True)
    finally:
        machine.engine.remove(asked.name)
        machine.engine.api.remove_image(DERIVED)


def test_the_script_lays_the_token_over_what_a_new_container_has_of_its_image_and_once(machine: Machine) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN echo an old one >/run/ray-token\n"
    machine.engine.build({"Dockerfile": dockerfile.encode()}, DERIVED, {"labels": MARK}, lambda _: None)
    asked = container(image=Late("derived", f"echo {DERIVED}", lambda _: DERIVED))
    machine.engine.create(asked, words)
    lay = LayToken(asked.name, Late("token", "", lambda _: "")).shell
    try:
        for token in ("laid", "another"):
            machine.shell(f"set -euo pipefail; memory=$(mktemp -d); token={token}\n{lay}")
            assert machine.engine.get_file(asked.name, TOKEN_PATH) == b"laid"
    finally:
        machine.engine.remove(asked.name)
        machine.engine.api.remove_image(DERIVED)


def test_a_file_that_is_laid_in_belongs_to_its_user_alone(machine: Machine) -> None:
    engine, asked = machine.engine, container(command=("sh", "-c", "stat -c '%a %u %g' /run/ray-token"))
    engine.create(asked, words)
    try:
        assert engine.get_file(asked.name, "/run/ray-token") is None
        assert not engine.has_file(asked.name, "/run/ray-token")
        engine.put_file(asked.name, "/run/ray-token", b"planted", 1000)
        assert engine.get_file(asked.name, "/run/ray-token") == b"planted"
        assert engine.get_file(asked.name, "/run") is None
        assert engine.has_file(asked.name, "/run/ray-token")
        assert not engine.has_file(asked.name, "/run")
        engine.start(asked.name)
        engine.api.wait(asked.name, timeout=20)
        assert engine.logs(asked.name, 5) == ("600 1000 0",)
    finally:
        engine.remove(asked.name)


@pytest.mark.parametrize(
    ("user", "uid"), [("", 0), ("1000", 1000), ("1000:5", 1000), ("daemon", 1), ("daemon:daemon", 1)]
)
def test_the_uid_of_a_container_is_found_before_it_runs(machine: Machine, user: str, uid: int) -> None:
    made = machine.engine.api.create_container(IMAGE, ["true"], user=user or None, labels=MARK)
    try:
        assert machine.engine.user_id(made["Id"]) == uid
    finally:
        machine.engine.remove(made["Id"])


def test_a_user_that_the_image_does_not_know_is_told(machine: Machine) -> None:
    made = machine.engine.api.create_container(IMAGE, ["true"], user="nobody-knows", labels=MARK)
    assert "nobody-knows" in refusal(machine.engine.user_id, made["Id"]).error
    machine.engine.remove(made["Id"])
    assert refusal(machine.engine.user_id, made["Id"]).code == "DOCKER_FAILED"


# ---- programs


def test_exec_gives_the_code_and_the_output(machine: Machine, running: str) -> None:
    def ran(line: str) -> tuple[int, str]:
        return machine.engine.exec(running, ("sh", "-c", line), 20)

    assert ran("echo out; echo err >&2") == (0, "out\n")
    assert ran("echo out; sleep 0.1; echo err >&2; exit 7") == (7, "out\nerr\n")
    assert ran("head -c 1000000 /dev/zero | tr '\\0' x") == (0, "x" * 1_000_000)
    # Of what nobody can have asked for the beginning and the end are kept.
    code, output = ran("head -c 3000000 /dev/zero | tr '\\0' x; echo the end")
    assert (code, output[0], "bytes left out" in output) == (0, "x", True)
    assert output.endswith("xthe end\n")
    assert machine.engine.exec(running, ("no-such-program",), 20)[0] in (126, 127)


@pytest.mark.parametrize("line", ["sleep 30", "while :; do echo x; done", "while :; do echo x; sleep 0.2; done"],
                         ids=["silent", "flood", "drip"])  # fmt: skip
def test_execs_deadline_holds_whatever_the_program_says(machine: Machine, running: str, line: str) -> None:
    began = time.monotonic()
    late = refusal(machine.engine.exec, running, ("timeout", "10", "sh", "-c", line), 1.5)
    assert late.code == "COMMAND_FAILED"
    assert "did not end within 1.5 s" in late.error
    assert time.monotonic() - began < 4


def test_a_program_that_runs_once_leaves_its_output_and_nothing_else(machine: Machine) -> None:
    once = machine.engine.run_once
    assert once(IMAGE, ("sh", "-c", "echo out; echo err >&2")) == "out\n"
    assert once(IMAGE, ("-c", "cat /sys/class/net/*/address | wc -l"), entrypoint="sh", network="none") == "1\n"
    failed = refusal(once, IMAGE, ("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert failed.code == "COMMAND_FAILED"
    assert "ended with 3" in failed.error
    assert "err" in failed.error
    assert refusal(once, IMAGE, ("no-such-program",)).code == "DOCKER_FAILED"
    assert not [one for one in machine.engine.containers({"raydock.once": "1"}) if one.image == IMAGE]


def test_a_program_that_does_not_end_is_given_up_and_removed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.engine.containers.ONCE_DEADLINE", 1)
    assert "did not end within 1 s" in refusal(machine.engine.run_once, IMAGE, ("sleep", "30")).error
    assert not [one for one in machine.engine.containers({"raydock.once": "1"}) if one.image == IMAGE]


def test_nothing_stays_on_a_node_of_who_is_gone_before_the_start_of_what_runs_once(
    head: Machine, connection: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(docker_over(lambda: transport(connection).open_session(timeout=10)))
    dials = "pgrep -u ubuntu -fc '^docker system dial-stdio' || :"
    before = int(head.shell(dials))

    def gone(*_path: str, **_: object) -> None:
        engine.close()
        raise Failure("SSH_LOST", "killed")

    monkeypatch.setattr(engine, "_gone", gone)
    post = engine.post
    monkeypatch.setattr(engine, "post", lambda *path, **how: gone() if path[-1] == "start" else post(*path, **how))
    assert refusal(engine.run_once, IMAGE, ("true",)).code == "SSH_LOST"
    (left,) = [one for one in head.engine.containers({"raydock.once": "1"}) if one.state == "created"]
    try:
        assert soon(lambda: int(head.shell(dials)) < before)
    finally:
        head.engine.remove(left.id)


# ---- builds


def test_a_build_is_told_live_and_gives_the_images_id(machine: Machine) -> None:
    said: list[News] = []
    context = {
        "Dockerfile": f"FROM {IMAGE}\nARG WHO\nCOPY . /in\nRUN /in/sub/hi.sh $WHO >&2\n".encode(),
        "sub/hi.sh": b"#!/bin/sh\necho hello $1\n",
        "large": bytes(20_000_000),
    }
    options = {"labels": MARK | {"a": "b c"}, "buildargs": {"WHO": "you"}, "network_mode": "host", "nocache": True}
    built = machine.engine.build(context, "raydock-engine-test/app:1", options, said.append)
    assert built == machine.engine.image_id("raydock-engine-test/app:1")
    assert machine.engine.image_labels("raydock-engine-test/app:1").items() >= (MARK | {"a": "b c"}).items()
    assert said[:2] == [f"Step 1/6 : FROM {IMAGE}", "Step 2/6 : ARG WHO"]
    assert Output("hello you") in said
    assert machine.engine.build(context, "raydock-engine-test/app:1", options | {"nocache": False}, quiet) == built


def test_of_an_image_is_shared_what_another_has(machine: Machine) -> None:
    engine, context = (
        machine.engine,
        {"Dockerfile": f"FROM {IMAGE}\nRUN head -c 5000000 /dev/urandom >/heavy\n".encode()},
    )
    small, heavy = engine.image_weight(IMAGE), "raydock-engine-test/heavy:1"
    engine.build(context, heavy, {"labels": MARK}, quiet)
    weight = engine.image_weight(heavy)
    assert (weight.size, weight.sizes) == (small.size + 5_000_000, (*small.sizes, 5_000_000))
    assert weight.layers[:-1] == small.layers
    # Of one that differs in its uppermost layer it has the rest.
    other = replace(weight, layers=(*small.layers, "sha256:other"))
    assert (engine.shared_with(weight), engine.shared_with(other)) == (weight.size, small.size)
    assert engine.shared_with(Weight(1, ("sha256:none",), (1,))) == 0
    assert engine.image_weight("raydock-engine-test/none:1") == Weight()


def test_a_failing_step_tells_its_last_lines_and_leaves_no_container(machine: Machine) -> None:
    context = {"Dockerfile": f"FROM {IMAGE}\nLABEL raydock-engine-test=1\nRUN seq 50; exit 3\n".encode()}
    failed = refusal(machine.engine.build, context, "raydock-engine-test/app:2", {}, quiet)
    assert failed.code == "BUILD_FAILED"
    first, *tail = failed.error.split("\n")
    assert first == "Step 3/3 : RUN seq 50; exit 3: returned a non-zero code: 3"
    assert tail == [str(n) for n in range(21, 51)]
    assert machine.engine.containers(MARK) == ()


def test_a_step_of_a_build_that_says_nothing_for_long_is_given_up(machine: Machine) -> None:
    context = {"Dockerfile": f"FROM {IMAGE}\nLABEL raydock-engine-test=1\nRUN echo waits && sleep 600\n".encode()}
    build = partial(machine.engine.build, context, "raydock-engine-test/app:4", {"nocache": True}, quiet, idle=2)
    failed = refusal(build)
    assert failed.code == "BUILD_FAILED"
    assert failed.error == ("Step 3/3 : RUN echo waits && sleep 600: it said nothing for 2 s (BUILD_IDLE)\nwaits")
    end = time.monotonic() + 20  # the engine ends its container by itself
    while machine.engine.containers(MARK) and time.monotonic() < end:
        time.sleep(0.2)
    assert machine.engine.containers(MARK) == ()


def test_a_step_that_says_something_now_and_then_is_no_idle_one(machine: Machine) -> None:
    context = {"Dockerfile": f"FROM {IMAGE}\nRUN for each in 1 2 3; do echo $each; sleep 1; done\n".encode()}
    machine.engine.build(context, "raydock-engine-test/app:4", {"nocache": True, "labels": MARK}, quiet, idle=2)


def test_a_base_image_that_cannot_be_had_is_a_matter_of_the_registry(machine: Machine) -> None:
    context = {"Dockerfile": b"FROM 127.0.0.1:1/x\n"}
    assert refusal(machine.engine.build, context, "raydock-engine-test/app:3", {}, quiet).code == "REGISTRY_UNREACHABLE"


# ---- a registry


@pytest.fixture(scope="module")
def pushed(head: Machine) -> str:
    context = {"Dockerfile": b"FROM scratch\nCOPY f /f\n", "f": str(time.time()).encode()}
    head.engine.build(context, f"{PUBLISHED}:1", {"labels": MARK}, quiet)
    said: list[News] = []
    digest = head.engine.push(PUBLISHED, "1", LOGIN, said.append)
    assert isinstance(said[-1], Amount)
    assert said[-1].text == "1 of 1 layers"
    return digest


def test_what_was_pushed_is_published_and_can_be_pulled_by_its_digest(head: Machine, pushed: str) -> None:
    engine = head.engine
    assert engine.published(f"{PUBLISHED}:1", LOGIN) == pushed
    assert engine.published(f"{PUBLISHED}@{pushed}", LOGIN) == pushed
    assert engine.published(f"{PUBLISHED}:none", LOGIN) is None
    assert engine.image_digests(f"{PUBLISHED}:1") == (f"{PUBLISHED}@{pushed}",)
    engine.api.remove_image(f"{PUBLISHED}:1")
    assert not engine.has(f"{PUBLISHED}@{pushed}")
    engine.pull(f"{PUBLISHED}@{pushed}", LOGIN, quiet)
    assert engine.has(f"{PUBLISHED}@{pushed}")
    engine.pull(f"{PUBLISHED}:1", LOGIN, quiet)
    assert engine.image_id(f"{PUBLISHED}:1") == engine.image_id(f"{PUBLISHED}@{pushed}")


def test_nothing_of_a_login_stays_on_the_node(head: Machine, pushed: str) -> None:
    head.engine.login(LOGIN)
    head.engine.pull(f"{PUBLISHED}@{pushed}", LOGIN, quiet)
    assert head.shell("cat ~/.docker/config.json 2>/dev/null || echo none") == "none\n"
    assert refusal(head.engine.pull, f"{PUBLISHED}:1", None, quiet).code == "REGISTRY_AUTH"


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("login", [WRONG, None], ids=["wrong", "none"])
def test_a_registry_that_refuses_us_says_so_without_the_password(head: Machine, login: Credentials | None) -> None:
    calls: list[tuple[Any, ...]] = [
        (head.engine.pull, f"{PUBLISHED}:1", login, quiet),
        (head.engine.push, PUBLISHED, "1", login, quiet),
        (head.engine.published, f"{PUBLISHED}:1", login),
    ]
    head.engine.pull(f"{PUBLISHED}:1", LOGIN, quiet)
    for refused in (refusal(*call) for call in calls):
        assert refused.code == "REGISTRY_AUTH"
        assert "planted" not in str(refused)
    assert refusal(head.engine.login, WRONG).code == "REGISTRY_AUTH"


def test_a_tag_that_is_not_there_is_told(head: Machine) -> None:
    assert refusal(head.engine.pull, f"{PUBLISHED}:none", LOGIN, quiet).code == "IMAGE_NOT_FOUND"
    assert refusal(head.engine.push, PUBLISHED, "none", LOGIN, quiet).code == "IMAGE_NOT_FOUND"


@pytest.mark.parametrize("name", ["127.0.0.1:1/x:y", "nobody.invalid/x:y"])
def test_a_registry_that_is_not_there_is_told(machine: Machine, name: str) -> None:
    assert refusal(machine.engine.pull, name, None, quiet).code == "REGISTRY_UNREACHABLE"
    assert refusal(machine.engine.published, name, None).code == "REGISTRY_UNREACHABLE"


# ---- the way there


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("no-such-docker system dial-stdio", "DOCKER_ABSENT"),
        ("exit 127", "DOCKER_ABSENT"),
        ("exec >&-; sleep 0.3; exit 127", "DOCKER_ABSENT"),
        ("DOCKER_HOST=unix:///nowhere docker system dial-stdio", "DOCKER_DOWN"),
        ("sudo -n -u nobody docker system dial-stdio", "DOCKER_PERMISSION"),
        ("docker system no-such-dial", "DOCKER_DOWN"),
        ("echo Welcome to this machine; docker system dial-stdio", "SHELL_UNUSABLE"),
    ],
)
def test_a_dial_command_that_gives_no_answer_says_why(connection: paramiko.SSHClient, command: str, code: str) -> None:
    before = open_channels(connection)
    failed = refusal(lambda: docker_over(lambda: transport(connection).open_session(timeout=10), command=command))
    assert (failed.code, failed.error) == (code, failed.error)
    assert soon(lambda: open_channels(connection) <= before)


def test_the_group_can_be_spared_by_sudo(connection: paramiko.SSHClient) -> None:
    client = docker_over(
        lambda: transport(connection).open_session(timeout=10), command="sudo -n docker system dial-stdio"
    )
    assert client.ping()
    client.close()


def open_channels(connection: paramiko.SSHClient) -> int:
    return len(transport(connection)._channels)  # type: ignore[attr-defined]


def soon(holds: Callable[[], bool]) -> bool:
    """Ask for a while: that a channel is closed is known when the other side has said so."""
    ends = time.monotonic() + 5
    while not (held := holds()) and time.monotonic() < ends:
        time.sleep(0.05)
    return held


@pytest.mark.usefixtures("practice_hosts")
def test_a_client_uses_one_channel_and_closes_it() -> None:
    connection = to_head()
    client = docker_over(lambda: transport(connection).open_session(timeout=10))
    for _ in range(20):
        client.ping()
    assert open_channels(connection) == 1
    client.close()
    assert soon(lambda: open_channels(connection) == 0)
    assert transport(connection).is_active()
    connection.close()


def test_a_channel_that_has_closed_is_not_used_again(connection: paramiko.SSHClient) -> None:
    opened: list[paramiko.Channel] = []

    def open_session() -> paramiko.Channel:
        opened.append(transport(connection).open_session(timeout=10))
        return opened[-1]

    client = docker_over(open_session)
    opened[0].close()
    assert client.ping()
    assert len(opened) == 2
    client.close()


def test_a_connection_that_is_lost_is_no_engine_that_is_down(head: Machine) -> None:
    client = to_head()
    engine = Engine(docker_over(lambda: transport(client).open_session(timeout=10)))
    engine.create(container(command=("sleep", "600")), words)
    engine.start("raydock-engine-test-created")
    threading.Timer(0.5, transport(client).close).start()
    try:
        lost = refusal(engine.exec, "raydock-engine-test-created", ("timeout", "10", "yes"), 9)
        assert lost.code == "SSH_LOST"
        assert refusal(engine.facts).code == "SSH_LOST"
    finally:
        head.engine.api.remove_container("raydock-engine-test-created", force=True)


@pytest.mark.usefixtures("practice_hosts")
def test_sessions_that_sshd_refuses_are_told() -> None:
    client = to_head()
    try:
        held = [transport(client).open_session(timeout=10) for _ in range(10)]
        refused = refusal(lambda: docker_over(lambda: transport(client).open_session(timeout=10)))
        assert refused.code == "SSH_NO_CHANNEL"
        assert len(held) == 10
    finally:
        client.close()


def test_http_goes_through_a_tunnel(head: Machine, connection: paramiko.SSHClient) -> None:
    def tunnel(port: int) -> requests.Session:
        address = ("127.0.0.1", port)
        return http_over(
            lambda: transport(connection).open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=10)
        )

    with pytest.raises(requests.ConnectionError):
        tunnel(1).get("http://node/")
    head.shell("mkdir -p /tmp/raydock-engine-test && cd /tmp/raydock-engine-test && echo hi >f")
    head.shell("(cd /tmp/raydock-engine-test && exec timeout 20 python3 -m http.server -b 127.0.0.1 18099 "
               ">/dev/null 2>&1 </dev/null &) ; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; "
               "(exec 3<>/dev/tcp/127.0.0.1/18099) 2>/dev/null && break; done")  # fmt: skip
    session = tunnel(18099)
    assert session.get("http://node/f").text == "hi\n"
    assert session.get("http://node/none").status_code == 404
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("https://elsewhere.invalid/")
    session.close()
    head.shell("rm -r /tmp/raydock-engine-test")


# ---- this machine


def test_an_engine_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    assert refusal(docker_local, f"unix://{path}").code == "DOCKER_DOWN"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert refusal(docker_local, f"unix://{path}").code == "DOCKER_ABSENT"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    down = refusal(docker_local, f"unix://{path}")
    assert (down.code, down.cure) == ("DOCKER_DOWN", START)
    with pytest.raises(Mistake, match="HEAD=user@host"):
        docker_local("tcp://127.0.0.1:2375")


def test_a_socket_that_we_may_not_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may use any: the refusal itself is put in its place.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("deploy.channel.connected", refuse)
    assert refusal(docker_local, f"unix://{tmp_path}/docker.sock").code == "DOCKER_PERMISSION"


def test_http_local_reaches_a_port_of_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            end, _ = server.accept()
            with end:
                end.recv(65536)
                end.sendall(answer("hello"))

        threading.Thread(target=serve, daemon=True).start()
        assert http_local("127.0.0.1", port).get("http://node/").text == "hello"
    with pytest.raises(requests.ConnectionError):
        http_local("127.0.0.1", port).get("http://node/")


def test_an_engine_that_is_too_old_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stub.sock"
    engine = Stub(path, {"version": answer(json.dumps({"ApiVersion": "1.23"}))})
    assert refusal(docker_local, f"unix://{path}").code == "API_TOO_OLD"
    engine.server.close()
