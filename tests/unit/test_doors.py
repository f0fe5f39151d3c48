"""Who is let in: a few ahead of those that are worked on, and nobody waits for the dead."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from deploy import doors
from deploy.doors import Doors
from deploy.windows import Windows


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "CONNECTED", 3)
    monkeypatch.setattr(doors, "YOUNG", 0.5)
    monkeypatch.setattr(doors, "LOOK", 0.01)


def let_in(of: Doors, names: str) -> str:
    """Give those that are let in at once."""
    return "".join(name for name in names if of.enter(name))


def test_no_more_are_connected_to_than_may_wait_connected() -> None:
    assert let_in(Doors(Windows(chains=1, dials=9)), "abcdef") == "abc"


def test_who_is_not_there_keeps_nobody_out_for_longer_than_a_connection_takes() -> None:
    of = Doors(Windows(chains=1, dials=9))
    assert let_in(of, "abc") == "abc"
    time.sleep(doors.YOUNG)
    assert let_in(of, "defg") == "def"


def test_however_many_are_not_there_the_window_for_connections_holds() -> None:
    of = Doors(Windows(chains=1, dials=5))
    assert let_in(of, "abc") == "abc"
    time.sleep(doors.YOUNG)
    assert let_in(of, "defg") == "de"
    of.leave("a")
    assert let_in(of, "g") == "g"


def test_who_waits_connected_keeps_others_out_until_there_is_a_place() -> None:
    of, came, ended = Doors(Windows(chains=1, dials=9)), [], threading.Event()

    def work(name: str) -> None:
        with of.place(name):
            came.append(name)
            assert ended.wait(5)

    with ExitStack() as stack:
        stack.callback(ended.set)
        for name in "abcd":
            assert of.enter(name)
            threading.Thread(target=work, args=(name,), daemon=True).start()
            time.sleep(0.02)
        # One is worked on, three wait, however long they do.
        time.sleep(doors.YOUNG)
        assert came == ["a"]
        assert not of.enter("e")
        ended.set()
        for _ in range(100):
            if len(came) == 4:
                break
            time.sleep(0.02)
        assert let_in(of, "efgh") == "efg"


def test_a_place_that_is_taken_for_another_counts() -> None:
    of, came = Doors(Windows(chains=1, dials=9)), threading.Event()
    of.take_place()

    def work() -> None:
        with of.place("a"):
            came.set()

    threading.Thread(target=work, daemon=True).start()
    assert not came.wait(0.1)
    of.leave_place()
    assert came.wait(5)
