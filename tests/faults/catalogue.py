"""The numbers of the catalogue, the rows that bring each about, and those that this machine cannot have."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.faults.row import ROWS, Row

HERE = Path(__file__).resolve().parent
COUNTS = {"S": 19, "D": 13, "I": 19, "R": 18, "L": 15, "C": 17, "P": 8}
NUMBERS = [
    name
    for letter, count in COUNTS.items()
    for number in range(1, count + 1)
    for name in ([f"{letter}{number}", "S11b"] if (letter, number) == ("S", 11) else [f"{letter}{number}"])
]
# What cannot be brought about on one machine without a network of its own: the reason. It counts as not done.
IMPOSSIBLE: dict[str, str] = {
    "D12": "the engines here take each version that the SDK speaks; tests/hosts/test_engine.py has a stand-in",
}


def rows() -> dict[str, Row]:
    """Give the rows that are there, in the catalogue's order."""
    for module in sorted(HERE.glob("rows_*.py")):
        importlib.import_module(f"tests.faults.{module.stem}")
    return {number: ROWS[number] for number in NUMBERS if number in ROWS}
