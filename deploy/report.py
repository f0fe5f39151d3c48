"""What came of a task, node by node: what a person and a program read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.errors import INTERRUPTED, Failure, Kind, Problem, shortened
from deploy.timings import Span, flat

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings

SCHEMA = 1
LONGEST_LINE = 1000  # characters of a container's output
# Facts about a container and Ray; a task that did not look leaves them unknown.
UNKNOWN = {
    "container": "unknown",
    "container_id": None,
    "spec": None,
    "digest": None,
    "ray": "unknown",
    "log_tail": (),
}


@dataclass
class Outcome:
    """What came of one node."""

    node: Node
    asked: bool = False
    done: list[str] = field(default_factory=list)
    problem: Problem | None = None
    step: str = ""
    facts: dict[str, Any] = field(default_factory=lambda: dict(UNKNOWN))
    # What the node made, if that is what the task is for: fields of the whole document.
    made: dict[str, Any] = field(default_factory=dict)
    # What it was at; what lies in another stands before it.
    spans: list[Span] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was done to the node."""
        return bool(self.done)

    @property
    def word(self) -> str:
        """The outcome in one of the words of the contract."""
        if self.problem is None:
            return "ok" if self.asked else "skipped"
        return "unreachable" if self.problem.kind is Kind.UNREACHABLE else "failed"

    @property
    def looked(self) -> bool:
        """Whether it is known what stands there of the cluster's container."""
        return bool(self.facts["container"] != UNKNOWN["container"])

    def forget(self) -> None:
        """Take for unknown what was seen of the container: what was being done to it may be done or not."""
        self.facts |= UNKNOWN

    def fail(self, failure: Failure, step: str = "") -> None:
        """Record what went wrong; the first failure is the cause, and stays."""
        if self.problem is None:
            self.problem, self.step = failure.problem, step

    def json(self, *, timings: bool = False) -> dict[str, Any]:
        """Give the node's object in the JSON document; with `timings` also what it was at, from when to when."""
        facts = {key: self.facts[key] for key in UNKNOWN}
        return {
            "node": self.node.name,
            "role": self.node.role,
            "address": self.facts.get("address", self.node.private or self.node.address),
            "outcome": self.word,
            "changed": self.changed,
            **facts,
            "log_tail": [shortened(line, LONGEST_LINE) for line in facts["log_tail"]],
            "code": self.problem.code if self.problem else None,
            "error": self.problem.told if self.problem else None,
            **({"timings": [span.json() for span in flat(self.spans)]} if timings else {}),
        }


@dataclass
class Report:
    """What came of a task."""

    task: str
    cluster: str = ""
    image: str | None = None
    outcomes: Sequence[Outcome] = ()
    problems: tuple[Problem, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    # The settings that loosen what holds by default.
    loosened: tuple[str, ...] = ()
    seconds: float = 0.0
    # What was raised that is a bug of ours; for people.
    bugs: Sequence[BaseException] = ()
    # Whether it was asked where the time went.
    timings: bool = False

    def about(self, settings: Settings) -> None:
        """Say which cluster the task is about, and what its settings loosen."""
        self.cluster, self.loosened = settings.cluster_name, tuple(settings.loosened())

    @property
    def changed(self) -> bool:
        """Whether anything was done anywhere."""
        return any(outcome.changed for outcome in self.outcomes)

    @property
    def failed(self) -> Iterator[Outcome]:
        """The nodes that something went wrong on, in the inventory's order."""
        return (outcome for outcome in self.outcomes if outcome.problem)

    @property
    def exit(self) -> int:
        """The exit code: the first of the contract's list that holds."""
        kinds = {problem.kind for problem in self.problems}
        if self.interrupted:
            return INTERRUPTED
        if Kind.INPUT in kinds:
            return int(Kind.INPUT.value)
        failed = list(self.failed)
        kinds |= {outcome.problem.kind for outcome in failed if outcome.problem}
        for kind in (Kind.LOCKED, Kind.REFUSED, Kind.UNREACHABLE):
            if kind in kinds:
                return int(kind.value)
        if self.problems or self.head_failed or (failed and len(failed) == sum(one.asked for one in self.outcomes)):
            return 1
        return 3 if failed else 0

    @property
    def head_failed(self) -> bool:
        """Whether the head is among those that failed."""
        return any(outcome.node.role == "head" for outcome in self.failed)

    def alike(self) -> Mapping[Problem, list[Outcome]]:
        """Give each problem once, with the nodes that have it."""
        found: dict[Problem, list[Outcome]] = {}
        for outcome in self.failed:
            assert outcome.problem is not None  # noqa: S101 - `failed` gives no others
            found.setdefault(outcome.problem, []).append(outcome)
        return found

    def json(self) -> dict[str, Any]:
        """Give the one document that a program reads."""
        errors = [{"code": one.code, "place": one.place, "error": one.told} for one in self.problems]
        errors += [
            {"code": problem.code, "place": problem.place or outcomes[0].node.name, "error": problem.told}
            for problem, outcomes in self.alike().items()
        ]
        return {
            "schema": SCHEMA,
            "cluster": self.cluster,
            "task": self.task,
            "ok": self.exit == 0,
            "exit": self.exit,
            "changed": self.changed,
            "image": self.image,
            "loosened": list(self.loosened),
            "errors": errors,
            "nodes": [outcome.json(timings=self.timings) for outcome in self.outcomes],
            **self.facts,
        }
