"""The ports that a cluster's Ray listens on, by the setting or flag that decides each; docs/ports.md tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from deploy import grammar

if TYPE_CHECKING:
    from deploy.inventory import Role
    from deploy.settings import Settings

# None where Ray picks a free one by itself.
OF_RAY: Mapping[str, int | None] = {
    "--ray-client-server-port": 10001,
    "--dashboard-agent-listen-port": 52365,
    "--dashboard-agent-grpc-port": None,
    "--runtime-env-agent-port": None,
    "--metrics-export-port": None,
    "--node-manager-port": None,
}
WORKERS: Mapping[str, int] = {"--min-worker-port": 10002, "--max-worker-port": 19999}
OF_SETTINGS = ("REDIS_PORT", "OBJECT_MANAGER_PORT", "DASHBOARD_PORT")
OF_HEAD = frozenset({"REDIS_PORT", "DASHBOARD_PORT", "--ray-client-server-port"})


@dataclass(frozen=True)
class Claim:
    """Ports that something of Ray's listens on: what it is called, and the setting that decides it."""

    name: str
    key: str
    ports: range

    def __str__(self) -> str:
        """`REDIS_PORT=6379`, or the first and last of several."""
        last = f"-{self.ports[-1]}" if len(self.ports) > 1 else ""
        return f"{self.name}={self.ports[0]}{last}"


def claims(settings: Settings) -> Iterator[Claim]:
    """Give the ports that are known before the start."""
    for key in OF_SETTINGS:
        yield _one(key, key, getattr(settings, key.lower()))
    given = options(settings.ray_start_args)
    for flag, default in OF_RAY.items():
        if port := int(given.get(flag, default or 0)):
            yield _one(flag, "RAY_START_ARGS", port)
    first, last = (int(given.get(flag, default)) for flag, default in WORKERS.items())
    if "--worker-port-list" not in given and 0 < first < last:
        yield Claim("the ports of tasks", "RAY_START_ARGS", range(first, last + 1))


def listening(settings: Settings, role: Role) -> tuple[Claim, ...]:
    """Give the single ports at which Ray listens on a node, and finds out late or never that it is not alone."""
    return tuple(
        claim for claim in claims(settings) if len(claim.ports) == 1 and (role == "head" or claim.name not in OF_HEAD)
    )


def _one(name: str, key: str, port: int) -> Claim:
    return Claim(name, key, range(port, port + 1))


def options(words: Sequence[str]) -> dict[str, str]:
    """Give the value of each option among shell words, written `--name=value` or `--name value`."""
    found: dict[str, str] = {}
    for word, following in pairwise((*words, "--")):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            found[name] = value if equals or following.startswith("--") else following
    return found


def check(words: Sequence[str]) -> None:
    """See that each port among `ray start`'s arguments is one, or 0, by which Ray picks it."""
    given = options(words)
    for flag in (*OF_RAY, *WORKERS):
        if flag in given and given[flag] != "0":
            try:
                grammar.ray_port(given[flag])
            except ValueError as wrong:
                raise ValueError(f"has {flag}, which {wrong}") from None
