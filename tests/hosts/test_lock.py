"""The lock between operators who log in to the head as different users."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.lock import SILENCE, holder
from tests.hosts.observer import Done, PracticeHost, Sandbox

Invoke = Callable[..., Done]
Environment = Callable[..., str]
CAROL = {"who": "carol@desk", "task": "cluster.start", "since": 1_700_000_000.0}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def carol(stopped: Sandbox) -> Iterator[PracticeHost]:
    """The head, where one more user is in the engine's group and may not become root."""
    head = stopped.head
    head.shell(
        "useradd -m -G docker carol && usermod -p '*' carol && "
        "cp -r /home/ubuntu/.ssh /home/carol/.ssh && chown -R carol:carol /home/carol/.ssh"
    )
    yield head
    head.shell(
        "pkill -KILL -u carol; while pgrep -u carol >/dev/null; do sleep 0.1; done; userdel -r carol 2>/dev/null"
    )


@contextmanager
def at_work(head: PracticeHost) -> Iterator[subprocess.Popen[str]]:
    """Have the other user hold the cluster's lock, as her own task would."""
    line = holder("sandbox", "word", SILENCE)
    argv = ["docker", "exec", "-i", "-u", "carol", head.box.id, "sh", "-c", line]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(json.dumps(CAROL) + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "word held\n"
        yield child


def test_who_shares_the_engine_shares_the_lock(carol: PracticeHost, invoke: Invoke, environment: Environment) -> None:
    invoke("cluster.stop")  # so that the files are another's
    with at_work(carol) as hers:
        refused = invoke("cluster.stop", "--json", exit=5)
        assert refused.node("head")["code"] == "LOCKED"
        assert refused.node("head")["error"].startswith("somebody else holds the lock: carol@desk, cluster.start since")
        assert "nobody is there to be asked" in invoke("cluster.stop", "--steal", exit=2).err
        assert hers.poll() is None
        invoke("cluster.stop", "--steal", "--yes")
        hers.communicate(timeout=20)
    invoke("cluster.stop", env={"ENVIRONMENT": environment(HEAD=f"carol@127.0.0.1:{carol.port}")})
    invoke("cluster.stop")
    time.sleep(0.5)
    assert "lock" not in carol.shell("ps -eo args= | grep '/raydock/' | grep -v grep || true")
    assert carol.shell("ls /var/lib/raydock/sandbox").split() == ["audit", "lock"]
