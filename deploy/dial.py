"""TCP connections with a deadline of their own, the name's look-up in it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")

DIAL_TIMEOUT = 5.0  # seconds to an open TCP connection; the kernel's own is over two minutes
AHEAD = 64 * 1024  # bytes that are taken at once where so many have come


class ReadAhead(socket.socket):
    """A socket that takes all that has come, for who asks for the few bytes of a packet's head, then for its rest.

    Each question to the kernel gives way to the threads of all other connections.
    """

    _ahead = memoryview(b"")

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Give at most so many bytes of what has come; nothing at the end."""
        if not self._ahead:
            came = super().recv(max(size, AHEAD), flags)
            if len(came) <= size:
                return came
            self._ahead = memoryview(came)
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(piece)


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Give what a call gives that has no deadline of its own; `TimeoutError` after so many seconds."""
    found: list[T] = []
    wrong: list[Exception] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            wrong.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if wrong:
        raise wrong[0]
    if not found:
        raise TimeoutError
    return found[0]


def dial(host: str, port: int, seconds: float = DIAL_TIMEOUT) -> socket.socket:
    """Connect to the first address of a name that answers, all within so many seconds.

    An `OSError` says what stands in the way: `socket.gaierror` for a name without address, `TimeoutError` for silence.
    """
    end = time.monotonic() + seconds
    addresses = _addresses(host, port, seconds)
    wrong: OSError = TimeoutError()
    for number, (family, address) in enumerate(addresses):
        # Each has its share of what is left, so that one which is silent leaves some to the next.
        share = (end - time.monotonic()) / (len(addresses) - number)
        try:
            return _connected(family, address, max(share, 0.1))
        except OSError as error:
            wrong = error
    raise wrong


def _addresses(host: str, port: int, seconds: float) -> list[tuple[int, tuple[object, ...]]]:
    try:
        # Of an address nobody has to be asked.
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = ask() if is_address(host) else within(seconds, ask)
    except UnicodeError as error:  # a label of more than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
    except TimeoutError as error:
        raise socket.gaierror(socket.EAI_AGAIN, f"the name server did not answer within {seconds:g} s") from error
    return [(family, address) for family, _, _, _, address in found]


def is_address(host: str) -> bool:
    """Tell whether a host is named by its address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connected(family: int, address: tuple[object, ...], seconds: float) -> socket.socket:
    end = ReadAhead(family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack:
        stack.callback(end.close)
        end.settimeout(seconds)
        end.connect(address)
        # Or each small packet of SSH's waits until the one before is acknowledged, for which sshd takes 40 ms.
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stack.pop_all()
    return end
