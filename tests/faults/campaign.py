"""Reads generated lists of workers and files of settings, by seed: `python -m tests.faults.campaign --help`.

Each file is read as a task reads it. It is taken, or refused with messages that name it, in one printable line each;
within a second, without a traceback, and with nothing contacted or started. Of what is taken the scripts are printed:
bash must read them, and a part of them is run where every program is a recorder. A value that got out of its quotes
would run `pwned` there, add an option to ssh, or leave a file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import Mistake
from deploy.inputs import read_inputs
from deploy.plans import Planner, Scope
from deploy.plans import cluster as cluster_plans
from deploy.plans import image as image_plans
from deploy.plans import nodes as node_plans
from deploy.script import script
from tests.faults import drafts
from tests.faults.judge import commit

TOP = Path(__file__).resolve().parents[2]
SLOW = 1.0  # seconds
RECORDS = TOP / "docs" / "faults" / "games"
# What is wrong with a file, in the words of the record.
TRACEBACK, TOO_SLOW, SHELL, OTHERWISE = "tracebacks", "over 1 s", "reached a shell", "else wrong"
GOOD = {
    ".env": b"HEAD=ubuntu@10.9.0.1\nMY_PROJECT_URL=https://git.example.com/a.git\n",
    "workers.txt": b"ubuntu@10.9.0.2\n",
}
KINDS = {"workers.txt": drafts.workers, ".env": drafts.settings}
PRINTED: dict[str, Planner] = {
    "build.image": image_plans.build_image,
    "publish.image": image_plans.publish_image,
    "cluster.install": node_plans.install,
    "cluster.start": cluster_plans.start,
    "cluster.stop": cluster_plans.stop,
}
RUN = ("build.image", "publish.image", "cluster.start")
# What reading must not come to: a name to look up, a connection, a program.
OUTWARD = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
# The coreutils that scripts need in order to get on; everything else is recorded and does nothing.
REAL = ("bash", "cat", "mktemp", "mkdir", "rm", "sha256sum", "cut")
RECORDER = r"""
# Each process has a file: a long line is written in pieces, and others would come between.
record() { printf '%s\0' "$#" "$@" >>"$RECORD/$BASHPID"; }
told() {
  case "$*" in
    'docker ps'* | 'ss '*) ;;
    'grep '*) echo 2.60.0 ;;  # the end of every question for a version
    'docker inspect -f '* | 'docker image inspect -f '*) echo 1 ;;
    'docker inspect '* | 'docker image inspect '*) return 1 ;;
    *) echo 1 ;;
  esac
}
there() {  # as ssh does: the words of the command, joined by blanks, for the shell over there
  while [ $# -gt 0 ]; do
    case $1 in
      -o | -i | -p) shift 2 ;;
      -t) shift ;;
      -*) record pwned "$1"; return 1 ;;
      *) shift; break ;;
    esac
  done
  bash -c "$*"
}
command_not_found_handle() {
  record "$@"
  case $1 in
    ssh) shift; there "$@"; return ;;
    docker | grep | head | tail | tar | tr) cat >/dev/null ;;  # or who writes to it fails, now and then
  esac
  told "$@"
}
"""
STUB = '#!/usr/bin/env bash\ncommand_not_found_handle "${0##*/}" "$@"\n'
STUBS = ("ssh", "docker", "aws", "git", "tar", "ssh-keyscan", drafts.PAYLOAD)


@dataclass
class Found:
    """What came of a campaign."""

    files: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    printed: int = 0
    run: int = 0
    slowest: float = 0.0
    violations: list[str] = field(default_factory=list)
    # How many of them are of which kind.
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        """Add what came of another part."""
        for mine, theirs in ((self.files, other.files), (self.taken, other.taken), (self.kinds, other.kinds)):
            mine.update(theirs)
        self.printed += other.printed
        self.run += other.run
        self.slowest = max(self.slowest, other.slowest)
        self.violations += other.violations


@dataclass
class Outward:
    """What was tried outward while it was watched; the hook of Python's own cannot be taken away again."""

    watched: bool = False
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to listen."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: object) -> None:
        if self.watched and event in OUTWARD:
            self.seen.append(event)

    @contextmanager
    def none(self) -> Iterator[None]:
        """Watch for the block."""
        self.seen.clear()
        self.watched = True
        try:
            yield
        finally:
            self.watched = False


@dataclass
class Campaign:
    """A campaign in a folder of its own; every file is named by its kind, the seed and its number."""

    folder: Path
    seed: int
    printed: int = 1  # of one in so many that are taken the scripts are printed
    run: int = 1  # of one in so many they are run
    found: Found = field(default_factory=Found)
    outward: Outward = field(default_factory=Outward)
    # What each file has in it now.
    laid: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the recorder, and the inputs to which each file is the other one."""
        self.root, self.bin = self.folder / "root", self.folder / "bin"
        for made in (self.root, self.bin, self.folder / "cwd"):
            made.mkdir()
        (self.root / "key").touch(0o600)
        shutil.copy(TOP / "Dockerfile.template", self.root)
        (self.folder / "recorder").write_text(RECORDER, encoding="utf-8")
        for name in REAL:
            (self.bin / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
        for name in STUBS:
            (self.bin / name).write_text(STUB, encoding="utf-8")
            (self.bin / name).chmod(0o755)

    def attempt(self, kind: str, number: int) -> None:
        """Draft one file, and try it."""
        content = KINDS[kind](random.Random(f"{kind}-{self.seed}-{number}"))  # noqa: S311 - no secret
        self.try_file(kind, f"{kind} {self.seed}/{number}", content)

    def try_file(self, kind: str, name: str, content: bytes) -> None:
        """Read one file, and print and run what it makes of scripts."""
        self.lay_out(kind, content)
        self.found.files[kind] += 1
        try:
            scope = self.read(name)
            if scope is None:
                return
            number = self.found.taken[kind]
            self.found.taken[kind] += 1
            if number % self.printed == 0 or number % self.run == 0:
                self.judge_scripts(scope, name, run=number % self.run == 0)
        except Exception:  # noqa: BLE001 - a traceback is what is looked for
            self.object(name, "".join(traceback.format_exc().splitlines(keepends=True)[-5:]), TRACEBACK)

    def lay_out(self, kind: str, content: bytes) -> None:
        """Write the file, beside another that is good."""
        for name, text in {**GOOD, kind: content}.items():
            if self.laid.get(name) != text:
                (self.root / name).write_bytes(text)
                self.laid[name] = text

    def object(self, name: str, why: str, kind: str = OTHERWISE) -> None:
        """Record a violation."""
        self.found.violations.append(f"{name}: {why}")
        self.found.kinds[kind] += 1

    def read(self, name: str) -> Scope | None:
        """Read the inputs as a task does; None where they are refused."""
        begun = time.process_time()
        try:
            with self.outward.none():
                settings, inventory = read_inputs(self.root, {})
        except Mistake as mistake:
            self.judge_messages(name, mistake)
            if any(not problem.place for problem in mistake.problems):
                self.object(name, f"a message does not say where: {str(mistake)!a}")
            return None
        finally:
            took = time.process_time() - begun
            self.found.slowest = max(self.found.slowest, took)
            if took > SLOW:
                self.object(name, f"took {took:.2f} s", TOO_SLOW)
            if self.outward.seen:
                self.object(name, f"came to {self.outward.seen}")
        return Scope(settings, inventory, inventory.select(None))

    def judge_messages(self, name: str, mistake: Mistake) -> None:
        """Object to messages that are not one printable line."""
        for problem in mistake.problems:
            if not str(problem).isprintable():
                self.object(name, f"a message is not printable: {str(problem)!a}")

    def judge_scripts(self, scope: Scope, name: str, *, run: bool) -> None:
        """Print the scripts, have bash read them, and run some of them where all programs are recorders."""
        with self.outward.none():
            texts = self.scripts(scope)
        if self.outward.seen:
            self.object(name, f"printing came to {self.outward.seen}")
        self.found.printed += 1
        whole = "\n".join(texts.values())
        done = subprocess.run(["bash", "-n"], input=whole.encode("utf-8", "surrogateescape"), capture_output=True)
        if done.returncode:
            self.object(name, f"bash does not read the script: {done.stderr!r}")
        if run:
            self.found.run += 1
            for task in RUN:
                if task in texts:
                    self.judge_run(scope, f"{name} {task}", texts[task], task)

    def scripts(self, scope: Scope) -> dict[str, str]:
        """Print each task's script; a plan may yet refuse, as `build` does without a project."""
        texts = {}
        for task, planner in PRINTED.items():
            try:
                texts[task] = script(task, scope, planner(scope))
            except Mistake as mistake:
                self.judge_messages(task, mistake)
        return texts

    def judge_run(self, scope: Scope, name: str, text: str, task: str) -> None:
        """Run a script among recorders, and look at what was called."""
        record, cwd = self.folder / "record", self.folder / "cwd"
        shutil.rmtree(record, ignore_errors=True)
        record.mkdir()
        env = {"PATH": str(self.bin), "BASH_ENV": str(self.folder / "recorder"), "RECORD": str(record), "HOME": "/"}
        file = self.folder / "script"
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        subprocess.run(
            [self.bin / "bash", file], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        calls = [call for file in record.iterdir() for call in recorded(file.read_bytes())]
        for call in calls:
            if drafts.PAYLOAD in call[0] or call[1:2] == [drafts.PAYLOAD]:
                self.object(name, f"ran {call}", SHELL)
            if call[0] == "ssh" and not destinations(scope) & set(call):
                self.object(name, f"reached another host: {call}")
        created = sum(call[:2] == ["docker", "create"] for call in calls)
        if task == "cluster.start" and created != len(scope.inventory.nodes):
            self.object(name, f"created {created} containers on {len(scope.inventory.nodes)} nodes")
        for left in cwd.iterdir():
            self.object(name, f"left {left.name!a}", SHELL)
            left.unlink()


def recorded(content: bytes) -> Iterator[list[str]]:
    """Give each call of a program, as words."""
    words = iter(content.decode("utf-8", "replace").split("\0")[:-1])
    for count in words:
        yield [next(words) for _ in range(int(count))]


def destinations(scope: Scope) -> set[str]:
    """Give how ssh may name the nodes."""
    return {f"{node.user}@{node.address}" if node.user else node.address for node in scope.inventory.nodes}


def campaign(files: int | range, seed: int, *, printed: int, run: int) -> Found:
    """Read so many files of each kind; of one in `printed` that are taken print the scripts, in `run` run them."""
    with tempfile.TemporaryDirectory() as folder:
        made = Campaign(Path(folder), seed, printed, run)
        for kind in KINDS:
            for number in range(files) if isinstance(files, int) else files:
                made.attempt(kind, number)
        return made.found


def in_parts(files: int, seed: int, processes: int, *, printed: int, run: int) -> Found:
    """Have several processes read them, each every so-manieth."""
    found = Found()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        parts = [range(first, files, processes) for first in range(processes)]
        asked = [pool.submit(campaign, part, seed, printed=printed, run=run) for part in parts]
        for part in asked:
            found.add(part.result())
    return found


def keep(found: Found, seed: int, seconds: float, folder: Path = RECORDS) -> None:
    """Write the record."""
    record = {
        "game": "campaign",
        "commit": commit(),
        "seed": seed,
        "seconds": round(seconds),
        "files": dict(found.files),
        "taken": dict(found.taken),
        "scripts": {"printed": found.printed, "run": found.run},
        "slowest": round(found.slowest, 3),
        "wrong": {kind: found.kinds[kind] for kind in (TRACEBACK, TOO_SLOW, SHELL, OTHERWISE)},
        "violations": found.violations,
    }
    (folder / f"campaign-{seed}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run a campaign, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="how many of each kind")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--printed", type=int, default=1, help="print the scripts of one in so many that are taken")
    parser.add_argument("--run", type=int, default=50, help="run the scripts of one in so many that are taken")
    parser.add_argument("--processes", type=int, default=1, help="how many read them")
    parser.add_argument("--record", action="store_true", help="write docs/faults/games/campaign-SEED.json")
    told = parser.parse_args()
    begun = time.monotonic()
    found = in_parts(told.files, told.seed, told.processes, printed=told.printed, run=told.run)
    seconds = time.monotonic() - begun
    for kind, count in found.files.items():
        print(f"{kind}: {count} read, {found.taken[kind]} taken, {count - found.taken[kind]} refused")
    print(f"scripts of {found.printed} printed, of {found.run} run; slowest read {found.slowest:.3f} s of CPU")
    print(f"{len(found.violations)} violations in {seconds:.0f} s", *found.violations[:20], sep="\n")
    if told.record:
        keep(found, told.seed, seconds)
    sys.exit(bool(found.violations))


if __name__ == "__main__":
    main()
