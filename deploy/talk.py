"""A program on a node to which lines go and from which lines come, for as long as both ends live."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deploy.sessions import ANSWER, run_on

if TYPE_CHECKING:
    import paramiko

PIECE = 4096  # bytes
LAST_WORDS = 500  # characters of what it said on stderr


class Talk(ABC):
    """Both ways to one program. What breaks on the way is an `OSError`, or an end."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send bytes to it."""

    @abstractmethod
    def receive(self, timeout: float) -> bytes | None:
        """Give what it said next; None where it said nothing for `timeout` seconds, nothing where it has ended."""

    @abstractmethod
    def end(self, patience: float) -> tuple[int | None, str]:
        """End what it reads; give its exit code, None where it has not ended in time, and what it said on stderr."""


class ChannelTalk(Talk):
    """With a program behind SSH."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        """Have the command run on a channel that was opened for it."""
        self._channel = channel
        run_on(channel, command)

    def send(self, data: bytes) -> None:
        """Send bytes to it."""
        self._channel.settimeout(ANSWER)
        self._channel.sendall(data)

    def receive(self, timeout: float) -> bytes | None:
        """Give what it said next."""
        self._channel.settimeout(timeout)
        try:
            return self._channel.recv(PIECE)
        except TimeoutError:
            return None

    def end(self, patience: float) -> tuple[int | None, str]:
        """End what it reads, and give its exit code and last words."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()
        code = self._channel.recv_exit_status() if self._channel.status_event.wait(patience) else None
        said = b""
        self._channel.settimeout(patience)
        # The connection may be dying just now: paramiko has an error of its own for that.
        with contextlib.suppress(OSError, EOFError):
            said = self._channel.recv_stderr(PIECE)
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()
        # -1 is paramiko's for a connection that ended first.
        return (None if code == -1 else code), said.decode(errors="replace").strip()[-LAST_WORDS:]


class ChildTalk(Talk):
    """With a child of ours."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        """Start it; in a session of its own, so that Ctrl-C is ours alone."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 - argv of ours, no shell
                argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE, start_new_session=True
            )

    def send(self, data: bytes) -> None:
        """Send bytes to it."""
        self._socket.settimeout(ANSWER)
        self._socket.sendall(data)

    def receive(self, timeout: float) -> bytes | None:
        """Give what it said next."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(PIECE)
        except TimeoutError:
            return None
        except ConnectionResetError:  # it ended, and had not read all that we sent
            return b""

    def end(self, patience: float) -> tuple[int | None, str]:
        """End what it reads, and give its exit code and last words."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._child.wait(patience)
        said = self._child.stderr.read() if self._child.stderr and code is not None else b""
        if self._child.stderr:
            self._child.stderr.close()
        self._socket.close()
        return code, said.decode(errors="replace").strip()[-LAST_WORDS:]
