"""The manual has a task for each line of the document, and the task is one that there is."""

from __future__ import annotations

import pytest

import tasks
from tests.manual import HEADER, MANUAL, TOP, Row, rows, shell_lines

# The text that the manual follows: no part of the project, it lies beside a checkout where somebody has put it.
DOCUMENT = TOP.parent / "shared" / "document.md"
ROWS = list(rows())
NAMES = {*tasks.namespace.task_names, "publish", "build"}


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the document is not beside this checkout")
def test_each_line_of_the_document_has_a_task_in_the_documents_order() -> None:
    assert [row.line for row in ROWS] == list(shell_lines(DOCUMENT.read_text(encoding="utf-8")))


def test_a_line_that_goes_on_is_one_and_what_is_no_shell_is_none() -> None:
    text = "# A\n```\n# x.sh\na \\\n    b\n\nc\n```\n```\n{\n}\n```\n```\nray.init(x)\n```\n"
    assert list(shell_lines(text)) == ["a b", "c"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.line[:40])
def test_the_task_of_a_line_is_one_that_there_is(row: Row) -> None:
    assert row.words[0] in NAMES
    assert row.today
    assert row.better


def test_every_table_has_the_same_columns() -> None:
    headers = [text for text in MANUAL.read_text(encoding="utf-8").splitlines() if text.startswith("| the document")]
    assert set(headers) == {f"| {' | '.join(HEADER)} |"}
