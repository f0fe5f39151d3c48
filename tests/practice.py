"""The practice hosts that tests share, and Raydock as an operator calls it there: fixtures for tests/conftest.py."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker import DockerClient
from dotenv import dotenv_values

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, PracticeHost, Sandbox, command
from tests.hosts.typist import path_of_an_operator

BASE = ("raydock/python-root", "ray-project/deploy")
OURS = "raydock.cluster=sandbox"
# These begin with a cluster that runs, one after the other, and all but the last leave it as it was given to them.
SHARING = ("test_inside.py", "test_jobs.py", "test_exposure.py")

Invoke = Callable[..., Done]


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    """This machine's engine."""
    made = docker.from_env(version="auto")
    yield made
    made.close()


@pytest.fixture(scope="session")
def practice_hosts(client: DockerClient, invoke: Invoke) -> Iterator[Sandbox]:
    """A head and two workers that have Docker, and the application published. Those that were up stay up."""
    own = {"DOCKER_HOST": os.environ.get("DOCKER_HOST")}
    up = command([INVOKE, "sandbox.up", "--prepared", "--workers", "2"], own, timeout=600)
    found = Sandbox.of(client)
    found.clear()
    give_base(client, found.head)
    for task in ("build.base", "build", "publish"):
        invoke(task, timeout=600)
    yield found
    if "up already" not in up.err:
        command([INVOKE, "sandbox.down"], own)


def give_base(client: DockerClient, head: PracticeHost) -> None:
    """Give the head what this machine's engine has of the base image: `build.base` decides what it is worth."""
    here = [image for image in BASE if client.images.list(image)]
    if here and not head.docker("images", "-q", here[-1]):
        save = shlex.join(["docker", "save", *here])
        load = shlex.join(["docker", "exec", "-i", str(head.box.name), "docker", "load"])
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{save} | {load}"], check=True, capture_output=True, timeout=300
        )


@pytest.fixture(scope="module")
def sandbox(practice_hosts: Sandbox, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The practice hosts, on which nothing is left running, unless one module has the cluster of the one before it."""
    shares = request.path.name in SHARING
    if not shares and practice_hosts.running():
        practice_hosts.clear()
    yield practice_hosts
    if not shares or request.path.name == SHARING[-1]:
        practice_hosts.clear()


@pytest.fixture
def stopped(sandbox: Sandbox) -> Sandbox:
    """The practice hosts without any container."""
    sandbox.clear()
    return sandbox


@pytest.fixture
def running(sandbox: Sandbox, invoke: Invoke, started: set[str]) -> Sandbox:
    """The practice hosts with the cluster running on them, and no container of anybody else."""
    sandbox.clear(but=OURS)
    # What was started for a test before, and still runs, is not asked once more.
    if not started or sandbox.running() != started:
        invoke("cluster.start")
        started.clear()
        started.update(sandbox.running())
    return sandbox


@pytest.fixture(scope="session")
def started() -> set[str]:
    """The ids of the containers that `running` gave last."""
    return set()


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Raydock as an operator calls it: `invoke(task, …, env=…, exit=…)`."""

    def call(*words: str | Path, env: dict[str, str | None] | None = None, **how: object) -> Done:
        return command([INVOKE, *words], {"ENVIRONMENT": "sandbox", **NO_ENGINE, **(env or {})}, **how)

    return call


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without anything of Raydock's."""
    return path_of_an_operator(tmp_path_factory.mktemp("aws"))


@pytest.fixture
def environment() -> Iterator[Callable[..., str]]:
    """Write further settings beside the sandbox's, gone after the test: `environment(KEY=value)` gives their name."""
    written: list[Path] = []

    def write(**changes: object) -> str:
        values = {**dotenv_values(TOP / "conf/sandbox.env", interpolate=False), **changes}
        path = TOP / "conf" / f"raydock-test-{len(written)}.env"
        written.append(path)
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items() if value is not None))
        return path.stem

    yield write
    for path in written:
        path.unlink()
