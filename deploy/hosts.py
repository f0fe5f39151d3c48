"""Nodes at work, each as the steps of a chain see it; and the one that is this machine.

What speaks to an engine or to Ray is not loaded before nodes are connected to: that comes about meanwhile.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from deploy.at_once import at_once
from deploy.commands import Result, run_here, sudo_refused
from deploy.errors import Failure, shortened
from deploy.plan import Late, Place, Word, parts_of
from deploy.ray import TOKEN_PATH, container_name
from deploy.reading import described
from deploy.secret import Secret
from deploy.talk import ChildTalk, Talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import paramiko
    import requests

    from deploy.engine import Engine
    from deploy.git import Git
    from deploy.inventory import Node
    from deploy.progress import News
    from deploy.ray_api import RayApi
    from deploy.run import Run

T = TypeVar("T")

TOKEN = re.compile(r"[!-~]{1,512}")  # what a header can bear
SUDO_DEADLINE = 30  # seconds
REACHED = 3.0  # seconds for a connection to a port
LAST_LINES = 10  # of a failed command's output
LONGEST_LINE = 300  # characters of each of them


class Host(ABC):
    """A node of this run: its engine, its shell, its values. Implements `Site`."""

    def __init__(self, node: Node, run: Run) -> None:
        """Nothing is contacted before it is used."""
        self.node, self._run = node, run
        self._values: dict[str, Any] = {}
        self._sudo = False
        self._facts = threading.RLock()

    @abstractmethod
    def command(self, argv: tuple[str, ...], timeout: float, *, live: bool = False, outlives: bool = False) -> Result:
        """Run a command; one that `outlives` us goes on where we end."""

    @abstractmethod
    def talk(self, command: str) -> Talk:
        """Run a line of shell that we go on talking with."""

    @abstractmethod
    def http(self, address: str, port: int) -> requests.Session:
        """Give HTTP to a port that the node reaches."""

    @abstractmethod
    def reaches(self, address: str, port: int) -> bool | None:
        """Tell whether a connection from the node comes through in time; None where a command has to be asked."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it can be spoken to without connecting anew."""

    @abstractmethod
    def tunnel(self, address: str, port: int) -> paramiko.Channel:
        """Give a way to a port that the node reaches; `RAY_API_FAILED` where nothing listens there."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""

    @abstractmethod
    def cut(self) -> None:
        """Close what is open, whoever uses it; at once, and for good."""

    def check_wanted(self) -> None:
        """See that the run has not been cut off, or this node dismissed: nothing is opened again."""
        if self._run.is_cut and self._run.halted:
            raise self._run.halted
        if self._run.dismissed and self.node != self._run.scope.inventory.head:
            raise self._run.dismissed

    @property
    @abstractmethod
    def docker(self) -> Engine:
        """The node's engine."""

    @property
    @abstractmethod
    def is_root(self) -> bool:
        """Whether we are root there."""

    @abstractmethod
    def dial(self) -> None:
        """Have a way to the node ready for its first call; a `Failure` where nobody is there."""

    @abstractmethod
    def open(self) -> None:
        """Connect, where that is something to do."""

    @abstractmethod
    def prepare(self) -> None:
        """Have the node and its engine ready by the time that they are asked; nobody waits for it.

        What comes in the way is told whoever asks soon; of an engine that is there, only that it does not answer.
        """

    def reconnect(self) -> None:
        """Have the next command run in a new session."""
        self.close()

    def regain(self) -> None:
        """Have the next call go over a new connection, for this one is lost."""
        self.close()

    def ask(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> bool:
        """Tell whether a command succeeds."""
        return self.command(self._as(argv, root), timeout, live=live, outlives=outlives).code == 0

    def run(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> str:
        """Run a command and give its output; `COMMAND_FAILED` with its last lines where it fails."""
        result = self.command(self._as(argv, root), timeout, live=live, outlives=outlives)
        if result.code:
            lines = (result.errors.strip() or result.output.strip()).splitlines()[-LAST_LINES:]
            said = "\n".join(shortened(line, LONGEST_LINE) for line in lines) or "it wrote nothing"
            error = f"`{argv[0]}` ended with {result.code}: {said}"
            raise Failure("COMMAND_FAILED", error, "Mend what it says on that node, and run the task again")
        return result.output

    def _as(self, argv: tuple[str, ...], root: bool) -> tuple[str, ...]:
        if not root or self.is_root:
            return argv
        self._check_sudo()
        return ("sudo", "-n", *argv)

    def _check_sudo(self) -> None:
        """Know that sudo lets us, before anything is done by it."""
        if not self._sudo:
            result = self.command(("sudo", "-n", "true"), SUDO_DEADLINE)
            if result.code:
                raise sudo_refused(result.errors.strip())
            self._sudo = True

    @cached_property
    def ray(self) -> RayApi:
        """Ray's API on this node, with the token of the container that runs here."""
        from deploy.ray_api import RayApi

        settings = self._run.settings
        token = None
        if not settings.allow_unauthenticated:
            head = self.docker.seen(container_name(settings.cluster_name, "head"))
            kept = self.docker.laid_file(head, TOKEN_PATH) if head else None
            token = token_in(kept) if kept else None
        return RayApi(self.http(*settings.dashboard), token, reconnect=self.regain, see=self._see_head)

    def _see_head(self) -> None:
        """See that the container runs in which the head's Ray is; an engine that cannot say leaves it open."""
        name = container_name(self._run.settings.cluster_name, "head")
        try:
            found = self.docker.find(name)
        except Failure:
            return
        if found is None or not found.running:
            how = f"ended with {found.exit_code}" if found else "is gone"
            raise Failure("HEAD_NOT_RUNNING", f"the head's container {how}", "Start it: invoke cluster.start")

    @property
    def registry(self) -> Any:
        """The registry of this run."""
        return self._run.registry

    @property
    def git(self) -> Git:
        """The operator's git."""
        return self._run.git

    def value(self, word: Word) -> str:
        """Give a word with its late values found out."""
        return "".join(str(self.resolve(part)) if isinstance(part, Late) else part for part in parts_of(word))

    def resolve(self, late: Any) -> Any:
        """Give a late value as it was found, of its own type."""
        if late.at is not Place.NODE:
            return self._run.shared(late, self)
        with self._facts:
            if late.name not in self._values:
                self._values[late.name] = late.resolve(self)
            return self._values[late.name]

    def peer(self, node: Node) -> Host:
        """Give the site of another node of this run."""
        return self._run.host(node)

    def anew(self, late: Any, former: Any) -> Any:
        """Give a value that all nodes share, found out again unless another node did since it was `former`."""
        return self._run.anew(late, former, self)

    def first_at(self, address: str) -> Node:
        """Give the node that was first found at an address for Ray in this run."""
        return self._run.first_at(address, self.node)

    def at_once(self, do: Callable[[T], object], items: Iterable[T]) -> None:
        """Do the same to several, as many at a time as the run has nodes at work."""
        at_once(do, items, self._run.settings.concurrency)

    def pause(self, seconds: float) -> None:
        """Let time pass between two looks at something; what halts the run ends it."""
        self._run.pause(seconds)

    def say(self, news: News) -> None:
        """Tell the operator about progress."""
        self._run.watch.hear(self.node, news)

    def note(self, **facts: Any) -> None:
        """Put facts into this node's line of the report."""
        self._run.outcome(self.node).facts.update(facts)

    def made(self, **facts: Any) -> None:
        """Put what this node made into the report."""
        self._run.outcome(self.node).made.update(facts)

    @property
    def started(self) -> bool:
        """Whether its container was started in this run."""
        return "started" in self._run.outcome(self.node).facts

    @property
    def started_for(self) -> float:
        """For how many seconds it is so; 0 where it was not."""
        since = self._run.outcome(self.node).facts.get("started")
        return 0.0 if since is None else time.monotonic() - since

    @property
    def standing(self) -> bool:
        """Whether nothing failed on this node so far."""
        return self._run.outcome(self.node).problem is None

    def fail(self, failure: Failure) -> None:
        """Put a failure into this node's line of the report, unless we have made it ourselves."""
        self.check_wanted()
        self._run.outcome(self.node).fail(failure)


class LocalHost(Host):
    """The machine that runs Invoke."""

    @property
    def is_root(self) -> bool:
        """Whether this process is root."""
        return os.geteuid() == 0

    def dial(self) -> None:
        """Nothing: we are there."""

    def command(self, argv: tuple[str, ...], timeout: float, *, live: bool = False, outlives: bool = False) -> Result:
        """Run a command as a child."""
        self.check_wanted()
        return run_here(argv, timeout, self.say if live else None, outlives=outlives)

    def open(self) -> None:
        """Nothing: it is here."""

    def prepare(self) -> None:
        """Nothing: it answers at once."""

    def talk(self, command: str) -> Talk:
        """Run a line of shell as a child."""
        return ChildTalk(("sh", "-c", command))

    @cached_property
    def docker(self) -> Engine:
        """The engine behind this machine's socket."""
        from deploy.channel import docker_local
        from deploy.engine import Engine

        self.check_wanted()
        return Engine(docker_local(self._run.settings.docker_host))

    def http(self, address: str, port: int) -> requests.Session:
        """Give HTTP to a port that this machine reaches."""
        from deploy.channel import http_local

        return http_local(address, port)

    def reaches(self, address: str, port: int) -> bool | None:
        """Tell whether a connection comes through in time."""
        try:
            socket.create_connection((address, port), REACHED).close()
        except OSError:
            return False
        return True

    @property
    def is_open(self) -> bool:
        """Say yes."""
        return True

    def tunnel(self, address: str, port: int) -> paramiko.Channel:
        """Refuse: what this machine reaches it reaches without us."""
        raise AssertionError(f"no tunnel leads to this machine itself: {address}:{port}")

    def close(self) -> None:
        """Let the engine's client go."""
        if client := self.__dict__.pop("docker", None):
            client.close()

    def cut(self) -> None:
        """Let the engine's client go, whoever uses it; our children were ended."""
        self.close()


def token_in(kept: bytes) -> Secret:
    """Read the token out of the head's own file, which whoever is root there may have changed."""
    token = kept.decode("ascii", "replace").strip()
    if not TOKEN.fullmatch(token):
        said = f"the file of Ray's token on the head has no token: {described(kept)}"
        raise Failure("TOKEN_MISMATCH", said, "Start the cluster again: invoke cluster.stop cluster.start")
    return Secret(token)
