"""Practice hosts: what `sandbox.up` gives, what it does when said again, and what `sandbox.down` leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import docker
import pytest
from docker import DockerClient
from dotenv import dotenv_values

from deploy.practice import repository

TOP = Path(__file__).resolve().parents[2]
RUN = TOP / "conf" / "sandbox" / "run"
SETTINGS = TOP / "conf" / "sandbox.env"
REGISTRY = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
V2 = f"curl -s -o /dev/null -w '%{{http_code}}' --cacert /etc/docker/certs.d/{REGISTRY}/ca.crt https://{REGISTRY}/v2/"
# What reading a file of a container leaves in the engine's events.
READING = {"archive-path", "mount", "unmount"}


def invoke(*words: str) -> str:
    """Run tasks as an operator does; give what they said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words], cwd=TOP, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def ssh(login: str, command: str) -> str:
    """Run a command on a practice host, as the files of the sandbox say how; give what it wrote."""
    host, port = login.removeprefix("ssh://").rsplit(":", 1)
    options = {"UserKnownHostsFile": RUN / "known_hosts", "GlobalKnownHostsFile": "/dev/null"}
    options |= {
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 10,
    }
    flags = [f"-o{key}={value}" for key, value in options.items()]
    argv = ["ssh", "-F/dev/null", *flags, "-i", str(RUN / "id_ed25519"), "-p", port, host, command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def setting(key: str) -> str:
    value = dotenv_values(SETTINGS, interpolate=False)[key]
    assert value
    return value


def workers() -> list[str]:
    return [line.split()[0] for line in (RUN / "workers.txt").read_text().splitlines()]


def logins() -> list[str]:
    return [setting("HEAD"), *workers()]


def actions(engine: DockerClient, *, since: int) -> set[str]:
    """What an engine did since a time in nanoseconds."""
    events = engine.events(since=since // 10**9, until=int(time.time()) + 1, decode=True)
    return {str(event["Action"]) for event in events if event["timeNano"] >= since}


@dataclass(frozen=True)
class Snapshot:
    """What an engine has."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]

    @classmethod
    def of(cls, engine: DockerClient) -> Snapshot:
        return cls(
            frozenset(str(one.id) for one in engine.containers.list(all=True)),
            frozenset(str(one.id) for one in engine.networks.list()),
            frozenset(str(one.name) for one in engine.volumes.list()),
        )


@pytest.fixture(scope="module")
def engine() -> DockerClient:
    return docker.from_env(version="auto")


@pytest.fixture(scope="module", autouse=True)
def before(engine: DockerClient) -> Iterator[Snapshot]:
    """A sandbox with one worker, and what was there before it."""
    invoke("sandbox.down")
    snapshot = Snapshot.of(engine)
    invoke("sandbox.up", "--workers", "1")
    yield snapshot
    invoke("sandbox.down")


@pytest.fixture
def stranger(engine: DockerClient) -> Iterator[str]:
    """Somebody else's container, whose name begins like ours."""
    container = engine.containers.create("raydock/debian-root:bookworm", "true", name="raydock-sandbox-stranger")
    yield str(container.id)
    container.remove()


def test_every_host_shows_a_key_that_is_known_and_its_ubuntu_may_sudo() -> None:
    assert [ssh(login, "id -un; sudo -n id -un; hostname") for login in logins()] == [
        "ubuntu\nroot\nhead",
        "ubuntu\nroot\nworker-1",
    ]


def test_no_two_hosts_have_a_key_in_common() -> None:
    keys = [line.split()[2] for line in (RUN / "known_hosts").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 2 * 3


def test_a_bare_host_has_no_docker_and_can_install_it_without_a_network() -> None:
    assert ssh(setting("HEAD"), "command -v docker dockerd containerd || echo none") == "none"
    plan = ssh(setting("HEAD"), "apt-get install --yes --print-uris docker.io | grep -c ^\\' || true")
    assert plan == "0"


def test_the_private_address_of_a_host_is_one_of_its_interfaces() -> None:
    assert setting("HEAD_ADDRESS") in ssh(setting("HEAD"), "ip -4 -o address")
    private = (RUN / "workers.txt").read_text().split("private=")[1].strip()
    assert private in ssh(workers()[0], "ip -4 -o address")
    assert ssh(setting("HEAD"), f"timeout 5 bash -c ': < /dev/tcp/{private}/22' && echo reached") == "reached"


def test_the_registry_asks_for_a_login() -> None:
    assert ssh(workers()[0], V2) == "401"
    assert ssh(workers()[0], f"{V2} -u AWS:123456789012-auth-token") == "200"


def test_the_ecr_endpoint_names_the_registry_that_the_hosts_reach() -> None:
    ecr = boto3.client(
        "ecr",
        region_name=setting("REGION"),
        endpoint_url=setting("AWS_ENDPOINT_URL"),
        aws_access_key_id=setting("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=setting("AWS_SECRET_ACCESS_KEY"),
    )
    uri = ecr.create_repository(repositoryName="some-app")["repository"]["repositoryUri"]
    assert uri == f"{REGISTRY}/some-app"
    assert ssh(setting("HEAD"), f"getent hosts {REGISTRY}").split()[0] in setting("MY_PROJECT_URL")


def test_a_host_clones_what_examples_app_has_now() -> None:
    clone = f"rm -rf /tmp/app; git clone --quiet {setting('MY_PROJECT_URL')} /tmp/app && cd /tmp/app"
    served = ssh(setting("HEAD"), f"{clone} && git ls-files && ./install.sh && git rev-parse HEAD").splitlines()
    source = TOP / "examples" / "app"
    files = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sorted(served[:-1]) == sorted(str(path.relative_to(source)) for path in files)
    assert served[-1] == repository.example().commit


def test_the_commit_of_the_example_depends_on_its_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    here = repository.example().commit
    monkeypatch.setattr(repository, "SOURCE", tmp_path / "copy")
    shutil.copytree(TOP / "examples" / "app", tmp_path / "copy")
    assert repository.example().commit == here
    (tmp_path / "copy" / "README.md").write_text("Something else.\n")
    assert repository.example().commit != here


def test_up_again_changes_nothing(engine: DockerClient) -> None:
    written = {path: path.stat().st_mtime_ns for path in (SETTINGS, *RUN.iterdir())}
    since = time.time_ns()
    said = invoke("sandbox.up", "--workers", "1")
    assert actions(engine, since=since) <= READING
    assert {path: path.stat().st_mtime_ns for path in (SETTINGS, *RUN.iterdir())} == written
    assert said.splitlines()[0] == "the sandbox is up already: nothing to do"


def test_what_it_writes_is_for_the_operator_alone() -> None:
    assert RUN.stat().st_mode & 0o777 == 0o700
    assert SETTINGS.stat().st_mode & 0o777 == 0o600
    assert (RUN / "id_ed25519").stat().st_mode & 0o777 == 0o600


def test_up_starts_what_was_stopped(engine: DockerClient) -> None:
    known = (RUN / "known_hosts").read_text()
    for name in ("raydock-sandbox-worker-1", "raydock-sandbox-services"):
        engine.containers.get(name).stop(timeout=5)
    said = invoke("sandbox.up", "--workers", "1")
    assert said.splitlines()[0] == "starting raydock-sandbox-services, raydock-sandbox-worker-1"
    assert ssh(workers()[0], "hostname") == "worker-1"
    assert (RUN / "known_hosts").read_text() == known


def test_another_number_of_workers_leaves_the_other_hosts_alone(engine: DockerClient) -> None:
    def ids() -> dict[str, str]:
        found = engine.containers.list(filters={"label": "raydock.sandbox"})
        return {str(one.name): str(one.id) for one in found}

    one = ids()
    invoke("sandbox.up", "--workers", "2")
    two = ids()
    assert two.keys() - one.keys() == {"raydock-sandbox-worker-2"}
    assert [ssh(login, "hostname") for login in workers()] == ["worker-1", "worker-2"]
    invoke("sandbox.up", "--workers", "1")
    assert ids() == one == {name: two[name] for name in one}


def test_prepared_hosts_have_docker_and_ubuntu_may_use_it() -> None:
    invoke("sandbox.up", "--workers", "0", "--prepared")
    assert ssh(setting("HEAD"), "docker info --format '{{.Driver}} {{.Containers}}'") == "overlay2 0"
    assert "WORKERS_FILE" not in dotenv_values(SETTINGS)


def test_an_engine_elsewhere_is_refused_before_anything_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "sandbox.up"],
        cwd=TOP,
        env=os.environ | {"DOCKER_HOST": "tcp://192.0.2.1:2376"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "DOCKER_HOST is 'tcp://192.0.2.1:2376'" in done.stderr
    assert "Traceback" not in done.stderr


def test_down_leaves_nothing_but_what_was_there_before(engine: DockerClient, before: Snapshot, stranger: str) -> None:
    invoke("sandbox.down")
    after = Snapshot.of(engine)
    assert after.containers == before.containers | {stranger}
    assert (after.networks, after.volumes) == (before.networks, before.volumes)
    assert not SETTINGS.exists()
    assert not RUN.exists()
    assert invoke("sandbox.down").splitlines()[0] == "there is no sandbox: nothing to do"
