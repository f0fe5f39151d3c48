"""`cluster.dashboard`: Ray's dashboard at a port of this machine, through SSH, for as long as somebody wants it."""

from __future__ import annotations

import contextlib
import shlex
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from invoke.exceptions import Exit

from deploy.course import Course, Signalled, ended
from deploy.desk import dry, first_lines, open_node, say, scope_of, write
from deploy.errors import Failure, Kind

if TYPE_CHECKING:
    from invoke.context import Context

    from deploy.flags import Flags
    from deploy.hosts import Host
    from deploy.plans import Scope
    from deploy.settings import Settings

TASK = "cluster.dashboard"
HERE = "127.0.0.1"
PIECE = 32 * 1024  # bytes


class Tunnel(Protocol):
    """The way to a port behind SSH."""

    def recv(self, size: int) -> bytes:
        """Give what came; nothing at the end."""

    def sendall(self, data: bytes) -> None:
        """Send all of it."""

    def shutdown_write(self) -> None:
        """Say that no more comes."""

    def close(self) -> None:
        """End it."""


def show_dashboard(c: Context, flags: Flags) -> None:
    """Have the head's dashboard at a port of this machine's loopback until Ctrl-C; on the head only say where it is."""
    course = Course(TASK)
    with ended(course):
        scope = scope_of(flags)
        settings, head = scope.settings, scope.inventory.head
        course.about(settings)
        there = settings.dashboard
        at = there if head.local else (HERE, flags.own_port or settings.dashboard_port)
        course.facts["dashboard"] = url(*at)
        if dry(c):
            write(f"echo {url(*at)}\n" if head.local else forwarding(scope, at[1]) + "\n")
            return
        first_lines(scope)
        with open_node(scope, head) as host:
            if head.local:
                tell(settings, url(*at))
            else:
                serve(host, at[1], there, lambda: tell(settings, f"{url(*at)} (Ctrl-C closes it)"))
    course.tell(as_json=flags.json)
    if course.exit:
        raise Exit(code=course.exit)


def forwarding(scope: Scope, port: int) -> str:
    """Write the command of OpenSSH's that does the same."""
    from deploy.script import ssh_words

    program, *words, _, _ = ssh_words(scope, scope.inventory.head)
    there = url(*scope.settings.dashboard).removeprefix("http://")
    return shlex.join([program, "-N", "-L", f"{port}:{there}", *words])


def url(host: str, port: int) -> str:
    """Write the address for a browser."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def tell(settings: Settings, where: str) -> None:
    """Say where the dashboard is, and how to be let in."""
    say(f"Ray's dashboard: {where}")
    if not settings.allow_unauthenticated:
        say("the token that it asks for: invoke cluster.exec -- ray get-auth-token")


def serve(host: Host, port: int, there: tuple[str, int], opened: Callable[[], None]) -> None:
    """Pass connections to a port of loopback on to an address of the head's, until Ctrl-C.

    Raises:
        Failure: `PORT_IN_USE` where somebody listens here already; `RAY_API_FAILED` where nobody does there.
    """
    host.tunnel(*there).close()
    try:
        doorway = Doorway(port, Opener(host, there))
    except OSError as error:
        cure = f"Say another: invoke {TASK} --port {port + 1}"
        raise Failure("PORT_IN_USE", f"port {port} of this machine: {error.strerror}", cure) from error
    with doorway:
        threading.Thread(target=doorway.serve_forever, daemon=True).start()
        opened()
        try:
            threading.Event().wait()
        except Signalled:
            raise
        except KeyboardInterrupt:
            pass  # the way in which it is meant to end
        finally:
            doorway.shutdown()


class Opener:
    """Opens tunnels of one host, over a new connection where the former is lost."""

    def __init__(self, host: Host, there: tuple[str, int]) -> None:
        self._host, self._there, self._alone = host, there, threading.Lock()

    def __call__(self) -> Tunnel:
        """Open one."""
        with self._alone:
            try:
                return self._tunnel()
            except Failure as failure:
                if failure.problem.kind is not Kind.UNREACHABLE:
                    raise
                self._host.regain()
                return self._tunnel()

    def _tunnel(self) -> Tunnel:
        tunnel: Tunnel = self._host.tunnel(*self._there)
        return tunnel


class Doorway(socketserver.ThreadingTCPServer):
    """A port of this machine's loopback; each connection to it has a tunnel of its own."""

    allow_reuse_address = daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, opener: Callable[[], Tunnel]) -> None:
        self.opener = opener
        super().__init__((HERE, port), Passing)


class Passing(socketserver.BaseRequestHandler):
    """One connection."""

    server: Doorway
    request: socket.socket

    def handle(self) -> None:
        """Pass on what comes, both ways, until both ends are through."""
        try:
            tunnel = self.server.opener()
        except Failure as failure:
            say(f"{failure.code} {failure}")
            return
        with contextlib.closing(tunnel):
            sending = threading.Thread(target=pump, args=(self.request.recv, tunnel.sendall, tunnel.shutdown_write))
            sending.start()
            pump(tunnel.recv, self.request.sendall, lambda: self.request.shutdown(socket.SHUT_RDWR))
            sending.join()


def pump(read: Callable[[int], bytes], write: Callable[[bytes], None], end: Callable[[], None]) -> None:
    """Write what is read; where either end is gone, that is the end."""
    with contextlib.suppress(OSError, EOFError):
        while piece := read(PIECE):
            write(piece)
    with contextlib.suppress(OSError, EOFError):
        end()
