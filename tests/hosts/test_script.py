"""The printed plan, run by bash with nothing of Raydock's on the PATH: the same cluster, as Raydock finds it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.observer import NO_ENGINE, Done, Sandbox, command
from tests.hosts.typist import aws_keys

Invoke = Callable[..., Done]
Typed = Callable[..., Done]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def typed(path: str, tmp_path: Path, invoke: Invoke) -> Typed:
    """Have bash run what `--dry` prints for a task; the credentials are the operator's."""

    def run(task: str, env: dict[str, str] | None = None, **how: object) -> Done:
        script = tmp_path / f"{task}.sh"
        script.write_text(invoke("--dry", task, env=env).out)
        return command(["bash", script], {**NO_ENGINE, **aws_keys(), "PATH": path}, folder=tmp_path, **how)

    return run


def left_behind(sandbox: Sandbox) -> list[str]:
    """Name what a script left on the hosts where it kept its secrets, and any login that it saved."""
    return [name for host in sandbox for name in host.shell("ls /dev/shm; ls -d ~ubuntu/.docker || true").split()]


TASKS = ["build.base", "build", "publish", "cluster.setup", "cluster.start", "cluster.status", "cluster.stop"]


def logins(sandbox: Sandbox) -> list[int]:
    """Count what each sshd let in; the end of an earlier connection may be told late, its beginning not."""
    return [host.box.logs().count(b"Accepted publickey") for host in sandbox]


@pytest.mark.parametrize("task", TASKS)
def test_a_plan_is_printed_without_a_word_to_any_host(invoke: Invoke, sandbox: Sandbox, task: str) -> None:
    before = logins(sandbox)
    planted = {"AWS_SECRET_ACCESS_KEY": "planted-key", "AWS_SESSION_TOKEN": "planted-token"}
    script = invoke("--dry", task, env=planted).out
    assert logins(sandbox) == before
    assert script.startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "planted" not in script


def test_the_script_brings_up_the_cluster(invoke: Invoke, stopped: Sandbox, typed: Typed) -> None:
    said = typed("cluster.start")
    since = time.time_ns()
    assert not invoke("cluster.start", "--json").report["changed"]
    assert stopped.actions(since) == {}
    assert invoke("cluster.status", "--json").report["ok"]
    token = stopped.head.docker("exec", "raydock-sandbox-head", "cat", "/run/ray-token")
    assert token not in said.out + said.err
    assert left_behind(stopped) == []


def test_the_script_finds_nothing_to_do_where_the_cluster_runs(running: Sandbox, typed: Typed) -> None:
    since = time.time_ns()
    typed("cluster.start")
    # It counts the nodes and runs the probe in the head's container.
    assert running.actions(since, but=("exec_create", "exec_start", "exec_die")) == {}


def test_the_script_stops_where_the_cluster_runs_otherwise(running: Sandbox, typed: Typed) -> None:
    since = time.time_ns()
    refused = typed("cluster.start", env={"NUM_WORKERS": "1"}, exit=1)
    assert running.actions(since) == {}
    assert "raydock-sandbox-head runs with another spec" in refused.err


def test_the_script_replaces_what_ended(invoke: Invoke, running: Sandbox, typed: Typed) -> None:
    running.workers[0].docker("stop", "raydock-sandbox-worker")
    typed("cluster.start")
    assert not invoke("cluster.start", "--json").report["changed"]
    assert invoke("cluster.status", "--json").report["ok"]


def test_the_script_stops_the_cluster(running: Sandbox, typed: Typed) -> None:
    for _ in range(2):
        typed("cluster.stop")
        assert [host.containers() for host in running] == [{}, {}, {}]


def test_the_scripts_do_one_after_the_other_what_the_tasks_do(
    invoke: Invoke, stopped: Sandbox, typed: Typed, environment: Callable[..., str]
) -> None:
    head, env = stopped.head, {"ENVIRONMENT": environment(APP_TAG="raydock-script", REPOSITORY_NAME="raydock-script")}
    typed("build", env)
    assert "raydock-script:latest" in head.docker("image", "inspect", "-f", "{{.RepoTags}}", "raydock-script")
    assert not invoke("build", "--json", env=env).report["changed"]
    typed("publish", env)
    published = invoke("publish", "--json", env=env).report
    assert not published["changed"]
    assert published["digest"]
    since = time.time_ns()
    typed("build", env)
    typed("publish", env)
    assert stopped.actions(since, but=("push",)) == {}
    assert invoke("publish", "--json", env=env).report["digest"] == published["digest"]
    typed("cluster.setup", env)
    typed("cluster.start", env)
    since = time.time_ns()
    started = invoke("cluster.start", "--json", env=env).report
    assert [started["changed"], *(node["changed"] for node in started["nodes"])] == [False] * 4
    assert {node["digest"] for node in started["nodes"]} == {published["digest"]}
    assert stopped.actions(since) == {}
    typed("cluster.stop", env)
    assert [host.containers() for host in stopped] == [{}, {}, {}]
    assert left_behind(stopped) == []
    for host in stopped:
        host.docker("rmi", "--force", *host.docker("images", "-q", "--filter", "reference=*/raydock-script").split())


def test_the_script_pulls_the_image_where_it_is_absent(invoke: Invoke, stopped: Sandbox, typed: Typed) -> None:
    digest = invoke("cluster.setup", "--json").report["image"]
    worker = stopped.workers[1]
    # The layers stay, so that the pull takes a moment only.
    worker.docker("tag", digest, "raydock-test-keeps-the-layers")
    worker.docker("rmi", digest)
    typed("cluster.setup")
    assert worker.docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", digest) == digest
    worker.docker("rmi", "raydock-test-keeps-the-layers")
    since = time.time_ns()
    assert not invoke("cluster.setup", "--json").report["changed"]
    typed("cluster.setup")
    # By a pull the script finds out what the tag stands for.
    assert stopped.actions(since, but=("pull",)) == {}
    assert left_behind(stopped) == []
