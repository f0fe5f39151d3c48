"""Nodes at work: this machine and those behind SSH, each as the steps of a chain see it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import paramiko
from fabric import Connection

from deploy.at_once import at_once
from deploy.channel import docker_local, docker_over, http_local, http_over
from deploy.commands import Result, run_here, sudo_refused
from deploy.engine import Engine
from deploy.errors import Failure, shortened
from deploy.plan import Late, Place, Word, parts_of
from deploy.ray import TOKEN_PATH, container_name
from deploy.ray_api import RayApi
from deploy.reading import described
from deploy.secret import Secret
from deploy.shells import Shell
from deploy.ssh import CHANNEL_TIMEOUT, Dialled, close_connection, connection_to, dialled
from deploy.talk import ChannelTalk, ChildTalk, Talk
from deploy.timings import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import requests

    from deploy.git import Git
    from deploy.inventory import Node
    from deploy.progress import News, Say
    from deploy.run import Run

T = TypeVar("T")

TOKEN = re.compile(r"[!-~]{1,512}")  # what a header can bear
SUDO_DEADLINE = 30  # seconds
REACHED = 3.0  # seconds for a connection to a port
FRESH = 5.0  # seconds for which what came in the way of a node holds
GIVING_UP = 0.5  # seconds for who made a connection ready to end when that is closed
SESSION_PAUSES = (0.1, 0.4, 1.5)  # seconds
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

        What comes in the way is told whoever asks first.
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
        settings = self._run.settings
        token = None
        if not settings.allow_unauthenticated:
            head = self.docker.find(container_name(settings.cluster_name, "head"))
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
        self.check_wanted()
        return Engine(docker_local(self._run.settings.docker_host))

    def http(self, address: str, port: int) -> requests.Session:
        """Give HTTP to a port that this machine reaches."""
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


class SshHost(Host):
    """A node behind SSH: one connection of Fabric's, for its shell, its engine and its ports."""

    def __init__(self, node: Node, run: Run) -> None:
        """Nothing is contacted before it is used."""
        super().__init__(node, run)
        self._connection: Connection | None = None
        self._dialled: Dialled | None = None
        self._engine: Engine | None = None
        # Those that run no command, for the next.
        self._shells: list[Shell] = []
        # Whether sshd allows so few sessions that none is kept.
        self._scarce = False
        # Those of former sessions: what was begun there, as the lock, lives on.
        self._former: list[Connection] = []
        # All of them, also the one that is being opened, so that others can close them meanwhile.
        self._opened: list[Connection] = []
        self._connecting = threading.RLock()
        # Not the same: who has a shell does not wait for the engine.
        self._engaging = threading.RLock()
        # Who makes both ready, and what came in the way: to try again would take as long again.
        self._preparing: threading.Thread | None = None
        self._kept_failure: tuple[Failure, float] | None = None

    @property
    def connection(self) -> Connection:
        """The open connection; it is opened where it is not."""
        with self._connecting:
            self.check_wanted()
            if self._connection is None:
                self._tell_kept_failure()
                dialled, self._dialled = self._dialled or self._dial(), None
                with self._run.timed(self.node, Phase.CONNECT):
                    dialled.open()
                self._connection = dialled.connection
            return self._connection

    def prepare(self) -> None:
        """Connect, and find the engine's version, by a thread of its own."""
        self._preparing = threading.Thread(target=self._prepare, daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        # What else is raised, as where our line is cut, whoever asks meets again.
        with contextlib.suppress(Exception), self._engaging:
            with self._connecting:
                self._keep_failure_of(self.open)
            self._keep_failure_of(lambda: self.docker, "DOCKER_TIMEOUT")

    def _keep_failure_of(self, make: Callable[[], object], *codes: str) -> None:
        """Make something; for whoever asks soon, keep what comes in the way where another try would take as long."""
        try:
            make()
        except Failure as failure:
            if not codes or failure.code in codes:
                self._kept_failure = (failure, time.monotonic())
            raise

    def _tell_kept_failure(self) -> None:
        """Raise what came in the way while nobody waited; once, and not what may be mended by now."""
        kept, self._kept_failure = self._kept_failure, None
        if kept and time.monotonic() < kept[1] + FRESH:
            raise kept[0]

    def _dial(self) -> Dialled:
        connection = connection_to(self.node, self._run.settings, self._run.known_hosts)
        self._opened.append(connection)
        with self._run.timed(self.node, Phase.CONNECT):
            return dialled(connection)

    def dial(self) -> None:
        """Have a TCP connection; through a jump host, which dials by itself, the whole of it."""
        with self._connecting:
            self.check_wanted()
            if self._connection is None and self._dialled is None:
                self._dialled = self._dial()
                if self._dialled.connection.gateway:
                    self.connection  # noqa: B018 - opened

    @property
    def is_root(self) -> bool:
        """Whether the login user is root."""
        return bool(self.connection.user == "root")

    def command(self, argv: tuple[str, ...], timeout: float, *, live: bool = False, outlives: bool = False) -> Result:
        """Run a command over the connection."""
        try:
            return self._run_in_shell(argv, timeout, self.say if live else None, outlives=outlives)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost(f"`{argv[0]}`", error) from error

    def _run_in_shell(self, argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool) -> Result:
        """Run it in a shell that ran others before, else in a new one; each runs one command at a time."""
        result = None
        while result is None:
            self.check_wanted()
            connection = self.connection
            shell = self._idle_shell() or Shell(self.session())
            result = shell.run(argv, timeout, say, outlives=outlives)
        # After a reconnection that came meanwhile it is of the former session.
        if self._scarce or connection is not self._connection:
            shell.close()
        else:
            self._shells.append(shell)
        return result

    def _idle_shell(self) -> Shell | None:
        while self._shells:
            with contextlib.suppress(IndexError):  # another thread took the last
                shell = self._shells.pop()
                if shell.idle:
                    return shell
        return None

    def _end_shells(self) -> None:
        while shell := self._idle_shell():
            shell.close()

    def session(self) -> paramiko.Channel:
        """Give a new channel; where sshd allows no further one, what is not in use is let go for it."""
        for pause in SESSION_PAUSES:
            try:
                return self._transport().open_session(timeout=CHANNEL_TIMEOUT)
            except paramiko.ChannelException:
                self._scarce = True
                self._end_shells()
                if self._engine:
                    self._engine.release()
                time.sleep(pause)  # until sshd knows that it is gone
        try:
            return self._transport().open_session(timeout=CHANNEL_TIMEOUT)
        except paramiko.ChannelException as error:
            said = f"sshd refuses a session: {error.text}"
            raise Failure("SSH_NO_CHANNEL", said, "Allow more of them there: MaxSessions of sshd") from error

    def _transport(self) -> paramiko.Transport:
        transport: paramiko.Transport | None = self.connection.client.get_transport()
        if transport is None or not transport.is_active():
            raise self.lost("a call", EOFError("the connection is closed"))
        return transport

    def open(self) -> None:
        """Open the connection."""
        assert self.connection  # noqa: S101 - it opens where it is asked for

    def talk(self, command: str) -> Talk:
        """Run a line of shell on a channel of the connection."""
        try:
            return ChannelTalk(self.session(), command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost("a command", error) from error

    def lost(self, doing: str, error: BaseException) -> Failure:
        """Give the failure of a link that broke while something was done."""
        transport = self._connection.client.get_transport() if self._connection else None
        if transport and transport.is_active() and "timeout" in str(error).lower():
            cure = "Look at its sshd's log, and at its load"
            return Failure("SSH_STALLED", f"sshd opens no session for {doing}: {error}", cure)
        why = getattr(transport, "saved_exception", None) or error
        return Failure("SSH_LOST", f"the SSH connection ended in {doing}: {why or 'closed'}", "Run the task again")

    @property
    def docker(self) -> Engine:
        """The engine, over channels of the connection."""
        # Not a cached_property: until Python 3.12 that has one lock for all hosts, and they would connect in turn.
        with self._engaging:
            if self._engine is None:
                self._tell_kept_failure()
                self._engine = Engine(docker_over(self.session))
            return self._engine

    def http(self, address: str, port: int) -> requests.Session:
        """Give HTTP to a port that the node reaches, over channels of the connection."""
        return http_over(lambda: self._to(address, port))

    def _to(self, address: str, port: int, timeout: float = CHANNEL_TIMEOUT) -> paramiko.Channel:
        origin = ("127.0.0.1", 0)
        return self._transport().open_channel("direct-tcpip", (address, port), origin, timeout=timeout)

    def reaches(self, address: str, port: int) -> bool | None:
        """Have sshd connect, which takes no program there; None where it may not, or says nothing of the other side."""
        try:
            self._to(address, port, REACHED).close()
        except paramiko.ChannelException as error:
            return False if error.code == paramiko.common.OPEN_FAILED_CONNECT_FAILED else None
        except (paramiko.SSHException, OSError, EOFError) as error:
            if self.is_open:
                return None  # it still tries, or the way to it is slow
            raise self.lost("a look at a port", error) from error
        return True

    @property
    def is_open(self) -> bool:
        """Whether the connection is there, and has not ended."""
        transport = self._connection.client.get_transport() if self._connection else None
        return bool(transport and transport.is_active())

    def tunnel(self, address: str, port: int) -> paramiko.Channel:
        """Give a channel to a port that the node reaches."""
        try:
            return self._to(address, port)
        except paramiko.ChannelException as error:
            said = f"nothing answers at {address}:{port} of the head: {error.text}"
            raise Failure("RAY_API_FAILED", said, "See whether Ray runs: invoke cluster.status") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost("a tunnel", error) from error

    def reconnect(self) -> None:
        """Have the next command run in a new session."""
        # Who makes an engine ready is done with it: it is one of the former session.
        with self._engaging, self._connecting:
            self._end_shells()
            self._forget()
            if self._connection:
                self._former.append(self._connection)
            self._connection = None

    def regain(self) -> None:
        """Have the next call go over a new connection; where there is none by now, that was said."""
        if self._connection is not None:
            self.say("lost contact, connecting again")
        self.close()

    def close(self) -> None:
        """Close the connection, and those to the jump hosts before it."""
        if self._preparing and self._preparing.is_alive():
            self.cut()
            self._preparing.join(GIVING_UP)
            if self._preparing.is_alive():
                return  # it waits for a node that does not answer: nothing is open
        with self._connecting:
            engine = self._engine
            self._forget()
            connections = [*self._former, *([self._connection] if self._connection else [])]
            self._former, self._connection = [], None
            self._opened.clear()
            dialled, self._dialled = self._dialled, None
        if dialled:
            dialled.close()
        for connection in connections:
            close_connection(connection)
        # After its link, on which nothing can be waited for any more; urllib3 keeps for good what nobody closes.
        if engine:
            engine.close()

    def _forget(self) -> None:
        """Drop what speaks over the connection, and what came in its way."""
        self._engine = self._kept_failure = None
        self._shells.clear()
        self.__dict__.pop("ray", None)

    def cut(self) -> None:
        """Close every connection without waiting for whoever opens or uses it."""
        if dialled := self._dialled:
            dialled.close()
        for connection in list(self._opened):
            close_connection(connection)
