"""The page of faults is what its records say."""

from __future__ import annotations

from tests.faults.catalogue import COUNTS, IMPOSSIBLE, NUMBERS, rows
from tests.faults.page import PAGE, page, records


def test_the_catalogue_has_its_110_rows() -> None:
    assert (len(NUMBERS), sum(COUNTS.values()), len(set(NUMBERS))) == (110, 109, 110)
    assert set(IMPOSSIBLE) <= set(NUMBERS)


def test_each_record_is_of_a_row_that_there_is() -> None:
    assert set(records()) <= set(rows())


def test_the_page_is_made_of_the_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(records())
