"""The documented flow on a head and two workers, as an operator without an engine of their own has it."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.observer import TOP, Done, PracticeHost, Sandbox

Invoke = Callable[..., Done]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
REGISTRY = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
TOKEN = "/run/ray-token"
RAY = "/opt/ray/bin"

pytestmark = pytest.mark.timeout(120)


def ours(host: PracticeHost) -> str:
    """Name the cluster's container on a host."""
    return HEAD if host.name == "head" else WORKER


def lives(sandbox: Sandbox) -> dict[str, tuple[str, str]]:
    """Tell each of the cluster's containers by its id and when it was started."""
    found = {host.name: host.containers(running=True).get(ours(host)) for host in sandbox}
    return {name: (one["Id"], one["State"]["StartedAt"]) for name, one in found.items() if one}


# ---- each task, twice in a row


@pytest.mark.parametrize(
    "task", ["build.base", "build", "publish", "cluster.install", "cluster.pull", "cluster.setup", "cluster.start"]
)
def test_a_task_said_again_does_nothing(invoke: Invoke, sandbox: Sandbox, task: str) -> None:
    invoke(task)
    since = time.time_ns()
    again = invoke(task, "--json").report
    assert sandbox.actions(since) == {}
    assert (again["ok"], again["exit"], again["changed"], again["errors"]) == (True, 0, False, [])
    assert {node["outcome"] for node in again["nodes"]} <= {"ok", "skipped"}


def test_where_the_time_went_is_told_for_each_node(invoke: Invoke, running: Sandbox) -> None:
    begun = time.monotonic()
    done = invoke("cluster.status", "--timings", "--json")
    took = time.monotonic() - begun
    for host in running:
        spans = done.node(host.node)["timings"]
        assert {"connect", "ask"} <= {span["phase"] for span in spans}
        assert all(one["end"] <= other["begin"] for one, other in itertools.pairwise(spans))
        assert 0 <= spans[0]["begin"] < spans[-1]["end"] < took
    bars = re.findall(r"^(\S+) +[ cwa]+ +\d+\.\d\d s$", done.err, re.MULTILINE)
    assert bars == [host.node for host in running]


# ---- what runs


def test_every_node_runs_the_digest_that_was_published(invoke: Invoke, running: Sandbox) -> None:
    published = invoke("publish", "--json").report["digest"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", published)
    images = [host.containers()[ours(host)]["Config"]["Image"] for host in running]
    assert images == [f"{REGISTRY}/raydock-example@{published}"] * 3
    assert invoke("cluster.start", "--json").report["image"] == images[0]


def test_status_tells_of_a_cluster_that_is_up(invoke: Invoke, running: Sandbox) -> None:
    status = invoke("cluster.status", "--json").report
    expected = {key: status[key] for key in ("schema", "cluster", "task", "ok", "exit", "changed", "errors")}
    assert expected == {
        "schema": 1,
        "cluster": "sandbox",
        "task": "cluster.status",
        "ok": True,
        "exit": 0,
        "changed": False,
        "errors": [],
    }
    for host, node in zip(running, status["nodes"], strict=True):
        shown = host.containers()[ours(host)]
        assert node == {
            "node": host.node,
            "role": "head" if host.name == "head" else "worker",
            "address": host.address,
            "outcome": "ok",
            "changed": False,
            "container": "running",
            "container_id": shown["Id"][:12],
            "spec": shown["Config"]["Labels"]["raydock.spec"],
            "digest": shown["Config"]["Image"].partition("@")[2],
            "ray": "alive",
            "code": None,
            "error": None,
            "log_tail": [],
        }


def test_a_container_gets_nothing_that_ray_does_not_need(running: Sandbox) -> None:
    for host in running:
        shown = host.containers()[ours(host)]
        config: dict[str, Any] = shown["HostConfig"]
        assert (config["CapDrop"], config["CapAdd"], config["Privileged"]) == (["ALL"], None, False)
        assert config["SecurityOpt"] == ["no-new-privileges"]
        assert (config["NetworkMode"], config["RestartPolicy"]["Name"]) == ("host", "no")
        assert (config["PidMode"], config["Devices"], shown["Mounts"]) == ("", None, [])
        assert re.search("CapEff:\t0{16}\n", host.docker("exec", ours(host), "cat", "/proc/self/status") + "\n")


def test_another_setting_is_no_reason_to_end_what_runs(invoke: Invoke, running: Sandbox) -> None:
    before, since = lives(running), time.time_ns()
    refused = invoke("cluster.start", "--json", env={"NUM_WORKERS": "1"}, exit=1)
    assert running.actions(since) == {}
    assert lives(running) == before
    assert refused.node("head")["code"] == "SPEC_CHANGED"
    assert "NUM_WORKERS" in refused.node("head")["error"]
    assert "from the environment: DOCKER_HOST, NUM_WORKERS" in refused.err


# ---- programs


# What each is given, and the last line that it prints.
EXAMPLES = {
    "where.py": ((), "hosts: head worker-1 worker-2"),
    "pi.py": (("400000",), r"pi is about 3\.1\d*, by 400000 darts"),
}


@pytest.mark.parametrize("example", sorted(path.name for path in (TOP / "examples").glob("*.py")))
def test_every_example_runs_on_every_host(invoke: Invoke, running: Sandbox, example: str) -> None:
    given, last = EXAMPLES[example]
    out = invoke("job.run", f"examples/{example}", "--", *given).out
    assert re.fullmatch(last, out.splitlines()[-1])
    assert set(re.findall(r"\b(?:head|worker-\d)\b", out)) == {host.name for host in running}


def test_a_program_gets_its_arguments_and_gives_its_output_and_its_code(
    invoke: Invoke,
    running: Sandbox,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint(sys.argv[1:])\nprint('to stderr', file=sys.stderr)\nsys.exit(7)\n")
    ran = invoke("job.run", program, "--", "--json", "two words", "$HOME", "", exit=7)
    assert sorted(ran.out.splitlines()) == ["['--json', 'two words', '$HOME', '']", "to stderr"]


def test_what_a_program_did_is_told_to_programs(invoke: Invoke, running: Sandbox, tmp_path: Path) -> None:  # noqa: ARG001
    program = tmp_path / "program.py"
    program.write_text("print('seen')\nraise SystemExit(7)\n")
    ran = invoke("job.run", program, "--json", exit=7)
    assert (ran.report["job_exit"], ran.report["exit"], ran.report["ok"]) == (7, 7, False)
    assert ran.report["job"] in ran.err
    assert "seen" in ran.err.splitlines()


def test_the_folder_of_a_program_is_shipped_without_secrets(
    invoke: Invoke,
    running: Sandbox,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    files = {
        "program.py": "import os, neighbour\nprint(neighbour.VALUE)\n"
        "for at, _, files in os.walk('.'): print(*[os.path.join(at, file) for file in files], sep='\\n')\n",
        "neighbour.py": "VALUE = 'from next door'\n",
        ".env": "PASSWORD=planted-secret\n",
        "conf/site.env": "PASSWORD=planted-secret\n",
        "id_rsa": "planted-secret\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = invoke("job.run", tmp_path / "program.py", "--folder", tmp_path)
    shipped = ran.out.splitlines()
    assert shipped[0] == "from next door"
    assert {"./program.py", "./neighbour.py"} <= set(shipped)
    assert not {"./.env", "./conf/site.env", "./id_rsa"} & set(shipped)
    for name in (".env", "conf/site.env", "id_rsa"):
        assert f"not shipped: {name}:" in ran.err


# ---- Ray's token


def test_the_token_is_in_the_containers_and_nowhere_else(invoke: Invoke, running: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("print('ran')\n")
    said = [
        invoke("cluster.start", "--json"),
        invoke("cluster.status", "--json"),
        invoke("job.run", tmp_path / "program.py"),
        invoke("--dry", "cluster.start"),
    ]
    (token,) = {host.docker("exec", ours(host), "cat", TOKEN) for host in running}
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert not any(token in done.out + done.err for done in said)
    for host in running:
        assert host.docker("exec", ours(host), "stat", "-c", "%a %u", TOKEN) == "600 0"
        assert token not in host.docker("inspect", ours(host))
        assert token not in host.shell("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true")
        shown = host.containers()[ours(host)]
        # It goes with the container, as its layer does.
        assert where_on_disk(host, token, shown["Created"]) == [shown["GraphDriver"]["Data"]["UpperDir"] + TOKEN]


def where_on_disk(host: PracticeHost, secret: str, since: str) -> list[str]:
    """Name the files of a host, made or written in the minute before a moment or later, that hold a secret."""
    recent = (datetime.fromisoformat(since) - timedelta(minutes=1)).isoformat()
    search = f"find / /var/lib/docker /dev/shm -xdev -type f -newerct '{recent}' -print0"
    return host.shell(f"{search} | xargs -0r grep -lsF -- '{secret}'; true").splitlines()


def test_a_program_without_the_token_is_refused(running: Sandbox) -> None:
    asks = "import ray; ray.init(address='auto', logging_level='error')"
    for host in running:
        asked = ("docker", "exec", "--env", "RAY_AUTH_TOKEN_PATH=/nowhere", ours(host), f"{RAY}/python", "-c", asks)
        assert host.attempt(*asked).code != 0
    http = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/api/v0/nodes"
    assert running.head.shell(http) == "401"


# ---- what ended


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_that_ended_is_told_and_brought_back(invoke: Invoke, running: Sandbox, how: str) -> None:
    worker = running.workers[0]
    before = lives(running)
    worker.docker(how, WORKER)
    status = invoke("cluster.status", "--json", exit=3)
    assert [node["node"] for node in status.report["nodes"] if node["outcome"] != "ok"] == [worker.node]
    assert (status.node(worker.node)["code"], status.node(worker.node)["container"]) == ("RAY_EXITED", "exited")
    assert f"{worker.node} RAY_EXITED" in status.err

    started = invoke("cluster.start", "--only", worker.node, "--json")
    after = lives(running)
    assert [node["node"] for node in started.report["nodes"] if node["changed"]] == [worker.node]
    assert {name for name in after if after[name] != before[name]} == {worker.name}
    assert list(worker.containers()) == [WORKER]
    invoke("cluster.status")


def test_a_worker_of_a_former_head_is_replaced(invoke: Invoke, running: Sandbox) -> None:
    before = lives(running)
    running.head.docker("rm", "--force", HEAD)
    started = invoke("cluster.start", "--json")
    assert all(node["changed"] for node in started.report["nodes"])
    assert not set(before.values()) & set(lives(running).values())
    invoke("cluster.status")


# ---- stop, and what can be done without a cluster


# What somebody else may have on a host of ours: no label, another cluster's, one of our two alone.
STRANGERS = {
    "raydock-sandbox-head-2": (),
    "raydock-sandboxy-worker": ("--label", "raydock.cluster=sandboxy", "--label", "raydock.role=worker"),
    "raydock-sandbox": ("--label", "raydock.role=head"),
}


def test_stop_leaves_what_somebody_else_has(invoke: Invoke, running: Sandbox) -> None:
    for host in running:
        image = host.containers()[ours(host)]["Config"]["Image"]
        for name, labels in STRANGERS.items():
            host.docker("run", "--detach", "--name", name, *labels, image, "sleep", "600")

    def strangers() -> list[tuple[str, str, bool]]:
        found = [host.containers()[name] for host in running for name in STRANGERS]
        return [(one["Id"], one["State"]["StartedAt"], one["State"]["Running"]) for one in found]

    before = strangers()
    stopped = invoke("cluster.stop", "--json").report
    assert all(node["changed"] and node["container"] == "absent" for node in stopped["nodes"])
    assert strangers() == before
    assert all(runs for _, _, runs in before)
    assert [sorted(host.containers()) for host in running] == [sorted(STRANGERS)] * 3

    since = time.time_ns()
    assert not invoke("cluster.stop", "--json").report["changed"]
    assert running.actions(since) == {}


def test_status_tells_of_a_cluster_that_is_down(invoke: Invoke, stopped: Sandbox) -> None:
    status = invoke("cluster.status", "--json", exit=1)
    assert not status.report["ok"]
    for host in stopped:
        node = status.node(host.node)
        assert (node["outcome"], node["code"]) == ("failed", "NOT_RUNNING")
        assert (node["container"], node["container_id"]) == ("absent", None)


def test_a_program_without_a_cluster_is_our_failure(invoke: Invoke, stopped: Sandbox) -> None:  # noqa: ARG001
    assert "HEAD_NOT_RUNNING" in invoke("job.run", "examples/where.py", exit=125).err


def test_without_aws_credentials_nothing_is_done(
    invoke: Invoke,
    stopped: Sandbox,
    environment: Callable[..., str],
    tmp_path: Path,
) -> None:
    nobody = environment(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    since = time.time_ns()
    refused = invoke("publish", "--json", env={"ENVIRONMENT": nobody, "HOME": str(tmp_path)}, exit=6)
    assert stopped.actions(since) == {}
    assert [error["code"] for error in refused.report["errors"]] == ["AWS_NO_CREDS"]
    assert refused.err.count("no AWS credentials") == 1
    assert not refused.report["changed"]


def test_a_name_of_ours_that_somebody_else_bears_is_left_alone(invoke: Invoke, stopped: Sandbox) -> None:
    head = stopped.head
    head.docker("run", "--detach", "--name", HEAD, "raydock-example", "sleep", "600")
    before, since = head.containers(), time.time_ns()
    refused = invoke("cluster.start", "--json", exit=1)
    assert refused.node("head")["code"] == "NAME_CONFLICT"
    # On the head the image was asked for its Ray, by a container that is gone.
    assert stopped.actions(since).keys() <= {"head"}
    after = head.containers()
    assert {name: one["State"] for name, one in after.items()} == {name: one["State"] for name, one in before.items()}
