"""A file of settings, read as it is written: no interpolation, and each line with its number."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from deploy import grammar
from deploy.errors import MOST_TOLD, Mistake, Problem
from deploy.files import KB, read_text

DEFAULT_FILE = ".env"
LARGEST_FILE = 64 * KB
LONGEST_LINE = 4096

_LINE_END = re.compile(r"\r\n|\n|\r")
# What is no name may be a line of a key that was pasted: no message repeats it.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True)
class Entry:
    """One `KEY=VALUE`, and where it stands."""

    key: str
    value: str
    place: str


def find_env(root: Path, environ: Mapping[str, str]) -> str:
    """Give the settings' file, relative to `root`: `.env`, or ENVIRONMENT's; nothing if there is none."""
    name = environ.get("ENVIRONMENT", "")
    if not name:
        return DEFAULT_FILE if os.path.lexists(root / DEFAULT_FILE) else ""
    source = f"conf/{name}.env"
    if grammar.ENVIRONMENT_NAME.pattern.fullmatch(name) and os.path.lexists(root / source):
        return source
    known = sorted(path.stem for path in (root / "conf").glob("*.env"))
    cure = grammar.nearest(name, known) if known else "There is no conf/NAME.env yet"
    error = f"there are no settings called {grammar.shown(name)}"
    raise Mistake.of("CONFIG", error, cure, place="environment ENVIRONMENT")


def read_env(path: Path, source: str) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    """Give what the file sets, and all that is wrong with its form; values are not looked at."""
    try:
        text = read_text(path, LARGEST_FILE)
    except ValueError as why:
        return (), (Problem("CONFIG", f"cannot be read: {why}", place=source),)
    if too_long := tuple(_long_lines(text, source)):
        return (), too_long
    return _sorted_out(_parsed(text, source))


def _long_lines(text: str, source: str) -> Iterator[Problem]:
    for number, line in enumerate(_LINE_END.split(text), 1):
        if len(line) > LONGEST_LINE:
            error = f"is longer than {LONGEST_LINE} characters"
            yield Problem("CONFIG", error, place=f"{source}:{number}")


def _parsed(text: str, source: str) -> Iterator[Entry | Problem]:
    for binding in parse_stream(io.StringIO(text, newline="")):
        place = f"{source}:{_line(binding)}"
        if binding.error:
            quote = ": is a quote left open?" if re.search("['\"]", binding.original.string) else ""
            yield Problem("CONFIG", f"is not KEY=VALUE{quote}", place=place)
        elif binding.key is not None:
            yield _entry(binding.key, binding.value, place)


def _entry(key: str, value: str | None, place: str) -> Entry | Problem:
    if not _NAME.fullmatch(key):
        return Problem("CONFIG", "is not KEY=VALUE", place=place)
    if value is None:
        return Problem("CONFIG", f"{key} has no '='", place=place)
    return Entry(key, value, place)


def _line(binding: Binding) -> int:
    """Give the line of the key: a binding begins with the blank lines before it."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(_LINE_END.findall(blank))


def _sorted_out(found: Iterator[Entry | Problem]) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for item in found:
        if len(problems) > MOST_TOLD:
            break
        if isinstance(item, Problem):
            problems.append(item)
        elif (first := entries.setdefault(item.key, item)) is not item:
            error = f"{item.key} is at {first.place} already"
            problems.append(Problem("CONFIG", error, "Keep one of the two", item.place))
    return tuple(entries.values()), tuple(problems)
