"""Makes docs/faults.md of the records in docs/faults: `python -m tests.faults.page`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.faults.catalogue import COUNTS, IMPOSSIBLE, NUMBERS
from tests.faults.judge import RECORDS
from tests.faults.score import at, campaigns, games, replays, table

PAGE = RECORDS.with_suffix(".md")
GAMES_HEAD = """

## By chance

Mixed faults, signals at random instants and many operators, by seed. The records are in
[docs/faults/games](faults/games), written by `python -m tests.faults.GAME --record`; a seed replays its round. No
violation is an idle `docker system dial-stdio` behind a link that was cut: sshd ends it when its own keepalive notices.

| game | each round | bench | rounds | seeds | violated | commit |
|---|---|---|---|---|---|---|
"""
REPLAYS_HEAD = """
Seeds that were violated stay in the records as such, and are replayed (`--record --mended COMMIT`) when that is mended:

"""
CAMPAIGNS_HEAD = """

## Generated files

Lists of workers and settings, drafted by seed and read as a task reads them (`python -m tests.faults.campaign --help`).

| files | taken | scripts printed, run | tracebacks | over 1 s | reached a shell | else wrong | slowest | s | commit |
|---|---|---|---|---|---|---|---|---|---|
"""
RUN = RECORDS / "run.json"
WHOLE_RUN = """
All {rows} rows were run in one go in {minutes:.1f} of at most 60 minutes, from {begin} to {end},
at {commit}: {came}{others}.
"""
BY_HAND = RECORDS / "by-hand.json"
BY_HAND_HEAD = """

## The document's own lines

The same faults, met by what the document types: parallel-ssh and `docker kill $(docker ps -q)` ({peer}, at {commit}),
by `python -m tests.faults.by_hand`. Those oracles judge it that need no report. Seconds are of the lines, and behind
them those of Raydock's row, which may be of another task.

| row | fault | typed | exit | s | violated |
|---|---|---|---|---|---|
"""
FAMILIES = {
    "S": "Reaching nodes",
    "D": "Docker on nodes",
    "I": "Image, registry, AWS",
    "R": "Starting and running Ray",
    "L": "Life cycle and several operators",
    "C": "Inputs",
    "P": "Environment and scale",
}
HEAD = """\
# Faults

What was brought about on real hosts, and what came of it: {done} of {all} rows, {violations} violations. Each row
has a record in [docs/faults](faults), written by `script/test faults --record`; this page is made of them by
`python -m tests.faults.page`.

Bench A is real hosts with Ray itself, B the same hosts with a stub of it, C hundreds of SSH endpoints with a stub of
Docker. Eight oracles judge each row, by an observer that asks each host's engine itself and never Raydock:

- O1: it returned before its deadline + 5 s.
- O2: containers, images, files and known_hosts that are none of ours are as they were.
- O3: exit code and report equal the truth.
- O4: after healing, one run reaches the wanted state, and a second changes nothing.
- O5: no planted secret shows in argv, an environment, output, a log, inspection, on a node's disk, or in the history or
  a layer of an image that the row built. Six are planted on benches A and B: the AWS key and session, the registry's
  token, git's, Ray's, and the passphrase of the SSH key; on bench C the AWS key and session. Each search first finds a
  canary at each of these places.
- O6: the message has code, node, step, cause and next action, and there is no traceback.
- O7: healthy nodes come out as without the fault.
- O8: no process, file, lock or half-made container of ours is left.
"""


def records(folder: Path = RECORDS) -> dict[str, Mapping[str, Any]]:
    """Read the records, in the catalogue's order."""
    there = {path.stem: path for path in folder.glob("*.json")}
    return {number: json.loads(there[number].read_text(encoding="utf-8")) for number in NUMBERS if number in there}


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page."""
    violations = sum(bool(wrong) for record in found.values() for wrong in record["verdicts"].values())
    parts = [HEAD.format(done=len(found), all=len(NUMBERS), violations=violations), whole_run(found)]
    for letter in COUNTS:
        lines = [line(record) for number, record in found.items() if number.startswith(letter)]
        if lines:
            parts.append(f"\n## {FAMILIES[letter]}\n\n| row | fault | task | bench | told | s | oracles | commit |\n")
            parts.append("|---|---|---|---|---|---|---|---|\n" + "".join(lines))
    missing = [number for number in NUMBERS if number not in found]
    parts.append(f"\n## Not done\n\n{', '.join(number for number in missing if number not in IMPOSSIBLE) or 'None'}.\n")
    parts += [f"\n- {number}: {reason}" for number, reason in IMPOSSIBLE.items()]
    played = games()
    if played:
        parts += [GAMES_HEAD, *table(played)]
    parts += [f"\nOf `{one['game']}` on bench {one['bench']}: {one['note']}.\n" for one in played if "note" in one]
    if told_again := list(replays(played)):
        parts += [REPLAYS_HEAD, *told_again]
    if read := campaigns():
        parts += [CAMPAIGNS_HEAD, *map(campaign_line, read)]
    return "".join([*parts, *by_hand(found)])


def whole_run(found: Mapping[str, Mapping[str, Any]], file: Path = RUN) -> str:
    """Say how long all rows took together, and which of the records are of another run."""
    if not file.exists():
        return "\nThere is no record yet of a run of all rows in one go.\n"
    run = json.loads(file.read_text(encoding="utf-8"))
    others = [number for number, record in found.items() if record.get("run") != run["begin"]]
    told = f"; the records of {', '.join(others)} are of other runs" if others else ""
    words = {"failed": "violated an oracle", "skipped": "lacked their bench"}
    came = [f"{run[key]} {said}" for key, said in words.items() if run.get(key)]
    return WHOLE_RUN.format(
        **run, minutes=run["seconds"] / 60, others=told, came=", ".join(came) or "none violated an oracle"
    )


def campaign_line(record: Mapping[str, Any]) -> str:
    """Write a row of the table of campaigns."""
    files = ", ".join(f"{count:,} {kind}" for kind, count in record["files"].items())
    taken = ", ".join(f"{count:,}" for count in record["taken"].values())
    scripts = f"{record['scripts']['printed']:,}, {record['scripts']['run']:,}"
    wrong = " | ".join(str(count) for count in record["wrong"].values())
    return (
        f"| {files} (seed {record['seed']}) | {taken} | {scripts} | {wrong} | {record['slowest']:g} s of CPU |"
        f" {record['seconds']} | {at(record)} |\n"
    )


def by_hand(found: Mapping[str, Mapping[str, Any]], file: Path = BY_HAND) -> Iterator[str]:
    """Write what came of the document's own lines, beside what came of Raydock."""
    if not file.exists():
        return
    record = json.loads(file.read_text(encoding="utf-8"))
    yield BY_HAND_HEAD.format(peer=record["peer"], commit=record["commit"])
    for row in record["rows"]:
        wrong = "; ".join(f"{name}: {said}" for name, said in row["wrong"].items()) or "none"
        ours = found.get(row["row"])
        seconds = f"{ours['seconds']:g}" if ours else "-"
        title = ours["title"] if ours else ""
        yield f"| {row['row']} | {title} | {row['task']} | {row['exit']} | {row['seconds']:g} ({seconds}) | {wrong} |\n"


def line(record: Mapping[str, Any]) -> str:
    """Write a row of a table."""
    wrong = [name for name, said in record["verdicts"].items() if said]
    blind = [f"{name} not asked: {reason}" for name, reason in record["blind"].items()]
    told = f"{record['code'] or 'ok'}, exit {record['exit']}"
    figures = ", ".join(f"{name} {seconds:g} s" for name, seconds in record.get("figures", {}).items())
    asked = [name for name, said in record["verdicts"].items() if said is not None]
    held = f"**{', '.join(wrong)} violated**" if wrong else "all hold" if not blind else f"{', '.join(asked)} hold"
    oracles = "; ".join(filter(None, [held, figures, *blind]))
    return (
        f"| {record['row']} | {record['title']} | `{record['task']}` | {record['bench']} | {told} |"
        f" {record['seconds']} of {record['deadline']:g} | {oracles} | {record['commit']} |\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(records()), encoding="utf-8")
