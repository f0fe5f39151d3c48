"""Makes docs/benchmarks.md and its plots of the records in docs/benchmarks: `python -m tests.bench.page`.

What is to be said of a part beside its figures (what could not be met, why, and what would be needed) stands in
docs/benchmarks/PART.md, and is taken over as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench.plots import curve, overview
from tests.hosts.observer import TOP

RECORDS = TOP / "docs/benchmarks"
PAGE = RECORDS.with_suffix(".md")
OVERVIEW = "overview"
HEAD = """\
# Benchmarks

Each figure is a ratio against a peer or a floor, or the most that was seen of something, beside its bound. Both sides
of a ratio were measured in turn in one run, after one that does not count, unless it is said otherwise; a ratio is that
of medians, and the least and the most stand behind these. Peers check host keys and collect output as Raydock does, but
for `ray up`, which checks none and cannot be made to; what they run stands in
[tests/bench/peers](../tests/bench/peers) and in the part's own file beside it. Every check that Raydock makes is on in
all of it: of host keys, digests, identity and liveness.

`script/bench` measures all of it anew and writes this page; `script/bench quick` has fewer hosts and runs, shows what
it finds, and writes nothing.
"""
TITLES = {
    "prompt": "At the prompt",
    "fanout": "Fan-out",
    "scale": "Scale",
    "start": "Start and stop",
    "idle": "Nothing to do, and a look",
    "images": "Images",
}
COLUMNS = "| what | target | got | | Raydock | peer | runs | peer |\n|---|---|---|---|---|---|---|---|\n"
Record = Mapping[str, Any]


def shown(series: Mapping[str, Any], unit: str = "s") -> str:
    """Show a series."""
    return f"{series['median']:g} {unit} ({series['min']:g} to {series['max']:g})"


def met(figure: Mapping[str, Any]) -> str:
    """Say whether a target was met, where there is one."""
    if figure["target"] is None:
        return ""
    return "met" if figure["met"] else "**not met**"


def row(figure: Mapping[str, Any]) -> str:
    """Show a figure as a row."""
    target = "" if figure["target"] is None else f"at most {figure['target']:g} {figure.get('unit', '×')}"
    if peer := figure.get("peer"):
        cells = [target, f"{figure['ratio']:g} ×", met(figure), shown(figure["ours"]), shown(peer)]
    else:
        most = f"{figure['ours']['max']:g} {figure['unit']}"
        cells = [target, most, met(figure), shown(figure["ours"], figure["unit"]), ""]
    return f"| {' | '.join([figure['name'], *cells, str(figure['ours']['runs']), peer['name'] if peer else ''])} |\n"


def records() -> dict[str, Record]:
    """Read the record of each part that was measured."""
    files = {name: RECORDS / f"{name}.json" for name in TITLES}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def summary(found: Mapping[str, Record]) -> str:
    """Count the targets that were met, and name the others."""
    asked = [figure for record in found.values() for figure in record["figures"] if figure["target"] is not None]
    if not asked:
        return ""
    missed = {TITLES[part]: count for part, record in found.items() if (count := len(list(not_met(record))))}
    counts = ", ".join(f'{count} of "{part}"' for part, count in missed.items())
    names = f" Not met are {counts}: why, and what would be needed, stands there." if missed else ""
    picture = f"\n![What was taken of each target]({RECORDS.name}/{OVERVIEW}.svg)\n"
    return f"\n{len(asked) - sum(missed.values())} of {len(asked)} targets are met.{names}\n{picture}"


def not_met(record: Record) -> Iterator[Mapping[str, Any]]:
    """Give the figures of a part that miss their target."""
    return (figure for figure in record["figures"] if figure["target"] is not None and not figure["met"])


def section(name: str, record: Record) -> str:
    """Write a part: what it was measured with, its figures, its plots, and what is to be said of it."""
    parts = [f"\n## {TITLES[name]}\n\nAt {record['commit']}, on {record['machine']}, by `{record['command']}`"]
    versions = ", ".join(f"{program} {version}" for program, version in record.get("versions", {}).items())
    parts += [f"; with {versions}" if versions else "", f".\n\n{COLUMNS}", *map(row, record["figures"])]
    parts += [f"\n![{one['title']}]({RECORDS.name}/{one['name']}.svg)\n" for one in record.get("curves", ())]
    said = RECORDS / f"{name}.md"
    parts += [f"\n{said.read_text(encoding='utf-8')}"] if said.exists() else []
    return "".join(parts)


def page(found: Mapping[str, Record]) -> str:
    """Write the page."""
    return "".join([HEAD, summary(found), *(section(name, record) for name, record in found.items())])


def files() -> dict[Path, str]:
    """Give the page and its plots, as the records have them."""
    found = records()
    plots = {one["name"]: curve(one) for record in found.values() for one in record.get("curves", ())}
    if found:
        plots[OVERVIEW] = overview({TITLES[name]: record["figures"] for name, record in found.items()})
    return {PAGE: page(found), **{RECORDS / f"{name}.svg": plot for name, plot in plots.items()}}


def write() -> None:
    """Write them."""
    for file, content in files().items():
        file.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write()
