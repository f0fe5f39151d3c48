"""What the person who types sees: progress, one bad worker, replaced containers, an image that exists."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tasks
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, PracticeHost, Sandbox, operator
from tests.terminal import watch

Invoke = Callable[..., Done]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
PATIENCE = 10  # seconds that a dead worker may cost

pytestmark = pytest.mark.timeout(180)


# ---- progress


def image_of(host: PracticeHost) -> str:
    """Give the image that the cluster's container on a host runs."""
    return str(host.containers()[HEAD if host.name == "head" else WORKER]["Config"]["Image"])


def drop_image(host: PracticeHost) -> None:
    """Remove the application's image, and what only it has."""
    if found := host.docker("images", "-q", "--filter", "reference=*/raydock-example"):
        host.docker("image", "rm", "--force", *dict.fromkeys(found.split()))


def test_a_pull_on_three_nodes_moves_and_leaves_a_screen_that_can_be_read(sandbox: Sandbox, invoke: Invoke) -> None:
    invoke("publish")
    sandbox.clear()
    for host in sandbox:
        drop_image(host)
    seen = watch([str(INVOKE), "cluster.pull"], operator({"ENVIRONMENT": "sandbox", **NO_ENGINE}), TOP)
    left = "\n".join(seen.left)
    assert seen.code == 0, left
    moved = {line.strip() for screen in seen.screens() for line in screen.display}
    worker = sandbox.workers[0].node
    assert len({line for line in moved if worker in line and "MB/s" in line}) > 3, "\n".join(sorted(moved))
    assert any("1 of 3 nodes" in line for line in moved)
    # The rows are gone; what is left says what was done, and the cursor is there again.
    assert "MB/s" not in left
    assert "of 3 nodes" not in left
    assert f"{worker}  pull the image: done in " in left
    assert "cluster.pull: done in " in left
    assert seen.raw.rindex("\x1b[?25h") > seen.raw.rindex("\x1b[?25l")


def test_a_pipe_sees_no_escape(invoke: Invoke, running: Sandbox) -> None:  # noqa: ARG001
    for words in (("cluster.start",), ("cluster.status", "--json"), ("cluster.stop",)):
        done = invoke(*words)
        assert "\x1b" not in done.out + done.err
        assert "\r" not in done.out + done.err


def test_what_a_node_prints_is_seen_with_v(invoke: Invoke, sandbox: Sandbox) -> None:
    worker = sandbox.workers[0]
    worker.run("service", "docker", "stop")
    quiet, said = "Starting Docker", []
    try:
        said = invoke("cluster.install", "--only", worker.node, "-v").err.splitlines()
    finally:
        worker.attempt("service", "docker", "start")
    assert [line for line in said if line.startswith(worker.node) and quiet in line]


# ---- one bad worker costs the others nothing


@contextmanager
def blackholed(host: PracticeHost) -> Iterator[None]:
    """Have a host drop what comes to its SSH server."""
    rule = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
    host.run("iptables", "-I", *rule)
    try:
        yield
    finally:
        host.run("iptables", "-D", *rule)


@contextmanager
def without_engine(host: PracticeHost) -> Iterator[None]:
    """Have a host's engine stopped."""
    host.run("service", "docker", "stop")
    try:
        yield
    finally:
        host.run("service", "docker", "start")
        host.shell("timeout 30 sh -c 'until docker version >/dev/null 2>&1; do sleep 0.1; done'")


@contextmanager
def soon_killed(host: PracticeHost) -> Iterator[None]:
    """Have the cluster's container killed as soon as it has said something, before its node is alive."""
    look = f"until docker logs {WORKER} 2>/dev/null | grep -q .; do sleep 0.1; done; docker kill {WORKER}"
    host.box.exec_run(("timeout", "60", "bash", "-c", look), detach=True)
    yield


@contextmanager
def full_disk(host: PracticeHost) -> Iterator[None]:
    """Have no room where the engine keeps its containers."""
    where = "/var/lib/docker/containers"
    host.run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", where)
    host.shell(f"head -c 8192 /dev/zero >{where}/full || true")
    try:
        yield
    finally:
        host.run("umount", "-l", where)


BAD = {
    "its engine is stopped": (without_engine, 3, "DOCKER_DOWN"),
    "its container ends at once": (soon_killed, 3, "RAY_EXITED"),
    "its disk is full": (full_disk, 3, "DISK_FULL"),
}


@pytest.mark.parametrize(("fault", "code", "told"), BAD.values(), ids=BAD)
def test_a_bad_worker_is_named_and_the_other_starts(
    running: Sandbox, invoke: Invoke, fault: Callable[[PracticeHost], object], code: int, told: str
) -> None:
    bad, good = running.workers
    for host in (bad, good):
        host.clear()
    with fault(bad):  # type: ignore[attr-defined]  # each is a context manager
        started = invoke("cluster.start", "--json", exit=code)
    assert (started.node(bad.node)["code"], started.node(bad.node)["outcome"]) == (told, "failed")
    assert (started.node(good.node)["outcome"], started.node(good.node)["ray"]) == ("ok", "alive")
    assert f"again: ENVIRONMENT=sandbox invoke cluster.start --only {bad.node}" in started.err
    if told == "RAY_EXITED":
        assert started.node(bad.node)["log_tail"]
    invoke("cluster.start", "--only", bad.node)


def test_workers_that_cannot_be_reached_cost_the_other_a_few_seconds(
    running: Sandbox, invoke: Invoke, environment: Callable[..., str], tmp_path: Path
) -> None:
    bad, good = running.workers
    known, workers = tmp_path / "known_hosts", tmp_path / "workers.txt"
    keys = {host.node: host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub") for host in running}
    names = {running.head.node: f"[127.0.0.1]:{running.head.port}", good.node: f"[127.0.0.1]:{good.port}"}
    known.write_text(
        "".join(f"{name} {keys[node]}" for node, name in names.items()) + f"{bad.address} {keys[bad.node]}"
    )
    workers.write_text(f"ubuntu@{bad.address}\nubuntu@{good.node}  #: private={good.address}\nubuntu@127.0.0.1:1\n")
    env = {"ENVIRONMENT": environment(SSH_KNOWN_HOSTS=known, WORKERS_FILE=workers)}
    invoke("cluster.stop", "--only", good.node, env=env)
    begun = time.monotonic()
    invoke("cluster.start", "--only", good.node, env=env)
    alone = time.monotonic() - begun
    invoke("cluster.stop", "--only", good.node, env=env)
    with blackholed(bad):
        begun = time.monotonic()
        started = invoke("cluster.start", "--json", env=env, exit=4)
        took = time.monotonic() - begun
    assert took < alone + PATIENCE
    assert [(node["outcome"], node["code"]) for node in started.report["nodes"]] == [
        ("ok", None),
        ("unreachable", "SSH_TIMEOUT"),
        ("ok", None),
        ("unreachable", "SSH_REFUSED"),
    ]


# ---- what runs otherwise, and an image that exists


def test_what_runs_otherwise_is_replaced_when_somebody_says_so(running: Sandbox, invoke: Invoke) -> None:
    before, since = running.running(), time.time_ns()
    asked = invoke("cluster.start", "--replace", "--json", env={"NUM_WORKERS": "3"}, exit=2)
    assert running.actions(since) == {}
    assert running.running() == before
    assert "runs with another NUM_WORKERS" in asked.err
    replaced = invoke("cluster.start", "--replace", "--yes", "--json", env={"NUM_WORKERS": "3"}).report
    assert [node["ray"] for node in replaced["nodes"]] == ["alive"] * 3
    assert not running.running() & before
    again = invoke("cluster.start", "--replace", "--json", env={"NUM_WORKERS": "3"}).report
    assert again["changed"] is False
    running.clear()


def test_an_image_that_exists_needs_no_project_no_registry_of_ours_and_no_aws(
    running: Sandbox, invoke: Invoke, environment: Callable[..., str]
) -> None:
    image = image_of(running.head)
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION")
    nothing = dict.fromkeys(("MY_PROJECT_URL", "MY_PROJECT_INSTALLATION_SCRIPT", "REGION", *names))
    env = {"ENVIRONMENT": environment(IMAGE=image, **nothing), "AWS_EC2_METADATA_DISABLED": "true"}
    invoke("cluster.stop")
    started = invoke("cluster.setup", "cluster.start", env=env)
    assert "AWS" not in started.err
    assert invoke("cluster.status", "--json", env=env).report["ok"] is True


# ---- what programs read

IN_ORDER = (
    "sandbox.up --prepared --workers 2",
    "cluster.trust --yes",
    "build.dockerfile",
    "build.base",
    "build.shell",
    "build.containers",
    "build.commit CONTAINER",
    "build.image",
    "publish.repository",
    "publish.tag",
    "publish.login",
    "publish.push",
    "publish.image",
    "cluster.install",
    "cluster.pull",
    "cluster.setup",
    "cluster.stop-workers",
    "cluster.stop-head",
    "cluster.start-head",
    "cluster.start-workers",
    "cluster.start",
    "cluster.status",
    "cluster.exec -- true",
    "job.run examples/where.py",
    "job.list",
    "job.logs",
    "job.stop ID",
    "cluster.history --last 5",
    "cluster.stop",
)
NOT_HERE = {"sandbox.down": "it would take the practice hosts away", "cluster.shell": "it is for people alone"} | {
    "cluster.dashboard": "it goes on until Ctrl-C"
}


def test_every_task_tells_programs_what_came_of_it(running: Sandbox, invoke: Invoke) -> None:  # noqa: ARG001
    listed = tasks.namespace.task_names
    assert sorted({line.split()[0] for line in IN_ORDER} | set(NOT_HERE)) == sorted(listed)
    job = container = ""
    for line in IN_ORDER:
        first, *rest = line.replace("ID", job).replace("CONTAINER", container).split()
        own_engine = {"DOCKER_HOST": None} if first == "sandbox.up" else {}
        report = invoke(first, "--json", *rest, env=own_engine).report
        assert (report["task"], report["ok"], report["errors"]) == (first, True, [])
        job = report.get("job") or job
        container = report.get("container") or container
