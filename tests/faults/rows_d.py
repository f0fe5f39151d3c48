"""D: Docker on nodes."""

from __future__ import annotations

from tests.faults.bench import Bench
from tests.faults.row import Fault, row


@row("D3", "the engine is stopped on one worker", exit=3, code="DOCKER_DOWN", within=5, quick=True, bench="B")
def engine_down(bench: Bench) -> Fault:
    with bench.worker.engine_down():
        done = yield
    assert "service docker start" in done.err


@row("D4", "an engine that takes connections and does not answer", exit=3, code="DOCKER_TIMEOUT", within=10, bench="B")
def engine_hangs(bench: Bench) -> Fault:
    with bench.worker.engine_paused():
        yield


@row("D5", "the user is not in the group docker", exit=3, code="DOCKER_PERMISSION", within=5, bench="B")
def not_in_the_group(bench: Bench) -> Fault:
    bench.worker.run("gpasswd", "-d", "ubuntu", "docker")
    try:
        done = yield
    finally:
        bench.worker.run("usermod", "-a", "-G", "docker", "ubuntu")
    assert "invoke cluster.install" in done.err


@row("D7", "the engine is started again while Ray runs", exit=3, code="RAY_EXITED", within=20)
def engine_restarted(bench: Bench) -> Fault:
    bench.worker.run("service", "docker", "stop")
    bench.worker.start_engine()
    done = yield
    assert done.node(bench.worker.node)["container"] == "exited"
