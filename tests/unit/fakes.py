"""A cluster in memory: what the steps and the late values of a plan see of nodes, engines, registry and Ray."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from deploy.errors import Failure
from deploy.git import Git
from deploy.hostfile import parse_workers
from deploy.inventory import Node, inventory, parse_head
from deploy.plan import Late, Place, Plan, Step, Word, argv, parts_of
from deploy.plans import Scope
from deploy.plans.cluster import start
from deploy.progress import News, Say
from deploy.ray import Container, all_labels
from deploy.secret import Secret
from deploy.settings import Settings
from deploy.site import Credentials, Found, Listed, Site, Weight
from deploy.steps.containers import Create

TOP = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'d1' * 32}"
IMAGE_ID = f"sha256:{'1d' * 32}"
LOGIN = Credentials("AWS", Secret("hunter2-registry"), "registry.test")

T = TypeVar("T")


def settings(**values: Any) -> Settings:
    """Give settings as they would be read, without a file or an environment."""
    return Settings.model_validate({"root": TOP, **values})


def scope(workers: str = "", *, only: str | None = None, **values: Any) -> Scope:
    """Give what a plan is made of; `workers` is the text of a workers.txt."""
    given = settings(**values)
    nodes = inventory(
        parse_head(given.head),
        parse_workers(workers, "workers.txt") if workers else (),
        user=given.ssh_user,
        port=given.ssh_port,
    )
    return Scope(given, nodes, nodes.select(only))


def containers(of: Scope) -> Mapping[str, Container]:
    """Give the container of each node that `cluster.start` creates, by the node's name."""
    return {
        chain.node.name: step.container
        for stage in start(of).stages
        for chain in stage.chains
        for step in chain.steps
        if isinstance(step, Create)
    }


def bash(line: str, path: Path | None = None, **variables: str) -> str:
    """Give what a line prints, run as the script would run it; `path` has programs that stand for others."""
    environment = {"PATH": f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin", **variables}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def program(folder: Path, name: str, body: str) -> Path:
    """Put a bash program into a folder, and give the folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder


@dataclass
class Image:
    """An image in an engine."""

    id: str = IMAGE_ID
    labels: Mapping[str, str] = field(default_factory=dict)
    digests: Sequence[str] = ()
    user: str = ""
    platform: str = "linux/amd64"


@dataclass
class FakeDocker:
    """An engine: what is in it, what is asked of it, and what it refuses."""

    images: dict[str, Image] = field(default_factory=dict)
    registry: dict[str, str] = field(default_factory=dict)
    held: dict[str, Found] = field(default_factory=dict)
    looked: dict[str, Found | None] = field(default_factory=dict)  # what was seen, until something is done
    lists: dict[frozenset[tuple[str, str]], Sequence[Listed]] = field(default_factory=dict)  # the same
    new: dict[str, set[str]] = field(default_factory=dict)  # what was laid into what was just created
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tails: dict[str, Sequence[str]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=lambda: {"MemTotal": 8 * 2**30, "NCPU": 4, "Runtimes": {"runc": {}}})
    broken: dict[str, Failure] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    secrets: list[Credentials | None] = field(default_factory=list)
    contexts: list[Mapping[str, bytes]] = field(default_factory=list)
    trees: list[bytes] = field(default_factory=list)
    labels_given: list[Mapping[str, str]] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    differs: Sequence[str] = ()
    commands: dict[str, list[str]] = field(default_factory=dict)
    output: str = "2.60.0\n"
    answer: tuple[int, str] = (0, "[]")

    def hold(self, name: str, state: str = "running", **labels: str) -> Found:
        """Have a container, with labels as `raydock_cluster`."""
        named = {key.replace("_", "."): value for key, value in labels.items()}
        self.held[name] = Found(
            "c0ffee" * 10, name, state, named, IMAGE_ID, exit_code=None if state == "running" else 3
        )
        return self.held[name]

    def _called(self, *call: str) -> None:
        self.calls.append(call)
        if call[0] in ("create", "start", "stop", "remove"):
            self.looked.clear()
            self.lists.clear()
            self.new.clear()
        if call[0] in self.broken:
            raise self.broken[call[0]]

    def _named(self, name: str) -> Found:
        return next(found for found in self.held.values() if name in (found.name, found.id))

    def _image(self, name: str) -> Image | None:
        named = {key.removesuffix(":latest"): image for key, image in self.images.items()}
        return named.get(name.removesuffix(":latest"))

    def has(self, image: str) -> bool:
        return self._image(image) is not None

    def image_id(self, image: str) -> str | None:
        found = self._image(image)
        return found.id if found else None

    def image_labels(self, image: str) -> Mapping[str, str]:
        found = self._image(image)
        return found.labels if found else {}

    def image_user(self, image: str) -> str:
        found = self._image(image)
        return found.user if found else ""

    def image_digests(self, image: str) -> Sequence[str]:
        found = self._image(image)
        return found.digests if found else ()

    def image_command(self, image: str) -> Sequence[str]:
        return ("bash",) if self._image(image) else ()

    def commit(self, name: str, image: str, changes: Sequence[str]) -> None:
        found = self._named(name)
        self._called("commit", found.name, image, *changes)
        _, _, labels = changes[-1].partition(" ")
        self.images[image] = Image(labels=dict(word.split("=", 1) for word in shlex.split(labels)))

    def diff(self, name: str) -> Sequence[str]:
        assert self._named(name)
        return self.differs

    def pull(self, image: str, credentials: Credentials | None, say: Say) -> None:
        self.secrets.append(credentials)
        self._called("pull", image)
        say(f"pulled {image}")
        self.images[image] = Image()

    def tag(self, image: str, repository: str, tag: str) -> None:
        self._called("tag", image, repository, tag)
        self.images[f"{repository}:{tag}"] = self.images[image]

    def push(self, repository: str, tag: str, credentials: Credentials | None, say: Say) -> str:
        self.secrets.append(credentials)
        self._called("push", repository, tag)
        say(f"pushed {tag}")
        self.registry[f"{repository}:{tag}"] = DIGEST
        return DIGEST

    def published(self, image: str, credentials: Credentials | None) -> str | None:
        self.secrets.append(credentials)
        return self.registry.get(image)

    def login(self, credentials: Credentials) -> None:
        self.secrets.append(credentials)

    def build(
        self,
        context: Mapping[str, bytes],
        tag: str,
        options: Mapping[str, Any],
        say: Say,
        *,
        tree: Path | None = None,
        idle: float = 0,
    ) -> str:
        self._called("build", tag)
        self.patience.append(idle)
        say(f"built {tag}")
        self.contexts.append(context)
        self.trees += [tree.read_bytes()] if tree else []
        self.images[tag] = Image(labels=options["labels"])
        return IMAGE_ID

    def image_platform(self, image: str) -> str:
        found = self._image(image)
        return found.platform if found else ""

    def platform(self) -> str:
        if wrong := self.broken.get("platform"):
            raise wrong
        return "linux/amd64"

    def run_once(self, image: str, argv: Sequence[str], *, entrypoint: str = "", network: str = "none") -> str:
        assert network == ("none" if entrypoint else "host")
        self._called("run_once", image, *argv)
        return self.output

    def image_weight(self, image: str) -> Weight:
        return self.weights.get(image, Weight())

    def shared_with(self, weight: Weight) -> int:
        return max((weight.shared_with(one) for one in self.weights.values()), default=0)

    def facts(self) -> Mapping[str, Any]:
        return self.info

    def find(self, name: str) -> Found | None:
        if "find" in self.broken:
            raise self.broken["find"]
        self.looked[name] = self.held.get(name)
        return self.looked[name]

    def seen(self, name: str) -> Found | None:
        return self.looked[name] if name in self.looked else self.find(name)

    def listed(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        shown = tuple(Listed(one.id, one.name, one.state, one.labels) for one in self.containers(labels))
        self.lists[frozenset(labels.items())] = shown
        return shown

    def seen_in_list(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        seen = self.lists.get(frozenset(labels.items()))
        return self.listed(labels) if seen is None else seen

    def containers(self, labels: Mapping[str, str]) -> Sequence[Found]:
        # The engine's filter is not taken at its word: it gives all that there is.
        assert labels
        return tuple(self.held.values())

    def create(self, container: Container, words: Callable[[Word], str]) -> None:
        self._called("create", container.name)
        if container.name in self.held:
            raise Failure("NAME_CONFLICT", f"The container name /{container.name} is already in use by container")
        labels = {key: words(value) for key, value in all_labels(container)}
        self.commands[container.name] = argv(container.command, words)
        self.held[container.name] = Found("c0ffee" * 10, container.name, "created", labels, words(container.image))
        self.new[container.name] = set()

    def put_file(self, name: str, path: str, content: bytes, uid: int) -> None:
        self._called("put_file", name, path, str(uid))
        self.files[name, path] = content
        if name in self.new:
            self.new[name].add(path)

    def get_file(self, name: str, path: str) -> bytes | None:
        return self.files.get((name, path))

    def laid_file(self, container: Found, path: str) -> bytes | None:
        return self.files.get((container.name, path))

    def has_file(self, name: str, path: str) -> bool:
        return (name, path) in self.files

    def has_laid(self, name: str, path: str) -> bool:
        return path in self.new[name] if name in self.new else self.has_file(name, path)

    def user_id(self, name: str) -> int:
        assert name in self.held
        return 1000

    def start(self, name: str) -> None:
        self._called("start", name)
        self.held[name] = replace(self.held[name], state="running")

    def stop(self, name: str, grace: int) -> None:
        found = self._named(name)
        self._called("stop", found.name, str(grace))
        self.held[found.name] = replace(found, state="exited")

    def remove(self, name: str) -> None:
        found = self._named(name)
        assert not found.running, "the engine does not remove what runs"
        self._called("remove", found.name)
        del self.held[found.name]

    def logs(self, name: str, lines: int) -> Sequence[str]:
        return self.tails.get(name, ())[-lines:]

    def exec(self, name: str, argv: Sequence[str], timeout: float) -> tuple[int, str]:
        assert timeout > 0
        self._called("exec", name, argv[0])
        return self.answer


@dataclass
class FakeRegistry:
    """A registry with or without the repository."""

    there: bool = True
    cure: str = ""
    calls: list[str] = field(default_factory=list)
    differs: tuple[str, ...] = ()

    def exists(self) -> bool:
        return self.there

    def create(self) -> None:
        self.calls.append("create")
        self.there = True

    def differences(self) -> Iterable[str]:
        return self.differs

    def uri(self) -> str:
        return "registry.test/my-app"

    def shown(self) -> Mapping[str, str]:
        return {"repositoryUri": self.uri()}

    def credentials(self, host: str) -> Credentials | None:
        self.calls.append(f"credentials of {host}")
        return LOGIN


@dataclass(frozen=True)
class Row:
    """A row of Ray's node list."""

    address: str
    alive: bool = True
    node_id: str = ""
    why: str = ""


@dataclass
class FakeRay:
    """Ray's node list; of several lists, each look gives the next, and the last one stays."""

    lists: list[tuple[Row, ...]] = field(default_factory=lambda: [()])

    def nodes(self) -> Sequence[Row]:
        return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]


class FakeSite:
    """A node; `answers` says by the beginning of a command line what it prints, or how it fails."""

    def __init__(self, node: Node, cluster: Cluster) -> None:
        self._node, self._cluster = node, cluster
        self.docker, self.registry, self.ray = FakeDocker(), cluster.registry, FakeRay()
        self.git = Git()  # the real one: its repositories are folders
        self.answers: dict[str, str | Failure] = {}
        self.commands: list[str] = []
        self.outliving: list[tuple[str, ...]] = []
        self.said: list[News] = []
        self.products: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.failure: Failure | None = None
        self.sessions = 1
        self.is_root = False
        # What its sshd says of a port; where it says nothing, a command is asked.
        self.reached: dict[tuple[str, int], bool] = {}
        self._values: dict[str, Any] = {}

    @property
    def node(self) -> Node:
        return self._node

    def run(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> str:
        assert timeout > 30 or not live
        self.outliving += [argv] if outlives else []
        line = shlex.join(argv)
        self.commands.append(f"sudo {line}" if root else line)
        beginnings = [begin for begin in self.answers if line.startswith(begin)]
        answer = self.answers[max(beginnings, key=len)] if beginnings else ""
        if isinstance(answer, Failure):
            raise answer
        return answer

    def ask(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> bool:
        try:
            self.run(*argv, root=root, timeout=timeout, live=live, outlives=outlives)
        except Failure:
            return False
        return True

    def reaches(self, address: str, port: int) -> bool | None:
        return self.reached.get((address, port))

    def value(self, word: Word) -> str:
        return "".join(str(self.resolve(part)) if isinstance(part, Late) else part for part in parts_of(word))

    def resolve(self, late: Any) -> Any:
        asked = self if late.at is Place.NODE else self._cluster.head
        if late.name not in asked._values:
            asked._values[late.name] = late.resolve(asked)
        return asked._values[late.name]

    def know(self, **values: Any) -> None:
        """Have late values found out already."""
        self._values |= values

    def forget(self) -> None:
        """Begin a new run."""
        self._values.clear()
        self.facts.pop("started", None)
        self.failure = None

    def perform(self, steps: Sequence[Step]) -> list[str]:
        """Do what is not done, until something fails; give what was changed."""
        changed = []
        try:
            for step in steps:
                if not step.done(self):
                    step.apply(self)
                    changed += [f"{self.node.name}: {step.title}"] if step.changes else []
        except Failure as failure:
            self.fail(failure)
        return changed

    def anew(self, late: Any, former: Any) -> Any:
        asked = self if late.at is Place.NODE else self._cluster.head
        assert asked._values.pop(late.name) is former
        return self.resolve(late)

    def first_at(self, address: str) -> Node:
        return self._cluster.addresses.setdefault(address, self.node)

    def reconnect(self) -> None:
        self.sessions += 1

    def peer(self, node: Node) -> FakeSite:
        return self._cluster.sites[node.name]

    def at_once(self, do: Callable[[T], object], items: Iterable[T]) -> None:
        for item in items:
            do(item)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def say(self, news: News) -> None:
        self.said.append(news)

    def made(self, **facts: Any) -> None:
        self.products |= facts

    def note(self, **facts: Any) -> None:
        self.facts |= facts

    @property
    def started(self) -> bool:
        return bool(self.facts.get("started"))

    @property
    def started_for(self) -> float:
        return time.monotonic() - self.facts["started"] if self.started else 0.0

    @property
    def standing(self) -> bool:
        return self.failure is None

    def fail(self, failure: Failure) -> None:
        self.failure = self.failure or failure


class Cluster:
    """The sites of a scope."""

    def __init__(self, of: Scope) -> None:
        self.registry = FakeRegistry()
        self.sites = {node.name: FakeSite(node, self) for node in of.inventory.nodes}
        self.addresses: dict[str, Node] = {}

    @property
    def head(self) -> FakeSite:
        return self.sites["head"]

    def perform(self, plan: Plan) -> list[str]:
        """Perform a plan as a new run, one chain after the other, and give what it changed: `node: what was done`."""
        changed = []
        self.addresses.clear()
        for one in self.sites.values():
            one.forget()
        for stage in plan.stages:
            for chain in stage.chains if not (stage.after_head and self.head.failure) else ():
                changed += self.sites[chain.node.name].perform(chain.steps)
        return changed


def site_of(of: Scope | None = None, name: str = "head") -> FakeSite:
    """Give one site of a cluster; the head of a lone machine if nothing is said."""
    return Cluster(of or scope()).sites[name]


def as_site(fake: FakeSite) -> Site:
    """Have the type checker compare the fake with what it stands for."""
    return fake


def command_failed(error: str = "it did not work") -> Failure:
    """Give what a command that fails raises."""
    return Failure("COMMAND_FAILED", error)
