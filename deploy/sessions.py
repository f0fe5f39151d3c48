"""What runs on a session of an SSH connection: sshd is asked for it, and has a time to say that it does."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from deploy.errors import Failure

if TYPE_CHECKING:
    import paramiko

ANSWER = 10.0  # seconds for the other side to say that, or to take the few lines that it is sent


class Answer(threading.Event):
    """What paramiko waits on for the answer to a request; it sets no time-out of its own."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait; `TimeoutError` where nobody said for how long, and it took too long."""
        come = super().wait(ANSWER if timeout is None else timeout)
        if not come and timeout is None:
            raise TimeoutError
        return come


def run_on(channel: paramiko.Channel, command: str) -> None:
    """Have a command run on a session; `SSH_STALLED`, and the session closed, where sshd does not answer in time."""
    channel.event = Answer()
    try:
        channel.exec_command(command)  # noqa: S601 - quoted by whoever asks
    except TimeoutError as error:
        with contextlib.suppress(OSError, EOFError):
            channel.close()
        said = f"sshd was asked to run a command, and did not answer within {ANSWER:g} s"
        raise Failure("SSH_STALLED", said, "Look at its sshd's log, and at its load") from error
