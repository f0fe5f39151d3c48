"""The benchmarks' own arithmetic, and their page; what they measure is no test's business."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as bench
from tests.bench import page, plots
from tests.bench.measure import Bound, Command, Curve, Figure, Series, in_turn, within
from tests.hosts.observer import TOP

# One that is met, one that is missed, and one of which nothing is asked.
FIGURES = [
    Figure(name, target, Series((1.0,)), Series((1.0,)), "a peer").json()
    for name, target in (("a", 2.0), ("b", 0.5), ("c", None))
]


def test_a_figure_is_the_ratio_of_medians() -> None:
    figure = Figure("x", 1.5, Series((3.0, 9.0, 2.0)), Series((2.0, 1.0, 4.0)), "a peer")
    assert (figure.json()["ratio"], figure.json()["met"]) == (1.5, True)
    assert not Figure("x", 1.49, figure.ours, figure.peer, "a peer").json()["met"]


def test_a_bound_is_of_the_most_that_was_seen() -> None:
    assert not Bound("memory", 150, "MB", Series((100.0, 100.0, 151.0))).json()["met"]
    assert Bound("memory", 150, "MB", Series((100.0, 150.0))).json()["met"]


def test_things_are_measured_in_turn_after_one_that_does_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    things = {name: partial(measure, name) for name in ("a", "b")}
    assert in_turn(things, 2)["a"].values == (3.0, 5.0)
    assert order == ["a", "b"] * 3
    order.clear()
    assert in_turn(things, 2, first=False)["b"].values == (2.0, 4.0)


@pytest.mark.parametrize(
    ("words", "measured"),
    [
        ((), [*bench.PARTS]),
        (("idle", "quick"), ["idle"]),
        (("quick",), [*bench.QUICK]),
        (("images", "idle", "quick"), ["idle"]),
    ],
)
def test_all_parts_are_measured_where_none_is_named_but_those_that_cannot_be_quick(
    words: tuple[str, ...], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def part(name: str, *_: object, **__: object) -> Iterator[Bound]:
        seen.append(name)
        yield Bound("x", 1, "s", Series((2.0 if name == "idle" else 1.0,)))

    monkeypatch.setattr(bench, "measured", part)
    monkeypatch.setattr(bench, "write", lambda *_: None)
    assert (bench.main(["--peers", "python", *words]), seen) == (1, measured)


def test_what_was_measured_is_kept_where_the_rest_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []

    def part(*_: object, **__: object) -> Iterator[Bound]:
        yield Bound("x", 1, "s", Series((1.0,)))
        raise OSError

    monkeypatch.setattr(bench, "measured", part)
    monkeypatch.setattr(bench, "write", lambda name, found: kept.append((name, len(found))))
    with pytest.raises(OSError):  # noqa: PT011 - the one from above
        bench.main(["--peers", "python", "idle"])
    assert kept == [("idle", 1)]


def test_a_part_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--peers", "python", "idel"])
    assert "no such part: idel" in capsys.readouterr().err


def test_a_command_is_seen_with_what_it_uses_and_fails_with_what_it_said() -> None:
    used = Command([sys.executable, "-c", "import time; x = 'x' * 10**7; time.sleep(0.3)"], TOP).run()
    assert used.seconds > 0.3
    assert 0 < used.busy < used.seconds - 0.2  # no core is at work for one that sleeps
    assert used.megabytes > 15
    assert (used.files >= 3, used.threads) == (True, 1)
    with pytest.raises(RuntimeError, match="ended with 3:\nwhy"):
        Command([sys.executable, "-c", "print('why'); raise SystemExit(3)"], TOP).run()


def test_what_has_no_target_is_met_by_whatever_it_takes() -> None:
    figure = Figure("x", None, Series((9.0,)), Series((1.0,)), "a peer").json()
    assert (figure["target"], figure["met"], page.met(figure)) == (None, True, "")
    assert page.row(figure) == "| x |  | 9 × |  | 9 s (9 to 9) | 1 s (1 to 1) | 1 | a peer |\n"
    assert Bound("memory", None, "MB", Series((9.0,))).json()["met"]


def test_where_time_is_short_a_thing_is_measured_once_and_not_before() -> None:
    with within(0):
        assert in_turn({"a": lambda: 1.0}, 9)["a"].values == (1.0,)
    with within(60):
        assert len(in_turn({"a": lambda: 1.0}, 9)["a"].values) == 9


def test_a_plot_shows_every_series_at_every_number() -> None:
    series = Series((1.0, 2.0, 3.0))
    lines = {"ours": {10: series, 100: series}, "theirs": {10: series}}
    shown = plots.curve(Curve("x", "a title", "hosts", "s", lines, ("ours",)).json())
    root = ElementTree.fromstring(shown)  # noqa: S314 - of our own
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    for words in ("a title", "ours", "theirs", "hosts"):
        assert f">{words}<" in shown


def test_the_overview_has_a_bar_for_each_target_and_another_colour_where_it_is_missed() -> None:
    shown = plots.overview({"Part": [*FIGURES, Bound("d", 5, "MB", Series((4.0,))).json()]})
    assert (shown.count(plots.OURS[0]), shown.count(plots.MISSED)) == (2, 1)
    assert "4 of 5 MB" in shown
    assert ">c<" not in shown


def test_the_page_counts_the_targets_and_says_where_those_are_that_are_missed() -> None:
    assert '1 of 2 targets are met. Not met are 1 of "At the prompt": why' in page.summary(
        {"prompt": {"figures": FIGURES}}
    )


def test_the_page_and_its_plots_are_made_of_the_records() -> None:
    for file, content in page.files().items():
        assert (file.read_text(encoding="utf-8") if file.exists() else page.HEAD) == content, file
