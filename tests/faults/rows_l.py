"""L: the life cycle, and what is none of ours."""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.faults.bench import Bench, FaultyHost
from tests.faults.oracles import marked
from tests.faults.row import Fault, row
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, operator

# What a careless selection would take for ours: by the name's beginning, by the image, by the role, by another cluster.
LOOKALIKES = (
    ("raydock-{}-worker2", ()),
    ("raydock-{}", ()),
    ("raydock-{}-head-old", ("raydock.role=head",)),
    ("ray", ("raydock.role=worker",)),
    ("raydock-other-worker", ("raydock.cluster=other", "raydock.role=worker")),
    ("raydock-{}2-worker", ("raydock.cluster={}2", "raydock.role=worker")),
    ("{}", ("raydock.cluster={}-2",)),
    ("raydock-{}-worker-", ("raydock.cluster={} ",)),
    ("xraydock-{}-worker", ("cluster={}",)),
    ("my-own-ray", ("raydock.spec=v1:000000000000",)),
)


def lookalikes(host: FaultyHost, cluster: str) -> list[str]:
    """Run ten containers that look like ours, and give their names."""
    names = []
    for name, labels in LOOKALIKES:
        words = [word for label in labels for word in ("--label", label.format(cluster))]
        names.append(name.format(cluster))
        host.docker("run", "-d", "--name", names[-1], *words, "--entrypoint", "sleep", "decoy:1", "infinity")
    return names


@row("L8", "ten containers a node that look like ours, at a stop", task=("cluster.stop",), bench="B", quick=True)
def decoys(bench: Bench) -> Fault:
    made = {host: lookalikes(host, bench.cluster) for host in bench.hosts}
    yield
    for host, names in made.items():
        assert set(names) <= set(host.containers(running=True))
        host.docker("rm", "-f", *names)


@row(
    "L9",
    "a worker that cannot be reached, at a stop",
    task=("cluster.stop",),
    exit=4,
    code="SSH_TIMEOUT",
    bench="B",
    within=12,
    converge=("cluster.stop",),
)
def unreachable_at_a_stop(bench: Bench) -> Fault:
    with bench.worker.drops(22):
        done = yield
    assert done.node(bench.worker.node)["container"] == "unknown"


@row("L11", "nothing runs, at a stop", task=("cluster.stop",), running=False, bench="B", converge=("cluster.stop",))
def nothing_to_stop(bench: Bench) -> Fault:
    done = yield
    assert bench.typed is done
    assert done.report["changed"] is False


@row(
    "L12",
    "a container that ignores SIGTERM, at a stop",
    task=("cluster.stop",),
    bench="B",
    running=False,
    # 45 s for the workers, and then as long for the head.
    within=95,
    converge=("cluster.stop",),
)
def stubborn(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV="STUB_STUBBORN=yes"):
        bench.invoke("cluster.start", exit=0)
        done = yield
    assert {node["container"] for node in done.report["nodes"]} == {"absent"}


# ---- several operators, and the lock


@contextmanager
def cut_off_from(head: FaultyHost) -> Iterator[None]:
    """Have whoever is connected to the head's sshd now cut off from it, and nobody who comes anew."""
    peers = [
        line.split()[-1] for line in head.run("ss", "-Htn", "state", "established", "sport", "=", ":22").splitlines()
    ]
    assert peers, "nobody is connected"
    with ExitStack() as cut:
        for peer in peers:
            address, _, port = peer.rpartition(":")
            address = address.strip("[]").removeprefix("::ffff:")
            here = ("-p", "tcp", "--dport", "22", "-s", address, "--sport", port, "-j", "DROP")
            there = ("-p", "tcp", "--sport", "22", "-d", address, "--dport", port, "-j", "DROP")
            cut.enter_context(head.rule("INPUT", *here))
            cut.enter_context(head.rule("OUTPUT", *there))
        yield


def frees_the_lock(bench: Bench, other: subprocess.Popen[str]) -> None:
    """See that the lock of one who was cut off is free within a minute, and that this one noticed."""
    with cut_off_from(bench.head):
        begun = time.monotonic()
        bench.invoke("cluster.stop", "--wait", "1m", exit=0)
        bench.in_time("free again after a cut", begun, 60)
        said, _ = other.communicate(timeout=60)
    assert other.returncode in (4, 5), said
    assert re.search("LOCK_LOST|SSH_LOST|HEAD_UNREACHABLE", said), said


@row(
    "L3",
    "the operator of a start is killed, and another is cut off from the head",
    task=("cluster.start",),
    running=False,
    bench="B",
    within=60,
)
def killed_operator(bench: Bench) -> Fault:
    with bench.another("cluster.start") as other:
        time.sleep(1)
        other.kill()
        yield
    bench.invoke("cluster.stop", exit=0)
    with bench.settings(CONTAINER_ENV="STUB_LATE=60"), bench.another("cluster.start") as other:
        frees_the_lock(bench, other)


@row(
    "L4",
    "somebody else is starting it",
    task=("cluster.start",),
    running=False,
    exit=5,
    code="LOCKED",
    told_of="head",
    bench="B",
    within=5,
    quick=True,
)
def two_operators(bench: Bench) -> Fault:
    with bench.another("cluster.start") as other:
        done = yield
        assert f"{getpass.getuser()}@" in done.err
        assert "cluster.start since" in done.err
        said, _ = other.communicate(timeout=120)
        assert other.returncode == 0, said


@row(
    "L5",
    "the holder of a lock is killed, and another's link is cut",
    task=("cluster.start",),
    running=False,
    bench="B",
    within=90,
)
def killed_holder(bench: Bench) -> Fault:
    with bench.another("cluster.start") as other:
        bench.head.shell(f"kill -9 $(cut -d' ' -f1 /var/lib/raydock/{bench.cluster}/lock.who)")
        said, _ = other.communicate(timeout=120)
        assert other.returncode == 5, said
        assert "LOCK_LOST" in said
        yield
    bench.invoke("cluster.stop", exit=0)
    with bench.settings(CONTAINER_ENV="STUB_LATE=60"), bench.another("cluster.start") as other:
        # It waits for nodes to join; its holder on the head ends by itself when no line comes any more.
        with cut_off_from(bench.head):
            begun = time.monotonic()
            while bench.lock_is_held():
                assert time.monotonic() - begun < 60, "the holder lives on"
                time.sleep(0.5)
            bench.figures["the holder ended after"] = time.monotonic() - begun
            other.communicate(timeout=60)
        assert other.returncode in (4, 5)
    bench.invoke("cluster.stop", exit=0)


@row(
    "L6",
    "an operator is paused, and goes on when the lock is somebody else's",
    task=("cluster.start", "--wait", "2m"),
    running=False,
    bench="B",
    within=90,
)
def paused_operator(bench: Bench) -> Fault:
    with bench.another("cluster.start") as other:
        other.send_signal(signal.SIGSTOP)
        yield
        since = time.time_ns()
        other.send_signal(signal.SIGCONT)
        said, _ = other.communicate(timeout=60)
        assert other.returncode == 5, said
        assert "LOCK_LOST" in said
        assert bench.sandbox.actions(since) == {}


@row(
    "L7",
    "the head cannot be reached at a start",
    task=("cluster.start",),
    exit=4,
    code="HEAD_UNREACHABLE",
    told_of="head",
    bench="B",
    within=8,
)
def no_head_at_a_start(bench: Bench) -> Fault:
    with bench.head.drops(22):
        done = yield
    assert {node["outcome"] for node in done.report["nodes"] if node["role"] == "worker"} == {"skipped"}


@row(
    "L10",
    "the head cannot be reached at a stop",
    task=("cluster.stop",),
    exit=4,
    code="HEAD_UNREACHABLE",
    told_of="head",
    bench="B",
    within=8,
    converge=("cluster.stop",),
)
def no_head_at_a_stop(bench: Bench) -> Fault:
    with bench.head.drops(22):
        done = yield
        assert "cluster.stop --force" in done.err
        forced = bench.invoke("cluster.stop", "--force", "--json", exit=4)
        assert "nothing keeps others from acting" in forced.err
        assert [node["container"] for node in forced.report["nodes"]] == ["unknown", "absent", "absent"]
        assert [sorted(bench.sight(host).ours) for host in bench.workers] == [[], []]


@row("L13", "a worker was taken off the list while it ran", bench="B", quick=True)
def taken_off_the_list(bench: Bench) -> Fault:
    listed = bench.workers_file.read_text()
    bench.workers_file.write_text(f"ubuntu@{bench.other.address}\n")
    try:
        done = yield
    finally:
        bench.workers_file.write_text(listed)
    assert done.report["orphans"] == [bench.worker.address]
    assert f"ORPHAN {bench.worker.address}" in done.err


# ---- broken off; at random instants: tests/faults/instants.py


def end_task(number: str, signal_: signal.Signals) -> None:
    """Send a signal to the task of a row."""
    processes = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal() and marked(name, f"row-{number}"))  # noqa: PTH208
    os.kill(processes[0], signal_)


@row(
    "L1",
    "Ctrl-C, while workers start",
    task=("cluster.start",),
    running=False,
    exit=130,
    code="INTERRUPTED",
    told_of="all",
    bench="B",
    within=15,
    quick=True,
)
def interrupted(bench: Bench) -> Fault:
    name, at = bench.container(bench.worker), [0.0]

    def interrupt() -> None:
        end_task("L1", signal.SIGINT)
        at.append(time.monotonic())

    with bench.meanwhile(lambda: bench.worker.attempt("docker", "inspect", name).code == 0, interrupt):
        done = yield
        bench.in_time("ended after the signal", at[-1], 5)
    assert "stopping after the current step; press again to abandon" in done.err
    # In which step depends on how far it had come by then.
    assert re.search("interrupted (before|during) `", done.err)


@row(
    "L2",
    "SIGTERM, while workers start; and a reader that goes, a second Ctrl-C, a terminal that is closed",
    task=("cluster.start",),
    running=False,
    exit=130,
    code="INTERRUPTED",
    told_of="all",
    bench="B",
    within=15,
)
def ended_otherwise(bench: Bench) -> Fault:
    name = bench.container(bench.worker)
    with bench.meanwhile(
        lambda: bench.worker.attempt("docker", "inspect", name).code == 0, lambda: end_task("L2", signal.SIGTERM)
    ):
        yield
    env = operator({"ENVIRONMENT": bench.env.stem, **NO_ENGINE, "TMPDIR": str(bench.scratch)})
    unread = ["bash", "-c", '"$0" cluster.stop --json 2>&1 | true; exit ${PIPESTATUS[0]}', str(INVOKE)]
    assert subprocess.run(unread, cwd=TOP, env=env, timeout=60).returncode == 0
    assert [sorted(bench.sight(host).ours) for host in bench.hosts] == [[], [], []]
    with bench.another("cluster.start") as twice:
        for _ in range(2):
            twice.send_signal(signal.SIGINT)
            begun = time.monotonic()
            time.sleep(0.3)
        said, _ = twice.communicate(timeout=30)
        assert time.monotonic() - begun < 2
        assert (twice.returncode, "Traceback" in said) == (130, False), said
    keys, terminal = os.openpty()
    ends = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(["setsid", "-c", "-w", INVOKE, "cluster.start"], cwd=TOP, env=env, **ends) as left:  # type: ignore[call-overload]
        os.close(terminal)
        os.read(keys, 1)
        begun = time.monotonic()
        os.close(keys)
        assert left.wait(30) == 130
        assert time.monotonic() - begun < 6


@row(
    "L15",
    "a node restarts after a start",
    exit=3,
    code="NOT_RUNNING",
    bench="B",
    within=30,
    blind=(("O2", "what is in a practice host's memory, images among it, goes with a restart"),),
)
def restarts_after_a_start(bench: Bench) -> Fault:
    bench.worker.box.restart(timeout=1)
    bench.worker.start_engine()
    done = yield
    assert done.node(bench.worker.node)["ray"] != "alive"
    bench.comes_back(bench.worker)


@row(
    "L14",
    "known_hosts and settings that were cut off in the middle",
    exit=2,
    code="CONFIG",
    told_of="nobody",
    running=None,
    bench="B",
    within=5,
)
def cut_off(bench: Bench) -> Fault:
    kept = bench.env.read_bytes()
    try:
        # Wherever it ends it is refused with a place, or as good as far as it goes.
        for end in range(1, len(kept), len(kept) // 12):
            bench.env.write_bytes(kept[:end])
            done = bench.invoke("cluster.status", "--json")
            assert "Traceback" not in done.err
            assert done.code != 2 or re.search(r"^\S+ (CONFIG|INVENTORY): ", done.err), (kept[:end], done.err)
        bench.env.write_bytes(kept.rstrip().rpartition(b"=")[0])
        done = yield
    finally:
        bench.env.write_bytes(kept)
    assert f"{bench.env.name}:{len(kept.splitlines())}" in done.err
    cut_workers(bench)
    killed_while_writing(bench)


def cut_workers(bench: Bench) -> None:
    """Have a list of workers that ends anywhere: it is told with its line, or as good as far as it goes."""
    kept = bench.workers_file.read_bytes()
    try:
        for end in range(0, len(kept), 2):
            bench.workers_file.write_bytes(kept[:end])
            done = bench.invoke("--dry", "cluster.status")
            assert "Traceback" not in done.err
            assert done.code == 0 or re.search(r"workers.txt(:\d+)? (INVENTORY|CONFIG): ", done.err), (end, done.err)
    finally:
        bench.workers_file.write_bytes(kept)


def killed_while_writing(bench: Bench) -> None:
    """Kill who writes known_hosts at many moments: it is as it was, or as it shall be."""
    known = bench.known_hosts
    whole = known.read_bytes()
    fewer = b"".join(whole.splitlines(keepends=True)[:-1])
    env = operator({"ENVIRONMENT": bench.env.stem, **NO_ENGINE, "TMPDIR": str(bench.scratch)})
    try:
        for moment in range(12):
            known.write_bytes(fewer)
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            task = subprocess.Popen([INVOKE, "cluster.trust", "--yes"], cwd=TOP, env=env, **quiet)  # type: ignore[call-overload]
            while task.poll() is None and known.read_bytes() == fewer:
                time.sleep(0.001 * moment)
            task.kill()
            task.wait()
            assert known.read_bytes().startswith(fewer), moment
            assert len(known.read_bytes().splitlines()) in (len(fewer.splitlines()), len(whole.splitlines()))
    finally:
        known.write_bytes(whole)
        for left in known.parent.glob(f".{known.name}*"):
            left.unlink()
