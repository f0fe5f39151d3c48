"""The two programs that run in the head's container: who is alive, and a task on every node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

PROBED_PATH = "/tmp/raydock-probed"  # noqa: S108 - in a container of ours, gone with it

# The argument with which the task ends where nobody waits for it any more.
ATTENDED = "attended"
# Runs on every node that Ray counts alive and that has not run one yet, and records where it did. What it has
# recorded goes with the head's container, as Ray's session does.
PROBE = f"""\
import hashlib, json, os, pathlib, sys, threading, ray
if {ATTENDED!r} in sys.argv:
    # Its input ends with whoever waits for it, and so does it.
    threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as on
ray.init(address="auto", log_to_driver=False, logging_level="error")
seen = pathlib.Path({PROBED_PATH!r})
done = set(seen.read_text().split()) if seen.exists() else set()
alive = {{n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}}
run = ray.remote(num_cpus=0)(lambda: ray.get_runtime_context().get_node_id())
asked = {{run.options(scheduling_strategy=on(node, soft=False)).remote(): node for node in alive if node not in done}}
ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=20) if asked else ([], [])
answered = set()
for ref in ready:
    try:
        answered.add(ray.get(ref))
    except ray.exceptions.RayError:
        pass
done |= answered
seen.write_text("\\n".join(sorted(done)))
if alive.keys() <= done:
    pathlib.Path(f"{{seen}}-{{hashlib.sha256(' '.join(sorted(alive)).encode()).hexdigest()}}").touch()
# A node that was started again may have two rows for some time. What its former life once did says nothing of the
# one that was asked now; that one's answer excuses the former's silence.
silent = {{alive[node] for node in alive if node not in done}}
print(json.dumps(sorted(silent - {{alive[node] for node in answered if node in alive}})))
"""

ALIVE = """\
import ray
ray.init(address="auto", log_to_driver=False, logging_level="error")
print(len({n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}))
"""


def all_probed_path(nodes: Iterable[str]) -> str:
    """Give the file that is there where each of these nodes, by id, ran a task, and they were all that Ray had alive.

    An engine tells at once whether there is one, and takes its time to give what is in one.
    """
    return f"{PROBED_PATH}-{hashlib.sha256(' '.join(sorted(nodes)).encode()).hexdigest()}"
