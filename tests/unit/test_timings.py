"""Where the time of a run goes: spans, one after the other, and as bars."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.inventory import Node
from deploy.report import Outcome
from deploy.show.bars import MOST, STYLES, chart
from deploy.timings import Phase, Span, flat, letters, sums, timed

ASK, CONNECT, WAIT, RUN = Phase.ASK, Phase.CONNECT, Phase.WAIT, Phase.RUN
PLACES = st.integers(0, 30).map(float)


def test_a_chart_tells_every_phase_by_a_letter_and_a_colour_of_its_own() -> None:
    assert len({phase.value[0] for phase in Phase}) == len(Phase)
    assert set(STYLES) == set(Phase)
    assert MOST > 1


def test_what_lies_in_another_is_what_counts() -> None:
    # As they are recorded: what lies inside ends first.
    spans = [Span(CONNECT, 1, 3), Span(WAIT, 4, 5), Span(ASK, 0, 6), Span(RUN, 8, 9)]
    assert flat(spans) == [
        *(Span(ASK, 0, 1), Span(CONNECT, 1, 3), Span(ASK, 3, 4), Span(WAIT, 4, 5), Span(ASK, 5, 6)),
        Span(RUN, 8, 9),
    ]


def test_of_what_began_together_the_inner_counts() -> None:
    assert flat([Span(CONNECT, 0, 2), Span(ASK, 0, 3)]) == [Span(CONNECT, 0, 2), Span(ASK, 2, 3)]


def test_to_be_connected_to_counts_before_what_waits_for_it() -> None:
    spans = [Span(CONNECT, 0, 2), Span(WAIT, 1, 3)]
    assert flat(spans) == [Span(CONNECT, 0, 2), Span(WAIT, 2, 3)]


def test_what_goes_on_is_one_span_and_what_took_no_time_none() -> None:
    assert flat([Span(ASK, 0, 1), Span(ASK, 1, 2), Span(RUN, 2, 2)]) == [Span(ASK, 0, 2)]


@given(st.lists(st.tuples(st.sampled_from(list(Phase)), PLACES, PLACES), max_size=12))
def test_spans_side_by_side_cover_just_what_they_covered_before(drawn: list[tuple[Phase, float, float]]) -> None:
    spans = [Span(phase, min(a, b), max(a, b)) for phase, a, b in drawn]
    made = flat(spans)
    assert all(one.end <= other.begin for one, other in itertools.pairwise(made))
    covered = {at for span in spans for at in range(int(span.begin), int(span.end))}
    assert {at for span in made for at in range(int(span.begin), int(span.end))} == covered
    assert sum(sums(made).values()) == len(covered)


def test_a_bar_shows_in_each_column_what_took_most_of_it() -> None:
    spans = [Span(CONNECT, 0, 2.6), Span(ASK, 2.6, 4), Span(RUN, 6, 10)]
    assert letters(spans, 10, 10) == "ccca  rrrr"
    assert letters(spans, 0, 4) == "ccca"


def test_a_span_of_what_fails_is_kept() -> None:
    spans: list[Span] = []
    clock = iter((1.0, 3.0))
    with pytest.raises(ValueError, match="x"), timed(spans, RUN, lambda: next(clock)):
        raise ValueError("x")
    assert spans == [Span(RUN, 1.0, 3.0)]


@pytest.mark.parametrize("seconds", [4.87, 16.43, 1234.5])
def test_a_bar_leaves_room_for_how_long_it_took(seconds: float) -> None:
    outcome = Outcome(Node("worker-1", "10.0.0.1", role="worker"), spans=[Span(Phase.JOIN, 0, seconds)])
    console = Console(width=80, file=io.StringIO())
    console.print(chart([outcome], seconds, console.width)[0])
    (line,) = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.rstrip().endswith(f"j  {seconds:.2f} s")
    assert len(line.rstrip()) == 80
