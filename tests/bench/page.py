"""Makes docs/benchmarks.md of the records in docs/benchmarks: `python -m tests.bench.page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.hosts.observer import TOP

RECORDS = TOP / "docs/benchmarks"
PAGE = RECORDS.with_suffix(".md")
HEAD = """\
# Benchmarks

Each figure is a ratio against a peer or a floor, or within a bound; both sides were measured in turn in one run, after
one run each that does not count. Seconds are medians, with the least and the most behind them. Peers check host keys
and collect output as Raydock does; what they run stands in [tests/bench/peers](../tests/bench/peers) and in the part's
own file beside it.

`script/bench` measures all of it anew and writes this page; `script/bench quick` takes less than three minutes.
"""
TITLES = {"prompt": "At the prompt", "fanout": "Fan-out"}


def seconds(series: Mapping[str, Any]) -> str:
    """Show a series."""
    return f"{series['median']:g} ({series['min']:g} to {series['max']:g})"


def row(figure: Mapping[str, Any]) -> str:
    """Show a figure as a row."""
    met = "met" if figure["met"] else "**not met**"
    if peer := figure.get("peer"):
        cells = [f"at most {figure['target']:g} ×", f"{figure['ratio']:g} ×", met]
        cells += [seconds(figure["ours"]), seconds(peer), peer["name"]]
    else:
        unit = figure["unit"]
        cells = [f"at most {figure['target']:g} {unit}", f"{figure['ours']['max']:g} {unit}", met, "", "", ""]
    return f"| {' | '.join([figure['name'], *cells])} |\n"


def page() -> str:
    """Write the page."""
    parts = [HEAD]
    for name, title in TITLES.items():
        file = RECORDS / f"{name}.json"
        if not file.exists():
            continue
        record = json.loads(file.read_text(encoding="utf-8"))
        parts.append(f"\n## {title}\n\nAt {record['commit']}, on {record['machine']}, by `{record['command']}`.\n\n")
        parts.append("| what | target | got | | Raydock, s | peer, s | peer |\n|---|---|---|---|---|---|---|\n")
        parts += map(row, record["figures"])
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
