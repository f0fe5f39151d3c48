"""Why there is no answer: what paramiko, a dial command or a socket tells, as a Failure."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
from typing import TYPE_CHECKING, cast

from deploy.channel.wire import PIECE, Wire
from deploy.commands import OWN_SHELL, shell_unusable
from deploy.errors import Failure
from deploy.ssh_errors import AGAIN

if TYPE_CHECKING:
    import paramiko

LAST_WORDS = 5.0  # seconds for the status and stderr of a command that has ended
INSTALL = "Install it: invoke cluster.install"
JOIN = "Let the user in, by invoke cluster.install or: sudo usermod -a -G docker USER"
START = "Start it: sudo service docker start"
UPGRADE = "Upgrade Docker on the node"
# What a dial command says on stderr when it ends without an answer: the first that fits.
ENDINGS = (
    (r"permission denied|password is required|not allowed to execute", "DOCKER_PERMISSION", JOIN),
    (r"is not a docker command", "API_TOO_OLD", UPGRADE),
    (r"command not found|docker: not found", "DOCKER_ABSENT", INSTALL),
    (r"docker daemon|connection refused|dial unix", "DOCKER_DOWN", START),
)


def last_words(wire: Wire, error: Exception) -> Failure:
    """Give the reason for which a dial command ended, of its exit status and stderr."""
    channel = cast("paramiko.Channel", wire.end)
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        return Failure("SHELL_UNUSABLE", f"something prints before Docker does: {str(error)[:80].strip()}", OWN_SHELL)
    channel.settimeout(LAST_WORDS)
    said = b""
    with contextlib.suppress(TimeoutError):
        while len(said) < PIECE and (piece := channel.recv_stderr(PIECE)):
            said += piece
        channel.status_event.wait(LAST_WORDS)
    status = channel.recv_exit_status() if channel.exit_status_ready() else -1
    if wire.greeting and status != -1:
        return shell_unusable((wire.noise.strip() or said.strip()).decode(errors="replace"), status)
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
        return Failure("SSH_LOST", "the SSH connection ended before the Docker engine answered", AGAIN)
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
