"""Keeps what a long game came to: a line on the terminal for each round, and a record for docs/faults.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from tests.faults.judge import RECORDS, commit
from tests.hosts.observer import Sandbox

GAMES = RECORDS / "games"


@dataclass
class Score:
    """The rounds of a game on a bench."""

    game: str
    bench: str
    # Which three of the hosts it is played on, where others are played beside it.
    part: int | None = None
    # Whether the record is kept; it is written after each round, for a long game may be broken off.
    record: bool = False
    rounds: list[dict[str, Any]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def add(self, kind: str, seed: int, wrong: Sequence[str], **told: object) -> None:
        """Enter a round: of which kind, by which seed, what is wrong after it, and what else is worth to be told."""
        self.rounds.append({"kind": kind, "seed": seed, **told, "wrong": list(wrong)})
        print(json.dumps(self.rounds[-1]), flush=True)
        if self.record:
            self.keep()

    def keep(self, folder: Path = GAMES) -> None:
        """Write the record."""
        folder.mkdir(parents=True, exist_ok=True)
        head: dict[str, object] = {"game": self.game, "bench": self.bench, "commit": commit()}
        head |= {"seconds": round(time.monotonic() - self.begun)}
        fields = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
        rounds = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in self.rounds)
        text = "{" + ",\n ".join([*fields, f'"rounds": [\n  {rounds}\n ]']) + "}\n"
        name = f"{self.game}-{self.bench}" + (f"-{self.part}" if self.part else "")
        (folder / f"{name}.json").write_text(text, encoding="utf-8")

    def code(self) -> int:
        """Tell what it came to, and give the exit code."""
        wrong = sum(bool(one["wrong"]) for one in self.rounds)
        print(f"{self.game} on bench {self.bench}: {len(self.rounds)} rounds, {wrong} with violations", file=sys.stderr)
        return 1 if wrong else 0


def with_part(parser: argparse.ArgumentParser) -> None:
    """Let a game be played on three of the practice hosts."""
    parser.add_argument(
        "--part", type=int, help="play on three hosts, the first (1), the next (2), …: after sandbox.up --workers 5"
    )


def sandbox(part: int | None) -> Sandbox:
    """Give the practice hosts, all or three of them."""
    found = Sandbox.of(docker.from_env(version="auto"))
    return found.part(part) if part else found


def games(folder: Path = GAMES) -> list[Mapping[str, Any]]:
    """Read the records."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def table(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write a row of a table for each kind of round."""
    kinds: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        for one in record["rounds"]:
            kinds.setdefault((record["game"], one["kind"], record["bench"], record["commit"]), []).append(one)
    for (game, kind, bench, of), rounds in kinds.items():
        seeds = [one["seed"] for one in rounds]
        wrong = sum(bool(one["wrong"]) for one in rounds)
        yield f"| `{game}` | {kind} | {bench} | {len(rounds)} | {min(seeds)} to {max(seeds)} | {wrong} | {of} |\n"
