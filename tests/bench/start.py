"""The start of a cluster on three real hosts, and its stop, beside what Docker, SSH and Ray themselves need."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.ray import STOP_GRACE, TOKEN_PATH, container_name
from tests.bench.measure import RUNS, Bound, Figure, Series, in_turn
from tests.bench.ray_up import LIMIT, RayUp
from tests.bench.three_hosts import NODES, Warm, hosts, seen, typed, warm
from tests.hosts.observer import PracticeHost, Sandbox

PATIENCE = 120  # seconds
SETTLE = 3  # seconds for which ours sees that what joined stays
TASK = Path(__file__).with_name("peers") / "task_on_each.py"
# What a container was asked to be, as the engine shows it: of ours and of the floor's it must be the same.
ASKED = (
    *(("Config", key) for key in ("Image", "Cmd", "Env", "Labels", "User", "Entrypoint", "WorkingDir")),
    *(("HostConfig", key) for key in ("NetworkMode", "ShmSize", "CapDrop", "CapAdd", "SecurityOpt", "Binds")),
    *(("HostConfig", key) for key in ("RestartPolicy", "Memory", "PidsLimit", "DeviceRequests", "Ulimits")),
)
# Each part of a cluster's life: what it is called, how many times the floor's it may be, and what the floor is.
BESIDE_FLOOR: Mapping[str, tuple[str, float | None, str]] = {
    "alive": (
        f"cluster.start until Ray has {NODES} nodes",
        1.1,
        "docker create, cp and start over warm {ssh}, on all hosts at once",
    ),
    "rest": (
        "the rest of cluster.start: a task on each node, and settling",
        None,
        f"a task on each by docker exec over warm {{ssh}}, and {SETTLE} s",
    ),
    "stop": (
        f"cluster.stop of {NODES} nodes",
        1.1,
        "the slowest container's own end: docker stop by each engine at once",
    ),
}


@dataclass(frozen=True)
class Life:
    """A cluster from its start to its end, in seconds.

    Attributes:
        alive: until Ray had every node alive.
        rest: from then until a task ran on each, and they stayed.
        stop: until its containers had ended.
    """

    alive: float
    rest: float
    stop: float


def name_on(host: PracticeHost) -> str:
    """Name the cluster's container on a host."""
    return container_name("sandbox", "head" if host.name == "head" else "worker")


def our_start(sandbox: Sandbox) -> tuple[float, float]:
    """Start the cluster, and give how long it took until Ray had every node alive, and from then to its end."""
    with seen(sandbox.head, name_on(sandbox.head)) as moment:
        begun = time.monotonic()
        typed("cluster.start").run()
        ended = time.monotonic()
        alive = moment.result(PATIENCE)
    return alive - begun, ended - alive


def our_life(sandbox: Sandbox) -> Life:
    """Start the cluster and stop it, as it is typed."""
    alive, rest = our_start(sandbox)
    return Life(alive, rest, typed("cluster.stop").seconds())


def asked_of(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a container was asked to be."""
    found = {f"{part}.{key}": shown[part].get(key) or None for part, key in ASKED}
    return {**found, "Config.Env": sorted(found["Config.Env"] or ())}


def create_line(shown: Mapping[str, Any]) -> str:
    """Write the `docker create` that asks for a container like one that is there."""
    config, host = shown["Config"], shown["HostConfig"]
    options = [("--name", shown["Name"].removeprefix("/")), ("--network", host["NetworkMode"])]
    options += [("--shm-size", str(host["ShmSize"]))]
    options += [("--cap-drop", name) for name in host["CapDrop"] or ()]
    options += [("--cap-add", name) for name in host["CapAdd"] or ()]
    options += [("--security-opt", value) for value in host["SecurityOpt"] or ()]
    options += [("--volume", value) for value in host["Binds"] or ()]
    options += [("--env", value) for value in config["Env"]]
    options += [("--label", f"{key}={value}") for key, value in config["Labels"].items()]
    words = [word for option in options for word in option]
    return shlex.join(["docker", "create", *words, config["Image"], *config["Cmd"]])


@dataclass(frozen=True)
class Floor:
    """The same by `docker` itself, over connections that are open: each host's line, and the token that is laid in."""

    sandbox: Sandbox
    warm: Warm
    shown: Mapping[PracticeHost, Mapping[str, Any]]
    token: bytes

    @classmethod
    def of(cls, sandbox: Sandbox, warm: Warm) -> Floor:
        """Read it off a cluster that runs."""
        shown = {host: host.containers()[name_on(host)] for host in sandbox}
        with sandbox.head.engine() as client:
            pieces, _ = client.get_archive(name_on(sandbox.head), TOKEN_PATH)
            return cls(sandbox, warm, shown, b"".join(pieces))

    def line(self, host: PracticeHost) -> str:
        """Write what is typed on a host."""
        name = name_on(host)
        return f"{create_line(self.shown[host])} && docker cp - {name}:{Path(TOKEN_PATH).parent} && docker start {name}"

    def start(self) -> float:
        """Start the cluster, all hosts at once, and give how long it took until Ray had every node alive."""
        lines = {host: self.line(host) for host in self.sandbox}
        with seen(self.sandbox.head, name_on(self.sandbox.head)) as moment:
            begun = time.monotonic()
            self.warm.at_once(lines, dict.fromkeys(lines, self.token))
            return moment.result(PATIENCE) - begun

    def life(self) -> Life:
        """Start the cluster, run a task on each node, and stop it."""
        alive, since = self.start(), time.monotonic()
        self.warm.run(self.sandbox.head, f"docker exec -i {name_on(self.sandbox.head)} python -", TASK.read_bytes())
        time.sleep(SETTLE)
        rest = time.monotonic() - since
        self.check()
        stop = self.stop()
        self.sandbox.clear()
        return Life(alive, rest, stop)

    def check(self) -> None:
        """See that its containers are what ours are."""
        for host, shown in self.shown.items():
            mine = asked_of(host.containers()[name_on(host)])
            if mine != asked_of(shown):
                raise RuntimeError(f"{host.name}: the floor's container is another: {mine} for {asked_of(shown)}")

    def stop(self) -> float:
        """Have each engine stop its container, all at once, and give how long the slowest took."""
        with ThreadPoolExecutor(NODES) as pool:
            return max(pool.map(stop_on, self.sandbox))


def stop_on(host: PracticeHost) -> float:
    """Have a host's own engine stop the container, and give how long that took: the container's own end."""
    with host.engine() as client:
        begun = time.monotonic()
        client.stop(name_on(host), timeout=STOP_GRACE)
        return time.monotonic() - begun


def figures(python: Path, *, quick: bool) -> Iterator[Figure | Bound]:
    """Measure them; `python` is one that has the peers. Where it shall be `quick`, the start once."""
    sandbox = hosts(quick=quick)
    if sandbox is None:
        return
    sandbox.clear()
    try:
        with warm(sandbox) as ssh:
            # It counts only where it is the only one.
            alive, _ = our_start(sandbox)
            floor = Floor.of(sandbox, ssh)
            sandbox.clear()
            if quick:
                yield figure("alive", Series((alive,)), Series((floor.start(),)))
                return
            yield from beside_floor(in_turns(sandbox, floor))
        yield beside_ray_up(python, sandbox, floor.shown[sandbox.head])
    finally:
        sandbox.clear()


def in_turns(sandbox: Sandbox, floor: Floor) -> list[tuple[Life, Life]]:
    """Measure both in turn; the floor once before that, as ours was."""
    floor.life()
    return [(our_life(sandbox), floor.life()) for _ in range(RUNS)]


def beside_floor(taken: list[tuple[Life, Life]]) -> Iterator[Figure]:
    """Give what was measured in turn."""
    for part in BESIDE_FLOOR:
        yield figure(part, *series(taken, part))


def figure(part: str, ours: Series, floor: Series) -> Figure:
    """Give a part of a cluster's life beside the floor's."""
    name, target, peer = BESIDE_FLOOR[part]
    return Figure(name, target, ours, floor, peer.format(ssh=ssh_version()))


def series(taken: list[tuple[Life, Life]], part: str) -> tuple[Series, Series]:
    """Give a part of ours, and of theirs."""
    ours, theirs = (Series(tuple(getattr(life, part) for life in side)) for side in zip(*taken, strict=True))
    return ours, theirs


def beside_ray_up(python: Path, sandbox: Sandbox, shown: Mapping[str, Any]) -> Figure:
    """Measure Ray's own launcher; where it never gets there, its time is the limit."""

    def ours() -> float:
        alive, _ = our_start(sandbox)
        sandbox.clear()
        return alive

    with tempfile.TemporaryDirectory() as place:
        launcher = RayUp.prepared(python, sandbox, shown, Path(place))
        # Of minutes each: none that does not count.
        taken = in_turn({"ours": ours, "peer": launcher.seconds}, first=False)
    peer = f"ray up {shown['Config']['Labels']['raydock.ray']}"
    if taken["peer"].median >= LIMIT:
        peer += f", which never got there within {LIMIT} s"
    return Figure(f"cluster.start until Ray has {NODES} nodes", 1 / 3, taken["ours"], taken["peer"], peer)


def ssh_version() -> str:
    """Name OpenSSH with its version."""
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
    return said.partition(",")[0].split()[0].replace("_", " ")
