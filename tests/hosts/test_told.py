"""Failures that need real hosts and are no fault of the catalogue, each brought about by a task as it is typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.steps.manual import MANUAL_LABEL
from tests.hosts.observer import Done, PracticeHost, Sandbox

Invoke = Callable[..., Done]

pytestmark = pytest.mark.timeout(120)


@contextmanager
def aside(host: PracticeHost, path: str, content: str = "") -> Iterator[None]:
    """Have a file not where it is; with content, another in its place."""
    host.run("mv", path, f"{path}.aside")
    if content:
        host.shell(f"echo {shlex.quote(content)} > {path}")
    try:
        yield
    finally:
        host.run("mv", "-f", f"{path}.aside", path)


@contextmanager
def system(host: PracticeHost, name: str) -> Iterator[None]:
    """Have a host that says that its system is another, and has no Docker yet."""
    with aside(host, "/usr/bin/docker"), aside(host, "/etc/os-release", f"ID={name}"):
        yield


# Ends what Ray has each program kept by.
KEEPER = """
import contextlib, os, signal, time
from pathlib import Path
for found in Path("/proc").glob("[0-9]*/cmdline"):
    with contextlib.suppress(OSError):
        if b"ray::JobSupervisor" in found.read_bytes():
            os.kill(int(found.parent.name), signal.SIGKILL)
time.sleep(60)
"""


def test_a_program_that_ray_loses_is_told(running: Sandbox, invoke: Invoke, tmp_path: Path) -> None:  # noqa: ARG001
    program = tmp_path / "ends_its_keeper.py"
    program.write_text(KEEPER)
    done = invoke("job.run", program, "--json", exit=125)
    assert {error["code"] for error in done.report["errors"]} == {"JOB_FAILED"}


def test_an_api_that_is_not_rays_is_told(running: Sandbox, invoke: Invoke) -> None:
    serve = "nohup python3 -m http.server 8999 --bind 127.0.0.1 >/dev/null 2>&1 & echo $!"
    server = running.head.shell(f"cd /srv; {serve}").strip()
    try:
        running.head.shell("for _ in $(seq 50); do (</dev/tcp/127.0.0.1/8999) 2>/dev/null && exit; sleep 0.1; done")
        done = invoke("job.list", "--json", env={"DASHBOARD_PORT": "8999"}, exit=1)
    finally:
        running.head.run("kill", server)
    assert {error["code"] for error in done.report["errors"]} == {"RAY_API_FAILED"}
    assert "HTTP 404" in done.err


Fault = Callable[[Sandbox, ExitStack], object]


def old_docker(hosts: Sandbox, end: ExitStack) -> None:
    """Have a `docker` on the worker that is older than `system dial-stdio`."""
    says = "#!/bin/sh\necho \"docker: 'system dial-stdio' is not a docker command.\" >&2; exit 1"
    end.enter_context(aside(hosts.workers[0], "/usr/bin/docker", says))
    hosts.workers[0].run("chmod", "755", "/usr/bin/docker")


def left_open(hosts: Sandbox, end: ExitStack) -> None:
    label = f"{MANUAL_LABEL}=sandbox"
    image = hosts.head.docker("images", "-q").split()[0]
    hosts.head.docker("run", "-d", "--name", "open-shell", "--label", label, "--entrypoint", "sleep", image, "infinity")
    end.callback(hosts.head.docker, "rm", "-f", "open-shell")


def nothing(_: Sandbox, __: ExitStack) -> None:
    """Have it as it is."""


# What is typed, with what, of which host what is told.
TOLD: dict[str, tuple[tuple[str, ...], dict[str, str], Fault, str, int]] = {
    "CONTAINER_NOT_FOUND": (("build.commit", "nosuch"), {}, nothing, "head", 1),
    "CONTAINER_RUNS": (("build.commit", "open-shell"), {}, left_open, "head", 1),
    "BASE_IMAGE_ABSENT": (("build",), {"BASE_IMAGE": "127.0.0.1:9/none"}, nothing, "head", 1),
    "LOCK_FAILED": (
        ("cluster.stop",),
        {},
        lambda hosts, end: end.enter_context(aside(hosts.head, "/usr/bin/flock")),
        "head",
        1,
    ),
    "HEAD_FAILED": (
        ("cluster.pull",),
        {},
        lambda hosts, end: end.enter_context(aside(hosts.head, "/usr/bin/docker")),
        "worker",
        1,
    ),
    "DOCKER_ABSENT": (
        ("cluster.stop",),
        {},
        lambda hosts, end: end.enter_context(aside(hosts.workers[0], "/usr/bin/docker")),
        "worker",
        3,
    ),
    "API_TOO_OLD": (("cluster.stop",), {}, old_docker, "worker", 3),
    # What asks it for its own address.
    "COMMAND_FAILED": (
        ("cluster.start",),
        {},
        lambda hosts, end: end.enter_context(aside(hosts.workers[0], "/usr/bin/ip", "exit 3")),
        "worker",
        3,
    ),
    "OS_UNSUPPORTED": (
        ("cluster.install",),
        {},
        lambda hosts, end: end.enter_context(system(hosts.workers[0], "plan9")),
        "worker",
        3,
    ),
    # It has no dnf: what it says then is as good as what dnf would say.
    "DNF_FAILED": (
        ("cluster.install",),
        {},
        lambda hosts, end: end.enter_context(system(hosts.workers[0], "fedora")),
        "worker",
        3,
    ),
}


@pytest.mark.parametrize("code", TOLD)
def test_a_task_tells(code: str, stopped: Sandbox, invoke: Invoke) -> None:
    words, env, fault, who, expected = TOLD[code]
    node = stopped.head if who == "head" else stopped.workers[0]
    with ExitStack() as end:
        fault(stopped, end)
        done = invoke(*words, "--json", env=env, exit=expected)
    assert done.node(node.node)["code"] == code
    assert code in done.err
    assert "  → " in done.err


def test_an_authority_of_host_keys_is_told(stopped: Sandbox, invoke: Invoke, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"@cert-authority * {stopped.head.run('cat', '/etc/ssh/ssh_host_ed25519_key.pub')}")
    done = invoke("cluster.status", "--json", env={"SSH_KNOWN_HOSTS": str(known)}, exit=6)
    assert {node["code"] for node in done.report["nodes"]} == {"HOST_KEY_CERTIFICATE"}
