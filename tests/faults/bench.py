"""Bench A: the practice hosts, reached at their own addresses, and the tools that bring faults about on them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from docker.errors import DockerException
from dotenv import dotenv_values

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, PracticeHost, Sandbox, command, operator
from tests.planted import PLANTED, Planted

T = TypeVar("T")
DECOY = "raydock-sandbox-worker-decoy"  # begins as one of ours is named
# What a run must leave as it is, beside what is in the engines.
FILES = ("/etc/hosts", "/etc/docker/daemon.json", "/home/ubuntu/.ssh/authorized_keys", "/srv/decoy")
# Where a run could leave something behind.
FOLDERS = ("/tmp", "/dev/shm", "/home/ubuntu", "/var/lib/raydock")  # noqa: S108 - looked at only
ASK = "timeout 5 docker"
STUB = Path(__file__).resolve().parent / "stub"
# Beside the first cluster on the same hosts, as docs/ports.md has it.
STUB_CLUSTER = {
    "CLUSTER_NAME": "stub",
    "APP_TAG": "raydock-stub",
    "REPOSITORY_NAME": "raydock-stub",
    "REDIS_PORT": "6380",
    "OBJECT_MANAGER_PORT": "8077",
    "DASHBOARD_PORT": "8266",
    "RAY_START_ARGS": "--ray-client-server-port=20001 --dashboard-agent-listen-port=52366 --min-worker-port=20002",
}


# Asks Ray's own API, within the head's container, which nodes are alive.
ASKED = """
import json, urllib.request
head = {{"Authorization": "Bearer " + open("/run/ray-token").read().strip()}}
asked = urllib.request.Request("http://127.0.0.1:{port}/api/v0/nodes", headers=head)
rows = json.load(urllib.request.urlopen(asked, timeout=5))["data"]["result"]["result"]
print(json.dumps([row["node_ip"] for row in rows if row["state"] == "ALIVE"]))
"""


@dataclass(frozen=True)
class FaultyHost(PracticeHost):
    """A practice host that things are done to. What is done ends with the block in which it was begun."""

    @property
    def node(self) -> str:
        """Its name in reports: its address."""
        return "head" if self.name == "head" else self.address

    @contextmanager
    def rule(self, *words: str) -> Iterator[None]:
        """Have a rule of iptables, before all others; `-t TABLE` may come first."""
        table, (chain, *rest) = (words[:2], words[2:]) if words[0] == "-t" else ((), words)
        assert self.look("iptables", "-w", *table, "-I", chain, *rest).code == 0
        try:
            yield
        finally:
            assert self.look("iptables", "-w", *table, "-D", chain, *rest).code == 0

    def drops(self, port: int) -> Any:
        """Have what comes to a port vanish."""
        return self.rule("INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")

    def refuses(self, port: int) -> Any:
        """Have connections to a port refused."""
        return self.rule("INPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT", "--reject-with", "tcp-reset")

    def is_refused(self, port: int) -> Any:
        """Have its own connections to a port of others refused."""
        return self.rule("OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT", "--reject-with", "tcp-reset")

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Have nothing come in or go out, but for loopback."""
        with self.rule("INPUT", "!", "-i", "lo", "-j", "DROP"), self.rule("OUTPUT", "!", "-o", "lo", "-j", "DROP"):
            yield

    @contextmanager
    def paused(self, pattern: str) -> Iterator[None]:
        """Have the processes stopped whose command line has a pattern, as if they hung."""
        self.attempt("pkill", "-STOP", "-f", pattern)
        try:
            yield
        finally:
            self.attempt("pkill", "-CONT", "-f", pattern)

    @contextmanager
    def engine_paused(self) -> Iterator[None]:
        """Have an engine that takes connections and does not answer."""
        with self.paused("^/usr/s?bin/dockerd"):
            yield

    @contextmanager
    def engine_down(self) -> Iterator[None]:
        """Have no engine; its containers end with it."""
        self.run("service", "docker", "stop")
        try:
            yield
        finally:
            self.start_engine()

    def start_engine(self) -> None:
        """Start the engine, and wait until it answers; one that was killed needs a second start."""
        for _ in range(20):
            self.attempt("service", "docker", "start")
            for _ in range(10):
                if self.look("bash", "-c", f"{ASK} version").code == 0:
                    return
                time.sleep(0.3)
        raise AssertionError(f"{self.name}: the engine does not start")

    @contextmanager
    def file(self, path: str, content: str) -> Iterator[None]:
        """Have a file with other content; its owner and mode stay."""
        aside = f"/root/{hashlib.sha256(path.encode()).hexdigest()[:12]}"
        self.shell(f"cp -a {path} {aside}")
        self.shell(f"printf %s {shlex.quote(content)} > {path}")
        try:
            yield
        finally:
            self.shell(f"cp -a {aside} {path} && rm {aside}")


@dataclass
class Bench:
    """The practice hosts, the operator's settings for them, and what was typed."""

    sandbox: Sandbox
    folder: Path
    cluster: str = "sandbox"
    # What is set otherwise than for the practice hosts.
    differs: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    typed: Done | None = None
    # What runs Invoke, where that is not the operator's own shell.
    around: tuple[str, ...] = ()
    # Each secret that must show nowhere, by what it is.
    secrets: dict[str, str] = field(default_factory=dict)
    # What a row measured, in seconds: for its record, and judged by nobody.
    figures: dict[str, float] = field(default_factory=dict)
    # When what was typed last had ended.
    ended: float = 0.0
    # Seconds beyond what a row's own deadlines say that are let pass, on a machine that does other things, too.
    patience: float = 0.0

    def __post_init__(self) -> None:
        """Reach the hosts at their own addresses, where faults of the network can be had."""
        self.hosts = tuple(FaultyHost(host.name, host.box) for host in self.sandbox)
        self.head, *self.workers = self.hosts
        self.other, self.worker = self.workers[0], self.workers[-1]
        self.env = TOP / "conf" / f"raydock-faults-{self.cluster}-{os.getpid()}.env"
        known = self.folder / "known_hosts"
        known.write_text("".join(f"{host.address} {host_key(host)}\n" for host in self.hosts))
        listed = self.folder / "workers.txt"
        listed.write_text("".join(f"ubuntu@{host.address}\n" for host in self.workers))
        plain = dotenv_values(TOP / "conf/sandbox.env", interpolate=False)
        self.values = {key: value for key, value in plain.items() if value is not None}
        self.values |= {
            "HEAD": f"ubuntu@{self.head.address}",
            "HEAD_ADDRESS": self.head.address,
            "WORKERS_FILE": str(listed),
            "SSH_KNOWN_HOSTS": str(known),
            # As they are by default; rows have them from here.
            "REDIS_PORT": "6379",
            "DASHBOARD_PORT": "8265",
            **self.differs,
        }
        # The practice AWS takes any.
        self.values["AWS_SECRET_ACCESS_KEY"] = self.secrets["the AWS key"] = f"canary-{secrets.token_hex(16)}"
        # Where the operator's temporary files go.
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()
        self.write()

    @property
    def known_hosts(self) -> Path:
        """The operator's known_hosts."""
        return Path(self.values["SSH_KNOWN_HOSTS"])

    @property
    def workers_file(self) -> Path:
        """The operator's list of workers."""
        return Path(self.values["WORKERS_FILE"])

    def in_time(self, what: str, since: float, seconds: float) -> None:
        """See that what was typed last ended so many seconds after a moment, and keep how many it were."""
        self.figures[what] = self.ended - since
        assert self.figures[what] <= seconds + self.patience, f"{what}: {self.figures[what]:.1f} s, and not {seconds:g}"

    def host(self, named: str) -> FaultyHost:
        """Give the host that a row calls `head`, `worker` or `other`."""
        found: FaultyHost = {"head": self.head, "worker": self.worker, "other": self.other}[named]
        return found

    def groups(self) -> dict[str, Sequence[FaultyHost]]:
        """Give the hosts that each word for the sick ones means."""
        one: dict[str, Sequence[FaultyHost]] = {name: (self.host(name),) for name in ("head", "worker", "other")}
        return {**one, "workers": self.workers, "all": self.hosts}

    def sight(self, host: PracticeHost) -> Sight:
        """Look at a host."""
        return Sight.of(host, self.cluster)

    def sights(self) -> dict[str, Sight]:
        """Look at every host."""
        return {host.name: sight for host, sight in zip(self.hosts, self.at_once(self.sight), strict=True)}

    def at_once(self, look: Callable[[FaultyHost], T]) -> list[T]:
        """Look at every host at the same time."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(look, self.hosts))

    def container(self, host: PracticeHost) -> str:
        """Name the cluster's container on a host."""
        return f"raydock-{self.cluster}-{'head' if host.name == 'head' else 'worker'}"

    def alive(self) -> frozenset[str] | None:
        """Ask the running head which addresses Ray has alive; None where nobody answers."""
        asked = ASKED.format(port=self.values["DASHBOARD_PORT"])
        done = self.head.look("timeout", "10", "docker", "exec", self.container(self.head), "python", "-c", asked)
        return frozenset(json.loads(done.out)) if done.code == 0 else None

    def plant(self, planted: Planted) -> None:
        """Have the operator's secrets be those that were planted."""
        self.values |= planted.settings
        self.secrets |= PLANTED
        self.write()

    def write(self) -> None:
        """Write the settings, a secret among them."""
        self.env.touch(0o600)
        self.env.write_text("".join(f"{key}={value}\n" for key, value in self.values.items()))

    @contextmanager
    def settings(self, **changes: str | None) -> Iterator[None]:
        """Have other settings; None takes one away."""
        before = dict(self.values)
        self.values = {key: value for key, value in {**self.values, **changes}.items() if value is not None}
        self.write()
        try:
            yield
        finally:
            self.values = before
            self.write()

    def invoke(
        self, *words: str, env: Mapping[str, str | None] | None = None, exit: int | None = None, timeout: float = 300
    ) -> Done:
        """Type a task."""
        known: dict[str, str | None] = {"ENVIRONMENT": self.env.stem, **NO_ENGINE, **(env or {})}
        self.typed = command([*self.around, INVOKE, *words], known, exit=exit, timeout=timeout)
        self.ended = time.monotonic()
        return self.typed

    @contextmanager
    def another(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Have another operator type a task, at work on the cluster when the block begins, and over at its end."""
        env = operator({"ENVIRONMENT": self.env.stem, **NO_ENGINE, "TMPDIR": str(self.scratch)})
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        other = subprocess.Popen([INVOKE, *words], cwd=TOP, env=env, text=True, **pipes)  # type: ignore[call-overload]
        try:
            end = time.monotonic() + 30
            while not self.lock_is_held():
                assert other.poll() is None, other.stdout.read()
                assert time.monotonic() < end, "the other never had the lock"
                time.sleep(0.1)
            yield other
        finally:
            if other.poll() is None:
                other.kill()
            other.communicate()

    def lock_is_held(self) -> bool:
        """Tell whether somebody holds the cluster's lock."""
        file = f"/var/lib/raydock/{self.cluster}/lock"
        return self.head.look("flock", "-n", file, "true").code != 0

    @contextmanager
    def meanwhile(self, when: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
        """Act once, as soon as something is so, while the block goes on; it must have come to that by its end."""
        acted, over = threading.Event(), threading.Event()
        wrong: list[BaseException] = []

        def wait() -> None:
            try:
                while not over.is_set():
                    if when():
                        act()
                        acted.set()
                        return
                    time.sleep(0.05)
            except BaseException as error:  # noqa: BLE001 - raised again below
                wrong.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)
        if wrong:
            raise wrong[0]
        assert acted.is_set(), "the moment of the fault never came"

    def has_decoys(self) -> None:
        """Have on each host what is none of ours, and looks as if it were."""
        for host in self.hosts:
            host.shell("echo decoy > /srv/decoy")
            if DECOY not in host.containers():
                host.docker("tag", image_of(host), "decoy:1")
                host.docker(
                    "run", "-d", "--name", DECOY, "--label", "raydock.cluster=other", "--label", "raydock.role=worker",
                    "--entrypoint", "sleep", "decoy:1", "infinity",
                )  # fmt: skip

    @contextmanager
    def another_image(self, name: str, *lines: str) -> Iterator[None]:
        """Have an image of this name made of ours by lines of a Dockerfile, on the head alone, and settings for it."""
        text = "\n".join((f"FROM {self.values['APP_TAG']}", *lines))
        self.head.shell(f"printf %s {shlex.quote(text)} | docker build -q -t {name} -")
        with self.settings(APP_TAG=name, REPOSITORY_NAME=name):
            yield

    @property
    def services(self) -> FaultyHost:
        """What serves the registry."""
        client = self.head.box.client
        assert client
        return FaultyHost("services", client.containers.get("raydock-sandbox-services"))

    def comes_back(self, host: FaultyHost) -> None:
        """Have a host that was restarted as it was: what it kept in memory is gone."""
        host.start_engine()
        self.invoke("cluster.pull", "--only", host.node, exit=0)
        self.has_decoys()

    def close(self) -> None:
        """Take away what the bench laid out."""
        self.env.unlink()
        for host in self.hosts:
            host.attempt("bash", "-c", f"docker rm -f {DECOY}; docker rmi decoy:1; rm -f /srv/decoy")


def host_key(host: PracticeHost) -> str:
    """Give a host's public key, as known_hosts has it."""
    return host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").strip()


def image_of(host: PracticeHost) -> str:
    """Name an image that a host's engine has."""
    return host.docker("images", "-q").split()[0]


LOOK = """
sha256sum {files} 2>/dev/null; printf '\\0'
find {folders} -mindepth 1 2>/dev/null | sort; printf '\\0'
ps -eo user:32=,pid=,args=; printf '\\0'
"""


@dataclass(frozen=True)
class Sight:
    """What the observer sees of one host at one moment; the engine's part is None where it does not answer."""

    containers: dict[str, dict[str, Any]] | None
    images: tuple[str, ...]
    files: tuple[str, ...]
    folders: frozenset[str]
    processes: tuple[str, ...]
    cluster: str

    @classmethod
    def of(cls, host: PracticeHost, cluster: str) -> Sight:
        """Look at a host, past SSH and past Raydock."""
        said = host.look("bash", "-c", LOOK.format(files=" ".join(FILES), folders=" ".join(FOLDERS))).out
        files, folders, processes, _ = said.split("\0")
        try:
            containers, images = host.containers(), host.images()
        except (AssertionError, DockerException, OSError):
            containers, images = None, ()
        return cls(
            containers,
            images,
            tuple(files.splitlines()),
            frozenset(folders.splitlines()),
            tuple(processes.splitlines()),
            cluster,
        )

    @property
    def ours(self) -> dict[str, dict[str, Any]]:
        """The containers of the cluster."""
        return {name: one for name, one in (self.containers or {}).items() if self.is_ours(one)}

    def is_ours(self, container: Mapping[str, Any]) -> bool:
        """Tell whether a container bears the cluster's label."""
        return bool(container["Config"]["Labels"].get("raydock.cluster") == self.cluster)

    @property
    def foreign(self) -> dict[str, tuple[str, str]]:
        """The containers that are none of the cluster's: since when each is what it is."""
        states = {name: one["State"] for name, one in (self.containers or {}).items() if not self.is_ours(one)}
        return {name: (state["Status"], state["StartedAt"]) for name, state in states.items()}

    @property
    def foreign_images(self) -> tuple[str, ...]:
        """The names of images that are none of ours."""
        return tuple(name for name in self.images if " decoy:" in name)


@contextmanager
def real_bench(sandbox: Sandbox, folder: Path) -> Iterator[Bench]:
    """Give bench A: Ray itself."""
    with closing(Bench(sandbox, folder)) as bench:
        bench.invoke("cluster.setup", exit=0)
        bench.has_decoys()
        yield bench


@contextmanager
def stub_bench(sandbox: Sandbox, folder: Path) -> Iterator[Bench]:
    """Give bench B: the same hosts and engines, with an image whose `ray` is a stub that starts in no time."""
    head = FaultyHost(sandbox.head.name, sandbox.head.box)
    files = "".join(f"printf %s {shlex.quote(path.read_text())} >{path.name}\n" for path in STUB.iterdir())
    head.shell(f"cd $(mktemp -d)\n{files}docker build -q -t {STUB_CLUSTER['APP_TAG']} . && rm -r $PWD")
    # Whose head is another host is beside others, and has an image of its own.
    own = {} if str(head.box.name).endswith("-head") else {"REPOSITORY_NAME": f"raydock-stub-of-{head.box.name}"}
    with closing(Bench(sandbox, folder, "stub", STUB_CLUSTER | own)) as bench:
        bench.invoke("publish", exit=0)
        bench.invoke("cluster.setup", exit=0)
        bench.has_decoys()
        yield bench
