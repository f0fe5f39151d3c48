"""Three practice hosts with real engines: what is typed, warm OpenSSH connections, and who sees Ray come."""

from __future__ import annotations

import atexit
import ctypes
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from deploy.engine.archive import only_file
from deploy.practice.files import KEY, KNOWN_HOSTS
from deploy.ray import TOKEN_PATH
from tests.bench.measure import Command
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, PracticeHost, Sandbox, command
from tests.practice import give_base

NODES = 3
DASHBOARD = ("127.0.0.1", 8265)
PACE = 0.1  # seconds between two looks at Ray's list
CLONE_NEWNET = 0x40000000
ENV: Mapping[str, str] = {"ENVIRONMENT": "sandbox", **NO_ENGINE}
PREPARED = (("build.base",), ("build",), ("publish",), ("cluster.setup",))
LONG = 1200  # seconds for images to be made


def typed(*words: str) -> Command:
    """Give a task as an operator types it."""
    return Command([str(INVOKE), *words], TOP, ENV)


def hosts(*, quick: bool) -> Sandbox | None:
    """Have the hosts with the application published; where it shall be `quick`, none where they are not up."""
    if not quick:
        return practice_hosts()
    try:
        found = Sandbox.of(docker.from_env(version="auto"))
    except DockerException:
        return None
    return found if len(found.hosts) == NODES else None


@cache
def practice_hosts() -> Sandbox:
    """Have a head and two workers, once for all parts; those that were not up go down when all is measured."""
    subprocess.run([TOP / "script/bootstrap"], check=True)
    own = {"DOCKER_HOST": os.environ.get("DOCKER_HOST")}
    up = command([INVOKE, "sandbox.up", "--prepared", "--workers", str(NODES - 1)], own, timeout=LONG)
    if "up already" not in up.err:
        atexit.register(command, [INVOKE, "sandbox.down"], own)
    client = docker.from_env(version="auto")
    found = Sandbox.of(client)
    found.clear()
    give_base(client, found.head)
    for words in PREPARED:
        command([INVOKE, *words], ENV, timeout=LONG)
    return found


@dataclass(frozen=True)
class Warm:
    """OpenSSH connections to the hosts that are open already: each command is a session on one of them."""

    folder: Path

    def argv(self, host: PracticeHost, *options: str) -> list[str]:
        """Write an ssh to a host, without a command; it checks the host's key and asks nobody."""
        usual = {
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": KNOWN_HOSTS,
            "IdentityFile": KEY,
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "Port": host.port,
            "ControlPath": self.folder / "%p",
        }
        said = [word for key, value in usual.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "/dev/null", *said, *options, "ubuntu@127.0.0.1"]

    def open(self, host: PracticeHost) -> None:
        """Open the connection of a host."""
        line = self.argv(host, "-o", "ControlMaster=yes", "-Nf")
        subprocess.run(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def close(self, host: PracticeHost) -> None:
        """Close it."""
        line = self.argv(host, "-O", "exit")
        subprocess.run(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def run(self, host: PracticeHost, line: str, given: bytes = b"") -> str:
        """Run a line of shell on a host, and give what it wrote."""
        ran = subprocess.run([*self.argv(host), line], input=given, capture_output=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{host.name}: {line}: {ran.stderr.decode(errors='replace')}")
        return ran.stdout.decode()

    def at_once(self, lines: Mapping[PracticeHost, str], given: Mapping[PracticeHost, bytes]) -> None:
        """Run a line on each host at the same time, until the last has ended."""
        with ThreadPoolExecutor(len(lines)) as pool:
            running = [pool.submit(self.run, host, line, given.get(host, b"")) for host, line in lines.items()]
            for one in running:
                one.result()


@contextmanager
def warm(sandbox: Sandbox) -> Iterator[Warm]:
    """Have a connection open to each host for a block."""
    with tempfile.TemporaryDirectory() as place:
        made = Warm(Path(place))
        try:
            for host in sandbox:
                made.open(host)
            yield made
        finally:
            for host in sandbox:
                made.close(host)


@contextmanager
def seen(head: PracticeHost, container: str | None) -> Iterator[Future[float]]:
    """Look at Ray's list for a block: the moment at which it has every node alive, as `time.monotonic` counts.

    Whoever starts them is seen alike: by the list itself, in the head's own network, past every connection.

    Args:
        head: the host.
        container: from which the token is read that Ray wants; None where it wants none.
    """
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        moment = pool.submit(watch, head, container, over)
        try:
            yield moment
        finally:
            over.set()


def watch(head: PracticeHost, container: str | None, over: threading.Event) -> float:
    """Look until all are alive, and give when; by a thread that ends with it, for it has gone to another network."""
    enter_network(head.pid)
    token = ""
    while not over.wait(PACE):
        with suppress(OSError, http.client.HTTPException, DockerException, ValueError):
            rows = nodes(token)
            if rows is None and container:
                token = read_token(head, container)
            elif len(alive(rows)) >= NODES:
                return time.monotonic()
    raise RuntimeError("Ray never had every node alive")


def enter_network(pid: int) -> None:
    """Have this thread, and no other, see the network that a process sees."""
    library = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as there:
        if library.setns(there.fileno(), CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "only root enters another network")


def read_token(head: PracticeHost, container: str) -> str:
    """Read Ray's token out of the head's container."""
    with head.engine() as client:
        pieces, _ = client.get_archive(container, TOKEN_PATH)
        return (only_file(pieces) or b"").decode("ascii")


def nodes(token: str) -> Sequence[Mapping[str, Any]] | None:
    """Give Ray's list; None where it wants a token, or another one."""
    connection = http.client.HTTPConnection(*DASHBOARD, timeout=2)
    try:
        connection.request("GET", "/api/v0/nodes", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        if answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return None
        rows: Sequence[Mapping[str, Any]] = json.loads(answer.read())["data"]["result"]["result"]
    except (TypeError, KeyError) as error:
        raise ValueError("not ready yet") from error
    else:
        return rows
    finally:
        connection.close()


def alive(rows: Sequence[Mapping[str, Any]] | None) -> set[str]:
    """Give the addresses that Ray has alive: one that was started again may have two rows."""
    return {str(row["node_ip"]) for row in rows or () if row["state"] == "ALIVE"}
