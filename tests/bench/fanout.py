"""Fan-out: three steps on many SSH hosts, beside asyncssh, and beside parallel-ssh called three times.

The hosts are addresses of this machine's loopback, with real sshd.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Bound, Command, Figure, Series, Used, in_turn
from tests.faults.bench_c import Endpoints, lacking, living
from tests.hosts.observer import NO_ENGINE, TOP

WINDOW = 32  # CONCURRENCY's default, parallel-ssh's too
PEER = TOP / "tests/bench/peers/three_steps.py"
PSSH = "parallel-ssh"
FEW, MANY = 100, 1000
FEWER_RUNS = 3  # of those that take a minute and more


@dataclass
class Fleet:
    """Endpoints, and what types at them."""

    endpoints: Endpoints
    python: Path
    settings: Path

    @property
    def listed(self) -> Path:
        """The list of hosts, as peers read it."""
        return self.endpoints.folder / "hosts.txt"

    def populate(self, count: int) -> None:
        """Have so many hosts."""
        hosts = living(count)
        self.endpoints.inventory(hosts)
        self.listed.write_text("".join(f"{host}\n" for host in hosts))
        values = {**self.endpoints.values, "CONCURRENCY": str(WINDOW)}
        self.settings.touch(0o600)
        self.settings.write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def ours(self) -> Command:
        """Raydock: one connection for each, the steps of a chain on it."""
        env = {"ENVIRONMENT": self.settings.stem, **{key: value or "" for key, value in NO_ENGINE.items()}}
        return Command([sys.executable, "-m", "tests.bench.three_steps"], TOP, env)

    def asyncssh(self) -> Command:
        """Asyncssh: the same."""
        made, user = self.endpoints, getpass.getuser()
        words = [self.listed, made.port, user, made.folder / "user", made.folder / "known_hosts", WINDOW]
        return Command([str(self.python), str(PEER), *map(str, words)], made.folder)

    def pssh(self) -> Command:
        """parallel-ssh: called for each step, as the document has it."""
        made = self.endpoints
        options = [f"UserKnownHostsFile={made.folder / 'known_hosts'}", "IdentitiesOnly=yes"]
        words = [word for option in options for word in ("-O", option)]
        line = [
            *(PSSH, "-h", str(self.listed), "-l", getpass.getuser(), "-p", str(WINDOW), "-i", *words),
            *("-O", f"Port={made.port}", "-x", f"-i {made.folder / 'user'}", "true"),
        ]
        return Command(["bash", "-c", 'for _ in 1 2 3; do "$@" || exit; done', "bash", *line], made.folder)


@contextlib.contextmanager
def fleet(python: Path) -> Iterator[Fleet]:
    """Have the endpoints; `python` is one that has the peers."""
    if lacks := lacking():
        raise RuntimeError(f"this machine lacks what loopback hosts need: {lacks}")
    with tempfile.TemporaryDirectory() as place:
        endpoints = Endpoints(Path(place))
        settings = TOP / "conf" / f"raydock-bench-{os.getpid()}.env"
        endpoints.serve()
        try:
            yield Fleet(endpoints, python, settings)
        finally:
            endpoints.close()
            settings.unlink(missing_ok=True)


def figures(python: Path, *, quick: bool) -> Iterator[Figure | Bound]:
    """Measure them; `quick` leaves out the thousand."""
    asyncssh = f"asyncssh {version_of(python, 'asyncssh')}"
    with fleet(python) as made:
        made.populate(FEW)
        things = {"ours": made.ours().seconds, "asyncssh": made.asyncssh().seconds}
        if shutil.which(PSSH):
            things["pssh"] = made.pssh().seconds
        taken = in_turn(FEWER_RUNS if quick else 5, **things)
        what = f"three steps on {FEW} hosts"
        yield Figure(what, 1.3, taken["ours"], taken["asyncssh"], asyncssh)
        if "pssh" in taken:
            yield Figure(what, 1 / 6, taken["ours"], taken["pssh"], f"{pssh_version()}, three times")
        if not quick:
            made.populate(MANY)
            yield from thousand(made, asyncssh)


def thousand(made: Fleet, asyncssh: str) -> Iterator[Figure | Bound]:
    """Measure what a thousand hosts take, and what of this machine."""
    seen: list[Used] = []

    def ours() -> float:
        seen.append(made.ours().run())
        return seen[-1].seconds

    taken = in_turn(5, ours=ours, asyncssh=made.asyncssh().seconds)
    what = f"three steps on {MANY} hosts"
    yield Figure(what, 1.25, taken["ours"], taken["asyncssh"], asyncssh)
    yield Bound(f"{what}: memory", 150, "MB", Series(tuple(one.megabytes for one in seen)))
    yield Bound(f"{what}: open files", 256, "files", Series(tuple(float(one.files) for one in seen)))


def version_of(python: Path, package: str) -> str:
    """Give the version of a package of another Python."""
    line = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", line], capture_output=True, text=True, check=True).stdout.strip()


def pssh_version() -> str:
    """Name parallel-ssh with its version."""
    said = subprocess.run([PSSH, "--version"], capture_output=True, text=True, check=True).stdout
    return f"parallel-ssh {said.strip()}"
