"""Has many operators type at once, and looks whether two ever acted together: `python -m tests.faults.crowd --help`.

Each has settings of its own and is an SSH user of its own on the hosts, where a relay before `docker system dial-stdio`
writes down which user had the engine create, start, stop or remove something, from when to when. Each types one task:
from the begin of the first such call of one operator to the end of its last nobody else may make any, on any host. The
seed says who types what, and replays.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
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
from tests.faults.score import Score, sandbox, with_part, with_record
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, operator

RELAY = Path(__file__).resolve().parent / "relay.py"
PLACE, LOG = "/usr/local/lib/raydock-relay.py", "/srv/deeds"
# Before the engine's own in every PATH.
WRAPPER = f"""#!/bin/sh
[ "$*" = "system dial-stdio" ] && exec python3 {PLACE} {LOG}
exec /usr/bin/docker "$@"
"""
LONGEST = 600  # seconds for one who waits for all others
# Done, another's container runs, locked.
CODES = frozenset({0, 1, 5})


@dataclass(frozen=True)
class Operator:
    """One of the crowd, and what it types."""

    number: int
    words: tuple[str, ...]

    @property
    def user(self) -> str:
        """As whom it logs in."""
        return f"op{self.number}"


@dataclass(frozen=True)
class Deed:
    """A call by which somebody had an engine change something: who, what, and from when to when, in nanoseconds."""

    user: str
    begin: int
    end: int
    what: str


def crowd(seed: int, size: int) -> list[Operator]:
    """Draw who types what."""
    draw = random.Random(seed)  # noqa: S311 - a game, and one that can be played again

    def one(number: int) -> Operator:
        task = draw.choice(("cluster.start", "cluster.start", "cluster.start", "cluster.stop"))
        wait = ("--wait", "5m") if draw.random() < 0.2 else ()
        return Operator(number, (task, *wait))

    return [one(number) for number in range(size)]


@contextmanager
def watched(bench: Bench, users: Sequence[str]) -> Iterator[None]:
    """Have these users on each host, who may what the first one may, and the relay between them and the engine."""
    add = "".join(
        f"useradd -m -s /bin/bash -G docker {user} && cp -a /home/ubuntu/.ssh /home/{user}/"
        f" && chown -R {user}: /home/{user}/.ssh\n"
        for user in users
    )
    lay = "".join(
        f"printf %s {shlex.quote(text)} >{path}\n"
        for path, text in ((PLACE, RELAY.read_text()), ("/usr/local/bin/docker", WRAPPER))
    )
    ready = f"chmod 755 /usr/local/bin/docker\ninstall -m 666 /dev/null {LOG}"
    bench.at_once(lambda host: host.shell(f"set -e\n{add}{lay}{ready}"))
    try:
        yield
    finally:
        gone = "".join(f"pkill -KILL -u {user}; userdel -r {user}\n" for user in users)
        bench.at_once(lambda host: host.attempt("bash", "-c", f"rm -f /usr/local/bin/docker {PLACE} {LOG}\n{gone}"))


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


def deeds(bench: Bench) -> list[Deed]:
    """Give what was done on all hosts since the last time, and forget it."""

    def on(host: FaultyHost) -> list[Deed]:
        told = host.shell(f"cat {LOG}; : >{LOG}")
        return [deed_of(line, host.name) for line in told.splitlines()]

    return sorted((deed for found in bench.at_once(on) for deed in found), key=lambda deed: deed.begin)


def deed_of(line: str, host: str) -> Deed:
    """Read a line of the relay's."""
    user, begin, end, call = line.split(" ", 3)
    return Deed(user, int(begin), int(end), f"{call} on {host}")


def together(done: Sequence[Deed]) -> list[str]:
    """Give what was done while another operator was between its first deed and its last."""
    wrong = []
    for user in sorted({deed.user for deed in done}):
        own = [deed for deed in done if deed.user == user]
        first, last = min(deed.begin for deed in own), max(deed.end for deed in own)
        wrong += [
            f"{user} was at work, and meanwhile {deed.user} did {deed.what}"
            for deed in done
            if deed.user != user and deed.begin < last and deed.end > first
        ]
    return wrong


def play(bench: Bench, seed: int, size: int) -> tuple[list[str], Counter[int]]:
    """Have one crowd type, and give what is wrong, and how often which exit code came."""
    bench.invoke("cluster.stop", exit=0)
    deeds(bench)
    operators = crowd(seed, size)
    ended = typed_at_once(bench, operators)
    done = deeds(bench)
    wrong = together(done)
    if not {deed.user for deed in done} <= {one.user for one in operators}:
        wrong.append("somebody acted who is none of the crowd")
    if any(code == 0 for code, _ in ended) and not done:
        wrong.append("somebody came through, and nothing was seen to be done")
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
    with_record(parser)
    asked = parser.parse_args()
    ends, score = time.monotonic() + asked.seconds, Score("crowd", "B", asked.part, asked.record, asked.mended)
    with (
        tempfile.TemporaryDirectory() as folder,
        stub_bench(sandbox(asked.part), Path(folder)) as bench,
        ExitStack() as stack,
    ):
        stack.enter_context(watched(bench, [f"op{number}" for number in range(asked.operators)]))
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
