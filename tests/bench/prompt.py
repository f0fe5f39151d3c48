"""At the prompt: how long it takes until something shows, beside bare Invoke with one task."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import Command, Figure, in_turn
from tests.hosts.observer import INVOKE, TOP

RUNS, QUICK_RUNS = 15, 4
BARE = '''from invoke import task


@task
def start(c):
    """Start."""
'''
# What is typed, what bare Invoke is asked meanwhile, and how many times as long it may take.
TYPED = (
    (("--list",), ("--list",), 1.5),
    (("--help", "cluster.start"), ("--help", "start"), 1.5),
    (("--dry", "cluster.start"), ("--dry", "start"), 3.0),
)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "tasks.py").write_text(BARE)
        for words, bare, target in TYPED:
            ours, peer = Command([str(INVOKE), *words], TOP), Command([str(INVOKE), *bare], folder)
            taken = in_turn({"ours": ours.seconds, "peer": peer.seconds}, QUICK_RUNS if quick else RUNS)
            name = f"invoke {' '.join(words)}"
            yield Figure(name, target, taken["ours"], taken["peer"], f"Invoke {version('invoke')} with one task")
