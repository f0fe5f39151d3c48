"""Connections: made without a word to anybody, told apart by their hops."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from deploy.inventory import Node
from deploy.known_hosts import KnownHosts
from deploy.settings import Settings
from deploy.ssh import connection_to, stuck_at


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


WAYS: dict[str, tuple[tuple[bool, ...], str]] = {
    "no jump host": ((False,), "hop-0"),
    "the first jump host": ((False, False, False), "hop-2"),
    "the second jump host": ((False, False, True), "hop-1"),
    "the host behind them": ((False, True, True), "hop-0"),
}


@pytest.mark.parametrize(("opened", "stuck"), WAYS.values(), ids=WAYS)
def test_what_goes_wrong_is_told_of_the_hop_that_did_not_open(opened: tuple[bool, ...], stuck: str) -> None:
    way = None
    for number, is_open in reversed([*enumerate(opened)]):
        way = SimpleNamespace(host=f"hop-{number}", is_connected=is_open, gateway=way)
    assert stuck_at(way).host == stuck
