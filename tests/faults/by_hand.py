"""Has the document's own lines meet the same faults: `python -m tests.faults.by_hand --help`.

They are typed as the document has them, with parallel-ssh and `docker kill $(docker ps -q)`; only the flags of
`ray start` are today's, and the address and key of each host are given. The oracles that can judge what has no report
do so: O1, O2, O3 by the exit code alone, O4 and O7. What comes of it stands in docs/faults/by-hand.json.

It wants parallel-ssh, and practice hosts with a base image: `invoke sandbox.up`, then
`ENVIRONMENT=sandbox invoke cluster.install build.base`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.bench import Bench, FaultyHost, Sight, stub_bench
from tests.faults.catalogue import rows
from tests.faults.judge import RECORDS, commit
from tests.faults.row import SLACK, Row
from tests.faults.score import sandbox, with_part
from tests.hosts.observer import TOP, operator

FILE = RECORDS / "by-hand.json"
LONGEST = 180  # seconds, after which it is taken for one that never ends
# The rows that these lines can meet, each with what is typed meanwhile; their faults heal where the row is left.
MET = {
    "S1": "start",
    "S2": "start",
    "S3": "start",
    "S4": "start",
    "D3": "start",
    "D4": "start",
    "R3": "start",
    "R9": "start",
    "L8": "stop",
    "L9": "stop",
    "L11": "stop",
}
START = "docker run -d --shm-size=64m --net=host {image} ray start --block --node-ip-address={address} "


class ByHand:
    """The document's lines for a bench."""

    def __init__(self, bench: Bench) -> None:
        """Lay out what they need: the list of workers and the way to the hosts."""
        self.bench = bench
        self.image = str(bench.invoke("cluster.pull", "--json", exit=0).report["image"])
        self.listed = bench.folder / "hand-workers.txt"
        self.listed.write_text("".join(f"{host.address}\n" for host in bench.workers))
        self.options = (
            f"-o UserKnownHostsFile={bench.known_hosts} -o IdentitiesOnly=yes -i {TOP / bench.values['SSH_KEY']}"
        )

    def line(self, task: str) -> str:
        """Write what is typed for a task, the head's part over SSH, where the document has a terminal on it."""
        head, port = self.bench.head.address, self.bench.values["REDIS_PORT"]
        there = f"ssh {self.options} ubuntu@{head}"
        workers = f"parallel-ssh -h {self.listed} -l ubuntu -x '{self.options}' -P"
        if task == "stop":
            kill = "'docker kill $(docker ps -q)'"
            return f"{workers} {kill}\n{there} {kill}"
        begin = START.format(image=self.image, address=head)
        dashboard = self.bench.values["DASHBOARD_PORT"]
        # Each worker asks for its own address, which Ray would else guess.
        join = START.format(image=self.image, address="$(hostname -I | cut -d' ' -f1)") + f"--address={head}:{port}"
        return (
            f"{there} {begin}--head --port={port} --dashboard-port={dashboard}\n"
            f"{workers} -t 0 -I <<'LINES'\n{join}\nLINES"
        )

    def type(self, task: str) -> tuple[int, float]:
        """Type it, and give its exit code, 124 where it never ends, and its seconds."""
        begun = time.monotonic()
        argv = ["timeout", str(LONGEST), "bash", "-c", self.line(task)]
        quiet = subprocess.DEVNULL
        code = subprocess.run(argv, env=operator({}), stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode
        return code, time.monotonic() - begun

    def clear(self) -> None:
        """Have nothing of it run, and the decoys that each row begins with."""
        self.bench.at_once(lambda host: host.clear())
        self.bench.has_decoys()


def is_rays(one: Mapping[str, Any]) -> bool:
    """Tell whether a container was made by the lines."""
    return (one["Config"]["Cmd"] or [])[:2] == ["ray", "start"] and not one["Config"]["Labels"]


def rays(sight: Sight) -> int:
    """Count the containers of Ray that run."""
    return sum(is_rays(one) and one["State"]["Status"] == "running" for one in (sight.containers or {}).values())


def foreign(sight: Sight) -> dict[str, str]:
    """Give the others, by their state."""
    others = {name: one for name, one in (sight.containers or {}).items() if not is_rays(one)}
    return {name: one["State"]["Status"] for name, one in others.items()}


def met(row: Row, hand: ByHand) -> dict[str, Any]:
    """Have the lines meet a row's fault, and give what each oracle that can says of it."""
    bench, task = hand.bench, MET[row.number]
    wanted = 1 if task == "start" else 0
    hand.clear()
    if row.number in ("R3", "L8", "L9"):
        hand.type("start")
        time.sleep(2)
    fault = row.fault(bench)
    next(fault)
    try:
        before = bench.sights()
        code, seconds = hand.type(task)
        time.sleep(2)
        after = bench.sights()
    finally:
        # What the row itself expects is of another report.
        fault.close()
    sick: FaultyHost | None = bench.host(row.told_of) if row.told_of in ("worker", "other", "head") else None
    well = [host for host in bench.hosts if sick is None or host.name != sick.name or not row.exit]
    served = {host.name: rays(after[host.name]) for host in well}
    right = all(rays(after[host.name]) == wanted for host in bench.hosts)
    again = [hand.type(task)[0] for _ in range(2)]
    time.sleep(2)
    counts = {host.name: rays(bench.sight(host)) for host in bench.hosts}
    wrong = {
        "O1": seconds > row.within + SLACK and f"took {seconds:.0f} s, and {row.within:g} s are the deadline",
        "O2": changed(before, after),
        "O3": (code == 0) != right and f"exit code {code}, and {'all' if right else 'not all'} nodes are as wanted",
        "O4": set(counts.values()) != {wanted} and f"typed twice more (exit codes {again}): {counts} containers of Ray",
        "O7": set(served.values()) != {wanted} and f"healthy nodes: {served} containers of Ray",
    }
    return {
        "row": row.number,
        "task": task,
        "seconds": round(seconds, 1),
        "exit": code,
        "wrong": {name: said for name, said in wrong.items() if said},
    }


def changed(before: Mapping[str, Sight], after: Mapping[str, Sight]) -> str:
    """Say which containers of others are not as they were."""
    gone = [
        f"{name}: {container} is {foreign(after[name]).get(container, 'gone')}"
        for name, sight in before.items()
        if after[name].containers is not None
        for container, state in foreign(sight).items()
        if foreign(after[name]).get(container) != state
    ]
    return "; ".join(gone)


def main() -> int:
    """Have the lines meet the faults, and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.by_hand", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=MET, default=list(MET))
    with_part(parser)
    asked = parser.parse_args()
    if not shutil.which("parallel-ssh"):
        print("parallel-ssh is not installed here: apt-get install pssh", file=sys.stderr)
        return 2
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        stub_bench(sandbox(asked.part), Path(folder)) as bench,
    ):
        bench.invoke("cluster.stop", exit=0)
        hand = ByHand(bench)
        for number in asked.rows:
            found.append(met(rows()[number], hand))
            print(json.dumps(found[-1]), flush=True)
        hand.clear()
    version = subprocess.run(["parallel-ssh", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    record = {"commit": commit(), "peer": f"parallel-ssh {version}", "rows": found}
    FILE.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
