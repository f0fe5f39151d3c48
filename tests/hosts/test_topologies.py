"""Where machines stand: hosts of two clusters, a worker behind a jump host, the operator on the head itself."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
import pytest
from dotenv import dotenv_values

from deploy.practice.layout import ECR_PORT
from tests.hosts.observer import TOP, Done, PracticeHost, Sandbox

Invoke = Callable[..., Done]
Environment = Callable[..., str]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
RUN = TOP / "conf/sandbox/run"

pytestmark = pytest.mark.timeout(120)


def ours(host: PracticeHost) -> str:
    """Name the cluster's container on a host."""
    return HEAD if host.name == "head" else WORKER


def lives(sandbox: Sandbox, *, but: str = "") -> dict[str, str]:
    """Tell when each container of the cluster was started."""
    return {host.name: host.containers()[ours(host)]["State"]["StartedAt"] for host in sandbox if host.name != but}


def key_of(host: PracticeHost) -> str:
    """Give a host's public key, as known_hosts has it."""
    return host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").strip()


def leave(worker: PracticeHost) -> None:
    """Have a worker leave its cluster. Of one that is killed Ray's list says for seconds that it is alive."""
    worker.docker("stop", "--time", "45", WORKER)
    worker.clear()


@pytest.fixture
def rays_nodes(invoke: Invoke, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Give Ray's own list of what is alive, by address, as a program on the cluster sees it."""
    program = tmp_path / "nodes.py"
    program.write_text("import json, ray\nray.init(logging_level='error')\nprint(json.dumps(ray.nodes()))\n")

    def ask(**how: Any) -> dict[str, Any]:
        listed = json.loads(invoke("job.run", program, **how).out.splitlines()[-1])
        return {node["NodeManagerAddress"]: node for node in listed if node["Alive"]}

    return ask


# ---- two clusters on the same hosts


def second_cluster() -> dict[str, str]:
    """Read the settings of the second cluster that docs/ports.md shows."""
    text = (TOP / "docs/ports.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return dict(line.split("=", 1) for line in block.splitlines())


def test_two_clusters_share_their_hosts(invoke: Invoke, running: Sandbox, environment: Environment) -> None:
    first = lives(running)
    second = {"ENVIRONMENT": environment(**second_cluster())}
    assert invoke("cluster.start", "--json", env=second).report["cluster"] == "second"
    for env in ({}, second):
        assert "nodes: 3" in invoke("job.run", "examples/where.py", env=env).out
    invoke("cluster.stop", env=second)
    assert [sorted(host.containers()) for host in running] == [[ours(host)] for host in running]
    assert lives(running) == first
    assert invoke("cluster.status", "--json").report["ok"]


def test_a_port_that_another_cluster_has_is_told_before_a_container_is_made(
    invoke: Invoke, running: Sandbox, environment: Environment
) -> None:
    half = environment(**second_cluster() | {"RAY_START_ARGS": ""})
    refused = invoke("cluster.start", "--json", env={"ENVIRONMENT": half}, exit=1)
    assert refused.node("head")["code"] == "PORT_IN_USE"
    for port in ("--ray-client-server-port=10001", "--dashboard-agent-listen-port=52365"):
        assert port in refused.node("head")["error"]
    assert "REDIS_PORT" not in refused.node("head")["error"]
    assert [sorted(host.containers()) for host in running] == [[ours(host)] for host in running]


# ---- SSH's way to a host, and Ray's


def test_ray_is_reached_at_another_address_than_ssh(
    running: Sandbox, rays_nodes: Callable[..., dict[str, Any]]
) -> None:
    listed = (RUN / "workers.txt").read_text()
    for worker in running.workers:
        assert f"ubuntu@127.0.0.1:{worker.port}  #: private={worker.address}\n" in listed
    assert sorted(rays_nodes()) == sorted(host.address for host in running)


def test_a_worker_behind_a_jump_host_joins(
    invoke: Invoke, running: Sandbox, environment: Environment, tmp_path: Path
) -> None:
    behind, jump = running.workers
    leave(behind)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(f"Host {behind.address}\n  ProxyJump ubuntu@127.0.0.1:{jump.port}\n")
    known_hosts, workers = tmp_path / "known_hosts", tmp_path / "workers.txt"
    known_hosts.write_text(f"{(RUN / 'known_hosts').read_text()}{behind.address} {key_of(behind)}\n")
    workers.write_text(f"ubuntu@{jump.node}  #: private={jump.address}\nubuntu@{behind.address}\n")
    settings = environment(SSH_KNOWN_HOSTS=known_hosts, WORKERS_FILE=workers)
    begun, before = datetime.now(UTC).replace(tzinfo=None), lives(running, but=behind.name)

    started = invoke("cluster.start", "--json", env={"ENVIRONMENT": settings, "HOME": str(tmp_path)})

    assert [node["node"] for node in started.report["nodes"] if node["changed"]] == [behind.address]
    assert started.node(behind.address)["ray"] == "alive"
    assert lives(running, but=behind.name) == before
    assert f"Accepted publickey for ubuntu from {jump.address}" in behind.box.logs(since=begun).decode()
    assert invoke("cluster.status", "--json").report["ok"]


# ---- a worker that is not as the others


@pytest.fixture
def special(running: Sandbox) -> Iterator[PracticeHost]:
    """The first worker, without a container at first, and again after the test."""
    worker = running.workers[0]
    leave(worker)
    yield worker
    leave(worker)


def test_a_workers_own_options_are_its_containers_and_rays(
    invoke: Invoke,
    running: Sandbox,
    special: PracticeHost,
    environment: Environment,
    rays_nodes: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    plain = running.workers[1]
    workers = tmp_path / "workers.txt"
    workers.write_text(
        f"ubuntu@{special.node}  #: private={special.address} num_workers=3 shm_size=128m resources='{{\"ssd\": 2}}'\n"
        f"ubuntu@{plain.node}  #: private={plain.address}\n"
    )
    before = lives(running, but=special.name)
    env = {"ENVIRONMENT": environment(WORKERS_FILE=workers)}
    invoke("cluster.start", env=env)
    assert lives(running, but=special.name) == before

    shown = special.containers()[WORKER]
    assert shown["HostConfig"]["ShmSize"] == 128 << 20
    assert special.docker("exec", WORKER, "sh", "-c", "df --output=size --block-size=1M /dev/shm").split()[1] == "128"
    resources = {address: node["Resources"] for address, node in rays_nodes(env=env).items()}
    assert (resources[special.address]["CPU"], resources[special.address]["ssd"]) == (3, 2)
    assert "ssd" not in resources[plain.address]


# ---- the operator on the head, as in the document

ON_THE_HEAD = "/home/ubuntu/raydock"
OF_DEVELOPMENT = ("mypy", "mypyc", "*mypyc*.so", "moto", "pip", "setuptools", "hypothesis", "_pytest")


@pytest.fixture(scope="module")
def on_the_head(sandbox: Sandbox) -> Iterator[Callable[..., Done]]:
    """Have Raydock on the head, as its user installed it there: `on_the_head(task, …)` types a task."""
    head = sandbox.head
    head.run("install", "-d", "-o", "ubuntu", ON_THE_HEAD, f"{ON_THE_HEAD}/packages")
    lay(head, TOP, ON_THE_HEAD, "tasks.py", "deploy", "examples")
    lay(head, Path(pydantic.__file__).parents[1], f"{ON_THE_HEAD}/packages", ".", but=OF_DEVELOPMENT)
    lay(head, RUN, ON_THE_HEAD, "id_ed25519")
    moto = sandbox.head.run("getent", "hosts", registry()).split()[0]
    operators = dotenv_values(TOP / "conf/sandbox.env", interpolate=False)
    kept = {key: value for key, value in operators.items() if not key.startswith(("HEAD", "SSH_", "WORKERS_"))}
    settings = kept | {
        "AWS_ENDPOINT_URL": f"http://{moto}:{ECR_PORT}",
        "SSH_KEY": "id_ed25519",
        "SSH_KNOWN_HOSTS": "known_hosts",
    }
    write(head, ".env", "".join(f"{key}={value}\n" for key, value in settings.items()))
    write(head, "workers.txt", "".join(f"ubuntu@{worker.address}\n" for worker in sandbox.workers))
    write(head, "known_hosts", "".join(f"{worker.address} {key_of(worker)}\n" for worker in sandbox.workers))
    head.run("chown", "-R", "ubuntu:", ON_THE_HEAD)

    def typed(*words: str) -> Done:
        line = f"cd {ON_THE_HEAD} && PYTHONPATH=packages exec python3 -m invoke {shlex.join(words)}"
        return head.attempt("sudo", "-iu", "ubuntu", "bash", "-c", line)

    yield typed
    head.run("rm", "-r", ON_THE_HEAD)


def registry() -> str:
    """Give the registry's name."""
    return "123456789012.dkr.ecr.us-west-2.amazonaws.com"


def lay(host: PracticeHost, folder: Path, target: str, *names: str, but: tuple[str, ...] = ()) -> None:
    """Copy files of this machine onto a host."""
    left_out = [f"--exclude={name}" for name in but]
    pack = shlex.join(["tar", "-cC", str(folder), *left_out, *names])
    unpack = shlex.join(["docker", "exec", "-i", str(host.box.name), "tar", "-xC", target])
    subprocess.run(["bash", "-o", "pipefail", "-c", f"{pack} | {unpack}"], check=True, capture_output=True, timeout=60)


def write(host: PracticeHost, name: str, text: str) -> None:
    """Write a file beside Raydock on a host."""
    host.run("bash", "-c", 'printf %s "$0" >"$1"', text, f"{ON_THE_HEAD}/{name}")


def test_raydock_is_typed_on_the_head(invoke: Invoke, stopped: Sandbox, on_the_head: Callable[..., Done]) -> None:
    started = on_the_head("cluster.start", "--json")
    assert started.code == 0, started.err
    assert [(node["node"], node["ray"]) for node in started.report["nodes"]] == [
        ("head", "alive"),
        *((worker.address, "alive") for worker in stopped.workers),
    ]
    assert started.report["nodes"][0]["address"] == stopped.head.address
    ran = on_the_head("job.run", "examples/where.py")
    assert ran.out.splitlines()[-2:] == ["nodes: 3", "hosts: head worker-1 worker-2"]
    # It is the same cluster to an operator elsewhere.
    assert not invoke("cluster.start", "--json").report["changed"]
    assert on_the_head("cluster.stop").code == 0
    assert [host.containers() for host in stopped] == [{}, {}, {}]
