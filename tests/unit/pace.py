"""How long something may take, whatever the machine: told in what it does meanwhile, never by the clock alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Of it, what about one and a half seconds hold today. What is slow for a reason of its own takes many seconds.
PIECES = 30


def piece() -> float:
    """Give the seconds of CPU time that a fixed piece of work takes now."""
    begun = time.process_time()
    found: dict[str, int] = {}
    for number in range(100_000):
        found[f"host-{number}"] = number
    assert len(found) == 100_000
    return time.process_time() - begun


@contextmanager
def within_seconds(seconds: float) -> Iterator[None]:
    """Have the block take no more CPU time than so many seconds of a machine as fast as this one is meant to be.

    Where the machine is slow, or others are at work on it, a piece of work before and after the block is slow, too.
    """
    before = piece()
    begun = time.process_time()
    yield
    took = time.process_time() - begun
    assert took < seconds * PIECES * max(before, piece()), f"it took {took:.2f} s, and a piece of work {before:.3f} s"
