"""Ends a task by a signal at random instants, and has it converge: `python -m tests.faults.instants --help`.

Each round starts the stopped cluster and stops the running one, and ends each at an instant that the seed draws. What
a task that was ended in order then tells must be true, and come within 5 s. Typed once more, the task must reach the
wanted state, and a third time change nothing; nothing foreign may have changed, and nothing of ours be left.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import pytest_configure
from tests.faults.bench import Bench
from tests.faults.judge import MARK, run_again
from tests.faults.nemesis import BENCHES, foreign
from tests.faults.oracles import remains, state_of
from tests.faults.score import Score, sandbox, with_part, with_record
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, operator

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
TASKS = ("cluster.start", "cluster.stop")
OPPOSITE = {"cluster.start": "cluster.stop", "cluster.stop": "cluster.start"}
IN_TIME = 5.0  # seconds from the signal to the end
LONGEST = 240  # seconds for a task that nobody ends


@dataclass(frozen=True)
class Shot:
    """A signal to a task, some seconds after its begin; a second one may follow."""

    task: str
    name: str
    after: float
    again: float | None = None

    def __str__(self) -> str:
        more = f" and {self.again:.2f} s later" if self.again is not None else ""
        return f"{self.name} after {self.after:.2f} s{more}, in {self.task}"


def shot(seed: int, task: str, name: str, span: float) -> Shot:
    """Draw a shot; one of four signals that a task hears comes twice."""
    draw = random.Random(f"{seed} {task} {name}")  # noqa: S311 - a game, and one that can be played again
    after, twice = draw.uniform(0, span), draw.random() < 0.25 and name != "SIGKILL"
    return Shot(task, name, after, draw.uniform(0.05, 2) if twice else None)


@dataclass(frozen=True)
class Ended:
    """How a task ended: its code, what it said, and how long after the signal; None where it was through before."""

    code: int
    out: str
    err: str
    seconds: float | None


def fire(bench: Bench, at: Shot, mark: str) -> Ended:
    """Run the task and end it."""
    env = operator({"ENVIRONMENT": bench.env.stem, **NO_ENGINE, MARK: mark, "TMPDIR": str(bench.scratch)})
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        task = subprocess.Popen(
            [INVOKE, at.task, "--json"], cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        shots = [at.after, *([at.after + at.again] if at.again is not None else [])]
        fired: float | None = None
        for after in shots:
            try:
                task.wait(max(0.0, begun + after - time.monotonic()))
            except subprocess.TimeoutExpired:
                task.send_signal(signal.Signals[at.name])
                fired = fired or time.monotonic()
        try:
            task.wait(LONGEST)
        except subprocess.TimeoutExpired:
            task.kill()
            task.wait()
        seconds = None if fired is None else time.monotonic() - fired
        out.seek(0)
        err.seek(0)
        return Ended(task.returncode, out.read(), err.read(), seconds)


def wrong_of(bench: Bench, at: Shot, ended: Ended) -> list[str]:
    """Give what is wrong with what a task told that was ended in order."""
    # Before Python reads our tasks its own traceback is all that there can be.
    ours = "Traceback" in ended.err and any(f"{TOP}/{place}" in ended.err for place in ("deploy/", "tasks.py"))
    wrong = ["a traceback: " + ended.err[-2000:]] if ours else []
    if at.name == "SIGKILL" or ended.seconds is None:
        return wrong
    if ended.seconds > IN_TIME:
        wrong.append(f"it ended {ended.seconds:.1f} s after the signal")
    # A signal to Python that has not begun to read our tasks ends it as any other process.
    if not ended.out and ended.code in (1, 130, -signal.Signals[at.name]):
        return wrong
    # One that comes when all is told ends Python as any other process.
    if ended.code not in (130, 0, -signal.Signals[at.name]):
        wrong.append(f"exit code {ended.code}: {ended.err[-500:]}")
    try:
        report: dict[str, Any] = json.loads(ended.out)
    except ValueError:
        return [*wrong, f"no document: {ended.out!r} {ended.err[-500:]}"]
    told = {node["node"]: node for node in report["nodes"]}
    for host in bench.hosts:
        node = told.get(host.node)
        seen = state_of(bench.sight(host), node["role"]) if node else ""
        if node and node["container"] not in ("unknown", seen):
            wrong.append(f"{host.name}: told as {node['container']}, and it is {seen}: {node['error']}")
    wanted = "running" if at.task == "cluster.start" else "absent"
    done = all(node["outcome"] == "ok" and node["container"] == wanted for node in report["nodes"])
    if ended.code == 130 and not done and all(node["outcome"] == "ok" for node in report["nodes"]):
        wrong.append(f"every node is told as ok: {report['nodes']}")
    return wrong


def play(bench: Bench, at: Shot, mark: str) -> tuple[list[str], Ended]:
    """End a task, type it twice more, and give what is wrong."""
    before = bench.sights()
    ended = fire(bench, at, mark)
    wrong = wrong_of(bench, at, ended)
    first, second = (run_again(bench, at.task) for _ in range(2))
    after = bench.sights()
    if first["exit"] or not first["reached"]:
        wrong.append(f"typed again: exit {first['exit']}, {first['states']}")
    if second["exit"] or second["changed"] or second["acted"]:
        wrong.append(f"a third time: exit {second['exit']}, changed {second['changed']}, {second['acted']}")
    wrong += [f"{name}: foreign things changed" for name in after if foreign(after[name]) != foreign(before[name])]
    wrong += [f"{place}: {things}" for place, things in remains(bench, before, mark).items() if things]
    return wrong, ended


def span_of(bench: Bench, task: str) -> float:
    """Give how long a task takes that nobody ends."""
    begun = time.monotonic()
    bench.invoke(task, exit=0)
    return time.monotonic() - begun


def main() -> int:
    """Play as many rounds as are asked for, or as the time allows."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.instants", description=__doc__)
    parser.add_argument("--bench", choices=sorted(BENCHES), default="B", help="A: Ray itself; B: a stub of it")
    parser.add_argument("--rounds", type=int, default=10, help="one of each task")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count on")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["SIGINT", "SIGKILL"], help="taken in turn")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="those that are ended")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no round begins after so many")
    with_part(parser)
    with_record(parser)
    asked = parser.parse_args()
    pytest_configure()  # the tasks hear a terminal's signals also where we run in the background
    ends, score = (
        time.monotonic() + asked.seconds,
        Score("instants", asked.bench, asked.part, asked.record, asked.mended),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        BENCHES[asked.bench](sandbox(asked.part), Path(folder)) as bench,
    ):
        bench.invoke("cluster.stop", exit=0)
        spans = {task: span_of(bench, task) for task in TASKS}
        for seed in range(asked.seed, asked.seed + asked.rounds):
            if time.monotonic() > ends:
                break
            for task in asked.tasks:
                if asked.tasks != list(TASKS):
                    bench.invoke(OPPOSITE[task], exit=0)
                at = shot(seed, task, asked.signals[seed % len(asked.signals)], spans[task])
                wrong, ended = play(bench, at, f"instant-{seed}")
                told = {"shot": str(at), "code": ended.code, "seconds": ended.seconds and round(ended.seconds, 2)}
                score.add(f"{at.name} in `{task}`", seed, wrong, **told)
    return score.code()


if __name__ == "__main__":
    sys.exit(main())
