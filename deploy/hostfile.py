"""workers.txt: a parallel-ssh host file, with options where parallel-ssh sees a comment.

[user@]host[:port] [user]   #: private=10.0.0.7 num_workers=8 shm_size=16G gpus=all resources='{"ssd": 1}'
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from deploy import grammar, sizes
from deploy.errors import Mistake, Problem, bounded
from deploy.files import MB, read_bytes
from deploy.inventory import SSH_PORT, Node, Options, checked, parse_target, repeated

T = TypeVar("T")

LARGEST_FILE = 16 * MB
LONGEST_LINE = 4096
MOST_LINES = 12_000
EXAMPLE = "List one host a line, as in: ubuntu@10.0.0.7"
OPTION_MARK = "#:"

_LINE_END = re.compile(r"\r\n|\n|\r")
_RANGE = re.compile(r"\[[^\]]*[-,][^\]]*\]|\{[^}]*[,.][^}]*\}")
_OPTION = re.compile(
    r"""[ \t]*(?P<key>[A-Za-z_]+)="""
    r"""(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>[^\s'"]*))(?=[ \t]|\Z)"""
)
# Tab apart; C1 as well, which a terminal takes for orders.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_RESOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
# What Ray itself fills in, and refuses as a resource of one's own.
_RAYS_OWN = frozenset({"CPU", "GPU", "memory", "object_store_memory"})
_MOST_OF_A_RESOURCE = 10**9


def read_workers(path: Path, source: str = "") -> tuple[Node, ...]:
    """Give the workers that the file lists. A `Mistake` has all that is wrong, each with its line."""
    source = source or str(path)
    try:
        text = _read(path)
    except ValueError as why:
        raise Mistake.of("INVENTORY", f"cannot be read: {why}", EXAMPLE, place=source) from None
    return parse_workers(text, source)


def _read(path: Path) -> str:
    content = read_bytes(path, LARGEST_FILE)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16; save it as UTF-8")
    # Bytes of another encoding do no harm in a comment, and are no part of any host.
    return content.decode("utf-8-sig", errors="backslashreplace")


def parse_workers(text: str, source: str) -> tuple[Node, ...]:
    """Give the workers that the text lists. A `Mistake` has all that is wrong, each as `source:LINE`."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"), MOST_LINES)
    if len(lines) > MOST_LINES:
        raise Mistake.of("INVENTORY", f"has more than {MOST_LINES} lines", EXAMPLE, place=source)
    nodes: list[Node] = []
    Mistake.raise_any(sorted(bounded(chain(_read_into(nodes, lines, source), repeated(nodes))), key=_line_number))
    if not nodes:
        raise Mistake.of("INVENTORY", "lists no host", EXAMPLE, place=source)
    return tuple(nodes)


def _read_into(nodes: list[Node], lines: Sequence[str], source: str) -> Iterator[Problem]:
    """Add the nodes of the lines, and tell what is wrong with the others."""
    for number, line in enumerate(lines, 1):
        parsed = _Line(f"{source}:{number}")
        nodes.extend(parsed.read(line))
        yield from (Problem("INVENTORY", error, place=parsed.place) for error in parsed.wrong)


def _line_number(problem: Problem) -> int:
    return int(problem.place.rpartition(":")[2])


@dataclass
class _Line:
    """One line being read, and what was wrong on it so far."""

    place: str
    wrong: list[str] = field(default_factory=list)

    def attempt(self, check: Callable[..., T], *args: Any) -> T | None:
        """Give what `check` makes of the arguments, or remember what is wrong with them."""
        try:
            return check(*args)
        except ValueError as wrong:
            self.wrong.append(str(wrong))
            return None

    def read(self, line: str) -> Iterator[Node]:
        """Give the line's host, if it has one and all of the line is right."""
        parts = self.attempt(_split, line)
        if parts is None or not any(parts):
            return
        target = self.attempt(_target, parts[0])
        found = dict(self._options(parts[1]))
        if self.wrong or target is None:
            return
        user, host, port = target
        private = found.pop("private", None)
        yield Node(
            _name(host, port),
            host,
            role="worker",
            user=user,
            port=port,
            private=private,
            options=Options(**found),
            place=self.place,
        )

    def _options(self, text: str) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        words, rest = _words(text)
        if rest:
            self.wrong.append(f"{grammar.shown(rest)} is no option: write KEY=VALUE, blanks in quotes")
        for key, value in words:
            if key not in OPTIONS:
                self.wrong.append(f"no option is called {grammar.shown(key)}. {grammar.nearest(key, OPTIONS)}")
            elif key in seen:
                self.wrong.append(f"{key}= is there twice")
            else:
                seen.add(key)
                yield key, self.attempt(checked, OPTIONS[key], value, f"{key}=")


def _split(line: str) -> tuple[str, str]:
    """Take a line apart into the host's words and the options."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"is longer than {LONGEST_LINE} characters")
    if wrong := _CONTROL.search(line):
        raise ValueError(f"has a control character, {grammar.shown(wrong[0])}")
    target, _, comment = line.partition("#")
    target = target.strip(" \t")
    if comment.startswith(":"):
        if not target:
            raise ValueError("has options, but no host before them")
        return target, comment[1:]
    if target and OPTION_MARK in f"#{comment}":
        raise ValueError("has options inside a comment: they stand right after the host")
    return target, ""


def _target(text: str) -> tuple[str | None, str, int | None]:
    words = re.split(r"[ \t]+", text)
    if len(words) > 2 or any("=" in word for word in words[1:]):
        raise ValueError(f"{grammar.shown(text)} is more than a host and a user: options stand after '{OPTION_MARK}'")
    if _RANGE.search(words[0]):
        raise ValueError(f"{grammar.shown(words[0])} is a range, and ranges are not read: list one host a line")
    user, host, port = parse_target(words[0])
    second = checked(grammar.USER, words[1]) if words[1:] else user
    if user not in (None, second):
        raise ValueError(f"{grammar.shown(text)} names two users")
    return second, host, port


def _words(text: str) -> tuple[list[tuple[str, str]], str]:
    """Give the options as they are written, and what is left over; a comment may follow them."""
    found: list[tuple[str, str]] = []
    end = 0
    while word := _OPTION.match(text, end):
        end = word.end()
        found.append((word["key"], word["single"] or word["double"] or word["bare"] or ""))
    rest = text[end:].strip(" \t")
    return found, "" if rest.startswith("#") else rest


def _name(host: str, port: int | None) -> str:
    if port in (None, SSH_PORT):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resources(text: str) -> str:
    """Give Ray's custom resources as canonical JSON: names, and whole numbers as Ray wants them."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not text.lstrip().startswith("{") or not pairs:
        raise ValueError('is not a JSON object such as {"ssd": 1}')
    found = {_resource_name(name): _quantity(quantity) for name, quantity in pairs}
    if len(found) < len(pairs):
        raise ValueError("names a resource twice")
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def _resource_name(name: str) -> str:
    if not _RESOURCE.fullmatch(name) or name in _RAYS_OWN or name.startswith("node:"):
        raise ValueError(f"has {grammar.shown(name)}, which is no name for a resource of one's own")
    return name


def _quantity(quantity: object) -> int:
    if type(quantity) is float and quantity.is_integer():
        quantity = int(quantity)
    if type(quantity) is not int or not 1 <= quantity <= _MOST_OF_A_RESOURCE:
        raise ValueError(f"has a quantity that is not a whole number from 1 to {_MOST_OF_A_RESOURCE}")
    return quantity


# One line an option: what may stand after `KEY=`.
OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "private": grammar.address,
    "num_workers": grammar.num_workers,
    "shm_size": sizes.shm_size,
    "gpus": grammar.GPUS,
    "resources": _resources,
}
