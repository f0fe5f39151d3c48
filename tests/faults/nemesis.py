"""Mixes faults by seed, heals, runs again and looks: `python -m tests.faults.nemesis --help`.

Each run draws one to four faults and a task, has the faults come at random moments of it, and heals all of them. Then
what is foreign must be as it was (O2), one `cluster.start` must reach the wanted state and a second must change nothing
(O4), and there must be no traceback (O6) and nothing left (O8). The seed says all of it, and replays.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.bench import Bench, FaultyHost, Sight, real_bench, stub_bench
from tests.faults.judge import MARK, run_again
from tests.faults.oracles import remains
from tests.faults.score import Score, sandbox, with_part, with_record
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, operator

AT_MOST = ("timeout", "5")  # seconds; another fault may have the engine hang
LONGEST = 240  # seconds that a task may take with whatever faults
TASKS = ("cluster.start", "cluster.start", "cluster.start", "cluster.stop", "cluster.setup", "cluster.status")
BENCHES = {"A": real_bench, "B": stub_bench}


@contextmanager
def killed_container(bench: Bench, host: FaultyHost) -> Iterator[None]:
    """Have the cluster's container of a host killed, if it is there."""
    host.attempt(*AT_MOST, "docker", "kill", bench.container(host))
    yield


@contextmanager
def removed_container(bench: Bench, host: FaultyHost) -> Iterator[None]:
    """Have the cluster's container of a host gone, whatever it was doing."""
    host.attempt(*AT_MOST, "docker", "rm", "-f", bench.container(host))
    yield


@contextmanager
def killed_engine(_: Bench, host: FaultyHost) -> Iterator[None]:
    """Have the engine of a host killed."""
    host.attempt("pkill", "-KILL", "-x", "dockerd")
    try:
        yield
    finally:
        host.start_engine()


@contextmanager
def killed_logins(_: Bench, host: FaultyHost) -> Iterator[None]:
    """Have every SSH session of a host end."""
    host.attempt("pkill", "-KILL", "-u", "ubuntu")
    yield


FAULTS: Mapping[str, Callable[[Bench, FaultyHost], AbstractContextManager[None]]] = {
    "sshd refuses": lambda _, host: host.refuses(22),
    "packets to sshd vanish": lambda _, host: host.drops(22),
    "the host is cut off": lambda _, host: host.cut_off(),
    "the engine hangs": lambda _, host: host.engine_paused(),
    "the engine is killed": killed_engine,
    "the container is killed": killed_container,
    "the container is removed": removed_container,
    "every login ends": killed_logins,
}
# After these one end knows nothing of the other's.
CUTS = ("packets to sshd vanish", "the host is cut off")
SIGNALS = (None, None, None, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Course:
    """What one run has: drawn of its seed alone."""

    seed: int
    task: str
    running: bool
    # Seconds after the task's begin, fault, host.
    faults: tuple[tuple[float, str, int], ...]
    signal: int | None
    signal_after: float

    @classmethod
    def of(cls, seed: int, *, hosts: int, span: float) -> Course:
        """Draw a course; `span` is about how long a task takes, in seconds."""
        draw = random.Random(seed)  # noqa: S311 - a game, and one that can be played again
        names, number = sorted(FAULTS), draw.randint(1, 4)
        faults = [(draw.uniform(0, span), draw.choice(names), draw.randrange(hosts)) for _ in range(number)]
        task, running = draw.choice(TASKS), draw.random() < 0.5
        return cls(seed, task, running, tuple(sorted(faults)), draw.choice(SIGNALS), draw.uniform(0, span))

    def __str__(self) -> str:
        told = [f"{fault} on {host} after {after:.1f} s" for after, fault, host in self.faults]
        ended = [f"{signal.Signals(self.signal).name} after {self.signal_after:.1f} s"] if self.signal else []
        return f"{self.seed}: {self.task}, {'running' if self.running else 'stopped'}: {'; '.join(told + ended)}"


def play(bench: Bench, course: Course) -> list[str]:
    """Play a course, and give what is wrong after it."""
    bench.invoke("cluster.start" if course.running else "cluster.stop", exit=0)
    before = bench.sights()
    mark = f"nemesis-{course.seed}"
    said = suffer(bench, course, mark)
    # Whose link was cut has the lock until its silence is noticed.
    first, second = (run_again(bench, "cluster.start", "--wait", "1m") for _ in range(2))
    after = bench.sights()
    wrong = [f"{name}: foreign things changed" for name in after if foreign(after[name]) != foreign(before[name])]
    if first["exit"] or not first["reached"]:
        wrong.append(f"after healing: exit {first['exit']}, {first['states']}")
    if second["exit"] or second["changed"] or second["acted"]:
        wrong.append(f"once more: exit {second['exit']}, changed {second['changed']}, {second['acted']}")
    if "Traceback" in said:
        wrong.append(f"a traceback: {said[-2000:]}")
    left = {place: unnoticed(course, bench, place, things) for place, things in remains(bench, before, mark).items()}
    return wrong + [f"{place}: {things}" for place, things in left.items() if things]


def unnoticed(course: Course, bench: Bench, place: str, things: list[str]) -> list[str]:
    """Leave out what sshd cannot know to have ended: an idle tunnel of a cut link, until its keepalive tells."""
    cut = {bench.hosts[host].name for _, fault, host in course.faults if fault in CUTS}
    return [thing for thing in things if place not in cut or not thing.endswith("docker system dial-stdio")]


def suffer(bench: Bench, course: Course, mark: str) -> str:
    """Run the course's task with its faults, heal them, and give what the task said."""
    env = operator({"ENVIRONMENT": bench.env.stem, **NO_ENGINE, MARK: mark, "TMPDIR": str(bench.scratch)})
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, ExitStack() as healing:
        task = subprocess.Popen(
            [INVOKE, course.task, "--json"], cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        moments = [(after, fault, bench.hosts[host]) for after, fault, host in course.faults]
        if course.signal:
            moments.append((course.signal_after, "", bench.head))
        for after, fault, host in sorted(moments, key=lambda moment: moment[0]):
            with suppress(subprocess.TimeoutExpired):
                task.wait(max(0.0, begun + after - time.monotonic()))
            if fault:
                healing.enter_context(FAULTS[fault](bench, host))
            elif course.signal:
                task.send_signal(course.signal)
        try:
            task.wait(LONGEST)
        except subprocess.TimeoutExpired:
            task.kill()
            said.write(f"\nTraceback: none, but it hung for {LONGEST} s\n")
        said.seek(0)
        return said.read()


def foreign(sight: Sight) -> object:
    """Give what must be as it was, but for since when a container runs: an engine that is killed ends them all."""
    return (sorted(sight.foreign), sight.foreign_images, sight.files)


def main() -> int:
    """Play as many courses as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.nemesis", description=__doc__)
    parser.add_argument("--bench", choices=sorted(BENCHES), default="B", help="A: Ray itself; B: a stub of it")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones count on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no run begins after so many")
    with_part(parser)
    with_record(parser)
    asked = parser.parse_args()
    span = 25.0 if asked.bench == "A" else 6.0
    ends, score = (
        time.monotonic() + asked.seconds,
        Score("nemesis", asked.bench, asked.part, asked.record, asked.mended),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        BENCHES[asked.bench](sandbox(asked.part), Path(folder)) as bench,
    ):
        for seed in range(asked.seed, asked.seed + asked.runs):
            if time.monotonic() > ends:
                break
            course, begun = Course.of(seed, hosts=len(bench.hosts), span=span), time.monotonic()
            wrong = play(bench, course)
            seconds = round(time.monotonic() - begun, 1)
            score.add("one to four faults", seed, wrong, course=str(course), seconds=seconds)
    return score.code()


if __name__ == "__main__":
    sys.exit(main())
