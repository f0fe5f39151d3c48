"""Doors through which nodes come to their turn: so many are worked on at once, and a few more wait, connected."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from deploy.windows import Windows

# Nodes that wait for a place with a connection: sshd has a process for each, and lets it wait for its login for a time.
CONNECTED = 16
YOUNG = 0.1  # seconds in which a connection to a node comes about that is there; who takes longer may not be
LOOK = YOUNG / 2  # seconds between two looks at whether one is


class Doors:
    """What is taken by nodes that are connected to, that wait connected, and that are worked on."""

    def __init__(self, size: Windows) -> None:
        """Open for so many."""
        self._size = size
        self._places = threading.Semaphore(size.chains)
        self._changed = threading.Condition()
        self._dials: dict[Hashable, float] = {}
        self._ready = 0

    def take_place(self) -> None:
        """Take the place of one that does not come through here."""
        self._places.acquire()

    def leave_place(self) -> None:
        """Leave it."""
        self._places.release()

    def enter(self, node: Hashable) -> bool:
        """Have a node be connected to, if it may be by now; else wait a little."""
        with self._changed:
            if not self._room():
                self._changed.wait(LOOK)
            if room := self._room():
                self._dials[node] = time.monotonic()
            return room

    def leave(self, node: Hashable) -> None:
        """Have a node be done with that never came to a place."""
        with self._changed:
            if self._dials.pop(node, None) is not None:
                self._changed.notify()

    @contextmanager
    def place(self, node: Hashable) -> Iterator[None]:
        """Have a place for a node that is connected, for a block."""
        with self._changed:
            self._dials.pop(node, None)
            self._ready += 1
        self._places.acquire()
        try:
            with self._changed:
                self._ready -= 1
                self._changed.notify()
            yield
        finally:
            self._places.release()

    def _room(self) -> bool:
        """Tell whether one more may be connected to: those that seem dead keep nobody waiting who is not."""
        young = time.monotonic() - YOUNG
        coming = self._ready + sum(since > young for since in self._dials.values())
        return coming < CONNECTED and len(self._dials) + self._ready < self._size.dials
