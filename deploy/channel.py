"""HTTP on channels of an SSH connection that somebody else owns: a node's Docker engine, and Ray's API on the head."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import shutil
import socket
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import docker
import requests
import urllib3
from docker.auth import AuthConfig
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.utils.proxy import ProxyConfig
from requests.adapters import HTTPAdapter
from urllib3.util.wait import wait_for_read

from deploy.errors import Failure, Mistake

if TYPE_CHECKING:
    import paramiko

    End = paramiko.Channel | socket.socket

PIECE = 128 * 1024  # bytes; what paramiko is given at once is copied again for every packet of it
CHANNELS = 4  # kept open for the next request; sshd allows 10 sessions per connection (MaxSessions)
FIRST_ANSWER = 10.0  # seconds
LAST_WORDS = 5.0  # seconds for the status and stderr of a command that has ended
DOCKER_URL = "http+docker://node"
HTTP_URL = "http://node"
SOCKET = "/var/run/docker.sock"
INSTALL = "Install it: invoke cluster.install"
JOIN = "Let the user in, by invoke cluster.install or: sudo usermod -a -G docker USER"
START = "Start it: sudo service docker start"
# What a dial command says on stderr when it ends without an answer: the first that fits.
ENDINGS = (
    (r"permission denied|password is required|not allowed to execute", "DOCKER_PERMISSION", JOIN),
    (r"is not a docker command", "API_TOO_OLD", "Upgrade Docker on the node"),
    (r"command not found|docker: not found", "DOCKER_ABSENT", INSTALL),
    (r"cannot connect to the docker daemon|daemon running|connection refused|dial unix", "DOCKER_DOWN", START),
)


class Wire:
    """A channel or a socket, as `http.client` uses one.

    A read waits for the time-out that was set, and never past `deadline` (as `time.monotonic` counts). A time-out asks
    `on_silence`, if there is one, which raises where the other side is gone; where it does not, the read goes on.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        self.deadline: float | None = None
        self.on_silence: Callable[[], None] | None = None
        self._timeout: float | None = None
        self._readers = 0
        self._unwanted = False

    def settimeout(self, seconds: float | None) -> None:
        """Set the longest time, in seconds, that one read or write may take."""
        self._timeout = seconds

    def sendall(self, content: bytes) -> None:
        """Send it all, piece by piece."""
        self.end.settimeout(self._timeout)
        view = memoryview(content)
        while view:
            try:
                sent = self.end.send(bytes(view[:PIECE]))
            except TimeoutError:
                raise
            except OSError as error:
                # With this one urllib3 still reads what the other side may have answered.
                raise BrokenPipeError(str(error)) from error
            if not sent:
                raise BrokenPipeError("the other side has closed the channel")
            view = view[sent:]

    def recv(self, size: int) -> bytes:
        """Give what has come, at most `size` bytes; nothing at the end."""
        while True:
            self.end.settimeout(self._patience())
            try:
                return self.end.recv(size)
            except TimeoutError:
                if self.on_silence is None or self._patience() == 0.0:
                    raise
                self.on_silence()

    def _patience(self) -> float | None:
        if self.deadline is None:
            return self._timeout
        left = max(self.deadline - time.monotonic(), 0.0)
        return left if self._timeout is None else min(left, self._timeout)

    @property
    def idle(self) -> bool:
        """Whether it is open, and nothing has come that was not asked for."""
        if isinstance(self.end, socket.socket):
            return self.end.fileno() >= 0 and not wait_for_read(self.end, timeout=0.0)
        # Asking a channel for its fileno() makes a pipe.
        return not (self.end.closed or self.end.eof_received or self.end.recv_ready())

    def fileno(self) -> int:
        """Give a descriptor to poll; for a channel this makes a pipe."""
        return self.end.fileno()

    def makefile(self, mode: str) -> io.BufferedReader:
        """Give a file to read from; it outlives `close`, as a socket's does."""
        if mode != "rb":
            raise AssertionError("only for reading bytes")
        self._readers += 1
        return io.BufferedReader(Reader(self), 64 * 1024)

    def release(self) -> None:
        """Have one reader less."""
        self._readers -= 1
        if self._unwanted:
            self.close()

    def close(self) -> None:
        """Close it as soon as nobody reads from it."""
        self._unwanted = True
        if self._readers <= 0:
            self.end.close()

    def shutdown(self, _how: int = socket.SHUT_RDWR) -> None:
        """Close it now; whoever reads sees the end."""
        if isinstance(self.end, socket.socket):
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_RDWR)
        else:
            self.end.close()


class Reader(io.RawIOBase):
    """The file of a wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._sock = wire  # the name under which the Docker SDK looks for the socket

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come into the buffer."""
        content = self._sock.recv(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Let the wire go."""
        if not self.closed:
            super().close()
            self._sock.release()


Verdict = Callable[[Wire, OSError | http.client.HTTPException], Failure]


class WireConnection(urllib3.connection.HTTPConnection):
    """HTTP on a wire. Where the wire ends without an answer, `verdict` says why."""

    wire: Wire

    def __init__(self, *args: Any, opener: Callable[[], Wire], verdict: Verdict | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opener = opener
        self.verdict = verdict

    def connect(self) -> None:
        """Open a wire."""
        self.wire = self.opener()
        self.wire.settimeout(cast("float | None", self.timeout))
        self.sock = cast("socket.socket", self.wire)

    def getresponse(self) -> urllib3.HTTPResponse:
        """Give the response, or the reason for which there is none."""
        try:
            return super().getresponse()
        except (ConnectionError, http.client.BadStatusLine) as error:
            if self.verdict is None:
                raise
            raise self.verdict(self.wire, error) from error

    @property
    def is_connected(self) -> bool:
        """Whether the next request can use this connection."""
        return self.sock is not None and self.wire.idle


class WirePool(urllib3.HTTPConnectionPool):
    """Connections on wires."""

    ConnectionCls = WireConnection


class WireAdapter(HTTPAdapter):
    """Sends every request through wires of one opener; `timeout` is for each read, where a request has none."""

    def __init__(self, opener: Callable[[], Wire], timeout: float, verdict: Verdict | None = None) -> None:
        self._opener = opener
        self._timeout = timeout
        self._wires: weakref.WeakSet[Wire] = weakref.WeakSet()
        self._wire_pool = WirePool(
            "node", maxsize=CHANNELS, opener=self._open, verdict=verdict, blocksize=PIECE, timeout=timeout
        )
        super().__init__()

    def _open(self) -> Wire:
        wire = self._opener()
        self._wires.add(wire)
        return wire

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> WirePool:
        """Give the pool, whatever the request."""
        return self._wire_pool

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        return super().send(request, *args, **kwargs)

    def close(self) -> None:
        """Close every wire, also those that are read from."""
        super().close()
        self._wire_pool.close()
        for wire in list(self._wires):
            wire.shutdown()
            wire.end.close()


class NodeApi(docker.APIClient):
    """The Docker SDK's calls on an adapter of ours. The operator's own `config.json` is not read: it is no node's."""

    def __init__(self, adapter: WireAdapter, timeout: float) -> None:
        # Not the SDK's own: it reads the file, and wants a URL of a kind that it knows.
        requests.Session.__init__(self)
        self.trust_env = False
        self.base_url = DOCKER_URL
        self.timeout = timeout
        self.credstore_env = None
        self._general_configs: dict[str, Any] = {}
        self._auth_configs = AuthConfig({})
        self._proxy_configs = ProxyConfig()
        self._custom_adapter = adapter
        self._version = MINIMUM_DOCKER_API_VERSION
        self.adapters.clear()
        self.mount(DOCKER_URL, adapter)

    def negotiate(self) -> None:
        """Speak the newest version that both know; `DOCKER_TIMEOUT` where the engine does not say its own in time."""
        try:
            told = self.get(f"{DOCKER_URL}/version", timeout=FIRST_ANSWER)
            told.raise_for_status()
            versions = told.json()
            self._version = common_version(str(versions["ApiVersion"]), str(versions.get("MinAPIVersion") or "1.0"))
        except requests.exceptions.Timeout:
            seconds = f"{FIRST_ANSWER:g} s"
            raise Failure("DOCKER_TIMEOUT", f"the Docker engine did not answer within {seconds}", START) from None
        except (requests.exceptions.RequestException, ValueError, KeyError) as error:
            raise Failure("DOCKER_FAILED", f"the Docker engine does not tell its version: {error}") from error


class NodeClient(docker.DockerClient):
    """The Docker SDK's client on such calls."""

    def __init__(self, api: NodeApi) -> None:
        # Not the SDK's own: it would make its calls itself.
        self.api = api


def common_version(newest: str, oldest: str) -> str:
    """Give the API version to speak with an engine that knows those from `oldest` to `newest`."""

    def numbers(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    agreed = min(newest, DEFAULT_DOCKER_API_VERSION, key=numbers)
    if numbers(agreed) < numbers(MINIMUM_DOCKER_API_VERSION):
        error = f"the Docker engine speaks API {newest}, and {MINIMUM_DOCKER_API_VERSION} is the oldest that serves"
        raise Failure("API_TOO_OLD", error, "Upgrade Docker on the node")
    if numbers(agreed) < numbers(oldest):
        error = f"the Docker engine wants API {oldest}, and {DEFAULT_DOCKER_API_VERSION} is the newest known here"
        raise Failure("API_TOO_OLD", error, "Upgrade the package docker of Raydock's .venv")
    return agreed


def docker_over(
    open_session: Callable[[], paramiko.Channel],
    *,
    command: str = "docker system dial-stdio",
    timeout: float = 60,
) -> docker.DockerClient:
    """Give a client of the engine that `command` dials on the other side; `timeout`: seconds for each read.

    Each connection is a session of its own. Whatever hinders it is a `Failure`.
    """

    def opener() -> Wire:
        with SshErrors(lost):
            channel = open_session()
            channel.settimeout(timeout)
            channel.exec_command(command)  # noqa: S601 - a constant, or the same by sudo
        return Wire(channel)

    return client(WireAdapter(opener, timeout, last_words), timeout)


def docker_local(host: str | None, *, timeout: float = 60) -> docker.DockerClient:
    """Give a client of this machine's engine: the default socket, or the one that `host` names as `unix://…`."""
    path = (host or f"unix://{SOCKET}").removeprefix("unix://")
    if not path.startswith("/"):
        raise Mistake.of("CONFIG", f"DOCKER_HOST={host} is not unix://PATH", "For another machine: HEAD=user@host")

    def opener() -> Wire:
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(timeout)
        try:
            end.connect(path)
        except OSError as error:
            end.close()
            raise unreachable(path, error) from error
        return Wire(end)

    return client(WireAdapter(opener, timeout, hung_up), timeout)


def http_over(open_tunnel: Callable[[], paramiko.Channel], *, timeout: float = 30) -> requests.Session:
    """Give a session whose `http://node` is what the tunnel leads to; a closed port is requests' ConnectionError."""

    def opener() -> Wire:
        with SshErrors(refused):
            return Wire(open_tunnel())

    return session(WireAdapter(opener, timeout))


def http_local(port: int, *, timeout: float = 30) -> requests.Session:
    """Give a session whose `http://node` is a port of this machine's loopback."""
    return session(WireAdapter(lambda: Wire(socket.create_connection(("127.0.0.1", port), timeout)), timeout))


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


class SshErrors:
    """Hands paramiko's own errors to `reason`, which raises another; `hosts` alone imports paramiko."""

    def __init__(self, reason: Callable[[BaseException], NoReturn]) -> None:
        self.reason = reason

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None or kind is None:
            return
        if kind.__module__.startswith("paramiko.") or isinstance(error, OSError | EOFError):
            self.reason(error)


def lost(error: BaseException) -> NoReturn:
    """Say why there is no session."""
    if isinstance(error, TimeoutError) or "timeout" in str(error).lower():
        raise Failure("SSH_STALLED", f"no session for Docker: {error}") from error
    # A ChannelException has a code: the connection lives, and the server allows no further session.
    if hasattr(error, "code"):
        raise Failure("SSH_NO_CHANNEL", f"sshd refuses a session: {error}", "See MaxSessions of sshd") from error
    raise Failure("SSH_LOST", f"the SSH connection ended: {error}") from error


def refused(error: BaseException) -> NoReturn:
    """Say in requests' terms that there is no tunnel."""
    raise ConnectionRefusedError(str(error)) from error


def last_words(wire: Wire, error: Exception) -> Failure:
    """Give the reason for which a dial command ended, of its exit status and stderr."""
    channel = cast("paramiko.Channel", wire.end)
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        return Failure("SHELL_UNUSABLE", f"the login shell prints before the command does: {str(error)[:80].strip()}")
    channel.settimeout(LAST_WORDS)
    said = b""
    with contextlib.suppress(TimeoutError):
        while len(said) < PIECE and (piece := channel.recv_stderr(PIECE)):
            said += piece
        channel.status_event.wait(LAST_WORDS)
    status = channel.recv_exit_status() if channel.exit_status_ready() else -1
    return ending(said.decode(errors="replace").strip(), status)


def ending(said: str, status: int) -> Failure:
    """Give the reason in what a dial command said and the status with which it ended; -1: none came."""
    line = said.splitlines()[-1] if said else "the engine closed the connection"
    for pattern, code, cure in ENDINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return Failure(code, f"docker: {line}" if "docker" not in line.lower() else line, cure)
    if status == 127:
        return Failure("DOCKER_ABSENT", f"docker: {line}", INSTALL)
    if status == -1 and not said:
        return Failure("SSH_LOST", "the SSH connection ended before the Docker engine answered")
    return Failure("DOCKER_DOWN", f"docker: {line} (exit status {status})", START)


def hung_up(_wire: Wire, error: Exception) -> Failure:
    """Say that the local engine gave no answer."""
    return Failure("DOCKER_DOWN", f"the Docker engine closed the connection: {error}", START)


def unreachable(path: str, error: OSError) -> Failure:
    """Give the reason for which a local socket cannot be connected to."""
    if isinstance(error, PermissionError):
        return Failure("DOCKER_PERMISSION", f"{path}: permission denied", JOIN)
    if isinstance(error, FileNotFoundError) and not (shutil.which("docker") or shutil.which("dockerd")):
        return Failure("DOCKER_ABSENT", f"{path} is not there, and Docker is not installed", INSTALL)
    return Failure("DOCKER_DOWN", f"{path}: {error.strerror or error}", START)
