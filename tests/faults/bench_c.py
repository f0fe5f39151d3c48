"""Bench C: hundreds of SSH endpoints on this machine's loopback, with real sshd and a stub of Docker behind it.

One sshd listens on all of 127.0.0.0/8, and each address is a node. What comes to those in 127.2.0.0/16 vanishes
where a row wants it so.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, operator

ENDPOINT = Path(__file__).resolve().parent / "endpoint"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
DEAD = "127.2.0.0/16"


def lacking() -> str:
    """Say what this machine lacks for the bench; nothing where it lacks nothing."""
    if SSHD is None:
        return "no sshd"
    if os.geteuid() != 0:
        return "not root, as whom alone one sshd serves any user and iptables can be had"
    return ""


@dataclass(frozen=True)
class Ran:
    """What came of a task, how long it took, and the most memory that it had."""

    done: Done
    seconds: float
    megabytes: float


@dataclass
class Endpoints:
    """The endpoints, as nodes of a cluster of which the first is the head."""

    folder: Path
    port: int = 0
    values: dict[str, str] = field(default_factory=dict)
    _sshd: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Make keys and a folder for the stub."""
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        self.bin = self.folder / "bin"
        shutil.copytree(ENDPOINT, self.bin)
        (self.bin / "state").mkdir()
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def serve(self, *options: str, keys: str = "authorized_keys") -> None:
        """Run sshd, with options as its configuration has them before ours; one that runs is ended."""
        self.close()
        Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            "\n".join(
                (
                    *options, f"Port {self.port}", "ListenAddress 0.0.0.0", f"HostKey {self.folder}/host",
                    f"AuthorizedKeysFile {self.folder}/{keys}", "StrictModes no", "PermitRootLogin yes", "UsePAM no",
                    "PidFile none", "MaxStartups 2000", "UseDNS no", "PasswordAuthentication no", "PrintMotd no",
                    # Nobody's .bashrc is waited for.
                    f"SetEnv PATH={self.bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME={self.folder}",
                )
            )
            + "\n"
        )  # fmt: skip
        log = (self.folder / "sshd.log").open("ab")
        self._sshd = subprocess.Popen([str(SSHD), "-D", "-e", "-f", config], stdout=log, stderr=log)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def close(self) -> None:
        """End sshd; what it has begun for a connection ends with that."""
        if self._sshd:
            self._sshd.terminate()
            self._sshd.wait()
            self._sshd = None

    def node(self, address: str) -> str:
        """Name an endpoint as reports do."""
        return f"{address}:{self.port}"

    def inventory(self, workers: Sequence[str], head: str = "127.1.0.1") -> None:
        """Have these addresses for workers, and settings that lead to them."""
        key = (self.folder / "host.pub").read_text().strip()
        user = getpass.getuser()
        known = "".join(f"[{address}]:{self.port} {key}\n" for address in (head, *workers))
        (self.folder / "known_hosts").write_text(known)
        (self.folder / "workers.txt").write_text("".join(f"{user}@{address}:{self.port}\n" for address in workers))
        self.values = {
            "HEAD": f"{user}@{head}:{self.port}",
            "WORKERS_FILE": str(self.folder / "workers.txt"),
            "SSH_KNOWN_HOSTS": str(self.folder / "known_hosts"),
            "SSH_KEY": str(self.folder / "user"),
            "IMAGE": "registry.example/app:1",
            "CLUSTER_NAME": "many",
        }

    def invoke(
        self,
        *words: str,
        env: Mapping[str, str | None] | None = None,
        exit: int | None = 0,
        timeout: float = 120,
        limit: str = "",
        folder: Path = TOP,
    ) -> Ran:
        """Type a task; `limit` are words of `ulimit`."""
        name = f"raydock-many-{os.getpid()}"
        settings = TOP / "conf" / f"{name}.env"
        settings.write_text("".join(f"{key}={value}\n" for key, value in self.values.items()))
        used = self.folder / "used"
        line = ["/usr/bin/time", "-f", "%e %M", "-o", str(used)] if Path("/usr/bin/time").exists() else []
        argv = ["bash", "-c", f'{f"ulimit {limit}; " if limit else ""}exec "$@"', "bash", *line, str(INVOKE)]
        given: dict[str, str | None] = {"ENVIRONMENT": name, "SSH_AUTH_SOCK": None, **NO_ENGINE, **(env or {})}
        if folder != TOP:
            argv += ["--search-root", str(TOP)]
        begun = time.monotonic()
        try:
            ran = subprocess.run(
                [*argv, *words], cwd=folder, env=operator(given), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=timeout, check=False,
            )  # fmt: skip
        finally:
            settings.unlink()
        seconds = time.monotonic() - begun
        done = Done(ran.returncode, ran.stdout.decode(), ran.stderr.decode(errors="surrogateescape"))
        assert exit is None or done.code == exit, f"exit code {done.code}\n{done.out}\n{done.err}"
        assert "Traceback (most recent call last)" not in done.err, done.err
        peak = float(used.read_text().split()[-1]) / 1024 if line else 0.0
        return Ran(done, seconds, peak)

    @contextmanager
    def plays(self, address: str, line: str) -> Iterator[None]:
        """Have the engine of an endpoint execute a line before each answer."""
        file = self.bin / "state" / f"{address}.plays"
        file.write_text(line)
        try:
            yield
        finally:
            file.unlink()

    @contextmanager
    def rule(self, *words: str) -> Iterator[None]:
        """Have a rule of iptables for what comes in."""
        subprocess.run(["iptables", "-w", "-I", "INPUT", *words], check=True)
        try:
            yield
        finally:
            subprocess.run(["iptables", "-w", "-D", "INPUT", *words], check=True)

    def dead(self) -> contextlib.AbstractContextManager[None]:
        """Have what comes to 127.2.0.0/16 at our port vanish."""
        return self.rule("-d", DEAD, "-p", "tcp", "--dport", str(self.port), "-j", "DROP")


def living(count: int) -> list[str]:
    """Give addresses of endpoints that live."""
    return [f"127.1.{number // 250 + 1}.{number % 250 + 1}" for number in range(count)]


def dead(count: int) -> list[str]:
    """Give addresses of endpoints that `dead` takes away."""
    return [f"127.2.{number // 250 + 1}.{number % 250 + 1}" for number in range(count)]
