"""Scale: what each task takes on up to a thousand SSH endpoints, beside the connections alone.

The endpoints are addresses of this machine's loopback, with real sshd and a stub of Docker behind it (bench C of the
fault catalogue); a stub of Ray listens for all of them.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.hostfile import parse_workers
from tests.bench.fanout import Fleet, bounds, fleet, packaged
from tests.bench.measure import RUNS, Bound, Curve, Figure, Series, Used, counted, time_is_over
from tests.faults.bench_c import CLUSTER, Many, dead, living, many_bench
from tests.faults.rows_p import MANY, ended
from tests.hosts.observer import TOP

COUNTS, QUICK_COUNTS = (1, 10, 30, 100, 1000), (20,)
TARGET = 1.3
FLAT = 1.1  # times as much for a further host of a thousand as for one of ten
PLAN = "plan"
CONNECTING = ("setup", "start", "status", "stop")
TASKS = {PLAN: ("--dry", "cluster.start"), **{task: (f"cluster.{task}",) for task in CONNECTING}}
PORTS = ("REDIS_PORT", "OBJECT_MANAGER_PORT", "DASHBOARD_PORT")
RAY = TOP / "tests/bench/stub_ray.py"
LINES = 10_000
LEAST = 0.001  # seconds: what a further host seems to take less than is noise
TITLE = "A host's share of plan, setup, start, status and stop"
OURS, FURTHER = "Raydock", "Raydock, each host beyond the first"
FLOOR = "floor: four connections, each with a question to the engine"
ASKING = "connecting to each and asking its engine for its containers"


@dataclass
class Round:
    """All tasks once, and the connections that one of them makes: with a question to each engine, and bare."""

    tasks: dict[str, Used]
    floor: float
    bare: float | None

    @property
    def ours(self) -> float:
        """All tasks together."""
        return sum(used.seconds for used in self.tasks.values())

    @property
    def busy(self) -> float:
        """For how long a core was busy with Raydock itself in all of them."""
        return sum(used.busy for used in self.tasks.values())


@contextlib.contextmanager
def endpoints(python: Path) -> Iterator[Fleet]:
    """Have endpoints on which Ray can be started, as far as anybody can tell from outside."""
    ports = free_ports(len(PORTS))
    with fleet(python, **dict(zip(PORTS, map(str, ports), strict=True))) as made:
        argv = [sys.executable, str(RAY), str(made.endpoints.bin / "state"), *map(str, ports)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as ray:
            try:
                assert ray.stdout
                assert ray.stdout.readline() == b"listens\n"
                yield made
            finally:
                ray.terminate()
                subprocess.run(["rm", "-rf", f"/var/lib/raydock/{CLUSTER}"], check=True)


def free_ports(count: int) -> list[int]:
    """Give ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def taken(made: Fleet, count: int) -> Round:
    """Take all tasks once, and then the floor; on all of the hosts the bare connections, too."""
    tasks = {task: made.invoke(*words).run() for task, words in TASKS.items()}
    bare = made.peer("connect.py").seconds() if count == COUNTS[-1] else None
    return Round(tasks, made.peer("connect.py", "--engine").seconds(), bare)


def figures(python: Path, *, quick: bool) -> Iterator[Figure | Bound | Curve]:
    """Measure them; where it shall be `quick`, on fewer hosts."""
    yield parsing()
    if not quick:
        yield half_dead()
    rounds: dict[int, list[Round]] = {}
    with endpoints(python) as made:
        for count in QUICK_COUNTS if quick else COUNTS:
            made.populate(count)
            if not rounds and not quick:
                taken(made, count)
            rounds[count] = [taken(made, count) for _ in counted(RUNS)]
            if time_is_over():
                break
    peer = packaged(python, "asyncssh")
    yield from beside_floor(rounds, peer)
    yield from each(*list(rounds.items())[-1], peer)
    yield from growth(rounds)


def beside_floor(rounds: dict[int, list[Round]], peer: str) -> Iterator[Figure]:
    """Give what the tasks took together beside the floor: their connections, each with a question to the engine."""
    for count, found in rounds.items():
        target = TARGET if count == COUNTS[-1] else None
        name = f"plan, setup, start, status, stop on {count} {'hosts' if count > 1 else 'host'}"
        ours, floor = Series(tuple(one.ours for one in found)), Series(tuple(4 * one.floor for one in found))
        yield Figure(name, target, ours, floor, f"{peer}, {ASKING}, 4 times")
        if bare := tuple(4 * one.bare for one in found if one.bare):
            yield Figure(name, target, ours, Series(bare), f"{peer}, connecting to each and no more, 4 times")


def each(count: int, found: list[Round], peer: str) -> Iterator[Figure | Bound]:
    """Give what each task took by itself, and what of this machine."""
    floor = Series(tuple(one.floor for one in found))
    for task in CONNECTING:
        ours = Series(tuple(one.tasks[task].seconds for one in found))
        yield Figure(f"cluster.{task} on {count} hosts", None, ours, floor, f"{peer}, {ASKING}")
    plan = Series(tuple(one.tasks[PLAN].seconds for one in found))
    yield Bound(f"invoke {' '.join(TASKS[PLAN])} for {count} hosts", None, "s", plan)
    yield from bounds(f"tasks on {count} hosts", [used for one in found for used in one.tasks.values()])


def growth(rounds: dict[int, list[Round]]) -> Iterator[Figure | Curve]:
    """Give how what a host takes grows with their number."""
    first, *others = rounds
    share = {count: Series(tuple(found.ours / count for found in rounds[count])) for count in others}
    further = beyond_first(rounds, lambda found: found.ours)
    floor = {count: Series(tuple(4 * found.floor / count for found in rounds[count])) for count in others}
    if len(others) > 1:
        few, *_, many = others
        target, beside = FLAT if many == COUNTS[-1] else None, f"of {many} beside of {few}"
        busy = beyond_first(rounds, lambda found: found.busy)
        yield Figure(f"a further host, {beside}", target, further[many], further[few], OURS)
        yield Figure(f"a further host, {beside}: a core at work for Raydock", target, busy[many], busy[few], OURS)
        lines = {OURS: share, FURTHER: further, FLOOR: floor}
        yield Curve("per-host", TITLE, "hosts", "s", lines, (OURS, FURTHER))


def beyond_first(rounds: dict[int, list[Round]], took: Callable[[Round], float]) -> dict[int, Series]:
    """Give what each host beyond the first takes, by their number; what one takes alone is the same for all."""
    first, *others = rounds
    one = statistics.median(map(took, rounds[first]))
    return {
        count: Series(tuple(max((took(found) - one) / (count - 1), LEAST) for found in rounds[count]))
        for count in others
    }


def half_dead() -> Figure:
    """Measure when the living half of the hosts is done with a stop: alone, and beside a half that is blackholed."""
    with tempfile.TemporaryDirectory() as place, many_bench(Path(place)) as bench:
        found = [beside_dead(bench) for _ in range(RUNS)]
    alone, beside = (Series(tuple(values)) for values in zip(*found, strict=True))
    name = f"stop of {MANY // 2} hosts, beside {MANY // 2} that are blackholed"
    return Figure(name, 1.1, beside, alone, "Raydock, the living half alone")


def beside_dead(bench: Many) -> tuple[float, float]:
    """Give the seconds after which the last of the living is done: alone, and beside the dead."""
    well = living(MANY // 2)
    both = [address for pair in zip(dead(MANY // 2), well, strict=True) for address in pair]
    alone = living_done(bench, well, well, exit=0)
    with bench.endpoints.dead():
        return alone, living_done(bench, both, well, exit=4)


def living_done(bench: Many, workers: Sequence[str], well: Sequence[str], *, exit: int) -> float:
    """Stop a cluster that runs on all of them, and give when the last of the living was done."""
    bench.populate(workers, running=True)
    done = bench.invoke("cluster.stop", "--timings", "--json", exit=exit)
    return ended(done, {bench.endpoints.node(one) for one in well})


def parsing() -> Bound:
    """Measure how long a long list of workers takes to be read."""
    text = "".join(f"ubuntu@10.{n >> 16}.{n >> 8 & 255}.{n & 255}:22  #: num_workers=8\n" for n in range(LINES))
    took = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        assert len(parse_workers(text, "workers.txt")) == LINES
        took.append(time.perf_counter() - begun)
    return Bound(f"{LINES:,} lines of workers.txt parsed", 1, "s", Series(tuple(took)))
