"""JSON of somebody else's, read with suspicion: the machine that tells it may be broken, or not ours any more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

FAR = 10**11  # seconds since 1970
WIDEST = 2**63  # numbers beyond are no sizes, codes or times
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no encoding has

T = TypeVar("T")


class Odd(ValueError):
    """An answer that has not the form that was due."""


def parsed(text: str | bytes) -> object:
    """Give what a JSON text says; `Odd` where it is none, nests without end, or has a number that is none."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Odd(f"{described(text)} that is no JSON") from error


def typed(value: object, kind: type[T]) -> T:
    """Give the value, if it is of a kind; yes and no are no numbers, a number has an end, and a text can be written."""
    endless = isinstance(value, int | float) and not abs(value) < WIDEST
    if isinstance(value, str) and SURROGATE.search(value):
        raise Odd(f"{described(value)} that cannot be written")
    if isinstance(value, kind) and not endless and (kind is bool or not isinstance(value, bool)):
        return value
    raise Odd(f"{described(value)} where a {kind.__name__} was due")


def described(value: object) -> str:
    """Name a value for a message. Nothing of a text: it may repeat a secret."""
    if isinstance(value, str | bytes):
        return f"a text of {len(value)} characters"
    small = value is None or (isinstance(value, int | float) and abs(value) < WIDEST)
    return str(value) if small else f"a {type(value).__name__}"


@dataclass(frozen=True)
class Fields:
    """A JSON object. Each reader gives a field of one kind, or raises `Odd`."""

    of: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def read(cls, value: object) -> Fields:
        """Take a value that was due to be an object."""
        return cls(typed(value, dict))

    def text(self, key: str, default: str | None = None) -> str:
        """Give a text; with a default, that where there is none."""
        value = self.of.get(key)
        return default if value is None and default is not None else typed(value, str)

    def number(self, key: str, default: int | None = None) -> int:
        """Give a whole number; with a default, that where there is none."""
        value = self.of.get(key)
        return default if value is None and default is not None else typed(value, int)

    def inner(self, key: str) -> Fields:
        """Give the object in a field; one of nothing where there is none."""
        value = self.of.get(key)
        return Fields() if value is None else Fields.read(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Give a list of texts; an empty one where there is none."""
        value = self.of.get(key)
        return () if value is None else tuple(typed(one, str) for one in typed(value, list))

    def pairs(self, key: str) -> dict[str, str]:
        """Give an object of texts; an empty one where there is none."""
        return {typed(name, str): typed(value, str) for name, value in self.inner(key).of.items()}


def listed(value: object) -> list[Fields]:
    """Take a value that was due to be a list of objects; nothing is an empty one."""
    return [] if value is None else [Fields.read(one) for one in typed(value, list)]


def moment(value: object) -> float:
    """Give seconds since 1970, or of a time that something took: no calendar goes on for ever."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < FAR:
        raise Odd(f"{described(value)} where a time was due")
    return float(value)


def _refuse(constant: str) -> NoReturn:
    raise Odd(f"{constant} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise Odd("a number without end")
    return number
