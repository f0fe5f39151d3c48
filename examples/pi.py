"""Estimate pi by throwing darts across the cluster.

Run it: `invoke job.run examples/pi.py -- 4000000`.
"""

from __future__ import annotations

import random
import socket
import sys
from collections import Counter

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

TASKS_PER_CPU = 4


@ray.remote
def throw(darts: int, seed: int) -> tuple[str, int]:
    """Throw darts at a square; give this host and how many landed in the quarter of a circle."""
    dice = random.Random(seed)  # noqa: S311 - darts, not secrets
    return socket.gethostname(), sum(dice.random() ** 2 + dice.random() ** 2 <= 1 for _ in range(darts))


def shares(darts: int, tasks: int) -> list[int]:
    """Deal the darts out to tasks, as evenly as whole darts can be."""
    each, left = divmod(darts, tasks)
    return [each + (task < left) for task in range(tasks)]


def places() -> list[NodeAffinitySchedulingStrategy]:
    """Give a place for each task, on each node as suits its cores: by itself Ray fills one node after the other."""
    cores = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}
    pinned = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in cores}
    return [pinned[node] for node, number in cores.items() for _ in range(TASKS_PER_CPU * number)]


def main(darts: int) -> None:
    """Print the estimate, and how many tasks each host ran."""
    ray.init(logging_level="warning")
    where = places()
    dealt = zip(where, shares(darts, len(where)), strict=True)
    tasks = [throw.options(scheduling_strategy=place).remote(share, seed) for seed, (place, share) in enumerate(dealt)]
    results = ray.get(tasks)
    for host, ran in sorted(Counter(host for host, _ in results).items()):
        print(f"{host}: {ran} tasks")
    print(f"pi is about {4 * sum(hits for _, hits in results) / darts:.5f}, by {darts} darts")


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    if not wanted.isdecimal() or int(wanted) < 1:
        sys.exit(f"usage: pi.py [DARTS], not {wanted!r}")
    main(int(wanted))
