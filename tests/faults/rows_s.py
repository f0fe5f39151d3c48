"""S: reaching nodes."""

from __future__ import annotations

from tests.faults.bench import Bench
from tests.faults.row import Fault, row


@row("S2", "sshd does not listen", code="SSH_REFUSED", exit=4, within=2, quick=True)
def no_sshd(bench: Bench) -> Fault:
    with bench.worker.refuses(22):
        done = yield
    assert "Is sshd running" in done.err


@row("S3", "packets to sshd vanish", code="SSH_TIMEOUT", exit=4, within=6)
def blackhole(bench: Bench) -> Fault:
    with bench.worker.drops(22):
        yield
