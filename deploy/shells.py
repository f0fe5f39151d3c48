"""Shells on nodes: one runs a node's commands one after the other, and is whatever login shell is at its other end."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import threading
import time
from typing import TYPE_CHECKING

from deploy.commands import ENDING, OUTLIVING, Result, overdue, shell_unusable
from deploy.errors import Failure
from deploy.output import PIECE, Kept, Lines, Marked
from deploy.sessions import ANSWER, run_on

if TYPE_CHECKING:
    import paramiko

    from deploy.progress import Say

# What every login shell can do, be it fish or csh; what is to be done comes over its input, and needs no quotes of its.
SHELL = "exec /bin/sh"


def script(argv: tuple[str, ...], mark: str) -> bytes:
    """Write what the shell reads: the command, without an input to ask at, between marks on both of its streams."""
    lines = (
        f"echo {mark}; echo {mark} >&2",
        # In a shell of its own: some words are the shell's, and would stay in effect for those that come after.
        f"({shlex.join(argv)} </dev/null)",
        f"code=$?; echo {mark} $code; echo {mark} $code >&2",
    )
    return "\n".join((*lines, "")).encode()


class Come(threading.Event):
    """Is set when something comes on either stream of a channel; paramiko clears it when one of them is empty."""

    def clear(self) -> None:
        """Nothing: there may be something on the other."""

    def forget(self) -> None:
        """Clear it."""
        super().clear()


class Shell:
    """A shell on a session of its own."""

    def __init__(self, channel: paramiko.Channel) -> None:
        """Start it; `SSH_STALLED` where sshd does not."""
        self._channel, self._come, self._began = channel, Come(), False
        run_on(channel, SHELL)
        for buffer in (channel.in_buffer, channel.in_stderr_buffer):
            buffer.set_event(self._come)

    @property
    def idle(self) -> bool:
        """Whether it can run a command."""
        channel = self._channel
        return not (channel.closed or channel.eof_received or channel.exit_status_ready())

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()

    def run(self, argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool = False) -> Result | None:
        """Run a command; None where the shell ended after another one, and this one was not begun.

        Args:
            argv: the command and its arguments.
            timeout: seconds; `COMMAND_FAILED` when they are over.
            say: who hears the lines while they come, if anybody.
            outlives: whether it goes on where the connection ends.

        Raises:
            EOFError: the connection is lost.
            Failure: `SHELL_UNUSABLE` where the login shell runs something else.
        """
        mark, kept = f"raydock-{secrets.token_hex(8)}", (Kept(), Kept())
        out, err = (Marked(mark, (one, Lines(say)) if say else (one,)) for one in kept)
        try:
            self._send(script((*OUTLIVING, *argv) if outlives else argv, mark), timeout)
            if not self._gather(timeout, out, err):
                raise overdue(argv, timeout)
            if out.code is None:
                self._judge(argv, out, err)
                return None
        except BaseException:
            self.close()
            raise
        self._began = True
        return Result(out.code, kept[0].text, kept[1].text)

    def _send(self, lines: bytes, timeout: float) -> None:
        self._channel.settimeout(min(timeout, ANSWER))
        with contextlib.suppress(OSError):  # a shell that does not read is told of below
            self._channel.sendall(lines)
        self._channel.settimeout(None)

    def _gather(self, timeout: float, out: Marked, err: Marked) -> bool:
        """Take in both streams until each has had its second mark, or has ended; tell whether they have in time."""
        end, channel = time.monotonic() + timeout, self._channel
        while out.code is None or err.code is None:
            # Also where something always comes.
            if time.monotonic() > end:
                return False
            self._come.forget()
            if channel.recv_ready():
                out.add(channel.recv(PIECE))
            elif channel.recv_stderr_ready():
                err.add(channel.recv_stderr(PIECE))
            elif channel.eof_received or channel.closed:
                return True
            elif not self._come.wait(max(end - time.monotonic(), 0)):
                return False
        return True

    def _judge(self, argv: tuple[str, ...], out: Marked, err: Marked) -> None:
        """Say why a command has no end; nothing where it was not begun, since the shell had ended by itself."""
        self._channel.status_event.wait(ENDING)
        transport = self._channel.get_transport()
        if transport is None or not transport.is_active():
            raise EOFError("the connection is closed")
        if out.begun:
            raise Failure("COMMAND_FAILED", f"`{argv[0]}` was ended from outside, and its shell with it")
        if not self._began:
            raise shell_unusable(out.noise or err.noise, self._channel.exit_status)
