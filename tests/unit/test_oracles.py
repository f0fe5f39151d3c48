"""Each oracle can object: a trial in which all is well, and what each must say of one in which one thing is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults.bench import Bench, FaultyHost, Sight
from tests.faults.oracles import ORACLES, Seen, Trial, not_asked, verdicts
from tests.faults.row import Row
from tests.hosts.observer import Done

SECRET = "canary-0123"
HEAD, WORKER = "10.0.0.1", "10.0.0.2"
SCREEN = (
    f"{WORKER} NAME_CONFLICT (start the container): somebody has it\n  → Remove it\ncluster.start: failed in 2.0 s\n"
)


ELSE_AGAIN = "1 of 2 nodes failed; again: invoke cluster.start --only 10.9.9.9\n"


class FakeHost(SimpleNamespace):
    """A host on whose disk nothing but `disk` is found, and in whose images nothing but `image`."""

    def attempt(self, *argv: str) -> Done:
        return Done(0, self.image if argv[0] == "bash" else self.disk, "")


def fault(_: Bench) -> Any:
    """Bring nothing about."""


def container(role: str, status: str = "running", cluster: str = "c") -> dict[str, Any]:
    labels = {"raydock.cluster": cluster, "raydock.role": role}
    return {"State": {"Status": status, "StartedAt": "2026"}, "Config": {"Labels": labels}}


def sight(role: str, **more: Any) -> Sight:
    return Sight({**({role: container(role)} if role else {}), **more}, (), ("sum /etc/hosts",), frozenset(), (), "c")


def node(name: str, role: str, **more: Any) -> dict[str, Any]:
    well = {"outcome": "ok", "changed": False, "container": "running", "ray": "alive", "code": None, "error": None}
    return {"node": "head" if role == "head" else name, "address": name, "role": role, **well, **more}


FAILED = {"outcome": "failed", "container": "absent", "ray": "absent", "code": "NAME_CONFLICT", "error": "somebody"}
AGAIN = {"exit": 0, "changed": False, "acted": {}, "states": {}, "reached": True}


class Played(Trial):
    """A trial whose report is given."""

    told: dict[str, Any]

    @property
    def report(self) -> dict[str, Any]:
        return self.told


def trial(**changes: Any) -> Trial:
    """Give a trial of a row whose worker has somebody else's container, in which all is as it should be."""
    hosts = [FakeHost(name=name, node=to, disk="", image="") for name, to in (("head", "head"), ("worker", WORKER))]
    head, worker = cast("list[FaultyHost]", hosts)
    groups = {"head": [head], "worker": [worker], "workers": [worker], "all": [head, worker]}
    bench = SimpleNamespace(
        hosts=[head, worker], head=head, worker=worker, secrets={"the key": SECRET}, groups=lambda: groups,
        host=lambda name: groups[name][0], at_once=lambda look: [look(host) for host in (head, worker)],
    )  # fmt: skip
    made = Played(
        row=Row("X1", "x", fault, exit=3, code="NAME_CONFLICT", within=10, task=("cluster.start",)),
        bench=cast("Bench", bench),
        done=Done(3, "", SCREEN),
        seconds=2.0,
        before={"head": sight("head"), "worker": sight("")},
        after={"head": sight("head"), "worker": sight("")},
        known_hosts=("a", "a"),
        seen=Seen(),
        acted={"head": set(), "worker": set()},
        slack=5.0,
        alive=frozenset({HEAD}),
        healed=[{**AGAIN, "changed": True}, AGAIN],
    )
    made.told = {
        "exit": 3,
        "task": "cluster.start",
        "nodes": [node(HEAD, "head"), node(WORKER, "worker", **FAILED)],
        "errors": [{"code": "NAME_CONFLICT", "place": WORKER, "error": "somebody"}],
    }
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_no_oracle_objects_where_all_is_well() -> None:
    assert verdicts(trial()) == {name: [] for name in ORACLES}


def told(number: int, **changes: Any) -> Callable[[Trial], None]:
    """Have something else told of a node."""
    return lambda made: made.report["nodes"][number].update(changes)


def with_(**changes: Any) -> Callable[[Trial], None]:
    """Have something else of the trial."""

    def change(made: Trial) -> None:
        for name, value in changes.items():
            setattr(made, name, value)

    return change


def screen(text: str) -> Callable[[Trial], None]:
    """Have something else on the screen."""
    return with_(done=Done(3, "", text))


def on_host(**shown: str) -> Callable[[Trial], None]:
    """Have something on the worker's disk or in its images."""

    def change(made: Trial) -> None:
        vars(made.bench.worker).update(shown)
        made.built = {"worker": ["sha256:1"]}

    return change


def files(made: Trial) -> None:
    made.after = {**made.after, "head": replace(made.after["head"], files=("other /etc/hosts",))}


def in_argv(made: Trial) -> None:
    made.seen.argv.append(f"login {SECRET}")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("O1", with_(seconds=15.1), "took 15.1 s"),
        ("O2", with_(before={"head": sight("head", x=container("", cluster="y")), "worker": sight("")}), "foreign"),
        ("O2", files, "files"),
        ("O2", with_(known_hosts=("a", "b")), "known_hosts"),
        ("O3", with_(done=Done(0, "", SCREEN)), "exit code 0"),
        ("O3", told(1, code="PULL_FAILED"), "NAME_CONFLICT was to be told of worker"),
        ("O3", told(1, container="running"), "told as running, and it is absent"),
        ("O3", told(0, container="unknown"), "told as unknown, and its engine answers"),
        ("O3", told(1, container="unknown"), "told as unknown after NAME_CONFLICT"),
        ("O3", told(1, outcome="unreachable"), "unreachable, and told as absent"),
        ("O3", told(0, changed=True), "told as changed, and its engine did nothing"),
        ("O3", with_(acted={"head": {"kill"}, "worker": set()}), "told as unchanged, and its engine did ['kill']"),
        ("O3", told(1, ray="alive"), "Ray is alive there, and its container is absent"),
        ("O3", with_(alive=frozenset()), "Ray is alive there, and the head does not have it"),
        ("O3", told(0, ray="dead"), "Ray is dead there, and the head has it alive"),
        ("O4", with_(healed=[{**AGAIN, "exit": 3}, AGAIN]), "the run after healing: exit code 3"),
        ("O4", with_(healed=[{**AGAIN, "reached": False}, AGAIN]), "the run after healing"),
        ("O4", with_(healed=[AGAIN, {**AGAIN, "changed": True}]), "the second run"),
        ("O4", with_(healed=[AGAIN, {**AGAIN, "acted": {"head": ["kill"]}}]), "the second run"),
        ("O5", screen(SCREEN + SECRET), "the key shows in output"),
        ("O5", in_argv, "the key shows in argv"),
        ("O5", on_host(disk=f"/srv/x:{SECRET}"), "the key shows on worker in ['/srv/x']"),
        ("O5", on_host(image=SECRET), "the key shows in the history of sha256:1 on worker"),
        ("O6", screen(SCREEN + "Traceback (most recent call last)"), "a traceback"),
        ("O6", screen("again: invoke cluster.start\n"), "NAME_CONFLICT does not show on the screen"),
        ("O6", screen(SCREEN.replace(WORKER, "some node")), "no line of the screen has both"),
        ("O6", screen(SCREEN.replace("  → Remove it\n", "") + ELSE_AGAIN), "no next action"),
        ("O6", screen(SCREEN.replace(" (start the container)", "")), "told without its step"),
        ("O7", told(0, outcome="skipped"), "head is healthy and came out as skipped"),
        ("O8", with_(remains={"here": ["invoke cluster.start"]}), "here: ['invoke cluster.start']"),
    ],
)  # fmt: skip
def test_an_oracle_objects(name: str, change: Callable[[Trial], None], said: str) -> None:
    made = trial()
    change(made)
    objections = list(ORACLES[name](made))
    assert [one for one in objections if said in one], objections


def test_a_refused_input_must_leave_every_engine_alone() -> None:
    made = trial(row=Row("X2", "x", fault, exit=2, code="CONFIG", told_of="nobody"), acted={"head": {"kill"}})
    assert list(ORACLES["O7"](made)) == ["head: its engine did ['kill']"]


@pytest.mark.parametrize(
    ("task", "worker", "objects"),
    [("publish", "skipped", False), ("publish", "ok", True), ("cluster.start", "skipped", True)],
)
def test_a_worker_is_left_alone_by_what_is_the_heads_alone(task: str, worker: str, objects: bool) -> None:
    made = trial(row=Row("X4", "x", fault, task=(task,)))
    told(1, outcome=worker, code=None)(made)
    assert bool(list(ORACLES["O7"](made))) is objects


def test_an_oracle_that_cannot_judge_says_so() -> None:
    made = trial(row=Row("X3", "x", fault, exit=130, code="INTERRUPTED", told_of="all"), healed=[])
    made.bench.secrets.clear()
    assert set(not_asked(made)) == {"O4", "O5", "O7"}
    assert {name for name, said in verdicts(made).items() if said is None} == {"O4", "O5", "O7"}
