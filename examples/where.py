"""Say on which hosts of the cluster tasks really run: one task on every node, each pinned to its own.

Run it: `invoke job.run examples/where.py`.
"""

from __future__ import annotations

import socket

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote(num_cpus=0)
def host() -> str:
    """Give the name of the host on which this task runs."""
    return socket.gethostname()


def everywhere() -> list[str]:
    """Run one task on every node that is alive, and give the hosts that they tell."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    pinned = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    return ray.get([host.options(scheduling_strategy=strategy).remote() for strategy in pinned])


if __name__ == "__main__":
    ray.init(logging_level="warning")
    told = everywhere()
    print(f"nodes: {len(told)}")
    print("hosts:", *sorted(set(told)))
