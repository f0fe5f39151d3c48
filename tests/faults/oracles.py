"""The eight oracles: each compares what a task told with what the observer saw, and gives what is wrong."""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import CODES, Kind
from tests.faults.bench import FOLDERS, Bench, FaultyHost, Sight
from tests.faults.row import Row
from tests.hosts.observer import Done
from tests.planted import forms

PACE = 0.01  # seconds from one look at what runs here to the next
YOUNG = 1.0  # seconds for which a process is looked at: it may become another program
# What a run has on a node while it lasts.
REMAINS = re.compile(r"dial-stdio|\bflock\b|\bdd bs=64|apt-get|dpkg|docker (pull|push|build|load|run)")
# What is told of the whole of a node, or by the wait for all of them, and is no step's.
STEPLESS = {
    "ADDRESS_MISMATCH", "GCS_UNREACHABLE", "HEAD_FAILED", "HEAD_LOST", "INTERRUPTED", "NODE_NOT_SCHEDULABLE",
    "NODE_RESTARTED", "NODE_UNSTABLE", "NOT_RUNNING", "RAY_EXITED", "RAY_NOT_JOINED", "TOKEN_MISMATCH",
    "VERSION_MISMATCH",
}  # fmt: skip
# Where a node keeps things that are not its engine's; of that the logs of containers.
SEARCHED = (*FOLDERS, "/root", "/etc/docker", "/var/log", "/run/user", "/var/lib/docker/containers")
SETTLING = 10.0  # seconds for what was ended to be gone
# What is told of a node whose engine was not asked, or did not answer: there alone a container may be unknown.
SILENT = {code for code, kind in CODES.items() if kind is not Kind.FAILED} | {
    "APT_FAILED", "APT_LOCKED", "DOCKER_ABSENT", "DOCKER_DOWN", "DOCKER_FAILED", "DOCKER_PERMISSION", "DOCKER_TIMEOUT",
    "HEAD_FAILED", "INTERRUPTED", "LOCK_FAILED", "SAME_MACHINE", "SHELL_UNUSABLE", "SSH_NO_CHANNEL",
    "SUDO_PASSWORD_NEEDED",
}  # fmt: skip
# Tasks that look at each node's container.
OF_CONTAINERS = re.compile(r"cluster\.(start|stop|status)")
# Tasks of the head alone.
OF_HEAD = re.compile(r"(build|publish)\b")
# Tasks all of whose changes are an engine's.
OF_ENGINES = re.compile(r"cluster\.(start|stop|pull)")


@dataclass
class Trial:
    """One run of a row's task: what it said, and what was seen before and after it."""

    row: Row
    bench: Bench
    done: Done
    seconds: float
    before: Mapping[str, Sight]
    after: Mapping[str, Sight]
    known_hosts: tuple[str, str]
    seen: Seen
    # What each engine did meanwhile, by host; None where it cannot tell.
    acted: Mapping[str, set[str] | None]
    # Seconds beyond its deadline that are let pass.
    slack: float
    # The addresses that Ray has alive, as the running head tells the observer; None where none could be asked.
    alive: frozenset[str] | None = None
    # The images that were built here meanwhile, by host.
    built: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # What is left when all is healed, by place.
    remains: dict[str, list[str]] = field(default_factory=dict)
    # What came of the two runs after healing: exit code, changed, what the engines did.
    healed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON document of the task."""
        return self.done.report

    def nodes(self) -> Iterator[tuple[FaultyHost, dict[str, Any]]]:
        """Give each host with its line of the report, where it has one."""
        told = {node["node"]: node for node in self.report["nodes"]}
        for host in self.bench.hosts:
            if host.node in told:
                yield host, told[host.node]


Oracle = Callable[[Trial], Iterator[str]]


def in_time(trial: Trial) -> Iterator[str]:
    """O1: it returns before its deadline."""
    if trial.seconds > trial.row.within + trial.slack:
        yield f"took {trial.seconds:.1f} s, and {trial.row.within:g} s are its deadline"


def foreign_untouched(trial: Trial) -> Iterator[str]:
    """O2: foreign containers, images, files and known_hosts are the same before and after."""
    for name, before in trial.before.items():
        after = trial.after[name]
        if None not in (before.containers, after.containers):
            for what in ("foreign", "foreign_images"):
                if getattr(before, what) != getattr(after, what):
                    yield f"{name}: {what}: {getattr(before, what)} became {getattr(after, what)}"
        if before.files != after.files:
            yield f"{name}: files: {before.files} became {after.files}"
    if trial.known_hosts[0] != trial.known_hosts[1]:
        yield "known_hosts was changed"


def truth_told(trial: Trial) -> Iterator[str]:
    """O3: exit code and per-node report equal the truth."""
    row, report = trial.row, trial.report
    if trial.done.code != row.exit or report["exit"] != row.exit:
        yield f"exit code {trial.done.code} (in the report {report['exit']}), and not {row.exit}"
    if row.code and row.code not in told_codes(trial):
        yield f"{row.code} was to be told of {row.told_of}, and {sorted(told_codes(trial))} was"
    for host, node in trial.nodes():
        yield from (f"{host.name}: {wrong}" for wrong in untrue(trial, host, node))


def untrue(trial: Trial, host: FaultyHost, node: Mapping[str, Any]) -> Iterator[str]:
    """Give what is told of a node, and is not so."""
    seen, told = state_of(trial.after[host.name], node["role"]), node["container"]
    acted = trial.acted[host.name]
    if "unknown" not in (told, seen) and told != seen:
        yield f"told as {told}, and it is {seen}"
    if told == "unknown" != seen and OF_CONTAINERS.match(trial.report["task"]):
        if node["outcome"] == "ok":
            yield f"told as unknown, and its engine answers: it is {seen}"
        if node["outcome"] == "failed" and node["code"] not in SILENT:
            yield f"told as unknown after {node['code']}, and its engine answers: it is {seen}"
    if acted and not node["changed"] and node["outcome"] == "ok":
        yield f"told as unchanged, and its engine did {sorted(acted)}"
    if node["changed"] and acted == set() and OF_ENGINES.match(trial.report["task"]):
        yield "told as changed, and its engine did nothing"
    if node["outcome"] == "unreachable" and told != "unknown":
        yield f"unreachable, and told as {told}"
    yield from untrue_of_ray(trial, node, seen)


def untrue_of_ray(trial: Trial, node: Mapping[str, Any], seen: str) -> Iterator[str]:
    """Give what is told of Ray on a node, and is not so."""
    ray = node["ray"]
    if ray == "alive" and seen in ("absent", "exited"):
        yield f"told that Ray is alive there, and its container is {seen}"
    if trial.alive is None:
        return
    if ray == "alive" and node["address"] not in trial.alive:
        yield "told that Ray is alive there, and the head does not have it"
    if ray in ("dead", "absent") and node["outcome"] == "ok" and node["address"] in trial.alive:
        yield f"told that Ray is {ray} there, and the head has it alive"


def told_codes(trial: Trial) -> set[str]:
    """Give the codes told of the node that the row means; of all errors where it means none in particular."""
    row = trial.row
    if row.told_of in ("worker", "other", "head"):
        wanted = trial.bench.host(row.told_of).node
        return {str(node["code"]) for node in trial.report["nodes"] if node["node"] == wanted}
    if row.told_of == "all":
        codes = {str(node["code"]) for node in trial.report["nodes"]}
        return codes if len(codes) == 1 else set()
    return {error["code"] for error in trial.report["errors"]}


def state_of(sight: Sight, role: str) -> str:
    """Give the state of the cluster's container of a role, in the report's words."""
    if sight.containers is None:
        return "unknown"
    states = [
        one["State"]["Status"] for one in sight.ours.values() if one["Config"]["Labels"].get("raydock.role") == role
    ]
    if not states:
        return "absent"
    return "running" if states[0] == "running" else "exited"


def converges(trial: Trial) -> Iterator[str]:
    """O4: after healing one run reaches the wanted state, and a second one changes nothing."""
    first, second = trial.healed
    if first["exit"] or not first["reached"]:
        yield f"the run after healing: exit code {first['exit']}, {first['states']}"
    if second["exit"] or second["changed"] or second["acted"]:
        yield f"the second run: exit code {second['exit']}, changed {second['changed']}, {second['acted']}"


def secrets_kept(trial: Trial) -> Iterator[str]:
    """O5: no planted secret shows in argv, an environment, output, a log, inspection, or on a node's disk."""
    said = {"output": trial.done.out + trial.done.err, "argv": "\n".join(trial.seen.argv)}
    said["an environment"] = "\n".join(trial.seen.environ)
    said |= {f"inspection on {name}": str(sight.containers) for name, sight in trial.after.items()}
    yield from shown_anywhere(trial.bench, trial.bench.secrets, said)
    for host in trial.bench.hosts:
        for image in trial.built.get(host.name, ()):
            yield from shown_by_image(host, image, trial.bench.secrets)


def shown_by_image(host: FaultyHost, image: str, secrets: Mapping[str, str]) -> Iterator[str]:
    """Tell which secrets an image has in its history, in its configuration or in a layer."""
    words = shlex.join(word for secret in secrets.values() for word in ("-e", secret))
    for place, asked in (("the history", "history --no-trunc"), ("the layers", "save")):
        found = host.attempt("bash", "-c", f"docker {asked} {image} | grep -aoF {words} | sort -u").out.splitlines()
        yield from (
            f"{what} shows in {place} of {image} on {host.name}" for what, one in secrets.items() if one in found
        )


def shown_anywhere(bench: Bench, secrets: Mapping[str, str], said: Mapping[str, str]) -> Iterator[str]:
    """Tell where secrets show, as they are or in base64: in what was said, by its place, in logs, on nodes' disks."""
    written = {what: forms(secret) for what, secret in secrets.items()}
    for what, its in written.items():
        yield from (f"{what} shows in {place}" for place, text in said.items() if any(word in text for word in its))
    # One search for all: each is told by its own.
    words = [word for its in written.values() for one in its for word in ("-e", one)]

    def find(host: FaultyHost) -> list[str]:
        return host.attempt("grep", "-raoF", *words, *SEARCHED).out.splitlines() if words else []

    for host, found in zip(bench.hosts, bench.at_once(find), strict=True):
        for what, its in written.items():
            ends = tuple(f":{word}" for word in its)
            if places := sorted({line.rpartition(":")[0] for line in found if line.endswith(ends)}):
                yield f"{what} shows on {host.name} in {places}"


def message_helps(trial: Trial) -> Iterator[str]:
    """O6: no traceback; the message has the code, the node, the step, the cause and the next action."""
    screen = trial.done.err
    if "Traceback" in screen:
        yield "a traceback"
    for error in trial.report["errors"]:
        if error["code"] not in CODES or not error["error"]:
            yield f"an error without code or cause: {error}"
    if trial.row.code and trial.row.code not in screen:
        yield f"{trial.row.code} does not show on the screen"
    told = dict(paragraphs(screen))
    for error in trial.report["errors"]:
        heads = [head for head in told if error["code"] in head and (error["place"] or "") in head]
        if not heads:
            yield f"no line of the screen has both {error['code']} and {error['place']}"
        elif not any("  → " in below(told[head], screen, error) or again(screen, error["place"]) for head in heads):
            yield f"no next action shows for {error['code']} of {error['place']}"
    for node in trial.report["nodes"]:
        at_a_step = node["code"] and CODES[node["code"]] is Kind.FAILED and node["code"] not in STEPLESS
        if at_a_step and not re.search(rf"\b{node['code']} \([^)]+\): ", screen):
            yield f"{node['code']} of {node['node']} is told without its step"


def paragraphs(screen: str) -> Iterator[tuple[str, str]]:
    """Give each problem on the screen: the line that begins it, and all that stands below as part of it."""
    for found in re.finditer(r"^(\S.*?\b[A-Z][A-Z0-9_]+\b.*)\n((?:  .*\n)*)", screen + "\n", re.MULTILINE):
        yield found[1], found[2]


def below(lines: str, screen: str, error: Mapping[str, Any]) -> str:
    """Give where the next move of an error stands: that of refused inputs is told once, behind the last of them."""
    return screen if CODES[error["code"]] is Kind.INPUT else lines


def again(screen: str, node: str) -> bool:
    """Tell whether the screen says what is to be typed again for a node: for it by name, or for all."""
    lines = re.findall(r"^(?:.*; )?again: (.*)", screen, re.MULTILINE)
    return any("--only" not in line or (node and node in line) for line in lines)


def healthy_nodes_served(trial: Trial) -> Iterator[str]:
    """O7: healthy nodes come out as without the fault."""
    names = sick(trial)
    if trial.row.exit == 2:
        yield from touched(trial)
        return
    served = "skipped" if OF_HEAD.match(" ".join(trial.row.task)) else "ok"
    # Without its head a cluster's workers cannot be served.
    fine = {served, "skipped"} if trial.bench.head.node in names else {served}
    for host, node in trial.nodes():
        wanted = {"ok"} if host is trial.bench.head else fine
        if node["node"] not in names and node["outcome"] not in wanted:
            yield f"{host.name} is healthy and came out as {node['outcome']} ({node['code']})"


def touched(trial: Trial) -> Iterator[str]:
    """Give what was done to nodes though what was typed is refused."""
    for name, acted in trial.acted.items():
        if acted:
            yield f"{name}: its engine did {sorted(acted)}"


def sick(trial: Trial) -> set[str]:
    """Name the nodes that the fault hits, as reports do."""
    bench, named = trial.bench, trial.row.hits
    return {host.node for word, hosts in bench.groups().items() if word in named for host in hosts}


def nothing_left(trial: Trial) -> Iterator[str]:
    """O8: no process, temporary file, lock or half-made container of ours is left."""
    for place, things in trial.remains.items():
        if things:
            yield f"{place}: {things}"


def not_asked(trial: Trial) -> dict[str, str]:
    """Give the oracles that do not judge this trial, each with its reason."""
    row, reasons = trial.row, dict(trial.row.blind)
    if not trial.healed:
        reasons.setdefault("O4", "the row types nothing after healing")
    if row.exit != 2 and {host.node for host in trial.bench.hosts} <= sick(trial):
        reasons.setdefault("O7", "the fault hits every node")
    if not trial.bench.secrets:
        reasons.setdefault("O5", "the bench has no secrets")
    return reasons


ORACLES: Mapping[str, Oracle] = {
    "O1": in_time,
    "O2": foreign_untouched,
    "O3": truth_told,
    "O4": converges,
    "O5": secrets_kept,
    "O6": message_helps,
    "O7": healthy_nodes_served,
    "O8": nothing_left,
}


def verdicts(trial: Trial) -> dict[str, list[str] | None]:
    """Ask every oracle: an empty list is what each should give, and None stands for one that is not asked."""
    silent = not_asked(trial)
    return {name: None if name in silent else list(oracle(trial)) for name, oracle in ORACLES.items()}


@dataclass
class Seen:
    """What every process of this machine showed while it was young, practice hosts' too."""

    argv: list[str] = field(default_factory=list)
    environ: list[str] = field(default_factory=list)
    looks: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Looks a second."""
        return self.looks / self.seconds if self.seconds else 0.0


@contextmanager
def processes() -> Iterator[Seen]:
    """Gather the command lines and environments of all processes, at a hundred looks a second where there is time."""
    young: dict[str, float] = {}
    seen = Seen()
    over = threading.Event()
    begun = time.monotonic()

    def look() -> None:
        while not over.is_set():
            now = time.monotonic()
            for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - a hundred times a second
                if now - young.setdefault(name, now) < YOUNG:
                    seen.argv.append(command_line(name))
                    seen.environ.append(shown(name, "environ"))
            seen.looks, seen.seconds = seen.looks + 1, time.monotonic() - begun
            over.wait(max(0.0, now + PACE - time.monotonic()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def shown(process: str, what: str) -> str:
    """Give what /proc shows of a process, as far as it is still there."""
    try:
        return Path(f"/proc/{process}/{what}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def command_line(process: str) -> str:
    """Give a process's command line."""
    return shown(process, "cmdline")


def remains(bench: Bench, before: Mapping[str, Sight], mark: str) -> dict[str, list[str]]:
    """Give what a run left on the hosts and here, after a moment for what was ended to go."""
    end = time.monotonic() + SETTLING
    while True:
        found = {name: left_on(sight, before[name]) for name, sight in bench.sights().items()}
        found["here"] = [command_line(name) for name in os.listdir("/proc") if name.isdecimal() and marked(name, mark)]  # noqa: PTH208
        found["here"] += sorted(path.name for path in bench.scratch.iterdir())
        if not any(found.values()) or time.monotonic() > end:
            return found
        time.sleep(0.5)


def left_on(now: Sight, before: Sight) -> list[str]:
    """Give what is new on a host: processes and files of a run, and containers that were made and never started."""
    files = [path for path in sorted(now.folders - before.folders) if not path.startswith("/var/lib/raydock/")]
    processes = [line for line in now.processes if REMAINS.search(line) and line not in before.processes]
    halves = [name for name, one in now.ours.items() if one["State"]["Status"] == "created"]
    return [*files, *processes, *halves]


def marked(process: str, mark: str) -> bool:
    """Tell whether a process was started with a mark in its environment."""
    try:
        return mark.encode() in Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False
