"""Logins that stand still: each of their parts has a time of its own, after which the connection is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import Failure

if TYPE_CHECKING:
    import paramiko

OFTEN = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Part:
    """A part of a login."""

    name: str
    seconds: float


BANNER = Part("banner", 10)  # the server's first line
KEX = Part("key exchange (kex)", 15)
AUTH = Part("login (auth)", 15)


@dataclass
class Stall:
    """In which part a login stood still, if it did."""

    part: Part | None = None

    def failure(self, where: str) -> Failure | None:
        """Give the failure of the login at an address."""
        if self.part is None:
            return None
        if self.part is BANNER:
            return no_banner(where)
        error = f"{where} stands still in the {self.part.name}: {self.part.seconds:g} s without an end"
        return Failure("SSH_STALLED", error, "Look at its sshd's log, and whether it is out of memory")


def no_banner(where: str) -> Failure:
    """Give the failure of what takes connections and is no sshd."""
    return Failure("SSH_NO_BANNER", f"{where} accepts, and does not say that it is SSH", "Is it an sshd, and well?")


@contextmanager
def watched(client: paramiko.SSHClient) -> Iterator[Stall]:
    """Watch over the login of a client in the block: where a part takes too long, the connection is closed."""
    stall, over = Stall(), threading.Event()
    threading.Thread(target=_watch, args=(client, stall, over), daemon=True).start()
    try:
        yield stall
    finally:
        over.set()


def _watch(client: paramiko.SSHClient, stall: Stall, over: threading.Event) -> None:
    part, since = BANNER, time.monotonic()
    while not over.wait(OFTEN):
        transport = client.get_transport()
        now = time.monotonic()
        if transport is None:
            since = now  # a jump host still connects
        elif (reached := part_of(transport)) is not part:
            part, since = reached, now
        elif now - since > part.seconds:
            stall.part = part
            transport.close()
            return


def part_of(transport: paramiko.Transport) -> Part:
    """Give the part that a login is in."""
    if not transport.remote_version:
        return BANNER
    return AUTH if transport.initial_kex_done else KEX
