"""Nodes behind SSH."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import paramiko

from deploy.commands import Result
from deploy.errors import Failure
from deploy.hosts import REACHED, Host
from deploy.shells import Shell
from deploy.ssh import CHANNEL_TIMEOUT, Dialled, close_connection, connection_to, dialled
from deploy.stdio import dial_engine
from deploy.talk import ChannelTalk, Talk
from deploy.timings import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    from fabric import Connection

    from deploy.engine import Engine
    from deploy.inventory import Node
    from deploy.progress import Say
    from deploy.run import Run

FRESH = 5.0  # seconds for which what came in the way of a node holds
GIVING_UP = 0.5  # seconds for who made a connection ready to end when that is closed
SESSION_PAUSES = (0.1, 0.4, 1.5)  # seconds


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
        # Whether TCP came through to it: what came in the way then is the login's.
        self._reached = False

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
        if (self._preparing and self._preparing.is_alive()) or self._fresh_failure:
            return
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
        failure, self._kept_failure = self._fresh_failure, None
        if failure:
            raise failure

    @property
    def _fresh_failure(self) -> Failure | None:
        kept = self._kept_failure
        return kept[0] if kept and time.monotonic() < kept[1] + FRESH else None

    def _dial(self) -> Dialled:
        connection = connection_to(self.node, self._run.settings, self._run.known_hosts)
        self._opened.append(connection)
        with self._run.timed(self.node, Phase.CONNECT):
            found = dialled(connection)
        self._reached = True
        return found

    def dial(self) -> None:
        """Have a TCP connection; through a jump host, which dials by itself, the whole of it."""
        with self._connecting:
            self.check_wanted()
            if self._connection is None and self._dialled is None:
                if not self._reached:
                    self._tell_kept_failure()
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
                # Before what speaks to the engine is loaded: the way to it is made there meanwhile.
                line = dial_engine(self.session)
                # Loaded here, unless the run did by now: where the node is made ready, others connect meanwhile.
                from deploy.channel import docker_over
                from deploy.engine import Engine

                self._engine = Engine(docker_over(self.session, dialled=line))
            return self._engine

    def http(self, address: str, port: int) -> requests.Session:
        """Give HTTP to a port that the node reaches, over channels of the connection."""
        from deploy.channel import http_over

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
                # It waits for what does not answer, over a link that was cut: whoever comes next connects anew.
                self._forget()
                self._connection = self._dialled = None
                return
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
        self._reached = False
        self._shells.clear()
        self.__dict__.pop("ray", None)

    def cut(self) -> None:
        """Close every connection without waiting for whoever opens or uses it."""
        if dialled := self._dialled:
            dialled.close()
        for connection in list(self._opened):
            close_connection(connection)
