"""Nothing to do, and a look at what runs, beside opening the connections and asking each engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.practice.files import KEY, KNOWN_HOSTS
from tests.bench.fanout import version_of
from tests.bench.measure import Bound, Command, Figure, in_turn
from tests.bench.three_hosts import ENV, NODES, hosts, typed
from tests.hosts.observer import INVOKE, TOP, Sandbox, command

PEER = TOP / "tests/bench/peers/ask_engines.py"
ASK = "docker ps -a"
TARGET = 1.5
# What there is nothing to do for, and the look.
NOTHING = ("cluster.start", "cluster.setup", "publish", "build")
LOOK = "cluster.status"


def asked(python: Path, sandbox: Sandbox, line: str = "") -> Command:
    """Connect to every host at once and have each run a line; without one the connections alone."""
    places = [f"127.0.0.1:{host.port}" for host in sandbox]
    return Command([str(python), str(PEER), str(KEY), str(KNOWN_HOSTS), line, *places], TOP)


def see_nothing_changes(task: str) -> None:
    """See that there is nothing to do for a task, and that it says so."""
    report = command([INVOKE, task, "--json"], ENV).report
    if report["changed"]:
        raise RuntimeError(f"{task} had something to do: {report}")


def figures(python: Path, *, quick: bool) -> Iterator[Figure | Bound]:
    """Measure them; `python` is one that has the peers."""
    sandbox = hosts(quick=quick)
    if sandbox is None:
        return
    sandbox.clear()
    typed("cluster.start").run()
    try:
        for task in NOTHING:
            see_nothing_changes(task)
        floors = {"ask": asked(python, sandbox, ASK), "connect": asked(python, sandbox)}
        ours = {task: typed(task) for task in (*NOTHING, LOOK)}
        taken = in_turn({name: command.seconds for name, command in {**ours, **floors}.items()})
    finally:
        sandbox.clear()
    peer = f"asyncssh {version_of(python, 'asyncssh')}, {NODES} hosts at once"
    for task in NOTHING:
        yield Figure(f"{task}, nothing to do", TARGET, taken[task], taken["ask"], f"{peer}: {ASK}")
    yield Figure(LOOK, TARGET, taken[LOOK], taken["connect"], f"{peer}: the connections alone")
