"""Measures, and writes docs/benchmarks.md: `script/bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from tests.bench import fanout, page, prompt
from tests.bench.measure import Bound, Figure, machine
from tests.faults.judge import commit

Part = Callable[[Path, bool], Iterable[Figure | Bound]]
PARTS: dict[str, Part] = {
    "prompt": lambda _python, _quick: prompt.figures(),
    "fanout": lambda python, quick: fanout.figures(python, quick=quick),
}


def main() -> int:
    """Measure what was asked for; the exit code tells whether every target was met."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "quick"], help="some of them; all, if none is named")
    parser.add_argument("--peers", type=Path, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    quick = "quick" in asked.parts
    console, met = Console(stderr=True, highlight=False), True
    for name in [part for part in asked.parts if part != "quick"] or PARTS:
        found = []
        with console.status(f"measuring: {name}"):
            for figure in PARTS[name](asked.peers, quick):
                found.append(figure.json())
                met = met and found[-1]["met"]
                console.print(page.row(found[-1]).strip(), soft_wrap=True, markup=False)
        if not quick:
            write(name, found)
    return 0 if met else 1


def write(name: str, figures: list[dict[str, object]]) -> None:
    """Keep what was measured, and write the page anew."""
    record = {"commit": commit(), "machine": machine(), "command": f"script/bench {name}", "figures": figures}
    page.RECORDS.mkdir(exist_ok=True)
    (page.RECORDS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    page.PAGE.write_text(page.page(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
