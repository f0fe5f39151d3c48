"""OpenSSH's verdict on a host key: the format of known_hosts, and what a line in it means for a host."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

SSH_PORT = 22
CA = "@cert-authority"
REVOKED = "@revoked"
HASHED = "|1|"

# What follows the type's name in a key: as many strings. The order is OpenSSH's preference.
KEY_PARTS = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
    "sk-ssh-ed25519@openssh.com": 2,
    "ssh-rsa": 2,
    "ssh-dss": 4,
}
BEST = "ssh-ed25519"
# The key's type is not always the name of the signature on the wire (RFC 8332).
WIRE_NAMES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
SAME_TYPE = {wire: key_type for key_type, wires in WIRE_NAMES.items() for wire in wires}
SALT_LENGTH = 20  # that of a SHA-1


class Kind(Enum):
    """What OpenSSH thinks of a host key."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"
    CERTIFICATE = "certificate"


# What makes more of a line's hosts than one name: a list, a pattern, a hash.
_SPECIAL = re.compile(r"[*?!,|]")
_UNDECIDED = (Kind.UNKNOWN, Kind.CERTIFICATE)


@dataclass(frozen=True)
class Verdict:
    """What is thought of a host key; where a line decided it, the line's place and key."""

    kind: Kind
    place: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Line:
    """One line of known_hosts: for which hosts which key is good, revoked, or signs certificates."""

    hosts: str
    key_type: str
    key: bytes = field(repr=False)
    marker: str
    place: str

    def names(self, host: str) -> bool:
        """Tell whether the line is about this host: a name, or `[name]:port`, in lower case."""
        if self.hosts.startswith("|"):
            return _is_hash_of(self.hosts, host)
        return matches(self.hosts, host)


@dataclass(frozen=True)
class KnownHosts:
    """All that known_hosts files say, in their order. Two of them are added by `+`."""

    lines: tuple[Line, ...] = ()

    @classmethod
    def parse(cls, text: str, source: str) -> KnownHosts:
        """Read a file's text. What is no line to OpenSSH is none here: it is passed over."""
        numbered = enumerate(text.split("\n"), 1)
        read = (_parse_line(line, f"{source}:{number}") for number, line in numbered)
        return cls(tuple(line for line in read if line))

    def __add__(self, other: KnownHosts) -> KnownHosts:
        return KnownHosts(self.lines + other.lines)

    def verdict(self, host: str, port: int, key: bytes) -> Verdict:
        """Judge the key that a server shows."""
        first, *bare = names(host, port)
        verdict = self._verdict(first, key)
        for name in bare if verdict.kind in _UNDECIDED else ():
            # Under the bare name a key can be known or revoked; another one there does not count as a change.
            under_bare = self._verdict(name, key)
            if under_bare.kind in (Kind.TRUSTED, Kind.REVOKED, Kind.CERTIFICATE):
                return under_bare
        return verdict

    def key_types(self, host: str, port: int) -> tuple[str, ...]:
        """Give the types of the keys that are known for the host, the preferred first."""
        # Not by the bare name: OpenSSH asks for the kinds of keys of `[host]:port` only.
        about = tuple(self._about(names(host, port)[0]))
        revoked = {line.key for line in about if line.marker == REVOKED}
        first = {line.key_type: line.key for line in reversed(about) if not line.marker}
        return tuple(key_type for key_type in KEY_PARTS if first.get(key_type) not in {None, *revoked})

    def algorithms(self, host: str, port: int) -> tuple[str, ...]:
        """Give the host key algorithms to ask for first: those of the keys that are known.

        Where a key of the very first type is known, OpenSSH asks in its usual order, whatever else is known.
        """
        types = self.key_types(host, port)
        if BEST in types:
            types = tuple(KEY_PARTS)
        return tuple(name for key_type in types for name in WIRE_NAMES.get(key_type, (key_type,)))

    def _verdict(self, name: str, key: bytes) -> Verdict:
        about = tuple(self._about(name))
        equal = [line for line in about if line.key == key]
        revoked = [line for line in equal if line.marker == REVOKED]
        trusted = [line for line in equal if not line.marker]
        # Any other key of the host makes it a change, whatever its type: so OpenSSH, which names the last.
        others = [line for line in about if not line.marker][-1:]
        authorities = [line for line in about if line.marker == CA]
        for kind, lines in (
            (Kind.REVOKED, revoked),
            (Kind.TRUSTED, trusted),
            (Kind.CHANGED, others),
            (Kind.CERTIFICATE, authorities),
        ):
            if lines:
                return Verdict(kind, lines[0].place, fingerprint(lines[0].key))
        return Verdict(Kind.UNKNOWN)

    def _about(self, name: str) -> Iterator[Line]:
        plain, others = self._by_name
        mine = sorted((*plain.get(name, ()), *(number for number in others if self.lines[number].names(name))))
        return (self.lines[number] for number in mine)

    @cached_property
    def _by_name(self) -> tuple[Mapping[str, list[int]], list[int]]:
        """The lines that have a plain name, by it, and those that have to be tried for every host."""
        plain: defaultdict[str, list[int]] = defaultdict(list)
        others: list[int] = []
        for number, line in enumerate(self.lines):
            (others if _SPECIAL.search(line.hosts) else plain[line.hosts.lower()]).append(number)
        return plain, others


def names(host: str, port: int) -> tuple[str, ...]:
    """Give the names that a host goes by: its own on port 22, else `[host]:port` and only then its own."""
    own = host.lower()
    return (own,) if port == SSH_PORT else (f"[{own}]:{port}", own)


def fingerprint(key: bytes) -> str:
    """Give a key's fingerprint as OpenSSH shows it."""
    return "SHA256:" + _encoded(hashlib.sha256(key).digest()).rstrip("=")


def entry(host: str, port: int, key_type: str, key: bytes) -> str:
    """Give the line that makes the key known."""
    return f"{names(host, port)[0]} {key_type} {_encoded(key)}\n"


_FIELDS = re.compile(
    r"[ \t]*(?:(?P<marker>@[^ \t]+)[ \t]+)?(?P<hosts>[^ \t#@][^ \t]*)"
    r"[ \t]+(?P<type>[^ \t#][^ \t]*)[ \t]+(?P<key>[^ \t]+)"
)


def _parse_line(text: str, place: str) -> Line | None:
    # To a program in C a line ends where a NUL is.
    found = _FIELDS.match(text.partition("\0")[0])
    if not found or found["marker"] not in (None, CA, REVOKED):
        return None
    key, key_type = _decoded(found["key"]), SAME_TYPE.get(found["type"], found["type"])
    if key is None or not _is_key(key_type, key):
        return None
    return Line(found["hosts"], key_type, _shortest(key), found["marker"] or "", place)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(text: str) -> bytes | None:
    """Give what the base64 stands for, if it is as strict as OpenSSH wants it."""
    text = "".join(text.split())
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if _encoded(decoded) == text else None


def _is_key(key_type: str, key: bytes) -> bool:
    parts = _strings(key)
    return key_type in KEY_PARTS and len(parts) == KEY_PARTS[key_type] + 1 and parts[0] == key_type.encode()


def _shortest(key: bytes) -> bytes:
    """Give an RSA key with no zeros before its numbers but those that they need: to ssh it is the same key."""
    kind, *numbers = _strings(key)
    if kind != b"ssh-rsa":
        return key
    parts = (kind, *(_number(number) for number in numbers))
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _number(part: bytes) -> bytes:
    short = part.lstrip(b"\0")
    # Without its zero, one whose first bit is set would be another: below zero.
    return b"\0" + short if part != short and short >= b"\x80" else short


def _strings(key: bytes) -> list[bytes]:
    """Take a key apart into its strings, each with its length before it; none if that does not come out."""
    parts = []
    while key:
        if len(key) < 4:
            return []
        (length,) = struct.unpack_from(">I", key)
        if len(key) < 4 + length:
            return []
        parts.append(key[4 : 4 + length])
        key = key[4 + length :]
    return parts


def _is_hash_of(hashed: str, host: str) -> bool:
    salt = _decoded(hashed.removeprefix(HASHED).partition("|")[0])
    if salt is None or len(salt) != SALT_LENGTH:
        return False
    digest = hmac.new(salt, host.encode(errors="surrogateescape"), hashlib.sha1).digest()
    return hashed == f"{HASHED}{_encoded(salt)}|{_encoded(digest)}"


def matches(patterns: str, host: str) -> bool:
    """Match a list of patterns as OpenSSH does: any of them, and none with `!`."""
    found = False
    for pattern in patterns.lower().split(","):
        if _pattern(pattern.removeprefix("!")).fullmatch(host):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _pattern(text: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(character, re.escape(character)) for character in text), re.DOTALL)
