"""The page of faults is what its records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.catalogue import COUNTS, IMPOSSIBLE, NUMBERS, rows
from tests.faults.page import PAGE, page, records
from tests.faults.score import Score, games, table


def test_the_catalogue_has_its_110_rows() -> None:
    assert (len(NUMBERS), sum(COUNTS.values()), len(set(NUMBERS))) == (110, 109, 110)
    assert set(IMPOSSIBLE) <= set(NUMBERS)


def test_each_record_is_of_a_row_that_there_is() -> None:
    assert set(records()) <= set(rows())


def test_the_page_is_made_of_the_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(records())


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
