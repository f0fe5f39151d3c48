"""The benchmarks' own arithmetic, and their page; what they measure is no test's business."""

from __future__ import annotations

import sys

import pytest

from tests.bench import page
from tests.bench.measure import Bound, Command, Figure, Series, in_turn
from tests.hosts.observer import TOP


def test_a_figure_is_the_ratio_of_medians() -> None:
    figure = Figure("x", 1.5, Series((3.0, 9.0, 2.0)), Series((2.0, 1.0, 4.0)), "a peer")
    assert (figure.json()["ratio"], figure.json()["met"]) == (1.5, True)
    assert not Figure("x", 1.49, figure.ours, figure.peer, "a peer").json()["met"]


def test_a_bound_is_of_the_most_that_was_seen() -> None:
    assert not Bound("memory", 150, "MB", Series((100.0, 100.0, 151.0))).json()["met"]
    assert Bound("memory", 150, "MB", Series((100.0, 150.0))).json()["met"]


def test_things_are_measured_in_turn_after_one_that_does_not_count() -> None:
    order: list[str] = []
    taken = in_turn(2, a=lambda: float(len(order) + (order.append("a") or 0)), b=lambda: order.append("b") or 1.0)  # type: ignore[func-returns-value]
    assert order == ["a", "b"] * 3
    assert taken["a"].values == (2.0, 4.0)


def test_a_command_is_seen_with_what_it_uses_and_fails_with_what_it_said() -> None:
    used = Command([sys.executable, "-c", "import time; x = 'x' * 10**7; time.sleep(0.3)"], TOP).run()
    assert used.seconds > 0.3
    assert used.megabytes > 15
    assert (used.files >= 3, used.threads) == (True, 1)
    with pytest.raises(RuntimeError, match="ended with 3:\nwhy"):
        Command([sys.executable, "-c", "print('why'); raise SystemExit(3)"], TOP).run()


def test_the_page_is_made_of_the_records() -> None:
    assert (page.PAGE.read_text(encoding="utf-8") if page.PAGE.exists() else page.HEAD) == page.page()
