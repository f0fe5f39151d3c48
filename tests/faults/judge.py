"""Performs a row: the fault, the task, healing, the task again; and has the oracles judge it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.faults.bench import Bench, Sight
from tests.faults.oracles import Trial, not_asked, processes, remains, state_of, verdicts
from tests.faults.row import SLACK, Row
from tests.hosts.observer import EVENT_SLACK, TOP, Done

RECORDS = TOP / "docs" / "faults"
MARK = "RAYDOCK_FAULT_ROW"


def judged(row: Row, bench: Bench, slack: float = SLACK) -> dict[str, Any]:
    """Perform a row and give its record: the oracles' verdicts among it."""
    bench.figures, bench.patience = {}, slack - SLACK
    images = {name: ids_of(sight) for name, sight in bench.sights().items()}
    arranged(row, bench)
    trial = tried(row, bench, slack)
    trial.healed = [run_again(bench, *row.converge) for _ in range(2)] if row.converge else []
    trial.remains = remains(bench, trial.before, mark(row))
    # Where several hosts have a new one, the head's engine has built it.
    trial.built = {"head": sorted(ids_of(bench.sight(bench.head)) - images["head"])}
    found = verdicts(trial)
    return {
        "row": row.number,
        "title": row.title,
        "commit": commit(),
        "bench": row.bench,
        "task": " ".join(row.task),
        "seconds": round(trial.seconds, 1),
        "deadline": row.within,
        "exit": trial.done.code,
        "code": row.code,
        "blind": not_asked(trial),
        "figures": {name: round(seconds, 2) for name, seconds in bench.figures.items()},
        # How many times a second it was looked at what runs, for secrets in it: fewer than fifty would prove little.
        "looks": round(trial.seen.rate),
        "verdicts": found,
        "healed": trial.healed,
    }


def ids_of(sight: Sight) -> set[str]:
    """Give the ids of the images of a host."""
    return {line.partition(" ")[0] for line in sight.images}


def arranged(row: Row, bench: Bench) -> None:
    """Bring the cluster into the state that the row begins with."""
    if row.running:
        # A row before may have failed, and left it otherwise.
        if bench.invoke("cluster.start").code:
            bench.invoke("cluster.stop", exit=0)
            bench.invoke("cluster.start", exit=0)
        kept = bench.head.attempt("docker", "exec", bench.container(bench.head), "cat", "/run/ray-token").out.strip()
        bench.secrets |= {"Ray's token": kept} if kept else {}
    elif row.running is False:
        bench.invoke("cluster.stop", exit=0)


def tried(row: Row, bench: Bench, slack: float) -> Trial:
    """Have the fault, run the task, look, heal."""
    fault = row.fault(bench)
    next(fault)
    try:
        before = bench.sights()
        known, since = bench.known_hosts.read_text(), time.time_ns()
        with processes() as seen:
            done, seconds = run_task(row, bench)
        acted = all_actions(bench, since)
        after, alive = bench.sights(), bench.alive()
        both = (known, bench.known_hosts.read_text())
    except BaseException:
        fault.close()
        raise
    try:
        fault.send(done)
    except StopIteration:
        pass
    else:
        raise AssertionError(f"{row.number} yields more than once")
    return Trial(row, bench, done, seconds, before, after, both, seen, acted, slack, alive)


def run_task(row: Row, bench: Bench) -> tuple[Done, float]:
    """Type the row's task, and time it."""
    begun = time.monotonic()
    env = {MARK: mark(row), "TMPDIR": str(bench.scratch)}
    # The frame gives it long enough to see that it hangs.
    words = row.task if "--json" in row.task else (*row.task, "--json")
    done = bench.invoke(*words, env=env, timeout=row.within + 120)
    return done, time.monotonic() - begun


def mark(row: Row) -> str:
    """Give what the processes of a row's task bear in their environment."""
    return f"row-{row.number}"


def run_again(bench: Bench, *task: str) -> dict[str, Any]:
    """Run what brings the wanted state about, and see what it did and what is so after it."""
    since = time.time_ns()
    done = bench.invoke(*task, "--json")
    acted = {name: sorted(what or ()) for name, what in all_actions(bench, since).items()}
    states = {
        host.name: state_of(bench.sight(host), "head" if host.name == "head" else "worker") for host in bench.hosts
    }
    wanted = {"cluster.start": {"running"}, "cluster.stop": {"absent"}}.get(task[0])
    return {
        "exit": done.code,
        "changed": done.report["changed"] if done.out else None,
        "acted": {name: what for name, what in acted.items() if what},
        "states": states,
        "reached": wanted is None or set(states.values()) == wanted,
    }


def all_actions(bench: Bench, since: int) -> dict[str, set[str] | None]:
    """Give what each engine did since a time."""
    done = bench.at_once(lambda host: actions(host, since))
    return {host.name: what for host, what in zip(bench.hosts, done, strict=True)}


def actions(host: Any, since: int) -> set[str] | None:
    """Give what a host's engine did since a time, apart from Ray's probe; None where it cannot tell."""
    if host.look("bash", "-c", "timeout 5 docker version").code:
        return None
    time.sleep(EVENT_SLACK)
    found = host.actions(since) - {"exec_create", "exec_start", "exec_die", "exec_detach", "top"}
    # One that was started meanwhile has forgotten what was before; a stub has no such file, and forgets nothing.
    began = host.look("stat", "-c", "%Y", "/var/run/docker.pid").out.strip() or "0"
    return None if not found and int(began) * 10**9 > since else found


def commit() -> str:
    """Name what is checked out, and whether it was changed since; the records that a run writes are no change."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=TOP, capture_output=True, text=True, check=True).stdout.strip()

    kept = [f":!docs/{name}{ending}" for name in ("faults", "benchmarks") for ending in ("", ".md")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *kept)
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def keep(record: dict[str, Any], folder: Path = RECORDS) -> None:
    """Write a row's record beside the others."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (folder / f"{record['row']}.json").write_text(text, encoding="utf-8")
