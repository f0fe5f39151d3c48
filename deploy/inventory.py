"""The machines of a cluster: the head and its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from deploy import grammar
from deploy.errors import Mistake, Problem

T = TypeVar("T")

Role = Literal["head", "worker"]
HEAD = "head"
LOCAL = "local"
SSH_PORT = 22
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Options:
    """What a node wants otherwise than the settings say; None where it follows them.

    `shm_size` and `gpus` are as written, `resources` is canonical JSON.
    """

    num_workers: int | None = None
    shm_size: str | None = None
    gpus: str | None = None
    resources: str | None = None


@dataclass(frozen=True)
class Node:
    """One machine and how to reach it. Where `user` or `port` is None, SSH's own configuration decides."""

    name: str
    address: str
    role: Role = field(kw_only=True)
    user: str | None = field(kw_only=True, default=None)
    port: int | None = field(kw_only=True, default=None)
    private: str | None = field(kw_only=True, default=None)
    options: Options = field(kw_only=True, default=Options())
    place: str = field(kw_only=True, default="")
    local: bool = field(kw_only=True, default=False)

    @property
    def endpoint(self) -> tuple[str, int]:
        """The host and port in the one form that all spellings share."""
        return grammar.same_host(self.address), self.port or SSH_PORT


@dataclass(frozen=True)
class Inventory:
    """The head and the workers of a cluster, in the file's order."""

    head: Node
    workers: tuple[Node, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, the head first."""
        return (self.head, *self.workers)

    def select(self, names: str | Sequence[str] | None) -> frozenset[str]:
        """Give the names of the nodes that `NAME[,NAME]`, or several such, means; all of them for None.

        A `Mistake` tells each name that no node bears, and the nearest one that some node does.
        """
        if names is None:
            return frozenset(node.name for node in self.nodes)
        lists = (names,) if isinstance(names, str) else names
        wanted = [name.strip() for some in lists for name in some.split(",") if name.strip()]
        if not wanted:
            raise Mistake.of("USAGE", "names no node", "Leave it out to mean all of them", place="--only")
        known = {_spelling(node.name): node.name for node in self.nodes}
        Mistake.raise_any(_unknown(name, known.values()) for name in wanted if _spelling(name) not in known)
        return frozenset(known[_spelling(name)] for name in wanted)


def inventory(
    head: Node, workers: Iterable[Node] = (), *, user: str | None = None, port: int | None = None
) -> Inventory:
    """Put a cluster together; `user` and `port` hold where a node names none of its own.

    A `Mistake` tells each node that is there twice: as the head too, or by the default port.
    """
    nodes = [
        node if node.local else replace(node, user=node.user or user, port=node.port or port)
        for node in (head, *workers)
    ]
    Mistake.raise_any(repeated(nodes))
    return Inventory(nodes[0], tuple(nodes[1:]))


def parse_head(value: str, place: str = "HEAD") -> Node:
    """Give the head that `local` or `[user@]host[:port]` names; a `Mistake` if it is neither."""
    if value == LOCAL:
        return Node(HEAD, "localhost", role="head", place=place, local=True)
    try:
        user, host, port = parse_target(value)
    except ValueError as wrong:
        cure = "Write HEAD=local, or HEAD=user@host[:port]"
        raise Mistake.of("CONFIG", f"HEAD: {wrong}", cure, place=place) from None
    return Node(HEAD, host, role="head", user=user, port=port, place=place)


def parse_target(text: str) -> tuple[str | None, str, int | None]:
    """Take `[user@]host[:port]` apart; a `ValueError` shows the part that is wrong.

    An IPv6 address stands in brackets where a port follows.
    """
    user, at, rest = text.rpartition("@")
    if ":" in user:
        raise ValueError("has a password before its '@': SSH takes a key, so leave it out")
    host, port = _split_port(rest)
    return (
        checked(grammar.USER, user) if at else None,
        checked(grammar.host, host),
        None if port is None else checked(grammar.port, port, "port "),
    )


def checked(check: Callable[[str], T], text: str, subject: str = "") -> T:
    """Give what `check` makes of the text, or put the text before what it says is wrong."""
    try:
        return check(text)
    except ValueError as wrong:
        raise ValueError(f"{subject}{grammar.shown(text)} {wrong}") from None


def repeated(nodes: Iterable[Node]) -> Iterator[Problem]:
    """Tell each node that has its name, its host and port, or its private address from one before it."""
    seen: dict[tuple[str, object], Node] = {}
    for node in nodes:
        for key, what in _identities(node):
            first = seen.setdefault(key, node)
            if first is not node:
                yield Problem("INVENTORY", f"{what} is {_told(first)} already", "Keep one of the two", node.place)
                break


def _identities(node: Node) -> Iterator[tuple[tuple[str, object], str]]:
    yield ("endpoint", node.endpoint), grammar.shown(node.name)
    if node.local:
        yield from ((("endpoint", (host, SSH_PORT)), node.name) for host in LOOPBACK)
    yield ("name", node.name), f"the name {grammar.shown(node.name)}"
    if node.private:
        yield ("private", node.private), f"private={node.private}"


def _told(node: Node) -> str:
    return f"the head ({node.place})" if node.role == "head" else f"at {node.place}"


def _unknown(name: str, known: Iterable[str]) -> Problem:
    cure = grammar.nearest(name, known)
    return Problem("USAGE", f"{grammar.shown(name)} is no node of this cluster", cure, "--only")


def _spelling(name: str) -> tuple[str, str]:
    host, port = _split_port(name)
    try:
        return grammar.same_host(host), port or str(SSH_PORT)
    except ValueError:
        return name, ""


def _split_port(text: str) -> tuple[str, str | None]:
    host, closed, tail = text.removeprefix("[").partition("]")
    if text.startswith("[") and closed and ":" in host and (not tail or tail.startswith(":")):
        return host, tail[1:] if tail else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None
