"""Measures, and writes docs/benchmarks.md: `script/bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from tests.bench import fanout, idle, images, page, prompt, scale, start
from tests.bench.measure import Bound, Curve, Figure, machine, time_is_over, versions, within
from tests.faults.judge import commit

Found = Figure | Bound | Curve
Part = Callable[[Path, bool], Iterable[Found]]
PARTS: dict[str, Part] = {
    "prompt": lambda _python, quick: prompt.figures(quick=quick),
    "fanout": lambda python, quick: fanout.figures(python, quick=quick),
    "scale": lambda python, quick: scale.figures(python, quick=quick),
    "start": lambda python, quick: start.figures(python, quick=quick),
    "idle": lambda python, quick: idle.figures(python, quick=quick),
    "images": lambda _python, _quick: images.figures(),
}
# Seconds that a part has where it shall be quick; what has begun by then is still done. Together: less than three
# minutes. What is not here cannot be quick.
QUICKLY = "quick"
QUICK = {"prompt": 15, "fanout": 25, "scale": 25, "start": 20, "idle": 20}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what was asked for; the exit code tells whether every target was met."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}, or quick; all, if none is named")
    parser.add_argument("--peers", type=Path, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if unknown := set(asked.parts) - {*PARTS, QUICKLY}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    quick = QUICKLY in asked.parts
    console, met = Console(stderr=True, highlight=False), True
    for name in [part for part in asked.parts if part != QUICKLY] or PARTS:
        if quick and name not in QUICK:
            console.print(f"left out: {name} takes too long to be quick (script/bench {name})")
            continue
        found: list[Found] = []
        try:
            for one in measured(name, asked.peers, console, quick=quick):
                found.append(one)
        finally:  # what took minutes is kept, also where what comes after it goes wrong
            if found and not quick:
                write(name, found)
        if not found:
            console.print(f"left out: {name} needs the practice hosts (invoke sandbox.up, publish)")
        met = met and all(one.json()["met"] for one in found if not isinstance(one, Curve))
    return 0 if met else 1


def measured(name: str, peers: Path, console: Console, *, quick: bool) -> Iterator[Found]:
    """Measure a part, and show each figure as it comes."""
    with ExitStack() as stack:
        stack.enter_context(console.status(f"measuring: {name}"))
        if quick:
            stack.enter_context(within(QUICK[name]))
        for one in PARTS[name](peers, quick):
            if not isinstance(one, Curve):
                console.print(page.row(one.json()).strip(), soft_wrap=True, markup=False)
            yield one
            if time_is_over():
                break


def write(name: str, found: list[Found]) -> None:
    """Keep what was measured, and write the page anew."""
    figures = [one.json() for one in found if not isinstance(one, Curve)]
    curves = [one.json() for one in found if isinstance(one, Curve)]
    record = {
        "commit": commit(), "machine": machine(), "versions": versions(), "command": f"script/bench {name}",
        "figures": figures, "curves": curves,
    }  # fmt: skip
    page.RECORDS.mkdir(exist_ok=True)
    (page.RECORDS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    page.write()


if __name__ == "__main__":
    sys.exit(main())
