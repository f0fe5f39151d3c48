"""How many nodes are worked on at once, and how many connected to: as asked for, within the limit on open files."""

from __future__ import annotations

import resource
from dataclasses import dataclass

DIALS = 128  # connections on their way at once; one to a dead host is on its way for seconds
OURS = 64  # files of this process that belong to no node
PER_CHAIN = 4  # a node's connection, and pipes to its channels
PER_DIAL = 2  # a connection, and the question for its address


@dataclass(frozen=True)
class Windows:
    """The bounds of a run."""

    chains: int
    dials: int


def windows(concurrency: int, files: int | None = None) -> Windows:
    """Give the bounds for a run of which `concurrency` was asked; `files`: the limit, else this process's."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
    if limit == resource.RLIM_INFINITY:
        return Windows(concurrency, DIALS)
    free = max(limit - OURS, 0)
    chains = max(min(concurrency, free * 2 // 3 // PER_CHAIN), 1)
    return Windows(chains, max(min(DIALS, (free - chains * PER_CHAIN) // PER_DIAL), 1))
