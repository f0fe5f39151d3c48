"""Where the time went, as a bar for each node."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from deploy.report import Outcome
from deploy.timings import Phase, Span, flat, letters, sums

MOST = 40  # nodes that have a bar; of more, those that took longest
NARROWEST = 20  # columns of a bar
BETWEEN = 2  # columns on each side of a bar
STYLES = {
    Phase.CONNECT: "cyan",
    Phase.WAIT: "bright_black",
    Phase.ASK: "blue",
    Phase.INSTALL: "yellow",
    Phase.BUILD: "yellow",
    Phase.PULL: "magenta",
    Phase.UPLOAD: "magenta",
    Phase.RUN: "green",
    Phase.JOIN: "bright_green",
    Phase.STOP: "red",
}
BY_LETTER = {phase.value[0]: style for phase, style in STYLES.items()}


def chart(outcomes: Sequence[Outcome], seconds: float, width: int) -> list[Table | Text]:
    """Give the bars, in the inventory's order, and under them what the letters mean.

    Args:
        outcomes: the nodes.
        seconds: how long the run took: the whole width of a bar.
        width: the columns that there are.
    """
    timed = [(outcome.node.name, spans) for outcome in outcomes if (spans := flat(outcome.spans))]
    if not timed:
        return [Text("no node was contacted: there are no times", style="dim")]
    slowest = sorted(timed, key=lambda one: -one[1][-1].end)[:MOST]
    drawn = [one for one in timed if one in slowest] if len(timed) > MOST else timed
    times = [f"{spans[-1].end:.2f} s" for _, spans in drawn]
    beside = max(len(name) for name, _ in drawn) + max(map(len, times)) + 2 * BETWEEN
    columns = max(width - beside, NARROWEST)
    bars = Table(box=None, pad_edge=False, show_header=False)
    bars.add_column(no_wrap=True)
    bars.add_column(no_wrap=True)
    bars.add_column(no_wrap=True, justify="right")
    for (name, spans), took in zip(drawn, times, strict=True):
        bars.add_row(Text(name), bar(letters(spans, seconds, columns)), Text(took))
    more = [Text(f"and {len(timed) - len(drawn)} more that ended sooner", style="dim")] if drawn != timed else []
    return [bars, *more, legend(timed)]


def bar(drawn: str) -> Text:
    """Colour the letters of a bar; where there are no colours, the letters tell."""
    text = Text()
    for letter in drawn:
        style = BY_LETTER.get(letter)
        text.append(letter, style=f"{style} reverse" if style else "")
    return text


def legend(timed: Sequence[tuple[str, Sequence[Span]]]) -> Text:
    """Say for each phase how long the node was at it that was longest."""
    longest: dict[Phase, tuple[float, str]] = {}
    for name, spans in timed:
        for phase, seconds in sums(spans).items():
            longest[phase] = max(longest.get(phase, (0.0, "")), (seconds, name))
    told = [f"{phase.value} {longest[phase][0]:.2f} s ({longest[phase][1]})" for phase in Phase if phase in longest]
    return Text(f"longest: {', '.join(told)}", style="dim")
