"""What somebody comes to who reaches the nodes' ports, from a network namespace that is not of the cluster."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.observer import Done, PracticeHost, Sandbox

Invoke = Callable[..., Done]
HEAD = "raydock-sandbox-head"
PROBE = Path(__file__).resolve().parent / "probe.py"
# As SECURITY.md and docs/ports.md have them.
NO_WAY_IN = {"health", "metrics"}
# What the document's start lets in.
MEANT = {
    *("the store's keys", "the nodes", "a node's numbers", "the object manager", "Ray Client"),
    *("POST /get_or_create_runtime_env", "GET /api/jobs/", "GET /logs"),
}
PATIENCE = 120

pytestmark = pytest.mark.timeout(300)


def listening(host: PracticeHost) -> list[int]:
    """Give the ports at which something listens for others than the host itself; sshd is another matter."""
    said = host.look("ss", "-Hltn").out
    found = re.findall(r"^LISTEN\s+\d+\s+\d+\s+(\S+):(\d+)\s", said, re.MULTILINE)
    return sorted({int(port) for address, port in found if not address.startswith(("127.", "[::1]"))} - {22})


def tried(by: PracticeHost, image: str, host: PracticeHost) -> list[tuple[int, str, str]]:
    """Have a container with a network of its own try all ports of a host."""
    ports = [str(port) for port in listening(host)]
    if not ports:
        return []
    program = base64.b64encode(PROBE.read_bytes()).decode()
    run = f"docker run --rm -i --network bridge --entrypoint python {image} - {host.address} {' '.join(ports)}"
    said = by.look("bash", "-c", f"echo {program} | base64 -d | {run}")
    assert said.code == 0, said.err
    found = [(port, what, told) for port, what, told in map(json.loads, said.out.splitlines())]
    # A worker of Ray's that is idle ends, and its port with it.
    return [entry for entry in found if entry[1] != "shut"]


def image_of(host: PracticeHost, container: str) -> str:
    """Give the image of a container."""
    return str(host.containers()[container]["Image"])


def test_nobody_without_the_token_reads_or_runs_anything(running: Sandbox, invoke: Invoke) -> None:
    # Workers of Ray's listen once they have run something.
    invoke("job.run", "examples/where.py")
    by = running.workers[1]
    image = image_of(by, "raydock-sandbox-worker")
    for host in running:
        found = tried(by, image, host)
        assert [entry for entry in found if entry[1] not in NO_WAY_IN] == []
        assert {what for _, what, _ in found} == NO_WAY_IN


def test_the_same_probe_gets_into_what_the_document_starts(running: Sandbox, invoke: Invoke) -> None:
    by, head = running.workers[1], running.head
    image = image_of(by, "raydock-sandbox-worker")
    own = image_of(head, HEAD)
    invoke("cluster.stop")
    name = "raydock-exposure-by-hand"
    try:
        head.docker(
            *("run", "-d", "--name", name, "--shm-size=1g", "--net=host", own, "ray", "start", "--head", "--block"),
            *("--port=6379", "--object-manager-port=8076", f"--node-ip-address={head.address}"),
            *("--dashboard-host=0.0.0.0", "--num-cpus=2"),
        )
        # Its servers listen one after the other, some of them before they answer.
        ways: set[str] = set()
        end = time.monotonic() + PATIENCE
        while not ways >= MEANT and time.monotonic() < end:
            time.sleep(1)
            ways |= {what for _, what, _ in tried(by, image, head)}
    finally:
        head.docker("rm", "-f", name)
    assert sorted(MEANT - ways) == []
