"""HTTP on channels of an SSH connection that somebody else owns: a node's Docker engine, Ray's API on the head."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import docker
import requests

from deploy.channel.api import NodeApi, NodeClient
from deploy.channel.endings import hung_up, last_words, unreachable
from deploy.channel.http import WireAdapter
from deploy.channel.wire import Wire
from deploy.errors import Mistake
from deploy.ssh_errors import SshErrors, refused
from deploy.stdio import COMMAND, TIMEOUT, Line, dial_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

HTTP_URL = "http://node"
SOCKET = "/var/run/docker.sock"


def docker_over(
    open_session: Callable[[], paramiko.Channel],
    *,
    dialled: Line | None = None,
    command: str = COMMAND,
    timeout: float = TIMEOUT,
) -> docker.DockerClient:
    """Give a client of the engine that `command` dials on the other side; `timeout`: seconds for each read.

    Each connection is a session of its own, and the first that was `dialled` before. Whatever hinders it is a
    `Failure`.
    """
    waiting = [dialled] if dialled else []

    def opener() -> Wire:
        line = waiting.pop() if waiting else dial_engine(open_session, command=command, timeout=timeout)
        return Wire(line.channel, line.greeting)

    return client(WireAdapter(opener, timeout, last_words), timeout)


def docker_local(host: str | None, *, timeout: float = 60) -> docker.DockerClient:
    """Give a client of this machine's engine: the default socket, or the one that `host` names as `unix://…`."""
    path = (host or f"unix://{SOCKET}").removeprefix("unix://")
    if not path.startswith("/"):
        raise Mistake.of("CONFIG", f"DOCKER_HOST={host} is not unix://PATH", "For another machine: HEAD=user@host")

    def opener() -> Wire:
        try:
            return Wire(connected(path, timeout))
        except OSError as error:
            raise unreachable(path, error) from error

    return client(WireAdapter(opener, timeout, hung_up), timeout)


def connected(path: str, timeout: float) -> socket.socket:
    """Give a socket that is connected to a path."""
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(timeout)
    try:
        end.connect(path)
    except OSError:
        end.close()
        raise
    return end


def http_over(open_tunnel: Callable[[], paramiko.Channel], *, timeout: float = 30) -> requests.Session:
    """Give a session whose `http://node` is what the tunnel leads to; a closed port is requests' ConnectionError."""

    def opener() -> Wire:
        with SshErrors(refused, OSError, EOFError):
            return Wire(open_tunnel())

    return session(WireAdapter(opener, timeout))


def http_local(address: str, port: int, *, timeout: float = 30) -> requests.Session:
    """Give a session whose `http://node` is a port that this machine reaches."""
    return session(WireAdapter(lambda: Wire(socket.create_connection((address, port), timeout)), timeout))


def client(adapter: WireAdapter, timeout: float) -> docker.DockerClient:
    """Give a client that has found the engine's version; one that cannot leaves no channel open."""
    api = NodeApi(adapter, timeout)
    try:
        api.negotiate()
    except BaseException:
        api.close()
        raise
    return NodeClient(api)


def session(adapter: WireAdapter) -> requests.Session:
    """Give a session that can reach nothing but the adapter's other end."""
    made = requests.Session()
    made.trust_env = False
    made.adapters.clear()
    made.mount(HTTP_URL, adapter)
    return made
