"""R: starting and running Ray."""

from __future__ import annotations

from tests.faults.bench import Bench
from tests.faults.row import Fault, row


@row(
    "R1",
    "the head's port is somebody else's",
    task=("cluster.start",),
    running=False,
    exit=1,
    code="PORT_IN_USE",
    told_of="head",
    within=15,
    quick=True,
)
def port_taken(bench: Bench) -> Fault:
    serve = ("--entrypoint", "python3", "decoy:1", "-m", "http.server", "6379")
    bench.head.docker("run", "-d", "--name", "somebody", "--network", "host", *serve)
    done = yield
    assert "6379" in done.err
    assert "somebody" in bench.head.containers(running=True)
    bench.head.docker("rm", "-f", "somebody")


@row("R3", "it runs already", task=("cluster.start",), within=10)
def runs_already(bench: Bench) -> Fault:
    done = yield
    assert done.report["changed"] is False
    assert bench.typed is done


@row("R4", "other settings", task=("cluster.start",), exit=1, code="SPEC_CHANGED", told_of="head", within=10)
def other_settings(bench: Bench) -> Fault:
    runs = bench.sandbox.running()
    with bench.settings(NUM_WORKERS="1"):
        done = yield
    assert "NUM_WORKERS" in done.err
    assert "--replace" in done.err
    assert bench.sandbox.running() == runs


@row(
    "R5",
    "a container of somebody else has our name",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="NAME_CONFLICT",
    within=40,
)
def name_taken(bench: Bench) -> Fault:
    name = bench.container(bench.worker)
    bench.worker.docker("run", "-d", "--name", name, "--entrypoint", "sleep", "decoy:1", "infinity")
    yield
    bench.worker.docker("rm", "-f", name)


@row("R6", "a stopped container of ours has the name", task=("cluster.start",), within=40)
def stale(bench: Bench) -> Fault:
    bench.worker.docker("kill", bench.container(bench.worker))
    yield
    assert bench.container(bench.worker) in bench.worker.containers(running=True)


@row(
    "R7",
    "Ray ends at once",
    task=("cluster.start",),
    running=False,
    exit=1,
    code="RAY_EXITED",
    told_of="head",
    within=25,
)
def exits_at_once(bench: Bench) -> Fault:
    with bench.settings(RAY_START_ARGS="--no-such-flag"):
        done = yield
    assert "no such option" in done.err.lower()


@row(
    "R14",
    "workers join, and end two seconds later",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="NODE_UNSTABLE",
    told_of="nobody",
    bench="B",
    within=20,
)
def joins_and_dies(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV="STUB_EXIT_AFTER=2"):
        done = yield
        assert [node["container"] for node in done.report["nodes"]] == ["running", "exited", "exited"]
        bench.invoke("cluster.stop", exit=0)


@row(
    "R10",
    "no task comes back from one worker",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="NODE_NOT_SCHEDULABLE",
    told_of="nobody",
    bench="B",
    within=30,
)
def no_task_comes_back(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV="STUB_MUTE=yes"):
        yield
        bench.invoke("cluster.stop", exit=0)
