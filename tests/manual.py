"""docs/manual.md as the tests read it: the document's lines, and the task of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
MANUAL = TOP / "docs" / "manual.md"
HEADER = ("the document", "today", "task", "what it does better")


@dataclass(frozen=True)
class Row:
    """A line of the manual's tables."""

    line: str
    today: str
    task: str
    better: str

    @property
    def words(self) -> list[str]:
        """What is typed after `invoke`."""
        return self.task.split()


def rows() -> Iterator[Row]:
    """Give the rows of all tables, in order."""
    for text in MANUAL.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in text.strip("|").split(" | "))
        if text.startswith("| `"):
            line, today, task, better = cells
            yield Row(line.strip("`"), today, task.strip("`"), better)


def shell_lines(document: str) -> Iterator[str]:
    """Give each command line of a document's code blocks, one that goes on over several lines as one."""
    for block in re.findall(r"^```\n(.*?)^```", document, re.DOTALL | re.MULTILINE):
        if not block.startswith(("# Application Dockerfile", "{", "ray.init(")):
            for line in block.replace("\\\n", " ").splitlines():
                if line and not line.startswith("#"):
                    yield " ".join(line.split())
