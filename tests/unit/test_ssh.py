"""Connections: made without a word to anybody, told apart by their hops."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from deploy.inventory import Node
from deploy.known_hosts import KnownHosts
from deploy.settings import Settings
from deploy.ssh import connection_to


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns at almost every instruction."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_connections_are_made_by_several_threads_at_once() -> None:
    settings, known = Settings(), KnownHosts()
    broken: list[BaseException] = []

    def make(name: str) -> None:
        try:
            for _ in range(15):
                connection_to(Node(name, name, role="worker", user="ubuntu"), settings, known)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells it
            broken.append(error)

    threads = [threading.Thread(target=make, args=(f"10.0.0.{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert broken == []
