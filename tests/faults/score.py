"""Keeps what a long game came to: a line on the terminal for each round, and a record for docs/faults.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from deploy.plans.image import ROOT_IMAGE
from tests.faults.judge import RECORDS, commit
from tests.hosts.observer import PracticeHost, Sandbox

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
    # What mended that for which seeds are played once more; their first try stays where it is.
    mended: str = ""
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
        head |= {"seconds": round(time.monotonic() - self.begun), **({"mended": self.mended} if self.mended else {})}
        fields = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
        rounds = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in self.rounds)
        text = "{" + ",\n ".join([*fields, f'"rounds": [\n  {rounds}\n ]']) + "}\n"
        name = f"{self.game}-{self.bench}" + (f"-{self.part}" if self.part else "")
        name += f"-mended-{self.mended}-{self.rounds[0]['seed']}" if self.mended else ""
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


def with_record(parser: argparse.ArgumentParser) -> None:
    """Let a game be recorded, or the replay of seeds that were violated."""
    parser.add_argument("--record", action="store_true", help="write docs/faults/games/GAME-BENCH.json")
    parser.add_argument(
        "--mended",
        default="",
        metavar="COMMIT",
        help="what has mended the seeds that are replayed; a record of its own",
    )


def sandbox(part: int | None) -> Sandbox:
    """Give the practice hosts, all or three of them, the head of which has the image that benches are made of."""
    hosts = Sandbox.of(docker.from_env(version="auto"))
    found = hosts.part(part) if part else hosts
    if not hosts.hosts or not has_root(hosts.head):
        workers = " --workers 5" if part else ""
        sys.exit(f"first: invoke sandbox.up{workers} && ENVIRONMENT=sandbox invoke cluster.install build.base build")
    if not has_root(found.head):
        send, load = (f"docker exec -i {host.box.name} docker" for host in (hosts.head, found.head))
        subprocess.run(("bash", "-o", "pipefail", "-c", f"{send} save {ROOT_IMAGE} | {load} load"), check=True)
    return found


def games(folder: Path = GAMES) -> list[Mapping[str, Any]]:
    """Read the records of games that have rounds."""
    return [one for one in all_records(folder) if "rounds" in one]


def campaigns(folder: Path = GAMES) -> list[Mapping[str, Any]]:
    """Read the records of campaigns of generated files."""
    return [one for one in all_records(folder) if one["game"] == "campaign"]


def all_records(folder: Path) -> list[Mapping[str, Any]]:
    """Read every record."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def table(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write a row of a table for each kind of round; replays are none of them."""
    kinds: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        for one in [] if "mended" in record else record["rounds"]:
            kinds.setdefault((record["game"], one["kind"], record["bench"], at(record)), []).append(one)
    for (game, kind, bench, of), rounds in kinds.items():
        seeds = [one["seed"] for one in rounds]
        wrong = sum(bool(one["wrong"]) for one in rounds)
        yield f"| `{game}` | {kind} | {bench} | {len(rounds)} | {min(seeds)} to {max(seeds)} | {wrong} | {of} |\n"


def replays(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write a line for each round that was violated, or whose first try nobody kept, and what came of its replay."""
    for record in records:
        tries = [
            (one["seed"], f"violated ({'; '.join(one['wrong'])[:300]})") for one in record["rounds"] if one["wrong"]
        ]
        tries += [
            (seed, "the first try was taken out of the record and not kept") for seed in record.get("not_kept", ())
        ]
        for seed, what in [] if "mended" in record else tries:
            again = [replay(other, seed) for other in records if is_replay(other, record, seed)]
            yield f"- `{record['game']}` on bench {record['bench']}, seed {seed}: {what} at {at(record)}"
            yield "".join(again) + ".\n" if again else "; not replayed.\n"


def is_replay(other: Mapping[str, Any], record: Mapping[str, Any], seed: int) -> bool:
    """Tell whether a record has a replay of another's seed."""
    same = all(other[key] == record[key] for key in ("game", "bench"))
    return same and "mended" in other and any(one["seed"] == seed for one in other["rounds"])


def replay(record: Mapping[str, Any], seed: int) -> str:
    """Say what came of a replay."""
    wrong = [bool(one["wrong"]) for one in record["rounds"] if one["seed"] == seed]
    return f"; mended by {record['mended']}; replayed at {at(record)}: {'**violated**' if any(wrong) else 'holds'}"


def at(record: Mapping[str, Any]) -> str:
    """Name the commit that was played; one that the history does not have is marked in its record."""
    return str(record["commit"]) + (" (not in this history)" if record.get("in_history") is False else "")


def has_root(host: PracticeHost) -> bool:
    """Tell whether a host has the image of which benches make theirs."""
    return host.look("docker", "image", "inspect", ROOT_IMAGE).code == 0
