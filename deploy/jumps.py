"""The jump hosts that `ProxyJump` names, taken apart as OpenSSH does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

# `user@host:port`, an address of IPv6 in brackets; or that as a URL, whose user may have parameters behind him.
JUMP = re.compile(
    r"(?P<scheme>ssh://)?(?:(?P<user>[^\s,]+)@)?(?:\[(?P<address>[^][\s,@]+)\]|(?P<name>[^][\s,@:/]+))"
    r"(?::(?P<port>\d+))?(?(scheme)/?)"
)
PORTS = range(1, 1 << 16)


@dataclass(frozen=True)
class Jump:
    """A jump host; what is not named with it is as ssh_config says."""

    host: str
    user: str | None = None
    port: int | None = None


def jumps(listed: str) -> list[Jump]:
    """Give the jump hosts of a list, in the order in which they are passed; a `ValueError` for what is none."""
    return [_jump(word) for word in listed.split(",")]


def _jump(word: str) -> Jump:
    found = JUMP.fullmatch(word)
    port = int(found["port"]) if found and found["port"] else None
    if not found or not (port is None or port in PORTS):
        raise ValueError(f"ProxyJump {word!r}")
    host, user = found["address"] or found["name"], found["user"]
    if found["scheme"]:
        host, user = unquote(host), unquote(user.partition(";")[0]) if user else None
    return Jump(host, user, port)
