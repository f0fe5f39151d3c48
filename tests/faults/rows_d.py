"""D: Docker on nodes."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.bench import Bench, FaultyHost
from tests.faults.row import Fault, row

ENGINE_FILES = "/var/lib/docker"
INCOMING = "/var/lib/docker/tmp"
REMOVE = "service docker stop; DEBIAN_FRONTEND=noninteractive apt-get remove -y docker.io; rm -f /var/run/docker.pid"


@row("D3", "the engine is stopped on one worker", exit=3, code="DOCKER_DOWN", within=5, quick=True, bench="B")
def engine_down(bench: Bench) -> Fault:
    with bench.worker.engine_down():
        done = yield
    assert "service docker start" in done.err


@row("D4", "an engine that takes connections and does not answer", exit=3, code="DOCKER_TIMEOUT", within=10, bench="B")
def engine_hangs(bench: Bench) -> Fault:
    with bench.worker.engine_paused():
        yield


@row("D5", "the user is not in the group docker", exit=3, code="DOCKER_PERMISSION", within=5, bench="B")
def not_in_the_group(bench: Bench) -> Fault:
    bench.worker.run("gpasswd", "-d", "ubuntu", "docker")
    try:
        done = yield
    finally:
        bench.worker.run("usermod", "-a", "-G", "docker", "ubuntu")
    assert "invoke cluster.install" in done.err
    # What a task does after it has put the user there is done in a session that knows of it.
    bench.worker.run("gpasswd", "-d", "ubuntu", "docker")
    bench.invoke("cluster.setup", exit=0)
    assert "docker" in bench.worker.run("id", "-nG", "ubuntu").split()


@row("D7", "the engine is started again while Ray runs", exit=3, code="RAY_EXITED", within=20)
def engine_restarted(bench: Bench) -> Fault:
    bench.worker.run("service", "docker", "stop")
    bench.worker.start_engine()
    done = yield
    assert done.node(bench.worker.node)["container"] == "exited"


@contextmanager
def without_docker(host: FaultyHost) -> Iterator[None]:
    """Have a host on which Docker is not installed; `cluster.install` brings it back."""
    host.shell(REMOVE)
    yield


HOLDS = """
import fcntl, time
file = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
time.sleep({seconds})
"""


@row(
    "D1",
    "another package manager is at work",
    task=("cluster.install",),
    running=False,
    bench="B",
    within=60,
    blind=(("O2", "containers end with their engine"), ("O8", "apt's own lists and logs")),
)
def apt_is_locked(bench: Bench) -> Fault:
    with without_docker(bench.worker):
        bench.worker.box.exec_run(["python3", "-c", HOLDS.format(seconds=8)], detach=True)
        done = yield
    bench.worker.start_engine()
    assert re.search(r"waiting for the package manager's lock, held by pid \d+ \(python3\)", done.err), done.err
    with without_docker(bench.worker):
        bench.worker.box.exec_run(["python3", "-c", HOLDS.format(seconds=600)], detach=True)
        given_up = bench.invoke("cluster.install", "--json", exit=3)
        assert bench.worker.attempt("pkill", "-f", "dpkg/lock-frontend").code == 0, "the holder was not left alone"
    assert given_up.node(bench.worker.node)["code"] == "APT_LOCKED"
    bench.invoke("cluster.install", exit=0)
    bench.worker.start_engine()
    bench.has_decoys()


@row(
    "D2",
    "the distribution's mirror does not answer, and then dpkg was ended in the middle",
    task=("cluster.install",),
    running=False,
    exit=3,
    code="APT_FAILED",
    bench="B",
    within=60,
    converge=("cluster.install",),
    blind=(("O2", "containers end with their engine"), ("O8", "apt's own lists and logs")),
)
def no_mirror(bench: Bench) -> Fault:
    with without_docker(bench.worker):
        bench.worker.shell(
            "mv /etc/apt/sources.list.d /root/ ; mv /var/cache/apt/archives /root/; mkdir -p /etc/apt/sources.list.d"
        )
        bench.worker.shell("echo deb http://127.0.0.1:1 stable main > /etc/apt/sources.list.d/dead.list")
        try:
            yield
        finally:
            bench.worker.shell(
                "rm -r /etc/apt/sources.list.d; mv /root/sources.list.d /etc/apt/; mv /root/archives /var/cache/apt/"
            )
        # What apt finds where dpkg was ended in the middle.
        bench.worker.shell("mkdir -p /var/lib/dpkg/updates && echo '#padding' > /var/lib/dpkg/updates/0001")
        broken = bench.invoke("cluster.install", "--json", exit=3)
        bench.worker.shell("rm /var/lib/dpkg/updates/0001")
        assert broken.node(bench.worker.node)["code"] == "APT_FAILED"
        assert "dpkg --configure -a" in broken.err
    bench.invoke("cluster.install", exit=0)
    bench.worker.start_engine()
    bench.has_decoys()


def heavy(megabytes: int) -> str:
    """Give a line of a Dockerfile that makes a layer that nothing makes smaller, and that nobody has."""
    return f"RUN : {secrets.token_hex(4)}; head -c {megabytes << 20} /dev/urandom > /opt/heavy"


@row(
    "D6",
    "the engine is killed in the middle of a pull",
    task=("cluster.pull",),
    running=False,
    exit=3,
    code="PULL_INTERRUPTED",
    bench="B",
    within=30,
    converge=("cluster.pull",),
)
def killed_in_a_pull(bench: Bench) -> Fault:
    def layer_comes() -> bool:
        return bool(bench.worker.run("find", ENGINE_FILES, "-name", "GetImageBlob*"))

    with bench.another_image("raydock-stub-heavy", heavy(120)):
        bench.invoke("publish", exit=0)
        try:
            with bench.meanwhile(layer_comes, lambda: bench.worker.run("pkill", "-9", "dockerd")):
                yield
        finally:
            bench.worker.start_engine()
        image = bench.invoke("cluster.pull", "--json", exit=0).report["image"]
        bench.worker.docker("image", "inspect", image)


@row(
    "D8",
    "no space is left where one engine keeps its images",
    task=("cluster.pull",),
    running=False,
    exit=3,
    code="DISK_FULL",
    bench="B",
    within=30,
    converge=("cluster.pull",),
)
def no_space(bench: Bench) -> Fault:
    with bench.another_image("raydock-stub-heavy", heavy(60)):
        bench.invoke("publish", exit=0)
        runs = bench.worker.containers()
        used = int(bench.worker.run("df", "--output=used", ENGINE_FILES).split()[-1])
        bench.worker.run("mount", "-o", f"remount,size={used + 20_000}k", ENGINE_FILES)
        try:
            done = yield
            # Where the head has no such image nobody knows its size before it comes.
            bench.head.docker("rmi", "--force", done.report["image"], "raydock-stub-heavy")
            late = bench.invoke("cluster.pull", "--only", bench.worker.node, "--json")
        finally:
            bench.worker.run("mount", "-o", "remount,size=50%", ENGINE_FILES)
    assert "docker system df" in done.err
    assert re.search(r"needs 6\d MB in /var/lib/docker, and \d+ MB are free", done.err), done.err
    assert late.node(bench.worker.node)["code"] == "DISK_FULL"
    assert "no space left on device" in late.err
    assert bench.worker.containers() == runs


@row(
    "D13",
    "one engine cannot restrict system calls as it is told to",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="HARDENING_REFUSED",
    bench="B",
    within=40,
    blind=(("O2", "containers end with their engine"),),
)
def hardening_refused(bench: Bench) -> Fault:
    worker, profile = bench.worker, "/root/seccomp.json"
    given = json.dumps({"seccomp-profile": profile})
    worker.shell(f"mkdir -p /etc/docker; echo none >{profile}; echo '{given}' >/etc/docker/daemon.json")
    try:
        worker.run("service", "docker", "stop")
        worker.start_engine()
        done = yield
        assert bench.container(worker) not in worker.containers(running=True)
    finally:
        worker.run("rm", profile, "/etc/docker/daemon.json")
        worker.run("service", "docker", "stop")
        worker.start_engine()
        bench.has_decoys()
    assert "seccomp" in done.node(worker.node)["error"]


@row(
    "D9",
    "no space is left where known_hosts stands",
    task=("cluster.trust", "--yes"),
    running=None,
    exit=1,
    code="DISK_FULL",
    told_of="nobody",
    bench="B",
    within=15,
    sick=("all",),
    blind=(("O7", "it is the operator's own disk that is full, and no node has anything to do"),),
)
def own_disk_is_full(bench: Bench) -> Fault:
    folder = bench.folder / "small"
    folder.mkdir()
    lines = bench.known_hosts.read_text().splitlines(keepends=True)
    with small_disk(folder):
        known = folder / "known_hosts"
        known.write_text("".join(lines[:-1]))
        with bench.settings(SSH_KNOWN_HOSTS=str(known)):
            fill(folder / "rest")
            yield
        assert known.read_text() == "".join(lines[:-1])


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Have a disk of some kilobytes at a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(file: Path) -> None:
    """Write until nothing more can be written."""
    with suppress(OSError), file.open("wb", buffering=0) as written:
        while True:
            written.write(b"x" * 1024)


@row(
    "D10",
    "one engine's disk cannot be written",
    task=("cluster.pull",),
    running=False,
    exit=3,
    code="PULL_FAILED",
    bench="B",
    within=30,
    converge=("cluster.pull",),
)
def read_only(bench: Bench) -> Fault:
    with bench.another_image("raydock-stub-heavy", heavy(1)):
        bench.invoke("publish", exit=0)
        bench.worker.shell(f"mount --bind {INCOMING} {INCOMING}")
        bench.worker.run("mount", "-o", "remount,bind,ro", INCOMING)
        try:
            done = yield
        finally:
            bench.worker.run("umount", INCOMING)
    assert "read-only file system" in done.err
    no_inodes(bench)


def no_inodes(bench: Bench) -> None:
    """Have an engine's disk with room and without a free inode."""
    with bench.another_image("raydock-stub-heavy", heavy(1)):
        bench.invoke("publish", exit=0)
        used = int(bench.worker.run("df", "--output=iused", ENGINE_FILES).split()[-1])
        bench.worker.run("mount", "-o", f"remount,nr_inodes={used + 2}", ENGINE_FILES)
        try:
            done = bench.invoke("cluster.pull", "--json", exit=3)
        finally:
            bench.worker.run("mount", "-o", "remount,nr_inodes=0", ENGINE_FILES)
        assert done.node(bench.worker.node)["code"] == "DISK_FULL"
        bench.invoke("cluster.pull", exit=0)
