"""What tests on real hosts see with: Invoke as an operator calls it, and the hosts' engines past Raydock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from docker import APIClient, DockerClient
from docker.errors import NotFound
from docker.models.containers import Container as Box

from deploy.settings import ENVIRONMENT_ONLY, KEYS
from tests.schema import checked

TOP = Path(__file__).resolve().parents[2]
INVOKE = Path(sys.executable).with_name("invoke")
# What an engine tells of when a file of a container is read; it tells of everything else that is done, too.
READING = frozenset({"archive-path", "mount", "unmount"})
# With the head behind SSH, the operator's side has no engine and needs none.
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent"}
API = "1.41"  # of the hosts' engines
PATIENCE = 5  # seconds for an engine to answer
IMAGE_LINE = "{{.ID}} {{.Repository}}:{{.Tag}}"
EVENT_SLACK = 0.3  # seconds until an engine has told what it did


def operator(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Give the environment of an operator who has set nothing but what a test says; None takes a variable away."""
    ours = (*KEYS, *ENVIRONMENT_ONLY)
    plain = {key: value for key, value in os.environ.items() if key not in ours and not key.startswith("AWS_")}
    # A machine of AWS's may give credentials to whoever asks.
    wanted: dict[str, str | None] = {**plain, "AWS_EC2_METADATA_DISABLED": "true", **(changes or {})}
    return {key: value for key, value in wanted.items() if value is not None}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The one JSON document that a task wrote; it must be as the schema says."""
        (line,) = self.out.splitlines()
        return checked(json.loads(line))

    def node(self, name: str) -> dict[str, Any]:
        """A node of that document."""
        (found,) = [node for node in self.report["nodes"] if node["node"] == name]
        return found


def command(
    argv: Sequence[str | Path],
    env: Mapping[str, str | None] | None = None,
    *,
    exit: int | None = 0,
    folder: Path = TOP,
    timeout: float = 300,
) -> Done:
    """Run a command in a folder, without a terminal; `exit` is what it must end with (None: anything)."""
    ran = subprocess.run(
        [str(word) for word in argv],
        cwd=folder,
        env=operator(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    done = Done(ran.returncode, ran.stdout, ran.stderr)
    assert exit is None or done.code == exit, f"exit code {done.code}\n{done.out}\n{done.err}"
    assert "Traceback (most recent call last)" not in done.err, done.err
    return done


@dataclass(frozen=True)
class PracticeHost:
    """A practice host, into which this machine's engine lets us look without SSH."""

    name: str
    box: Box

    @property
    def address(self) -> str:
        """Its own address."""
        (network,) = self.box.attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    @property
    def port(self) -> int:
        """The port of loopback that leads to its SSH server."""
        return int(self.box.attrs["NetworkSettings"]["Ports"]["22/tcp"][0]["HostPort"])

    @property
    def node(self) -> str:
        """Its name in reports."""
        return "head" if self.name == "head" else f"127.0.0.1:{self.port}"

    def attempt(self, *argv: str, user: str = "root") -> Done:
        """Run a command on it."""
        code, (out, err) = self.box.exec_run(argv, user=user, demux=True)
        return Done(code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))

    def run(self, *argv: str, user: str = "root") -> str:
        """Run a command on it that must succeed, and give its output."""
        done = self.attempt(*argv, user=user)
        assert done.code == 0, f"{self.name}: {argv}: {done.err}{done.out}"
        return done.out

    def shell(self, line: str) -> str:
        """Run a line of bash."""
        return self.run("bash", "-c", line)

    @property
    def pid(self) -> int:
        """The number of its first process on this machine."""
        assert self.box.client
        return int(self.box.client.api.inspect_container(self.box.id)["State"]["Pid"])

    def look(self, *argv: str) -> Done:
        """Run a command that starts nothing; root goes in by itself: an exec of the engine costs ten times as much."""
        if os.geteuid():
            return self.attempt(*argv)
        enter = ["nsenter", "--target", str(self.pid), "--all", "--", "env", "-i", *self.box.attrs["Config"]["Env"]]
        ran = subprocess.run([*enter, *argv], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return Done(ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))

    def docker(self, *words: str) -> str:
        """Ask its engine by the engine's own command."""
        done = self.look("docker", *words)
        assert done.code == 0, f"{self.name}: docker {words}: {done.err}{done.out}"
        return done.out.strip()

    @contextmanager
    def engine(self) -> Iterator[APIClient]:
        """Give its engine, by its own socket, which root sees from here."""
        path = f"/proc/{self.pid}/root/run/docker.sock"
        with socket.socket(socket.AF_UNIX) as there:  # the SDK does not close one that it cannot connect
            there.connect(path)
        with closing(APIClient(f"unix://{path}", version=API, timeout=PATIENCE)) as client:
            yield client

    def containers(self, *, running: bool = False) -> dict[str, dict[str, Any]]:
        """Give what its engine shows of every container, by name."""
        if os.geteuid() == 0:
            with self.engine() as client:
                shown = list(inspected(client, running=running))
        else:
            ids = self.docker("ps", "-q", "--no-trunc", *([] if running else ["-a"])).split()
            shown = json.loads(self.docker("inspect", *ids)) if ids else []
        return {one["Name"].removeprefix("/"): one for one in shown}

    def images(self) -> tuple[str, ...]:
        """Give each image of its engine: its id and a name, for each of its names."""
        if os.geteuid() == 0:
            with self.engine() as client:
                names = ((one["Id"], one["RepoTags"] or ["<none>:<none>"]) for one in client.images(all=True))
                return tuple(sorted(f"{image} {name}" for image, tags in names for name in tags))
        return tuple(sorted(self.docker("images", "-a", "--no-trunc", "--format", IMAGE_LINE).splitlines()))

    def events(self, since: int) -> list[dict[str, Any]]:
        """Give what its engine told of itself since a time in nanoseconds."""
        moments = [f"{moment // 10**9}.{moment % 10**9:09d}" for moment in (since, time.time_ns())]
        if os.geteuid() == 0:
            with self.engine() as client:
                return list(client.events(since=moments[0], until=moments[1], decode=True))
        told = self.docker("events", "--since", moments[0], "--until", moments[1], "--format", "{{json .}}")
        return [json.loads(line) for line in told.splitlines()]

    def actions(self, since: int) -> set[str]:
        """Give what its engine did since a time in nanoseconds, apart from reading."""
        told = [event for event in self.events(since) if event["timeNano"] >= since]
        # An exec's tells its command line, too.
        return {event["Action"].partition(":")[0] for event in told} - READING

    def clear(self, *, but: str = "") -> None:
        """Remove every container, except those with a label."""
        kept = self.docker("ps", "-aq", "--filter", f"label={but}").split() if but else []
        if gone := set(self.docker("ps", "-aq").split()) - set(kept):
            self.docker("rm", "--force", "--volumes", *gone)


def inspected(client: APIClient, *, running: bool) -> Iterator[dict[str, Any]]:
    """Give what an engine shows of every container that has not gone meanwhile."""
    for one in client.containers(all=not running):
        with suppress(NotFound):
            yield client.inspect_container(one["Id"])


@dataclass(frozen=True)
class Sandbox:
    """The practice hosts."""

    hosts: tuple[PracticeHost, ...]

    @classmethod
    def of(cls, client: DockerClient) -> Sandbox:
        """Find the head, then the workers."""
        boxes = {str(box.name): box for box in client.containers.list(filters={"label": "raydock.sandbox"})}
        names = (name.removeprefix("raydock-sandbox-") for name in sorted(boxes))
        return cls(tuple(PracticeHost(name, boxes[f"raydock-sandbox-{name}"]) for name in names if name != "services"))

    def part(self, number: int) -> Sandbox:
        """Give three of the hosts as if they were all, the first as the head: beside them others may be at work."""
        names, hosts = ("head", "worker-1", "worker-2"), self.hosts[3 * (number - 1) : 3 * number]
        return Sandbox(tuple(replace(host, name=name) for name, host in zip(names, hosts, strict=True)))

    def __iter__(self) -> Iterator[PracticeHost]:
        return iter(self.hosts)

    @property
    def head(self) -> PracticeHost:
        """The head."""
        return self.hosts[0]

    @property
    def workers(self) -> tuple[PracticeHost, ...]:
        """The workers."""
        return self.hosts[1:]

    def actions(self, since: int, *, but: Sequence[str] = ()) -> dict[str, set[str]]:
        """Give what was done since a time in nanoseconds, by host; nothing where nothing was, apart from `but`."""
        time.sleep(EVENT_SLACK)
        done = {host.name: host.actions(since) - set(but) for host in self}
        return {name: actions for name, actions in done.items() if actions}

    def running(self) -> set[str]:
        """Give the ids of the containers that run on any of them."""
        return {name for host in self for name in host.docker("ps", "-q", "--no-trunc").split()}

    def clear(self, *, but: str = "") -> None:
        """Remove every container from every host, except those with a label."""
        for host in self:
            host.clear(but=but)
