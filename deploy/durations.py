"""Durations as people write them, `30s`, `5m`, `1h`, and as they say them."""

from __future__ import annotations

import re

FORM = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smh])", re.ASCII)
UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST = 24 * 3600


def parse_duration(text: str) -> int:
    """Give a duration in seconds; a `ValueError` says what is wrong with it."""
    if not (found := FORM.fullmatch(text)):
        raise ValueError("is not a duration such as 30s, 5m or 1h")
    if (seconds := int(found["number"]) * UNITS[found["unit"]]) > LONGEST:
        raise ValueError("is more than 24h")
    return seconds


def say_duration(seconds: int) -> str:
    """Say a duration, in the largest unit of which it has two: `90 s`, `2 min`, `26 h`."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
