"""A look at a port from a node, by a real sshd: one that connects for whoever asks, and one that does not."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.inputs import read_inputs
from deploy.plans import Scope
from deploy.run import Run
from deploy.steps.cluster import port_open
from tests.faults.bench_c import Endpoints, lacking, living

# What sshd itself says of a port that is open, and of one that is shut.
SSHDS: dict[str, tuple[tuple[str, ...], list[bool | None]]] = {
    "connects": ((), [True, False]),
    "forwards nothing": (("AllowTcpForwarding no",), [None, None]),
    "forwards to one place alone": (("PermitOpen 127.0.0.1:1",), [None, None]),
}


@pytest.mark.parametrize("sshd", SSHDS)
def test_a_port_is_looked_at_whatever_sshd_lets_us(sshd: str, tmp_path: Path) -> None:
    if lacks := lacking():
        pytest.skip(f"this machine lacks what an sshd of our own needs: {lacks}")
    options, says = SSHDS[sshd]
    with contextlib.closing(Endpoints(tmp_path)) as endpoints, socket.create_server(("127.0.0.1", 0)) as server:
        endpoints.serve(*options)
        endpoints.inventory(living(1))
        settings, inventory = read_inputs(tmp_path, endpoints.values)
        run = Run(Scope(settings, inventory, frozenset()), cast("Any", None))
        with contextlib.closing(run.host(inventory.workers[0])) as node:
            ports = (server.getsockname()[1], shut_port())
            assert [node.reaches("127.0.0.1", port) for port in ports] == says
            # Where sshd does not say it, a command on the node does.
            assert [port_open(node, "127.0.0.1", port) for port in ports] == [True, False]


def shut_port() -> int:
    """Give a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
