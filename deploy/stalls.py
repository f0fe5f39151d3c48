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


@dataclass
class Login:
    """A login on its way: the part that it is in, and since when."""

    client: paramiko.SSHClient
    stall: Stall
    part: Part
    since: float

    def look(self) -> None:
        """See how far it has come; where a part takes too long, close the connection."""
        transport, now = self.client.get_transport(), time.monotonic()
        if transport is None:
            self.since = now  # a jump host still connects
        elif (reached := part_of(transport)) is not self.part:
            self.part, self.since = reached, now
        elif now - self.since > self.part.seconds and self.stall.part is None:
            self.stall.part = self.part
            try:
                # By another thread: to close a connection may take as long as to lose it.
                threading.Thread(target=transport.close, daemon=True).start()
            except RuntimeError:  # there are too many threads: at the next look
                self.stall.part = None


class Lookout:
    """Looks after all logins that are on their way, by one thread for as long as there are any."""

    def __init__(self) -> None:
        self._logins: list[Login] = []
        self._lock = threading.Lock()
        self._looks = False

    def enter(self, login: Login) -> None:
        """Look after one more."""
        with self._lock:
            self._logins.append(login)
            begins, self._looks = not self._looks, True
        if begins:
            threading.Thread(target=self._look, daemon=True).start()

    def leave(self, login: Login) -> None:
        """Look after it no more: it is there, or has failed."""
        with self._lock:
            self._logins = [one for one in self._logins if one is not login]

    def _look(self) -> None:
        while logins := self._waiting():
            for login in logins:
                login.look()
            time.sleep(OFTEN)

    def _waiting(self) -> list[Login]:
        with self._lock:
            self._looks = bool(self._logins)
            return self._logins[:]


_lookout = Lookout()


@contextmanager
def watched(client: paramiko.SSHClient) -> Iterator[Stall]:
    """Watch over the login of a client in the block: where a part takes too long, the connection is closed."""
    login = Login(client, Stall(), BANNER, time.monotonic())
    _lookout.enter(login)
    try:
        yield login.stall
    finally:
        _lookout.leave(login)


def part_of(transport: paramiko.Transport) -> Part:
    """Give the part that a login is in."""
    if not transport.remote_version:
        return BANNER
    return AUTH if transport.initial_kex_done else KEX
