"""The documents that programs read, against the schema that tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Draft202012Validator(
    json.loads(Path(__file__).resolve().parents[1].joinpath("docs/report.schema.json").read_text(encoding="utf-8"))
)


def checked(document: Any) -> dict[str, Any]:
    """Give a document that is as the schema says; an `AssertionError` names what is not."""
    wrong = [f"{error.json_path}: {error.message}" for error in SCHEMA.iter_errors(document)]
    assert not wrong, "\n".join(wrong)
    assert document["ok"] is (document["exit"] == 0)
    found: dict[str, Any] = document
    return found
