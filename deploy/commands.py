"""Commands on a node: their output between marks that nobody else writes, whole or line by line while it comes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.output import NOISE, Kept, Lines, Marked, Whole, gather
from deploy.sessions import ANSWER, run_on

if TYPE_CHECKING:
    from typing import IO

    import paramiko

    from deploy.progress import Say

ENDING = 5.0  # seconds for the status of a shell that has ended
GONE = 1.0  # seconds for a child of ours that was killed
# What every login shell can do, be it fish or csh; what is to be done comes over its input, and needs no quotes of its.
SHELL = "exec /bin/sh"
OWN_SHELL = "Have the login shell run what sshd is asked for, and print nothing else: see ~/.bashrc, chsh, ForceCommand"

# What sudo says when it refuses, and the next move: the first that fits.
SUDO = (
    ("must have a tty", "Allow sudo without a terminal: !requiretty in sudoers"),
    ("not found", "Install sudo there, or log in as root"),
    ("", "Allow sudo without a password (NOPASSWD) in sudoers"),
)
# A command that goes on where nobody reads its output any more: what would end it is a pipe without a reader. A package
# manager that ends in the middle leaves packages half installed.
OUTLIVING = ("bash", "-c", 'set -o pipefail; "$@" 2>&1 | tee -p /dev/null', "bash")
# Those of this machine that end with us.
_children: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Result:
    """What came of a command."""

    code: int
    output: str
    errors: str


def script(argv: tuple[str, ...], mark: str) -> bytes:
    """Write what the shell reads: the command, without an input to ask at, between marks on both of its streams."""
    lines = (
        f"echo {mark}; echo {mark} >&2",
        f"{shlex.join(argv)} </dev/null",
        f"code=$?; echo {mark} $code; echo {mark} $code >&2",
    )
    return "\n".join((*lines, "")).encode()


def run_command(
    channel: paramiko.Channel, argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool = False
) -> Result:
    """Run a command on a channel of its own, by whatever login shell is at its other end.

    Args:
        channel: a session, closed at the end.
        argv: the command and its arguments.
        timeout: seconds; `COMMAND_FAILED` when they are over.
        say: who hears the lines while they come, if anybody.
        outlives: whether it goes on where the connection ends.

    Raises:
        EOFError: the connection is lost.
        Failure: `SHELL_UNUSABLE` where the login shell runs something else, `SSH_STALLED` where sshd runs nothing.
    """
    mark = f"raydock-{secrets.token_hex(8)}"
    kept = Kept(), Kept()
    out, err = (Marked(mark, (one, Lines(say)) if say else (one,)) for one in kept)
    with contextlib.closing(channel):
        run_on(channel, SHELL)
        channel.settimeout(min(timeout, ANSWER))
        with contextlib.suppress(OSError):  # a shell that does not read is told of below
            channel.sendall(script((*OUTLIVING, *argv) if outlives else argv, mark))
            channel.shutdown_write()
        channel.settimeout(None)
        if not gather(timeout, (channel.recv, out), (channel.recv_stderr, err)):
            raise overdue(argv, timeout)
        if out.code is None:
            raise_unfinished(channel, argv, out, err)
    return Result(out.code or 0, kept[0].text, kept[1].text)


def raise_unfinished(channel: paramiko.Channel, argv: tuple[str, ...], out: Marked, err: Marked) -> None:
    """Say why a command has no end."""
    channel.status_event.wait(ENDING)
    transport = channel.get_transport()
    if transport is None or not transport.is_active():
        raise EOFError("the connection is closed")
    if out.begun:
        raise Failure("COMMAND_FAILED", f"`{argv[0]}` was ended from outside, and its shell with it")
    raise shell_unusable(out.noise or err.noise, channel.exit_status)


def shell_unusable(said: str, status: int) -> Failure:
    """Give the failure of a login shell that runs something else than what it is asked for."""
    said = f"it says {said.splitlines()[0][:NOISE]!r}" if said else "it says nothing"
    return Failure("SHELL_UNUSABLE", f"the login shell does not run commands: {said} (exit status {status})", OWN_SHELL)


def overdue(argv: tuple[str, ...], seconds: float) -> Failure:
    """Give the failure of a command that took too long."""
    return Failure("COMMAND_FAILED", f"`{argv[0]}` was not done within {seconds:.0f} s", "Look what it does there")


def run_here(argv: tuple[str, ...], timeout: float, say: Say | None, *, outlives: bool = False) -> Result:
    """Run a command on this machine; with `say` its errors are among its output, and one that outlives us is let go."""
    out, err, end = Kept(), Kept(), time.monotonic() + timeout
    takers = (out, Lines(say)) if say else (out,)
    try:
        with _child(argv, outlives=outlives, errors_apart=say is None) as child:
            pipes = ((child.stdout, Whole(*takers)), (child.stderr, Whole(err)))
            if not gather(timeout, *((_reader(pipe), stream) for pipe, stream in pipes if pipe)):
                raise overdue(argv, timeout)
            child.wait(max(end - time.monotonic(), ENDING))
    except subprocess.TimeoutExpired as error:
        raise overdue(argv, timeout) from error
    except OSError as error:
        return Result(127, "", f"{argv[0]}: {error.strerror}")
    return Result(child.returncode, out.text, err.text)


@contextmanager
def _child(argv: tuple[str, ...], *, outlives: bool, errors_apart: bool) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(  # noqa: S603 - argv of ours, no shell
        (*OUTLIVING, *argv) if outlives else argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
        # A terminal's Ctrl-C is for us: what becomes of a child is for us to say.
        process_group=0,
    )
    if not outlives:
        _children.add(child)
    try:
        yield child
    except BaseException:
        if not outlives:
            _end(child)
        raise
    finally:
        for pipe in filter(None, (child.stdout, child.stderr)):
            pipe.close()
        # One that cannot be killed is not waited for; when we end it is tried again.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GONE)
            _children.discard(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a child, and what it started; what is root's by root."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            line = ("sudo", "-n", "kill", "-KILL", "--", f"-{child.pid}")
            subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENDING, check=False)  # noqa: S603


def end_children() -> None:
    """Kill what was started on this machine, but for what outlives us."""
    for child in list(_children):
        _end(child)


def _reader(pipe: IO[bytes]) -> Callable[[int], bytes]:
    return lambda size: os.read(pipe.fileno(), size)


def sudo_refused(said: str) -> Failure:
    """Give the failure of a user whom sudo does not let act as root."""
    cure = next(cure for sign, cure in SUDO if sign in said)
    line = said.splitlines()[-1] if said else "sudo refuses, and says nothing"
    return Failure("SUDO_PASSWORD_NEEDED", line, cure)
