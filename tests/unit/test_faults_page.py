"""The page of faults is what its records say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.campaign import SHELL, Found, keep
from tests.faults.catalogue import COUNTS, IMPOSSIBLE, NUMBERS, rows
from tests.faults.page import PAGE, RUN, campaign_line, page, records, whole_run
from tests.faults.score import Score, campaigns, games, replays, table


def test_the_catalogue_has_its_110_rows() -> None:
    assert (len(NUMBERS), sum(COUNTS.values()), len(set(NUMBERS))) == (110, 109, 110)
    assert set(IMPOSSIBLE) <= set(NUMBERS)


def test_each_record_is_of_a_row_that_there_is() -> None:
    assert set(records()) <= set(rows())


def test_the_page_is_made_of_the_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(records())


def test_at_least_a_hundred_rows_are_recorded_and_none_is_violated() -> None:
    found = records()
    assert len(found) >= 100
    assert {number: wrong for number, record in found.items() if (wrong := violated(record))} == {}


def violated(record: Mapping[str, Any]) -> list[str]:
    return [name for name, said in record["verdicts"].items() if said]


def test_what_was_not_asked_of_a_row_has_its_reason_and_no_verdict() -> None:
    found = records()
    silent = {number: {name for name, said in one["verdicts"].items() if said is None} for number, one in found.items()}
    assert silent == {number: set(record["blind"]) for number, record in found.items()}


def test_a_row_of_ray_is_on_ray_itself_unless_the_catalogue_names_a_stub() -> None:
    assert {number for number, one in rows().items() if one.letter == "R" and one.bench != "A"} == {"R11", "R14"}


def test_all_rows_together_take_an_hour_at_most() -> None:
    if RUN.exists():
        run = json.loads(RUN.read_text(encoding="utf-8"))
        assert (run["seconds"] <= 3600, run["rows"]) == (True, len(rows()))
        # What did not hold, or was not asked, in that run was mended and has a record of a later one.
        later = [record for record in records().values() if record.get("run", "") > run["begin"]]
        assert len(later) >= run["failed"] + run["skipped"]


ROUND = re.compile(r"^\| `(\w+)` \| .+ \| (\w+) \| (\d+) \| \d+ to \d+ \| (\d+) \| .+ \|$", re.MULTILINE)


def test_the_page_counts_each_round_of_each_game_and_each_violation() -> None:
    played, seen = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in games():
        if "mended" not in one:
            played[one["game"], one["bench"]] += len(one["rounds"])
            seen[one["game"], "violated"] += sum(bool(each["wrong"]) for each in one["rounds"])
    for game, bench, rounds, wrong in ROUND.findall(PAGE.read_text(encoding="utf-8")):
        played[game, bench] -= int(rounds)
        seen[game, "violated"] -= int(wrong)
    assert (set(played.values()), set(seen.values())) == ({0}, {0})


def test_a_seed_that_was_violated_is_told_with_what_came_of_its_replay(tmp_path: Path) -> None:
    first, second = Score("nemesis", "B"), Score("nemesis", "B", mended="abc1234")
    first.add("faults", 7, ["a traceback"])
    first.add("faults", 8, [])
    second.add("faults", 7, [])
    for score in (first, second):
        score.keep(tmp_path)
    found = games(tmp_path)
    (counted,) = table(found)
    assert "| 2 | 7 to 8 | 1 |" in counted
    told = "".join(replays(found))
    assert "seed 7: violated (a traceback) at " in told
    assert "; mended by abc1234; replayed at " in told
    assert told.endswith(": holds.\n")


def test_a_campaign_is_told_with_each_kind_of_violation(tmp_path: Path) -> None:
    found = Found(Counter({".env": 1000}), Counter({".env": 400}), printed=20, run=2, slowest=0.25)
    found.add(Found(Counter({".env": 1000}), violations=["x"], kinds=Counter({SHELL: 1})))
    keep(found, 3, 61.2, tmp_path)
    (record,) = campaigns(tmp_path)
    told = "| 2,000 .env (seed 3) | 400 | 20, 2 | 0 | 0 | 1 | 0 | 0.25 s of CPU | 61 | "
    assert campaign_line(record).startswith(told)
    assert games(tmp_path) == []


def test_a_record_of_another_run_than_the_whole_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    assert "no record yet" in whole_run({}, file)
    run = {"begin": "a", "end": "b", "seconds": 3000, "rows": 2, "failed": 0, "commit": "abc1234"}
    file.write_text(json.dumps(run))
    assert "none violated an oracle" in whole_run({}, file)
    file.write_text(json.dumps({**run, "failed": 2, "skipped": 6}))
    told = whole_run({"S1": {"run": "a"}, "S2": {"run": "c"}, "S3": {}}, file)
    assert "2 violated an oracle, 6 lacked their bench" in told
    assert "in 50.0 of at most 60 minutes" in told
    assert "the records of S2, S3 are of other runs" in told


def test_a_game_is_told_by_the_kinds_of_its_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = Score("instants", "B")
    score.add("SIGINT", 4, [], seconds=2.5)
    score.add("SIGKILL", 5, ["a traceback"])
    score.add("SIGINT", 6, [])
    assert score.code() == 1
    score.keep(tmp_path)
    (found,) = games(tmp_path)
    told = [line.split("|")[2:7] for line in table([found])]
    assert told == [[" SIGINT ", " B ", " 2 ", " 4 to 6 ", " 0 "], [" SIGKILL ", " B ", " 1 ", " 5 to 5 ", " 1 "]]
    assert "3 rounds, 1 with violations" in capsys.readouterr().err
