"""Commands: what comes of one, whole or line by line while it comes, and how one is run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.output import NOISE, Kept, Lines, Whole, gather

if TYPE_CHECKING:
    from typing import IO

    from deploy.progress import Say

ENDING = 5.0  # seconds for the status of a shell that has ended
GONE = 1.0  # seconds for a child of ours that was killed
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
