"""Fan-out: three steps on many SSH hosts, beside asyncssh, and beside parallel-ssh called three times.

The hosts are addresses of this machine's loopback, with real sshd.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.windows import windows
from tests.bench.measure import RUNS, Bound, Command, Figure, Series, Used, in_turn, time_is_over
from tests.faults.bench_c import Endpoints, lacking, living
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP

WINDOW = 32  # CONCURRENCY's default, parallel-ssh's too
PEERS = TOP / "tests/bench/peers"
PSSH = "parallel-ssh"
FEW, MANY = 100, 1000
QUICK_RUNS = 3
# Threads beside those that the window has: the main one, the one that watches over logins, and some that begin or end.
BESIDE = 16


@dataclass
class Fleet:
    """Endpoints, and what types at them."""

    endpoints: Endpoints
    python: Path
    settings: Path
    values: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where peers find what they read."""
        return self.endpoints.folder

    @property
    def listed(self) -> Path:
        """The list of hosts, as peers read it."""
        return self.folder / "hosts.txt"

    def populate(self, count: int) -> None:
        """Have so many hosts."""
        hosts = living(count)
        self.endpoints.inventory(hosts)
        self.listed.write_text("".join(f"{host}\n" for host in hosts))
        values = {**self.endpoints.values, "CONCURRENCY": str(WINDOW), **self.values}
        self.settings.touch(0o600)
        self.settings.write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def command(self, *argv: str) -> Command:
        """Give a line of ours as an operator of these hosts types it."""
        return Command(argv, TOP, {"ENVIRONMENT": self.settings.stem, "SSH_AUTH_SOCK": None, **NO_ENGINE})

    def invoke(self, *words: str) -> Command:
        """Give a task as it is typed."""
        return self.command(str(INVOKE), *words)

    def ours(self) -> Command:
        """Raydock: one connection for each, the steps of a chain on it."""
        return self.command(sys.executable, "-m", "tests.bench.three_steps")

    def peer(self, program: str, *words: str) -> Command:
        """Give a peer's program of ours on asyncssh: it is told of the hosts, and of the window."""
        made = self.endpoints
        told = [self.listed, made.port, getpass.getuser(), self.folder / "user", self.folder / "known_hosts", WINDOW]
        return Command([str(self.python), str(PEERS / program), *map(str, told), *words], self.folder)

    def pssh(self) -> Command:
        """parallel-ssh: called for each step, as the document has it."""
        options = [f"UserKnownHostsFile={self.folder / 'known_hosts'}", "IdentitiesOnly=yes"]
        words = [word for option in options for word in ("-O", option)]
        line = [
            *(PSSH, "-h", str(self.listed), "-l", getpass.getuser(), "-p", str(WINDOW), "-i", *words),
            *("-O", f"Port={self.endpoints.port}", "-x", f"-i {self.folder / 'user'}", "true"),
        ]
        return Command(["bash", "-c", 'for _ in 1 2 3; do "$@" || exit; done', "bash", *line], self.folder)

    def ansible(self) -> Command:
        """Ansible: a play of three tasks, as lean as it has them. What it leaves open ends soon after."""
        made = self.endpoints
        known = f"-o UserKnownHostsFile={self.folder / 'known_hosts'} -o IdentitiesOnly=yes"
        variables = {
            "ansible_port": made.port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.folder / "user"),
            "ansible_ssh_common_args": known,
        }
        line = [
            *(str(self.python.with_name("ansible-playbook")), "-i", str(self.listed), "-f", str(WINDOW)),
            *("-e", json.dumps(variables), str(PEERS / "three_steps.yml")),
        ]
        # Sockets of a folder of its own: else it would find open what the run before has left.
        fresh = 'ANSIBLE_SSH_CONTROL_PATH_DIR=$(mktemp -d -p "$PWD") exec "$@"'
        env = {
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=15s",
            "LC_ALL": "C.UTF-8",
        }
        return Command(["bash", "-c", fresh, "bash", *line], self.folder, env)

    def pyinfra(self) -> Command:
        """Pyinfra: a deploy of three operations."""
        data = {
            "ssh_port": self.endpoints.port,
            "ssh_user": getpass.getuser(),
            "ssh_key": str(self.folder / "user"),
            "ssh_known_hosts_file": str(self.folder / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
        }
        inventory = self.folder / "inventory.py"
        inventory.write_text(f"hosts = ({self.listed.read_text().split()!r}, {data!r})\n")
        line = [str(self.python.with_name("pyinfra")), "-y", "--parallel", str(WINDOW), str(inventory)]
        return Command([*line, str(PEERS / "three_operations.py")], self.folder, {"LC_ALL": "C.UTF-8"})


@contextlib.contextmanager
def fleet(python: Path, **values: str) -> Iterator[Fleet]:
    """Have the endpoints; `python` is one that has the peers. Settings beside those of bench C are given by name."""
    if lacks := lacking():
        raise RuntimeError(f"this machine lacks what loopback hosts need: {lacks}")
    with tempfile.TemporaryDirectory() as place:
        endpoints = Endpoints(Path(place))
        settings = TOP / "conf" / f"raydock-bench-{os.getpid()}.env"
        endpoints.serve()
        try:
            yield Fleet(endpoints, python, settings, values)
        finally:
            endpoints.close()
            settings.unlink(missing_ok=True)


def figures(python: Path, *, quick: bool) -> Iterator[Figure | Bound]:
    """Measure them; `quick` leaves out the thousand."""
    with fleet(python) as made:
        made.populate(FEW)
        yield from hundred(made, quick=quick)
        if not quick:
            made.populate(MANY)
            yield from thousand(made)


def hundred(made: Fleet, *, quick: bool) -> Iterator[Figure]:
    """Measure what a hundred hosts take, beside each of the peers."""
    things = {"ours": made.ours(), "asyncssh": made.peer("three_steps.py")}
    if shutil.which(PSSH):
        things["pssh"] = made.pssh()
    taken = in_turn({name: command.seconds for name, command in things.items()}, QUICK_RUNS if quick else RUNS)
    what = f"three steps on {FEW} hosts"
    yield Figure(what, 1.3, taken["ours"], taken["asyncssh"], packaged(made.python, "asyncssh"))
    if "pssh" in taken:
        yield Figure(what, 1 / 6, taken["ours"], taken["pssh"], f"{pssh_version()}, three times")
    for name, command in {"ansible-core": made.ansible(), "pyinfra": made.pyinfra()}.items():
        if time_is_over():
            return
        beside = in_turn({"ours": made.ours().seconds, "peer": command.seconds}, QUICK_RUNS if quick else RUNS)
        yield Figure(what, None, beside["ours"], beside["peer"], packaged(made.python, name))


def thousand(made: Fleet) -> Iterator[Figure | Bound]:
    """Measure what a thousand hosts take, and what of this machine."""
    seen: list[Used] = []

    def ours() -> float:
        seen.append(made.ours().run())
        return seen[-1].seconds

    taken = in_turn({"ours": ours, "peer": made.peer("three_steps.py").seconds})
    what = f"three steps on {MANY} hosts"
    yield Figure(what, 1.25, taken["ours"], taken["peer"], packaged(made.python, "asyncssh"))
    yield from bounds(what, seen)


def bounds(what: str, seen: list[Used]) -> Iterator[Bound]:
    """Give what runs took of this machine. A node has two threads while it is worked on: ours, and its connection's."""
    size = windows(WINDOW)
    yield Bound(f"{what}: memory", 150, "MB", Series(tuple(one.megabytes for one in seen)))
    yield Bound(f"{what}: open files", 256, "files", Series(tuple(float(one.files) for one in seen)))
    most = 2 * size.chains + size.dials + BESIDE
    yield Bound(f"{what}: threads", most, "threads", Series(tuple(float(one.threads) for one in seen)))


def packaged(python: Path, package: str) -> str:
    """Name a package of another Python with its version."""
    return f"{package} {version_of(python, package)}"


def version_of(python: Path, package: str) -> str:
    """Give the version of a package of another Python."""
    line = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", line], capture_output=True, text=True, check=True).stdout.strip()


def pssh_version() -> str:
    """Name parallel-ssh with its version."""
    said = subprocess.run([PSSH, "--version"], capture_output=True, text=True, check=True).stdout
    return f"parallel-ssh {said.strip()}"
