"""SSH connections of Fabric's, with host keys checked, deadlines of our own, and errors that say what is wrong."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import paramiko
from fabric import Config, Connection
from paramiko.ssh_exception import NoValidConnectionsError

from deploy.errors import Failure
from deploy.hostkeys import check_host_keys, hops

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.known_hosts import KnownHosts
    from deploy.settings import Settings

CONNECT_TIMEOUT = 5  # seconds to an open TCP connection
BANNER_TIMEOUT = 10  # seconds to the server's first line
AUTH_TIMEOUT = 15  # seconds for key exchange, and for the login
CHANNEL_TIMEOUT = 10  # seconds to a channel, instead of paramiko's hour
KEEPALIVE = 5  # seconds
USER_TIMEOUT = 15_000  # milliseconds that sent bytes may stay without an acknowledgement

# It prints tracebacks of what we turn into errors.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@cache
def ssh_config() -> paramiko.SSHConfig:
    """Give what `~/.ssh/config` and the system's say, read once for all connections."""
    found: paramiko.SSHConfig = Config().base_ssh_config
    return found


def connection_to(node: Node, settings: Settings, known: KnownHosts) -> Connection:
    """Give a connection to a node, not yet open."""
    options: dict[str, Any] = {
        "banner_timeout": BANNER_TIMEOUT,
        "auth_timeout": AUTH_TIMEOUT,
        "channel_timeout": CHANNEL_TIMEOUT,
    }
    if settings.ssh_key:
        # As OpenSSH does with IdentitiesOnly: this key and no other.
        options |= {"key_filename": str(settings.ssh_key), "allow_agent": False, "look_for_keys": False}
    connection = Connection(
        node.address,
        user=node.user,
        port=node.port,
        # One of its own: a Connection writes into it, which empties it for a moment to all who share it.
        config=Config(ssh_config=ssh_config()),
        forward_agent=False,
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs=options,
    )
    for hop in hops(connection.gateway):
        hop.connect_kwargs = {**options, **hop.connect_kwargs}
        hop.connect_timeout = hop.connect_timeout or CONNECT_TIMEOUT
    check_host_keys(connection, known, node.name)
    return connection


def open_connection(connection: Connection) -> None:
    """Open a connection; a `Failure` says what stands in the way."""
    try:
        with connect_errors(connection):
            connection.open()
    except BaseException:
        close_connection(connection)
        raise
    transport = connection.client.get_transport()
    if transport is None:
        raise Failure("SSH_LOST", "the connection was closed as soon as it was open", "Run the task again")
    transport.set_keepalive(KEEPALIVE)
    if isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)


def close_connection(connection: Connection) -> None:
    """Close a connection and those to its jump hosts, open or half open.

    Fabric's own close leaves the jump hosts', and what waits for its login, which sshd counts (MaxStartups).
    """
    for hop in hops(connection):
        hop.close()
        hop.client.close()


def stuck_at(connection: Connection) -> Connection:
    """Give the hop that a connection did not get beyond: the first one from here that is not open."""
    way = [*hops(connection)][::-1]
    return next((hop for hop in way if not hop.is_connected), connection)


@contextmanager
def connect_errors(connection: Connection) -> Iterator[None]:
    """Turn what goes wrong while connecting into a `Failure`."""
    try:
        yield
    except Failure:
        raise
    except paramiko.PasswordRequiredException as error:
        raise Failure("KEY_ENCRYPTED", "the SSH key has a passphrase", "Load it: ssh-add, or set SSH_KEY") from error
    except paramiko.AuthenticationException as error:
        hop = stuck_at(connection)
        raise Failure(
            "SSH_AUTH_REFUSED",
            f"{hop.host}:{hop.port} refuses {hop.user}'s key",
            "Set SSH_USER and SSH_KEY, or add the key to its authorized_keys",
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        hop = stuck_at(connection)
        raise network_failure(error, f"{hop.host}:{hop.port}") from error


def network_failure(error: BaseException, where: str) -> Failure:
    """Give the failure for a connection that did not come about."""
    causes = list(error.errors.values()) if isinstance(error, NoValidConnectionsError) else [error]
    cause = causes[-1]
    up = "Is it up, and is the address right?"
    if isinstance(cause, socket.gaierror):
        return Failure("DNS_FAIL", f"{where}: no address for this name", "Correct the name, or ~/.ssh/config")
    if isinstance(cause, ConnectionRefusedError):
        return Failure("SSH_REFUSED", f"{where} refuses the connection", "Is sshd running, and is the port right?")
    if isinstance(cause, TimeoutError):
        return Failure("SSH_TIMEOUT", f"{where} does not answer within {CONNECT_TIMEOUT} s", up)
    if isinstance(cause, paramiko.SSHException) and "banner" in str(cause):
        return Failure("SSH_NO_BANNER", f"{where} accepts, and does not say that it is SSH", "Is it an sshd, and well?")
    if isinstance(cause, OSError):
        return Failure("SSH_UNREACHABLE", f"{where}: {cause.strerror or cause}", up)
    return Failure("SSH_STALLED", f"{where}: {cause or 'closed'} before the login was done", "Look at its sshd's log")
