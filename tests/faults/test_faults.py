"""The rows of the catalogue, each with all oracles."""

from __future__ import annotations

import pytest

from tests.faults.bench import Bench
from tests.faults.catalogue import rows
from tests.faults.judge import judged, keep
from tests.faults.row import SLACK, Row

BUSY = 60.0  # seconds beyond a deadline on a machine that does other things, too


@pytest.mark.parametrize("row", rows().values(), ids=rows())
def test_no_oracle_objects(row: Row, bench: Bench, run_begun: str, request: pytest.FixtureRequest) -> None:
    # Among all other tests none may fail because the machine is slow; that it does not hang is seen all the same.
    record = judged(row, bench, BUSY if request.config.option.quick_rows else SLACK)
    if request.config.option.record:
        keep({**record, "run": run_begun})
    assert {name: wrong for name, wrong in record["verdicts"].items() if wrong} == {}
