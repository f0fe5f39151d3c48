"""Figures: what Raydock takes beside a peer, both measured in turn in one run."""

from __future__ import annotations

import math
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.hosts.observer import operator

RUNS = 5
PACE = 0.02  # seconds between two looks at a process
OURS = ("invoke", "fabric", "paramiko", "docker")  # packages that every figure of ours goes through
# When who measures shall have done, as `time.monotonic` has it.
_over: ContextVar[float] = ContextVar("over", default=math.inf)


@dataclass(frozen=True)
class Series:
    """The same, measured several times: seconds, unless it is said otherwise."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    def json(self) -> dict[str, Any]:
        """Give what the page shows."""
        return {
            "median": round(self.median, 3),
            "min": round(min(self.values), 3),
            "max": round(max(self.values), 3),
            "runs": len(self.values),
        }


@dataclass(frozen=True)
class Figure:
    """What Raydock took, beside a peer; met where it is at most `target` times as much, if that is asked of it."""

    name: str
    target: float | None
    ours: Series
    peer: Series
    peer_name: str

    @property
    def ratio(self) -> float:
        """How many times as much as the peer."""
        return self.ours.median / self.peer.median

    def json(self) -> dict[str, Any]:
        """Give what the page shows."""
        return {
            "name": self.name,
            "target": None if self.target is None else round(self.target, 3),
            "ratio": round(self.ratio, 3),
            "met": self.target is None or self.ratio <= self.target,
            "ours": self.ours.json(),
            "peer": {"name": self.peer_name, **self.peer.json()},
        }


@dataclass(frozen=True)
class Bound:
    """What Raydock took of something, within a bound of its own where there is one."""

    name: str
    target: float | None
    unit: str
    ours: Series

    def json(self) -> dict[str, Any]:
        """Give what the page shows."""
        return {
            "name": self.name,
            "target": self.target,
            "unit": self.unit,
            "met": self.target is None or max(self.ours.values) <= self.target,
            "ours": self.ours.json(),
        }


@dataclass(frozen=True)
class Curve:
    """How something grows, for a plot: a series for each number at the foot, of each who was measured.

    `ours` names those of them that are Raydock's.
    """

    name: str
    title: str
    foot: str
    unit: str
    lines: Mapping[str, Mapping[int, Series]]
    ours: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Give what the plot is made of."""
        lines = {
            who: [{"at": at, **series.json()} for at, series in sorted(points.items())]
            for who, points in self.lines.items()
        }
        return {
            "name": self.name, "title": self.title, "foot": self.foot, "unit": self.unit,
            "ours": list(self.ours), "lines": lines,
        }  # fmt: skip


@dataclass
class Used:
    """What a command took: seconds, those of them that a core was busy with it, and the most that it was seen with."""

    seconds: float = 0.0
    busy: float = 0.0
    megabytes: float = 0.0
    files: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Command:
    """A command line, where and with which environment it is typed."""

    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str | None] = field(default_factory=dict)

    def run(self) -> Used:
        """Run it to its end; what it wrote is shown where it fails."""
        used = Used()
        begun, busy = time.monotonic(), busy_so_far()
        with subprocess.Popen(
            self.argv,
            cwd=self.folder,
            env=operator(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            watcher = threading.Thread(target=watch, args=(process, used), daemon=True)
            watcher.start()
            said, _ = process.communicate()
        used.seconds, used.busy = time.monotonic() - begun, busy_so_far() - busy
        watcher.join()
        if process.returncode:
            raise RuntimeError(f"{' '.join(self.argv)} ended with {process.returncode}:\n{said.decode()[-3000:]}")
        return used

    def seconds(self) -> float:
        """Run it, and give how long it took."""
        return self.run().seconds


def busy_so_far() -> float:
    """Give for how long cores were busy with all commands of ours that have ended, in seconds."""
    took = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took.ru_utime + took.ru_stime


def watch(process: subprocess.Popen[bytes], used: Used) -> None:
    """Note the most that a process is seen with, until it ends."""
    place = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            used.files = max(used.files, len(os.listdir(place / "fd")))  # noqa: PTH208 - fifty times a second
        except (OSError, ValueError):
            return
        used.megabytes = max(used.megabytes, int(status.get("VmHWM", "0 kB").split()[0]) / 1024)
        used.threads = max(used.threads, int(status.get("Threads", "0")))
        time.sleep(PACE)


def in_turn(things: Mapping[str, Callable[[], float]], runs: int = RUNS, *, first: bool = True) -> dict[str, Series]:
    """Measure things in turn, so often each; where time is short, fewer times.

    Args:
        things: what is to be measured, by names.
        runs: how often.
        first: whether each is done once before that, which does not count; never where time is short.
    """
    for measure in things.values() if first and _over.get() == math.inf else ():
        measure()
    rounds = [{name: measure() for name, measure in things.items()} for _ in counted(runs)]
    return {name: Series(tuple(one[name] for one in rounds)) for name in things}


def counted(runs: int) -> Iterator[int]:
    """Count so many runs; only the first where time is over after it."""
    for number in range(runs):
        if number and time_is_over():
            return
        yield number


def time_is_over() -> bool:
    """Tell whether who measures shall have done."""
    return time.monotonic() > _over.get()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Have what is measured in the block done in about so many seconds."""
    before = _over.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _over.reset(before)


def machine() -> str:
    """Name this machine by what matters."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {gigabytes:.0f} GB, Linux {platform.release()}"


def versions() -> dict[str, str]:
    """Name what Raydock itself ran with."""
    return {"Python": platform.python_version(), **{package: version(package) for package in OURS}, **programs()}


def programs() -> dict[str, str]:
    """Name the programs of this machine that take part: its sshd is the hosts' as well."""
    found = {}
    for name, line in (("OpenSSH", ["ssh", "-V"]), ("Docker", ["docker", "version", "-f", "{{.Server.Version}}"])):
        try:
            told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        words = (told.stdout.strip() or told.stderr.strip()).partition(",")[0]
        found[name] = words.removeprefix("OpenSSH_")
    return found
