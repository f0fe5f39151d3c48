"""R: starting and running Ray."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.bench import Bench, FaultyHost
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


@row(
    "R4",
    "other settings",
    task=("cluster.start",),
    exit=1,
    code="SPEC_CHANGED",
    told_of="head",
    sick=("all",),
    within=10,
)
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
    sick=("all",),
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
    sick=("workers",),
    bench="B",
    within=20,
)
def joins_and_dies(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV="STUB_EXIT_AFTER=2"):
        done = yield
        assert [node["container"] for node in done.report["nodes"]] == ["running", "exited", "exited"]
        bench.invoke("cluster.stop", exit=0)
    # Those that run and never join, for no reason that can be seen.
    with bench.settings(CONTAINER_ENV="STUB_LATE=600"):
        done = bench.invoke("cluster.start", "--json", exit=3)
        assert {done.node(host.node)["code"] for host in bench.workers} == {"RAY_NOT_JOINED"}
        bench.invoke("cluster.stop", exit=0)


def without_the_worker(bench: Bench) -> None:
    """Have a cluster that runs lack the worker's container, so that what is told of it alone takes time."""
    if bench.container(bench.head) in bench.head.containers(running=True):
        bench.invoke("cluster.stop-workers", "--only", bench.worker.node, exit=0)


# It has joined within 10 s, and is then given 20 s for the task. Ray's own health check has another port.
@row(
    "R10",
    "the head does not come to the ports of a worker's processes: it joins, and tasks hang",
    task=("cluster.start",),
    exit=3,
    code="NODE_NOT_SCHEDULABLE",
    within=30,
)
def no_task_comes_back(bench: Bench) -> Fault:
    without_the_worker(bench)
    came = ("-s", bench.head.address, "-p", "tcp", "--dport", "10002:19999", "-j", "DROP")
    with bench.worker.rule("INPUT", *came):
        yield
        bench.invoke("cluster.stop-workers", "--only", bench.worker.node, exit=0)


OTHER = {"CLUSTER_NAME": "other"}


@row(
    "R2",
    "the head's port is another cluster's",
    task=("cluster.start",),
    running=False,
    exit=1,
    code="FOREIGN_CLUSTER",
    told_of="head",
    within=15,
)
def another_cluster(bench: Bench) -> Fault:
    with bench.settings(**OTHER):
        bench.invoke("cluster.start-head", exit=0)
    there = bench.head.containers()["raydock-other-head"]["Id"]
    try:
        done = yield
        assert "cluster other" in done.err
        assert bench.head.containers(running=True)["raydock-other-head"]["Id"] == there
    finally:
        with bench.settings(**OTHER):
            status = bench.invoke("cluster.status", "--json")
            bench.invoke("cluster.stop", exit=0)
    assert status.node("head")["ray"] == "alive"


@row(
    "R8",
    "the head ends while workers start",
    task=("cluster.start",),
    running=False,
    exit=1,
    code="HEAD_LOST",
    told_of="nobody",
    sick=("head", "workers"),
    within=25,
)
def head_ends(bench: Bench) -> Fault:
    at = [0.0]

    def workers_run() -> bool:
        return all(bench.container(host) in host.containers(running=True) for host in bench.workers)

    def kill() -> None:
        bench.head.docker("kill", bench.container(bench.head))
        at.append(time.monotonic())

    with bench.meanwhile(workers_run, kill):
        done = yield
    bench.in_time("told after", at[-1], 10)
    assert done.node("head")["code"] == "RAY_EXITED"
    assert [done.node(host.node)["container"] for host in bench.workers] == ["absent", "absent"]


@row(
    "R9",
    "a worker does not reach the head's port",
    task=("cluster.start",),
    exit=3,
    code="GCS_UNREACHABLE",
    within=3,
)
def head_out_of_reach(bench: Bench) -> Fault:
    without_the_worker(bench)
    with bench.worker.rule("OUTPUT", "-p", "tcp", "--dport", bench.values["REDIS_PORT"], "-j", "DROP"):
        done = yield
    assert f"{bench.head.address}:{bench.values['REDIS_PORT']}" in done.err


@row(
    "R11",
    "a worker's image has another Ray than the running head",
    task=("cluster.start-workers",),
    exit=3,
    code="VERSION_MISMATCH",
    told_of="nobody",
    sick=("workers",),
    bench="B",
    within=30,
    blind=(("O3", "each image is asked in a container of its own, which is gone after it"),),
)
def another_ray(bench: Bench) -> Fault:
    bench.invoke("cluster.stop-workers", exit=0)
    with bench.another_image("raydock-stub-other", "RUN sed -i s/2.60.0/2.60.1/ /opt/stub/*/METADATA"):
        uri = bench.invoke("publish", "--json", exit=0).report["uri"]
    with bench.settings(IMAGE=uri):
        done = yield
    assert "Ray 2.60.1" in done.err, done.err
    assert "Ray 2.60.0" in done.err
    assert (done.code, {done.node(host.node)["code"] for host in bench.workers}) == (3, {"VERSION_MISMATCH"})
    assert {done.node(host.node)["container"] for host in bench.workers} <= {"absent", "unknown"}


@row("R12", "a worker's token was altered", exit=3, code="TOKEN_MISMATCH", within=20)
def altered_token(bench: Bench) -> Fault:
    name = bench.container(bench.worker)
    kept = bench.worker.docker("exec", name, "cat", "/run/ray-token")
    bench.worker.docker("exec", name, "sh", "-c", f"printf %s {kept[::-1]} > /run/ray-token")
    bench.worker.docker("restart", "-t", "10", name)
    time.sleep(5)  # for Ray to have seen it go, and to come back in vain
    done = yield
    assert kept[::-1] not in done.err + done.out
    bench.invoke("cluster.stop-workers", "--only", bench.worker.node, exit=0)


@contextmanager
def another_interface(host: FaultyHost) -> Iterator[str]:
    """Have a host with a second interface, of which it takes its way to everywhere; give the interface's address."""
    address, way = "192.0.2.7", host.shell("ip route show default").strip()
    host.shell(
        "ip link add other0 type veth peer name other1 && ip link set other0 up && ip link set other1 up"
        f" && ip addr add {address}/24 dev other0 && ip route del default && ip route add default dev other0"
    )
    try:
        yield address
    finally:
        host.shell(f"ip link del other0; ip route replace {way}")


@row(
    "R13",
    "a worker with two interfaces, and an address for Ray that it does not have",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="ADDRESS_MISMATCH",
    within=25,
)
def foreign_address(bench: Bench) -> Fault:
    lines = [f"ubuntu@{host.address}\n" for host in bench.workers]
    with another_interface(bench.worker) as second:
        guess = "import ray._private.services as s; print(s.get_node_ip_address())"
        image = bench.invoke("cluster.pull", "--json", exit=0).report["image"]
        run = ("run", "--rm", "--network", "host", "--entrypoint", "python", image)
        assert bench.worker.docker(*run, "-c", guess) == second, "Ray would not choose wrongly"
        bench.workers_file.write_text("".join(lines).rstrip() + " #: private=192.0.2.8\n")
        try:
            done = yield
        finally:
            bench.workers_file.write_text("".join(lines))
        assert "192.0.2.8" in done.err
        bench.invoke("cluster.start", exit=0)
        assert bench.alive() == frozenset(host.address for host in bench.hosts)


BROKEN = "/srv/broken"
# Ray's own command alone: the image's Python is asked for its version before.
ENDS = """
import os, sys
if "start" in sys.orig_argv:
    os.write(2, b"broken, as it was asked to be\\n")
    os._exit(7)
"""


@contextmanager
def python_ends(hosts: Sequence[FaultyHost], sick: FaultyHost) -> Iterator[dict[str, str]]:
    """Have settings by which each container's Python begins with its host's own file, which ends it on one."""
    for host in hosts:
        host.shell(f"mkdir {BROKEN}; echo pass >{BROKEN}/sitecustomize.py")
    sick.shell(f"printf %s {shlex.quote(ENDS)} >{BROKEN}/sitecustomize.py")
    try:
        yield {"VOLUMES": f"{BROKEN}:/opt/broken:ro", "CONTAINER_ENV": "PYTHONPATH=/opt/broken"}
    finally:
        for host in hosts:
            host.run("rm", "-r", BROKEN)


@row(
    "R15",
    "one worker of several ends at once",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="RAY_EXITED",
    within=40,
)
def one_ends(bench: Bench) -> Fault:
    with python_ends(bench.hosts, bench.worker) as broken, bench.settings(**broken):
        done = yield
        assert "broken, as it was asked to be" in done.err
        bench.invoke("cluster.stop", exit=0)


PROGRAMS = "tests/faults/programs"


@row(
    "R16",
    "a program ends with a code of its own",
    task=("job.run", f"{PROGRAMS}/ends.py", "--json", "--", "7"),
    exit=7,
    told_of="nobody",
    within=30,
    converge=("cluster.start",),
    blind=(("O6", "the program says itself what it ended for"),),
)
def ends_with_a_code(bench: Bench) -> Fault:
    done = yield
    assert "a last line" in done.err
    killed = bench.invoke("job.run", f"{PROGRAMS}/ends.py", "--", "SIGKILL")
    assert killed.code == 137


@row(
    "R17",
    "the way to the head is lost for ten seconds while a program prints",
    task=("job.run", f"{PROGRAMS}/counts.py", "--json", "--", "40"),
    told_of="nobody",
    within=60,
)
def way_is_lost(bench: Bench) -> Fault:
    listed = bench.invoke("job.list", "--json", exit=0).report["jobs"]

    def job_runs() -> bool:
        return bench.head.attempt("pgrep", "-f", "counts.py").code == 0

    def cut() -> None:
        time.sleep(3)
        with bench.head.drops(22):
            time.sleep(10)

    with bench.meanwhile(job_runs, cut):
        done = yield
    assert [line for line in done.err.splitlines() if line.isdecimal()] == [str(number) for number in range(40)]
    assert len(bench.invoke("job.list", "--json", exit=0).report["jobs"]) == len(listed) + 1


@row(
    "R18",
    "the head ends while a program runs",
    task=("job.run", f"{PROGRAMS}/counts.py", "--json", "--", "200"),
    exit=125,
    code="JOB_LOST",
    told_of="nobody",
    sick=("head",),
    within=20,
)
def head_ends_under_a_program(bench: Bench) -> Fault:
    def job_runs() -> bool:
        return bench.head.attempt("pgrep", "-f", "counts.py").code == 0

    at = [0.0]

    def kill() -> None:
        bench.head.docker("kill", bench.container(bench.head))
        at.append(time.monotonic())

    with bench.meanwhile(job_runs, kill):
        yield
    bench.in_time("told after", at[-1], 20)
