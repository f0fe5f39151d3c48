"""Plots of what was measured, as SVG: a few lines of text that are the same for the same figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

OURS, PEERS, MISSED = ("#1f6feb", "#54aeff"), ("#57606a", "#9a6700"), "#cf222e"
INK, FAINT, PAPER = "#1f2328", "#d0d7de", "#ffffff"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
WIDTH = 860
LEFT, RIGHT, TOP, FOOT = 64, 24, 56, 52  # margins of a curve's plot
HEIGHT = 420
ROW, NAMES, GOT = 22, 420, 150  # height of a bar's row, width of the names before the bars, and of what is got after
MOST = 2.0  # times its target; a bar that is longer is cut


@dataclass(frozen=True)
class Axis:
    """A scale from values to places on the paper."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Give where a value is."""
        low, high, at = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return self.begin + (at - low) / (high - low) * (self.end - self.begin)


def svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """Give a whole picture on white paper."""
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' role='img'>"
    body = (f"<title>{escape(title)}</title>", f"<rect width='100%' height='100%' fill='{PAPER}'/>", *parts)
    return "\n".join((head, *body, "</svg>", ""))


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", fill: str = INK) -> str:
    """Write words."""
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} {FONT} font-size='{size}' fill='{fill}'>{escape(words)}</text>"


def line(x: float, y: float, to_x: float, to_y: float, colour: str = FAINT) -> str:
    """Draw a thin line."""
    return f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{to_x:.1f}' y2='{to_y:.1f}' stroke='{colour}'/>"


def curve(found: Mapping[str, Any]) -> str:
    """Draw how something grows with the number at the foot, each with the least and the most that was measured."""
    lines: Mapping[str, Sequence[Mapping[str, float]]] = found["lines"]
    points = [point for series in lines.values() for point in series]
    numbers = sorted({int(point["at"]) for point in points})
    ticks = steps(max(point["max"] for point in points))
    across = Axis(numbers[0], numbers[-1], LEFT + 16, WIDTH - RIGHT, log=True)
    up = Axis(0, ticks[-1], HEIGHT - FOOT, TOP)
    parts = [text(LEFT, 28, found["title"], size=16)]
    for tick in ticks:
        parts += [line(LEFT, up.place(tick), WIDTH - RIGHT, up.place(tick))]
        parts += [text(LEFT - 8, up.place(tick) + 4, f"{tick:g}", anchor="end", size=12)]
    parts += [text(across.place(at), HEIGHT - FOOT + 18, f"{at:,}", anchor="middle", size=12) for at in numbers]
    parts += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, found["foot"], anchor="middle")]
    parts += [text(LEFT - 8, TOP - 12, found["unit"], anchor="end", size=12)]
    ours, peers = iter(OURS), iter(PEERS)
    for number, (who, series) in enumerate(lines.items()):
        colour = next(ours if who in found["ours"] else peers)
        parts += [*drawn(series, across, up, colour), legend(number, who, colour)]
    return svg(WIDTH, HEIGHT, found["title"], parts)


def drawn(series: Sequence[Mapping[str, float]], across: Axis, up: Axis, colour: str) -> list[str]:
    """Draw a line through the medians, and at each what was measured."""
    spots = [(across.place(point["at"]), up.place(point["median"])) for point in series]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts = [f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"]
    for point, (x, y) in zip(series, spots, strict=True):
        parts += [line(x, up.place(point["min"]), x, up.place(point["max"]), colour)]
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>"]
    return parts


def legend(number: int, who: str, colour: str) -> str:
    """Name a line, at the upper right."""
    x, y = WIDTH - RIGHT - 500, TOP + 14 + number * 20
    return f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{colour}'/>{text(x + 20, y, who)}"


def steps(most: float) -> list[float]:
    """Give some round numbers from nothing to beyond the most."""
    size = 10 ** math.floor(math.log10(most))
    step = next(size * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2) if most / (size * part) <= 6)
    return [round(step * number, 6) for number in range(math.ceil(most / step) + 1)]


def overview(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw for each figure that has a target how much of it was taken, under the title of its part."""
    title = "What was taken of each target: what ends before the line is within it"
    axis = Axis(0, MOST, NAMES, WIDTH - GOT)
    y, drawn_rows = 44.0, []
    for name, figures in parts.items():
        rows = [figure for figure in figures if figure["target"] is not None]
        if not rows:
            continue
        y += ROW + 6
        drawn_rows += [text(16, y, name, size=14)]
        for figure in rows:
            y += ROW
            drawn_rows += row(figure, axis, y)
    goal = axis.place(1)
    marks = [line(goal, 44, goal, y + 8, INK), text(goal, 40, "target", anchor="middle", size=12)]
    return svg(WIDTH, y + 24, title, [text(16, 24, title, size=16), *drawn_rows, *marks])


def row(figure: Mapping[str, Any], axis: Axis, y: float) -> list[str]:
    """Draw the bar of a figure: its ratio to its peer, or the most that was seen, as a part of its target."""
    got, unit = (figure["ratio"], "×") if "ratio" in figure else (figure["ours"]["max"], figure["unit"])
    end = axis.place(min(got / figure["target"], MOST))
    colour = OURS[0] if figure["met"] else MISSED
    size = f"width='{end - axis.begin:.1f}' height='{ROW - 8}'"
    return [
        text(NAMES - 8, y, shortened(figure["name"]), anchor="end", size=12),
        f"<rect x='{axis.begin:.1f}' y='{y - 11:.1f}' {size} fill='{colour}'/>",
        text(WIDTH - GOT + 8, y, f"{got:.3g} of {figure['target']:.3g} {unit}", size=12),
    ]


def shortened(name: str, most: int = 62) -> str:
    """Give as much of a name as has room."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
