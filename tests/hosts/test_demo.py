"""`git clone` and `script/demo`, on a machine of which nothing else is changed by it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import DockerClient

from tests.hosts.observer import INVOKE, TOP, command, operator

CHAPTERS = (
    "script/bootstrap",
    "sandbox.up",
    "cluster.install",
    "build.base",
    "build",
    "publish",
    "cluster.setup",
    "cluster.start",
    "cluster.status",
    "job.run examples/where.py",
    "cluster.stop",
    "sandbox.down",
)
# Whatever the demo starts inherits this, and shows it for as long as it lives.
MARK = "RAYDOCK_DEMO_OF_A_TEST"
# What the demo writes is of this group, where the test may give it one: so it can be told from what others write.
GROUP = 61234 if os.geteuid() == 0 else None
SETTLING = 15  # seconds that an engine may take to end what belonged to a container

ROOTS = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var")  # noqa: S108
# Where others may be at work meanwhile; what configures their programs is to stay as it is even so.
WORKPLACES = re.compile(r"/(home|root|tmp)/")
CONFIGURATION = re.compile(r"/(home/[^/]+|root)/\.(aws|bash|config|docker|git|profile|ssh)")
# The engine's own files: what it has is asked of it instead. What any machine writes as it runs. And what spares
# a second demo the download of Python's packages.
TOLERATED = re.compile(
    "("
    r"/run/docker|/run/docker\..*|/run/containerd|/run/xtables\.lock|/var/lib/containerd"
    r"|/var/log|/run/(lock|log|sudo|systemd|udev|user|utmp)|/var/lib/(sudo|systemd)"
    r"|/.*/\.cache/pip"
    ")(/.*)?"
)


@dataclass(frozen=True)
class Machine:
    """What a machine has, each thing as one word that tells it from any other."""

    things: frozenset[str]

    @classmethod
    def now(cls, client: DockerClient, apart: frozenset[str]) -> Machine:
        """Look at it; what lies in the folders `apart` is not looked at."""
        engine = (
            *(f"container {one.name} {one.id}" for one in client.containers.list(all=True)),
            *(f"network {one.name} {one.id}" for one in client.networks.list()),
            *(f"volume {one.name}" for one in client.volumes.list()),
        )
        return cls(frozenset((*engine, *links(), *engine_processes(), *files(apart))))

    def differences(self, before: Machine) -> list[str]:
        """Name what is gone and what is new; what was changed is both."""
        gone = (f"gone: {thing}" for thing in before.things - self.things)
        return sorted((*gone, *(f"new: {thing}" for thing in self.things - before.things)))


def links() -> Iterator[str]:
    """Give the network interfaces, with the addresses of this machine, and its routes."""
    yield from (f"interface {line.partition(':')[0].strip()}" for line in lines("/proc/net/dev")[2:])
    addresses = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", Path("/proc/net/fib_trie").read_text())
    yield from (f"address {address}" for address in addresses)
    routes = (line.split() for line in lines("/proc/net/route")[1:])
    yield from (f"route {route[0]} {route[1]}/{route[7]} by {route[2]}" for route in routes)


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def processes() -> Iterator[tuple[str, str]]:
    """Give each process's command line and environment, as far as we may see them."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            yield read(process / "cmdline"), read(process / "environ")


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def engine_processes() -> Iterator[str]:
    """Give what the engine runs for its containers: it is not the demo that starts these."""
    found = Counter(line for line, _ in processes() if re.match(r"\S*(containerd-shim|docker-proxy|docker-init)", line))
    yield from (f"process {line} ({number})" for line, number in found.items())


def files(apart: frozenset[str]) -> Iterator[str]:
    """Give each file that counts with its size and when it was changed, and each folder."""
    waiting = list(ROOTS)
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.path in apart or TOLERATED.fullmatch(entry.path):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder:
                waiting.append(entry.path)
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if counts(entry.path, found):
                yield f"folder {entry.path}" if is_folder else f"file {entry.path} {found.st_size} {found.st_mtime_ns}"


def counts(path: str, found: os.stat_result) -> bool:
    others_too = GROUP and WORKPLACES.match(path) and not CONFIGURATION.match(path)
    return not others_too or found.st_gid == GROUP


@pytest.mark.timeout(900)
def test_the_demo_ends_with_all_three_hosts_and_leaves_nothing(client: DockerClient, tmp_path: Path) -> None:
    # The practice hosts' images stay, as the demo says: have them, and nothing else of a sandbox.
    own = {"DOCKER_HOST": os.environ.get("DOCKER_HOST")}
    command([INVOKE, "sandbox.up", "--workers", "0"], own, timeout=600)
    command([INVOKE, "sandbox.down"], own)
    checkout = tmp_path / "raydock"
    subprocess.run(["git", "clone", "--quiet", TOP, checkout], check=True)
    # Pytest's own folders are those of all tests.
    apart = frozenset(map(str, (TOP, tmp_path.parents[1], client.info()["DockerRootDir"])))
    before = Machine.now(client, apart)

    ran = subprocess.run(
        ["script/demo"],
        cwd=checkout,
        env=operator({**own, MARK: "1"}),
        group=GROUP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=880,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.splitlines()[-1] == "hosts: head worker-1 worker-2"
    assert all(f"  {chapter}\n" in ran.stdout for chapter in CHAPTERS), ran.stdout

    end = time.monotonic() + SETTLING
    while (differences := Machine.now(client, apart).differences(before)) and time.monotonic() < end:
        time.sleep(1)
    assert differences == []
    assert [line for line, environment in processes() if MARK in environment] == []
    status = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True)
    assert status.stdout == ""
