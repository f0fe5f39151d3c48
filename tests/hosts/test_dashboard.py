"""Ray's dashboard on the operator's machine, and the history of a cluster."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, Sandbox, operator

Invoke = Callable[..., Done]
ENV = {"ENVIRONMENT": "sandbox", **NO_ENGINE}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def dashboard(port: int) -> Iterator[subprocess.Popen[str]]:
    """Type the task, and give it when it says where the dashboard is."""
    words = [INVOKE, "cluster.dashboard", "--port", str(port), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=TOP, env=operator(ENV), stdin=subprocess.DEVNULL, **pipes) as task:  # type: ignore[call-overload]
        try:
            assert task.stderr
            for line in task.stderr:
                if f"http://127.0.0.1:{port}" in line:
                    break
            yield task
        finally:
            task.kill()


def status_of(url: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(url, headers=headers, timeout=20).status_code


@pytest.mark.usefixtures("running")
def test_the_dashboard_is_at_a_port_of_loopback_until_ctrl_c(sandbox: Sandbox) -> None:
    port = free_port()
    token = sandbox.head.docker("exec", "raydock-sandbox-head", "ray", "get-auth-token")
    with dashboard(port) as task:
        assert status_of(f"http://127.0.0.1:{port}/api/v0/nodes", token) == 200
        # Who has no token is not let in by coming this way.
        assert status_of(f"http://127.0.0.1:{port}/api/v0/nodes") in (401, 403)
        task.send_signal(signal.SIGINT)
        out, err = task.communicate(timeout=15)
    assert (task.returncode, "Traceback" in err) == (0, False)
    assert json.loads(out)["dashboard"] == f"http://127.0.0.1:{port}"
    assert token not in out + err


@pytest.mark.usefixtures("running")
def test_a_port_that_is_taken_is_told_with_another(invoke: Invoke) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = invoke("cluster.dashboard", "--port", str(listener.getsockname()[1]), exit=1)
    assert "PORT_IN_USE" in done.err
    assert "--port" in done.err


def test_what_is_typed_into_a_container_has_a_line_in_the_history_that_does_not_repeat_it(
    invoke: Invoke, running: Sandbox
) -> None:
    invoke("cluster.exec", "--only", running.workers[0].node, "--", "true", "canary-of-a-word")
    invoke("cluster.shell", "--json")
    done = invoke("cluster.history", "--last", "2", "--json")
    assert [one["task"] for one in done.report["history"]] == ["cluster.exec", "cluster.shell"]
    assert "canary" not in running.head.run("cat", "/var/lib/raydock/sandbox/audit")


def test_without_a_cluster_there_is_no_dashboard(invoke: Invoke) -> None:
    invoke("cluster.stop")
    assert "HEAD_NOT_RUNNING" in invoke("cluster.dashboard", exit=1).err


def test_the_history_shows_who_did_what_and_what_came_of_it(invoke: Invoke, sandbox: Sandbox) -> None:
    invoke("cluster.stop")
    invoke("cluster.pull")
    invoke("cluster.pull", "--image", "raydock.invalid/none:1", exit=1)
    invoke("cluster.status", exit=1)
    done = invoke("cluster.history", "--last", "3", "--json")
    stop, pull, failed = done.report["history"]
    assert [one["task"] for one in (stop, pull, failed)] == ["cluster.stop", "cluster.pull", "cluster.pull"]
    assert (stop["outcome"], pull["outcome"], failed["outcome"]) == ("ok", "ok", "failed")
    assert pull["image"].startswith("sha256:")
    assert "REGISTRY_UNREACHABLE" in failed["codes"]
    assert {one["login"] for one in (stop, pull, failed)} == {"ubuntu"}
    shown = invoke("cluster.history", "--last", "1").out.splitlines()
    assert shown[0].split() == ["when", "who", "task", "outcome", "took", "what"]
    assert "REGISTRY_UNREACHABLE on head" in shown[1]
    kept = sandbox.head.run("stat", "-c", "%a %G", "/var/lib/raydock/sandbox/audit").strip()
    assert kept == "664 docker"


def test_an_operator_who_is_killed_is_in_the_history(invoke: Invoke, sandbox: Sandbox) -> None:
    invoke("cluster.stop")
    task = subprocess.Popen(
        [INVOKE, "cluster.start"], cwd=TOP, env=operator(ENV), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 30
    # Its name is there: the lock alone is held before the holder knows whose it is.
    while sandbox.head.look("grep", "-q", "cluster.start", "/var/lib/raydock/sandbox/lock.who").code:
        assert time.monotonic() < end
        time.sleep(0.1)
    task.kill()
    task.wait()
    invoke("cluster.stop", "--wait", "1m")
    killed, _ = invoke("cluster.history", "--last", "2", "--json").report["history"]
    assert (killed["task"], killed["outcome"], killed["seconds"]) == ("cluster.start", "cut off", None)
