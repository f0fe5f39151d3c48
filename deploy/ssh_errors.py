"""What paramiko raises where a channel cannot be had, or its connection ends."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from deploy.errors import Failure

AGAIN = "Run the task again"


class SshErrors:
    """Hands paramiko's own errors, and those of `kinds`, to `reason`, which raises another.

    They are known by their module: paramiko is imported by its doors alone.
    """

    def __init__(
        self,
        reason: Callable[[BaseException], NoReturn],
        *kinds: type[BaseException],
    ) -> None:
        self.reason = reason
        self.kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None or kind is None:
            return
        if kind.__module__.startswith("paramiko.") or isinstance(error, self.kinds):
            self.reason(error)


def lost(error: BaseException) -> NoReturn:
    """Say why there is no session."""
    if isinstance(error, TimeoutError) or "timeout" in str(error).lower():
        raise Failure("SSH_STALLED", f"sshd opens no channel: {error}", AGAIN) from error
    # A ChannelException has a code: the connection lives, and the server allows no further session.
    if hasattr(error, "code"):
        raise Failure("SSH_NO_CHANNEL", f"sshd refuses a session: {error}", "See MaxSessions of sshd") from error
    raise Failure("SSH_LOST", f"the SSH connection ended: {error or 'closed'}", AGAIN) from error


def refused(error: BaseException) -> NoReturn:
    """Say in requests' terms that there is no tunnel; a connection that is lost is no matter of ports."""
    if not (hasattr(error, "code") or isinstance(error, OSError)):
        lost(error)
    raise ConnectionRefusedError(str(error)) from error
