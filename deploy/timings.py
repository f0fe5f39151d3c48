"""Where the time of a run goes: what each node was at, from when to when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise


class Phase(Enum):
    """What a node is at; a chart shows each by its first letter."""

    CONNECT = "connect"
    WAIT = "wait"
    ASK = "ask"
    INSTALL = "install"
    BUILD = "build"
    PULL = "pull"
    UPLOAD = "upload"
    RUN = "run"
    JOIN = "join"
    STOP = "stop"


@dataclass(frozen=True)
class Span:
    """One thing that a node was at; begin and end are seconds after the run began."""

    phase: Phase
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin

    def json(self) -> dict[str, str | float]:
        """Give it as a program reads it."""
        return {"phase": self.phase.value, "begin": round(self.begin, 3), "end": round(self.end, 3)}


@contextmanager
def timed(spans: list[Span], phase: Phase, clock: Callable[[], float]) -> Iterator[None]:
    """Have the block be a span, also where it fails."""
    begin = clock()
    try:
        yield
    finally:
        spans.append(Span(phase, begin, clock()))


def flat(spans: Sequence[Span]) -> list[Span]:
    """Give spans that lie in one another as spans one after the other: of several, what began last is what counts.

    But for connecting, which goes on beside what waits for it.
    """
    edges = sorted({edge for span in spans for edge in (span.begin, span.end)})
    found: list[Span] = []
    for begin, end in pairwise(edges):
        covering = [span for span in spans if span.begin <= begin and span.end >= end]
        if not covering:
            continue
        # What lies in another ends before it, and stands before it: the first of those that began together.
        inner = max(covering, key=lambda span: (span.phase is Phase.CONNECT, span.begin))
        if found and found[-1].phase is inner.phase and found[-1].end == begin:
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Span(inner.phase, begin, end))
    return found


def sums(spans: Sequence[Span]) -> dict[Phase, float]:
    """Give the seconds of each phase, of spans that do not overlap."""
    found: dict[Phase, float] = {}
    for span in spans:
        found[span.phase] = found.get(span.phase, 0.0) + span.seconds
    return found


def letters(spans: Sequence[Span], seconds: float, columns: int) -> str:
    """Draw spans that do not overlap on so many columns: in each the letter of what took most of it, or a blank."""
    width = seconds / columns if seconds > 0 else 1.0
    drawn = []
    for column in range(columns):
        begin, end = column * width, (column + 1) * width
        shares = [(min(span.end, end) - max(span.begin, begin), span.phase.value[0]) for span in spans]
        share, letter = max(shares, default=(0.0, " "))
        drawn.append(letter if share > 0 else " ")
    return "".join(drawn)
