"""Bench C: hundreds of SSH endpoints on this machine's loopback, with real sshd and a stub of Docker behind it.

One sshd listens on all of 127.0.0.0/8, and each address is a node. What comes to those in 127.2.0.0/16 vanishes
where a row wants it so.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.faults.bench import Bench, FaultyHost, Sight
from tests.faults.oracles import shown_anywhere
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, operator
from tests.planted import AWS_KEY, AWS_SESSION, PLANTED

ENDPOINT = Path(__file__).resolve().parent / "endpoint"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
DEAD = "127.2.0.0/16"
CLUSTER = "many"
HEAD = "127.1.0.1"
LOOKS = 16  # at once
# Those that a task on this bench has; it asks neither AWS nor a registry.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": PLANTED[AWS_KEY],
    "AWS_SESSION_TOKEN": PLANTED[AWS_SESSION],
}
STARTED, NEVER = "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"


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
        with (self.folder / "sshd.log").open("ab") as log:
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

    def inventory(self, workers: Sequence[str], head: str = HEAD) -> None:
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
            "CLUSTER_NAME": CLUSTER,
            **SECRETS,
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
        settings = TOP / "conf" / f"raydock-many-{os.getpid()}.env"
        settings.touch(0o600)  # a secret is among them
        settings.write_text("".join(f"{key}={value}\n" for key, value in self.values.items()))
        used = self.folder / "used"
        line = ["/usr/bin/time", "-f", "%e %M", "-o", str(used)] if Path("/usr/bin/time").exists() else []
        argv = ["bash", "-c", f'{f"ulimit {limit}; " if limit else ""}exec "$@"', "bash", *line, str(INVOKE)]
        given: dict[str, str | None] = {"ENVIRONMENT": settings.stem, "SSH_AUTH_SOCK": None, **NO_ENGINE, **(env or {})}
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


@dataclass(frozen=True)
class Endpoint:
    """One of the endpoints, as the frame sees a host."""

    name: str
    address: str
    endpoints: Endpoints

    @property
    def node(self) -> str:
        """Its name in reports."""
        return "head" if self.name == "head" else self.endpoints.node(self.address)

    def attempt(self, *argv: str) -> Done:
        """Search what is kept of all nodes together, by the head; else say that all is well."""
        if argv[0] != "grep" or self.name != "head":
            return Done(0, "", "")
        words = [word for word in argv if not word.startswith("/")]
        places = [self.endpoints.bin, self.endpoints.folder / "sshd.log", Path("/var/lib/raydock") / CLUSTER]
        found = subprocess.run([*words, *places], capture_output=True, text=True, errors="replace", check=False)
        return Done(0, found.stdout, found.stderr)

    def look(self, *_argv: str) -> Done:
        """Say that all is well: the observer looks at the stub's own files."""
        return Done(0, "", "")

    def file(self, kind: str) -> Path:
        """Name one of the stub's files for it."""
        return self.endpoints.bin / "state" / f"{self.address}.{kind}"

    def containers(self) -> dict[str, dict[str, object]]:
        """Give the containers, as its engine shows them."""
        file = self.file("json")
        return json.loads(file.read_text()) if file.exists() else {}

    def actions(self, since: int) -> set[str]:
        """Give what its engine did since a time in nanoseconds."""
        file = self.file("did")
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return {action for moment, action in lines if int(moment) >= since}


class Many(Bench):
    """Bench C, as the frame sees a bench. It begins with two workers; `populate` gives it others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cluster, self.typed = folder, CLUSTER, None
        self.secrets = {what: PLANTED[what] for what in (AWS_KEY, AWS_SESSION)}
        self.endpoints = Endpoints(folder)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.limit = ""
        self.figures, self.patience = {}, 0.0
        self.ran: Ran | None = None
        self.populate(living(2))

    @property
    def values(self) -> dict[str, str]:  # type: ignore[override]
        """The settings."""
        return self.endpoints.values

    def populate(self, workers: Sequence[str], *, running: bool = False) -> None:
        """Have these workers; with `running` the cluster's container and somebody else's run on each node."""
        self.endpoints.inventory(workers)
        named = [f"worker-{number}" for number in range(1, len(workers) + 1)]
        places = zip(["head", *named], [HEAD, *workers], strict=True)
        self.nodes = [Endpoint(name, address, self.endpoints) for name, address in places]
        self.hosts = cast("tuple[FaultyHost, ...]", tuple(self.nodes))
        self.head, *self.workers = self.hosts
        self.other, self.worker = self.workers[0], self.workers[-1]
        for node in self.nodes if running else ():
            role = "head" if node.name == "head" else "worker"
            ours = {"raydock.cluster": CLUSTER, "raydock.role": role}
            shown = container(f"raydock-{CLUSTER}-{role}", ours) | container("somebody-elses", {})
            node.file("json").write_text(json.dumps(shown))

    def at_once(self, look: Callable) -> list:  # type: ignore[type-arg]
        """Look at every host, some at the same time."""
        with ThreadPoolExecutor(LOOKS) as pool:
            return list(pool.map(look, self.hosts))

    def sight(self, host: object) -> Sight:
        """Look at a host: what its engine keeps, and what of it runs here."""
        assert isinstance(host, Endpoint)
        processes = self.processes() if host.name == "head" else ()
        return Sight(host.containers(), (), (), frozenset(), processes, CLUSTER)

    def processes(self) -> tuple[str, ...]:
        """Give the command lines of the stubs that run."""
        listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        return tuple(line for line in listed.splitlines() if str(self.endpoints.bin) in line)

    def invoke(
        self, *words: str, env: Mapping[str, str | None] | None = None, exit: int | None = None, timeout: float = 300
    ) -> Done:
        """Type a task."""
        self.ran = self.endpoints.invoke(*words, env=env, exit=exit, timeout=timeout, limit=self.limit)
        self.typed, self.ended = self.ran.done, time.monotonic()
        return self.typed

    def groups(self) -> dict[str, Sequence[FaultyHost]]:
        """Give the hosts that each word for the sick ones means; `dead` are those that can be taken away."""
        gone = [host for host in self.hosts if host.address.startswith(DEAD.removesuffix("0.0/16"))]
        return {**super().groups(), "dead": gone}

    def alive(self) -> None:
        """Know nothing of Ray: there is none."""

    def close(self) -> None:
        """End sshd, and take away what the head kept."""
        self.endpoints.close()
        shutil.rmtree(f"/var/lib/raydock/{CLUSTER}", ignore_errors=True)


def container(name: str, labels: Mapping[str, str]) -> dict[str, object]:
    """Give a running container as an engine shows it, by its name."""
    state = {"Status": "running", "Running": True, "ExitCode": 0, "StartedAt": STARTED, "FinishedAt": NEVER}
    return {
        name: {
            "Id": name.encode().hex().ljust(64, "0"), "Name": f"/{name}", "Created": STARTED, "State": state,
            "Image": "sha256:" + "1" * 64, "HostConfig": {}, "files": {}, "said": "a line\n",
            "Config": {"Image": "app", "Labels": dict(labels), "User": "", "Cmd": None},
        }
    }  # fmt: skip


@contextmanager
def many_bench(folder: Path) -> Iterator[Many]:
    """Give bench C, on which a secret is found where it is looked for."""
    with contextlib.closing(Many(folder)) as bench:
        bench.endpoints.serve()
        canary = bench.endpoints.bin / "state" / "canary"
        canary.write_text("a canary")
        assert list(shown_anywhere(bench, {"it": "a canary"}, {})) == [f"it shows on head in {[str(canary)]}"]
        canary.unlink()
        yield bench
