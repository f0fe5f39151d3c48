"""A task on every node that Ray has alive, as one would write it for `python -` in the head's container."""

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(address="auto", log_to_driver=False, logging_level="error")
where = ray.remote(num_cpus=0)(lambda: ray.get_runtime_context().get_node_id())
nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
asked = [where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes]
assert set(ray.get(asked, timeout=20)) == nodes
