"""Wires: channels of an SSH connection, or sockets of this machine, as `http.client` wants them."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from urllib3.util.wait import wait_for_read

from deploy.errors import Failure
from deploy.ssh_errors import AGAIN, SshErrors, lost

if TYPE_CHECKING:
    import paramiko

    End = paramiko.Channel | socket.socket

ANSWER = 16 << 20  # bytes of an answer that is gathered before anybody looks at it
LOOK = "Look what answers there: docker version"
PIECE = 128 * 1024  # bytes; what paramiko is given at once is copied again for every packet of it


class Wire:
    """A channel or a socket, as `http.client` uses one.

    A read waits for the time-out that was set, and never past `deadline` (as `time.monotonic` counts). A time-out asks
    `on_silence`, if there is one, which raises where the other side is gone; where it does not, the read goes on, and
    so does a write. One thread may read while another writes.
    """

    def __init__(self, end: End, greeting: bytes = b"") -> None:
        self.end = end
        # What comes before the other side's own words begin, and is not passed on; what came before that is noise.
        self.greeting = greeting
        self.noise = b""
        self.deadline: float | None = None
        self.on_silence: Callable[[], None] | None = None
        # Bytes that may still come before whoever gathers them has too many; None where they are not gathered.
        self.allowance: int | None = None
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
                with SshErrors(lost, EOFError):
                    sent = self.end.send(bytes(view[:PIECE]))
            except TimeoutError:
                if self.on_silence is None:
                    raise
                self.on_silence()
                continue
            except OSError as error:
                # With this one urllib3 still reads what the other side may have answered.
                raise BrokenPipeError(str(error)) from error
            if not sent:
                raise BrokenPipeError("the other side has closed the channel")
            view = view[sent:]

    def end_writing(self) -> None:
        """Tell the other side that no more comes; what it says is still read."""
        with SshErrors(lost, EOFError):
            if isinstance(self.end, socket.socket):
                self.end.shutdown(socket.SHUT_WR)
            else:
                self.end.shutdown_write()

    def recv(self, size: int) -> bytes:
        """Give what has come, at most `size` bytes; nothing at the end."""
        while True:
            self.end.settimeout(self._patience())
            try:
                # A channel that acknowledges what it has read may meet the end of its connection.
                with SshErrors(lost, EOFError):
                    content = self.end.recv(size)
            except TimeoutError:
                if self.on_silence is None:
                    raise
                self.on_silence()
            else:
                if not content:
                    return self._end()
                self._count(len(content))
                if content := self._greeted(content):
                    return content

    def _count(self, size: int) -> None:
        if self.allowance is not None:
            self.allowance -= size
            if self.allowance < 0:
                raise Failure("DOCKER_FAILED", f"an answer has more than {ANSWER >> 20} MB: given up", LOOK)

    def _greeted(self, content: bytes) -> bytes:
        """Give what of it comes after the greeting."""
        if not self.greeting:
            return content
        before, found, after = (self.noise + content).partition(self.greeting)
        self.noise = before[-PIECE:]
        if found:
            self.greeting = b""
        return after

    def _patience(self) -> float | None:
        if self.deadline is None:
            return self._timeout
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError("the deadline has passed")
        return left if self._timeout is None else min(left, self._timeout)

    def _end(self) -> bytes:
        # A channel of a connection that is lost ends like any other.
        transport = None if isinstance(self.end, socket.socket) else self.end.get_transport()
        if transport is not None and not transport.is_active():
            why = transport.saved_exception or "closed"
            raise Failure("SSH_LOST", f"the SSH connection ended: {why}", AGAIN)
        return b""

    @property
    def idle(self) -> bool:
        """Whether it is open, and nothing has come that was not asked for."""
        if isinstance(self.end, socket.socket):
            return self.end.fileno() >= 0 and not wait_for_read(self.end, timeout=0.0)
        # Asking a channel for its fileno() makes a pipe. The greeting comes unasked.
        return not (self.end.closed or self.end.eof_received or (self.end.recv_ready() and not self.greeting))

    def fileno(self) -> int:
        """Give a descriptor to poll; for a channel this makes a pipe."""
        return self.end.fileno()

    def makefile(self, mode: str) -> io.BufferedReader:
        """Give a file to read from; it outlives `close`, as a socket's does."""
        if mode != "rb":
            raise AssertionError("only for reading bytes")
        self.hold()
        return Buffered(Reader(self), 64 * 1024)

    def hold(self) -> None:
        """Keep it open for one reader more."""
        self._readers += 1

    def release(self) -> None:
        """Have one reader less."""
        self._readers -= 1
        if self._unwanted:
            self.close()

    def close(self) -> None:
        """Close it as soon as nobody reads from it."""
        self._unwanted = True
        if self._readers <= 0:
            self.drop()

    def shutdown(self, _how: int = socket.SHUT_RDWR) -> None:
        """Close it now; whoever reads sees the end."""
        if isinstance(self.end, socket.socket):
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_RDWR)
        else:
            self.drop()

    def drop(self) -> None:
        """Close it, whoever reads; a channel whose connection is lost cannot even be closed."""
        with contextlib.suppress(OSError, EOFError):
            self.end.close()


class Buffered(io.BufferedReader):
    """What is read from; `http.client` asks it for as many bytes as a chunk says that it has."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes; all of them for -1."""
        if size is not None and size < -1:
            raise ConnectionError("a chunk of the answer has less than no bytes")
        return super().read(size)


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
