"""Has many operators type at once, and looks whether two ever acted together: `python -m tests.faults.crowd --help`.

Each has settings of its own, by which what it creates is known, and logs in as one of two users. What the engines tell
of all that was created, started, stopped and removed says who acted when: between the first and the last thing that one
operator did nobody else did anything. The seed says who types what, and replays.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.bench import Bench, FaultyHost, stub_bench
from tests.faults.score import Score, sandbox, with_part
from tests.hosts.observer import EVENT_SLACK, INVOKE, NO_ENGINE, TOP, operator

USERS = ("ubuntu", "other")
LONGEST = 600  # seconds for one who waits for all others
# What an engine tells that somebody did; `die` is no deed.
DEEDS = frozenset({"create", "start", "kill", "stop", "destroy"})
# Done, another's container runs, locked.
CODES = frozenset({0, 1, 5})


@dataclass(frozen=True)
class Operator:
    """One of the crowd, and what it types."""

    number: int
    user: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Deed:
    """Something that was done to a container of the cluster: when, and whose settings the container has."""

    nanoseconds: int
    action: str
    owner: str


def crowd(seed: int, size: int) -> list[Operator]:
    """Draw who types what."""
    draw = random.Random(seed)  # noqa: S311 - a game, and one that can be played again

    def one(number: int) -> Operator:
        task = draw.choice(("cluster.start", "cluster.start", "cluster.start", "cluster.stop"))
        wait = ("--wait", "5m") if draw.random() < 0.2 else ()
        return Operator(number, USERS[number % len(USERS)], (task, *wait))

    return [one(number) for number in range(size)]


def has_other_user(host: FaultyHost) -> None:
    """Have a second user on a host who may what the first one may."""
    host.shell(
        f"id {USERS[1]} 2>/dev/null || {{ useradd -m -s /bin/bash -G docker {USERS[1]}"
        f" && cp -a /home/ubuntu/.ssh /home/{USERS[1]}/ && chown -R {USERS[1]}: /home/{USERS[1]}/.ssh; }}"
    )


@contextmanager
def settings_of(bench: Bench, one: Operator) -> Iterator[str]:
    """Have an operator's settings, and give the name of its environment."""
    listed = bench.folder / f"workers-{one.number}.txt"
    listed.write_text("".join(f"{one.user}@{host.address}\n" for host in bench.workers))
    own = {"HEAD": f"{one.user}@{bench.head.address}", "WORKERS_FILE": str(listed), "CONTAINER_ENV": f"BY={one.number}"}
    file = TOP / "conf" / f"raydock-crowd-{os.getpid()}-{one.number}.env"
    file.write_text("".join(f"{key}={value}\n" for key, value in {**bench.values, **own}.items()))
    try:
        yield file.stem
    finally:
        file.unlink()


def typed_at_once(bench: Bench, operators: Sequence[Operator]) -> list[tuple[int, str]]:
    """Have all of them type, and give each one's exit code and what it was told."""
    with ExitStack() as stack:
        tasks = []
        for one in operators:
            env = operator({"ENVIRONMENT": stack.enter_context(settings_of(bench, one)), **NO_ENGINE})
            said = stack.enter_context(tempfile.TemporaryFile("w+"))
            tasks.append((subprocess.Popen(
                [INVOKE, *one.words], cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            ), said))  # fmt: skip
        ended = []
        for task, said in tasks:
            task.wait(LONGEST)
            said.seek(0)
            ended.append((task.returncode, said.read()))
        return ended


def deeds(bench: Bench, since: int) -> list[Deed]:
    """Give all that was done to the cluster's containers since a time, on all hosts."""

    def on(host: FaultyHost) -> list[Deed]:
        told = [event for event in host.events(since) if event["Type"] == "container" and event["Action"] in DEEDS]
        ours = (event for event in told if event["Actor"]["Attributes"].get("raydock.cluster") == bench.cluster)
        return [deed_of(event) for event in ours]

    return sorted((deed for found in bench.at_once(on) for deed in found), key=lambda deed: deed.nanoseconds)


def deed_of(event: dict[str, object]) -> Deed:
    """Read one of the engine's events."""
    actor: dict[str, dict[str, str]] = event["Actor"]  # type: ignore[assignment]
    owner = re.search(r"BY=(\d+)", actor["Attributes"].get("raydock.asked", ""))
    return Deed(int(str(event["timeNano"])), str(event["Action"]), owner[1] if owner else "?")


def together(done: Sequence[Deed]) -> list[str]:
    """Give what was done by somebody else while one operator created and started its containers."""
    wrong = []
    for owner in sorted({deed.owner for deed in done}):
        made = [deed.nanoseconds for deed in done if deed.owner == owner and deed.action in ("create", "start")]
        # One operator may have its turn twice: each time begins with a creation after a removal of its own.
        for first, last in turns([deed for deed in done if deed.owner == owner]):
            others = [deed for deed in done if deed.owner != owner and first < deed.nanoseconds < last]
            wrong += [f"{owner} started its containers, and meanwhile there was {deed}" for deed in others]
        assert made or owner == "?", "what was never made cannot have been stopped"
    return wrong


def turns(own: Sequence[Deed]) -> Iterator[tuple[int, int]]:
    """Give from when to when an operator's containers were made, each time."""
    first = last = 0
    for deed in own:
        if deed.action in ("create", "start"):
            first, last = first or deed.nanoseconds, deed.nanoseconds
        elif first:
            yield first, last
            first = 0
    if first:
        yield first, last


def play(bench: Bench, seed: int, size: int) -> tuple[list[str], Counter[int]]:
    """Have one crowd type, and give what is wrong, and how often which exit code came."""
    bench.invoke("cluster.stop", exit=0)
    since = time.time_ns()
    operators = crowd(seed, size)
    ended = typed_at_once(bench, operators)
    time.sleep(EVENT_SLACK)
    wrong = together(deeds(bench, since))
    for one, (code, said) in zip(operators, ended, strict=True):
        if "Traceback" in said or code not in CODES:
            wrong.append(f"{one}: exit code {code}: {said[-1500:]}")
        elif code == 1 and "SPEC_CHANGED" not in said:
            wrong.append(f"{one}: neither locked nor another's: {said[-1500:]}")
        elif code == 5 and not re.search(r"LOCKED.*@.* since ", said):
            wrong.append(f"{one}: it is not told who has the lock, for what and since when: {said[-1500:]}")
    if not any(code == 0 for code, _ in ended):
        wrong.append("nobody came through")
    if bench.lock_is_held():
        wrong.append("the lock is held by nobody")
    return wrong, Counter(code for code, _ in ended)


def main() -> int:
    """Play as many rounds as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crowd", description=__doc__)
    parser.add_argument("--operators", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no round begins after so many")
    with_part(parser)
    parser.add_argument("--record", action="store_true", help="write docs/faults/games/crowd-B.json")
    asked = parser.parse_args()
    ends, score = time.monotonic() + asked.seconds, Score("crowd", "B", asked.part, asked.record)
    with (
        tempfile.TemporaryDirectory() as folder,
        stub_bench(sandbox(asked.part), Path(folder)) as bench,
    ):
        bench.at_once(has_other_user)
        for seed in range(asked.seed, asked.seed + asked.rounds):
            if time.monotonic() > ends:
                break
            begun = time.monotonic()
            wrong, codes = play(bench, seed, asked.operators)
            seconds = round(time.monotonic() - begun, 1)
            score.add(f"{asked.operators} operators at once", seed, wrong, seconds=seconds, codes=codes)
    return score.code()


if __name__ == "__main__":
    sys.exit(main())
