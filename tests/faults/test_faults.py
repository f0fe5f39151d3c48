"""The rows of the catalogue, each with all oracles."""

from __future__ import annotations

import pytest

from tests.faults.bench import Bench
from tests.faults.catalogue import rows
from tests.faults.judge import judged, keep
from tests.faults.row import Row


@pytest.mark.parametrize("row", rows().values(), ids=rows())
def test_no_oracle_objects(row: Row, bench: Bench, request: pytest.FixtureRequest) -> None:
    record = judged(row, bench)
    if request.config.option.record:
        keep(record)
    assert {name: wrong for name, wrong in record["verdicts"].items() if wrong} == {}
