"""The way to a node's engine: a session of SSH on which `docker system dial-stdio` relays the engine's socket.

Apart from what speaks HTTP over it: the program starts there while that is loaded here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.sessions import run_on
from deploy.ssh_errors import SshErrors, lost

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

COMMAND = "exec docker system dial-stdio"
TIMEOUT = 60.0  # seconds for each read


@dataclass(frozen=True)
class Line:
    """A session on which the engine is dialled.

    Attributes:
        channel: the session.
        greeting: what it says before the engine's own words begin; what comes before that is a login shell's.
    """

    channel: paramiko.Channel
    greeting: bytes


def dial_engine(
    open_session: Callable[[], paramiko.Channel], *, command: str = COMMAND, timeout: float = TIMEOUT
) -> Line:
    """Have `command` dial the engine on a new session, and wait for nothing that it says.

    Args:
        open_session: gives a session of the connection.
        command: what relays the engine's socket; in an `sh -c '…'`.
        timeout: seconds for each read.

    Raises:
        Failure: `SSH_LOST`, `SSH_STALLED` or `SSH_NO_CHANNEL`, where there is no session.
    """
    with SshErrors(lost, OSError, EOFError):
        channel = open_session()
        channel.settimeout(timeout)
        # Words that every login shell reads alike.
        greeting = f"raydock-{secrets.token_hex(8)}"
        run_on(channel, f"exec /bin/sh -c 'echo {greeting}; {command}'")
    return Line(channel, f"{greeting}\n".encode())
