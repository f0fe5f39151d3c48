"""Figures: what Raydock takes beside a peer, both measured in turn in one run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNS = 5
PACE = 0.02  # seconds between two looks at a process


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
    """What Raydock took, beside a peer; met where it is at most `target` times as much."""

    name: str
    target: float
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
            "target": round(self.target, 3),
            "ratio": round(self.ratio, 3),
            "met": self.ratio <= self.target,
            "ours": self.ours.json(),
            "peer": {"name": self.peer_name, **self.peer.json()},
        }


@dataclass(frozen=True)
class Bound:
    """What Raydock took of something, within a bound of its own."""

    name: str
    target: float
    unit: str
    ours: Series

    def json(self) -> dict[str, Any]:
        """Give what the page shows."""
        return {
            "name": self.name,
            "target": self.target,
            "unit": self.unit,
            "met": max(self.ours.values) <= self.target,
            "ours": self.ours.json(),
        }


@dataclass
class Used:
    """What a command took: seconds, and the most memory, open files and threads that it was seen with."""

    seconds: float = 0.0
    megabytes: float = 0.0
    files: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Command:
    """A command line, where and with which environment it is typed."""

    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> Used:
        """Run it to its end; what it wrote is shown where it fails."""
        used = Used()
        begun = time.monotonic()
        with subprocess.Popen(
            self.argv,
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            watcher = threading.Thread(target=watch, args=(process, used), daemon=True)
            watcher.start()
            said, _ = process.communicate()
        used.seconds = time.monotonic() - begun
        watcher.join()
        if process.returncode:
            raise RuntimeError(f"{' '.join(self.argv)} ended with {process.returncode}:\n{said.decode()[-3000:]}")
        return used

    def seconds(self) -> float:
        """Run it, and give how long it took."""
        return self.run().seconds


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


def in_turn(runs: int = RUNS, **things: Callable[[], float]) -> dict[str, Series]:
    """Measure things in turn, so often each, after once that does not count."""
    for measure in things.values():
        measure()
    rounds = [{name: measure() for name, measure in things.items()} for _ in range(runs)]
    return {name: Series(tuple(one[name] for one in rounds)) for name in things}


def machine() -> str:
    """Name this machine by what matters."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {gigabytes:.0f} GB, Linux {platform.release()}"
