"""SSH connections of Fabric's, with host keys checked, deadlines of our own, and errors that say what is wrong."""

from __future__ import annotations

import contextlib
import logging
import random
import shlex
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import paramiko
from fabric import Config, Connection

from deploy.dial import DIAL_TIMEOUT, dial
from deploy.errors import Failure
from deploy.hostkeys import check_host_keys, hops
from deploy.identities import Identities
from deploy.jumps import jumps
from deploy.known_files import tokens_of
from deploy.known_hosts import SSH_PORT, KnownHosts
from deploy.pulse import Pulse
from deploy.ssh_config import filled, login_name, read_ssh_config, shell
from deploy.stalls import AUTH, BANNER, Stall, no_banner, watched

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings

CHANNEL_TIMEOUT = 10  # seconds to a channel, instead of paramiko's hour
USER_TIMEOUT = 15_000  # milliseconds that sent bytes may stay without an acknowledgement
# Logins on their way at one sshd: from ten on it drops some (MaxStartups 10:30:100), and a jump host has all of ours.
AT_ONCE = 8
NO_SSH = (UnicodeDecodeError, struct.error)  # what paramiko raises for packets that no SSH server sends
FRESH = 5.0  # seconds that a TCP connection waits for its login
RETRIES = 3  # after a connection that was dropped before sshd said a word
PAUSE = 0.5  # seconds before the first of them, about; twice that before the next
LOOP_CURE = "Write above it there: `Host {host}`, and below that `ProxyJump none`"

# It prints tracebacks of what we turn into errors.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_logins: defaultdict[tuple[str, int], threading.Semaphore] = defaultdict(lambda: threading.Semaphore(AT_ONCE))


class OwnConnection(Connection):  # type: ignore[misc]  # Fabric has no types
    """A connection whose attributes are its own.

    Fabric looks for each that is set whether it has one of that name, and else writes it into the configuration: that
    is empty for a moment to all who share it.
    """

    __setattr__ = object.__setattr__

    def __init__(self, host: str, *, met: tuple[str, ...] = (), **how: Any) -> None:
        """Make a connection that is not yet open.

        Args:
            host: its name in ssh_config.
            met: the hosts whose own ProxyJump led here.
            how: what Fabric is given; the lists of keys are this connection's, or Fabric has one for all.
        """
        if host in met:
            raise loop(host)
        self.met = (*met, host)
        super().__init__(host, connect_kwargs={"key_filename": (), "compress": False}, forward_agent=False, **how)

    def get_gateway(self) -> Connection | str | None:
        """Give what is before this host, as ssh goes: the jump hosts from left to right, each through the former.

        The first of them is reached as ssh_config says for it; the others are not.
        """
        if "proxyjump" not in self.ssh_config:
            command = self.ssh_config.get("proxycommand")
            return filled(command, tokens_of(self)) if command else None
        gateway = None
        for jump in jumps(self.ssh_config["proxyjump"]):
            host = filled(jump.host, tokens_of(self))
            user = filled(jump.user, tokens_of(self)) if jump.user else None
            if (host, jump.port or SSH_PORT, user or self.user) == (self.host, self.port, self.user):
                raise loop(host)
            how = {"gateway": gateway} if gateway else {"met": self.met}
            gateway = OwnConnection(host, user=user, port=jump.port, config=self.config, **how)
        return gateway

    def open_gateway(self) -> paramiko.Channel | paramiko.ProxyCommand:
        """Open what is before this host; a command is run by a shell, as ssh does, and without one by Fabric."""
        if isinstance(self.gateway, str):
            return paramiko.ProxyCommand(shlex.join((shell(), "-c", f"exec {self.gateway}")))
        opened: paramiko.Channel = super().open_gateway()
        return opened


def loop(host: str) -> Failure:
    """Give the failure of a jump host that is to be reached through itself, as ssh has it."""
    return Failure("CONFIG", f"ProxyJump of ssh_config: {host} is reached through itself", LOOP_CURE.format(host=host))


@cache
def configuration() -> Config:
    """Give Fabric's configuration, with what `~/.ssh/config` and the system's say, read once for all connections.

    Raises:
        Mistake: `CONFIG` where one of them cannot be read.
    """
    # Lazy: without the files of Fabric's own, by which ssh does not go.
    return Config(ssh_config=read_ssh_config(), overrides={"user": login_name()}, lazy=True)


def connection_to(node: Node, settings: Settings, known: KnownHosts) -> Connection:
    """Give a connection to a node, not yet open.

    Args:
        node: the node.
        settings: say how a login is made.
        known: what is known of host keys where ssh_config names no files of its own.
    """
    shared = configuration()
    try:
        connection = OwnConnection(node.address, user=node.user, port=node.port, config=shared)
    except (ValueError, KeyError, paramiko.SSHException) as error:
        said = f"ssh_config has for {node.address} what is not understood here: {type(error).__name__} {error}"
        raise Failure("CONFIG", said, f"Correct it there: `ssh -G {node.address}`") from error
    for hop in hops(connection):
        # No time-out of Fabric's: it would hold for the connection and the key exchange together.
        hop.connect_timeout = None
        hop.connect_kwargs = {
            **hop.connect_kwargs,
            # Ours come before them, and say which part of a login stood still.
            "banner_timeout": 2 * BANNER.seconds,
            "auth_timeout": 2 * AUTH.seconds,
            # What a jump host opens is the connection to the next.
            "channel_timeout": CHANNEL_TIMEOUT if hop is connection else DIAL_TIMEOUT,
            "auth_strategy": Identities(hop, settings.ssh_key, jump=hop is not connection),
        }
    check_host_keys(connection, settings, known, node.name)
    return connection


def way_to(connection: Connection) -> list[Connection]:
    """Give the hops of a connection, the jump host that is reached first at the beginning."""
    return [*hops(connection)][::-1]


def dialled(connection: Connection) -> Dialled:
    """Give a TCP connection to the first hop; none where a ProxyCommand leads there."""
    first = way_to(connection)[0]
    with connect_errors(first):
        return Dialled(connection, None if first.gateway else dial(first.host, first.port), time.monotonic())


@dataclass(frozen=True)
class Dialled:
    """A connection that is not yet open, with the TCP connection for it."""

    connection: Connection
    sock: socket.socket | None
    since: float

    def open(self) -> None:
        """Open it; sshd does not wait for a login for ever, so what is old is made anew."""
        if self.sock and time.monotonic() - self.since > FRESH:
            self.close()
            open_connection(self.connection)
        else:
            open_connection(self.connection, self.sock)

    def close(self) -> None:
        """Let it go."""
        if self.sock:
            self.sock.close()


def open_connection(connection: Connection, sock: socket.socket | None = None) -> None:
    """Open a connection; a `Failure` says what stands in the way.

    Args:
        connection: what `connection_to` gave.
        sock: a TCP connection to its first hop; without one it is made.
    """
    try:
        for hop in way_to(connection):
            _open_hop(hop, sock)
            sock = None
    except BaseException:
        close_connection(connection)
        raise


def _open_hop(hop: Connection, sock: socket.socket | None) -> None:
    for attempt in range(RETRIES + 1):
        try:
            with _logins[hop.host, hop.port]:
                return _login(hop, sock)
        except Failure as failure:
            if failure.code != "SSH_BUSY" or attempt == RETRIES:
                raise
        hop.client.close()
        sock = None
        time.sleep(PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - so that not all come again at once
    return None


def _login(hop: Connection, sock: socket.socket | None) -> None:
    with connect_errors(hop):
        if hop.gateway is None:
            hop.connect_kwargs["sock"] = sock or dial(hop.host, hop.port)
        with watched(hop.client) as stall:
            try:
                hop.open()
            except (paramiko.SSHException, OSError, EOFError, *NO_SSH) as error:
                raise login_failure(hop, stall, error) from error
    transport = hop.client.get_transport()
    if transport is None:
        raise Failure("SSH_LOST", "the connection was closed as soon as it was open", "Run the task again")
    Pulse(transport)
    if isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)


def close_connection(connection: Connection) -> None:
    """Close a connection and those to its jump hosts, open or half open.

    Fabric's own close leaves the jump hosts', and what waits for its login, which sshd counts (MaxStartups).
    """
    for hop in hops(connection):
        hop.close()
        hop.client.close()
        if sock := hop.connect_kwargs.get("sock"):
            with contextlib.suppress(OSError):
                sock.close()


@contextmanager
def connect_errors(hop: Connection) -> Iterator[None]:
    """Turn what goes wrong while connecting to a hop into a `Failure`."""
    try:
        yield
    except Failure:
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise network_failure(error, f"{hop.host}:{hop.port}") from error


def network_failure(error: BaseException, where: str) -> Failure:
    """Give the failure for a TCP connection that did not come about."""
    up = "Is it up, and is the address right?"
    if isinstance(error, socket.gaierror):
        said = f": {error.strerror}" if error.errno == socket.EAI_AGAIN else ""
        return Failure("DNS_FAIL", f"{where}: no address for this name{said}", "Correct the name, or ~/.ssh/config")
    if isinstance(error, ConnectionRefusedError):
        return Failure("SSH_REFUSED", f"{where} refuses the connection", "Is sshd running, and is the port right?")
    if isinstance(error, TimeoutError):
        return Failure("SSH_TIMEOUT", f"{where} does not answer within {DIAL_TIMEOUT:g} s", up)
    if isinstance(error, OSError):
        return Failure("SSH_UNREACHABLE", f"{where}: {error.strerror or error}", up)
    return Failure("SSH_STALLED", f"{where}: {error or 'closed'} before the login was done", "Look at its sshd's log")


def login_failure(hop: Connection, stall: Stall, error: BaseException) -> Failure:
    """Give the failure for a login that did not come about."""
    where = f"{hop.host}:{hop.port}"
    transport = hop.client.get_transport()
    if stalled := stall.failure(where):
        return stalled
    if transport is None or transport.remote_version:
        return _through_jump(hop, error) or network_failure(error, where)
    if "Indecipherable" in str(error):
        return no_banner(where)
    if isinstance(hop.gateway, str):
        return Failure("SSH_UNREACHABLE", f"{where}: its ProxyCommand ended", "Try it: ssh " + str(hop.host))
    return Failure(
        "SSH_BUSY",
        f"{where} closes connections before it says that it is SSH, {RETRIES + 1} times",
        "Its sshd may have too many logins at once (MaxStartups): lower CONCURRENCY, or run the task again",
    )


def _through_jump(hop: Connection, error: BaseException) -> Failure | None:
    """Give the failure of a connection that a jump host was to make; None where that was not it."""
    if not isinstance(hop.gateway, Connection) or hop.client.get_transport():
        return None
    up = "Is it up, and its sshd running?"
    where, jump = f"{hop.host}:{hop.port}", f"{hop.gateway.host}:{hop.gateway.port}"
    if isinstance(error, paramiko.ChannelException):
        return Failure("SSH_UNREACHABLE", f"{where}: {jump} cannot connect to it ({error.text})", up)
    if "timeout" in str(error).lower():
        return Failure(
            "SSH_TIMEOUT",
            f"{where} does not answer {jump} within {DIAL_TIMEOUT:g} s",
            "Is it up, and the address right?",
        )
    return None
