"""A plan: the steps of a task, host by host, made from settings and inventory alone."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from deploy.timings import Phase

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.site import Site

T = TypeVar("T")


class Place(Enum):
    """Where a step acts, or a value is found out."""

    OPERATOR = "operator"
    HEAD = "head"
    NODE = "node"


@dataclass(frozen=True)
class Late(Generic[T]):
    """A value that nobody can know before contact: the script assigns it by `shell`, the run calls `resolve`.

    One that is found on the operator's side or on the head is found once in a run, and is the same for every node.
    """

    name: str
    shell: str
    resolve: Callable[[Site], T] = field(compare=False, repr=False)
    at: Place = Place.NODE
    needs: tuple[Late[Any], ...] = ()


@dataclass(frozen=True)
class Phrase:
    """A word put together of literals and late values, as `--port=` and the port."""

    parts: tuple[str | Late[Any], ...]


Word = str | Late[Any] | Phrase


@dataclass(frozen=True)
class Spread:
    """Words of a command line that are one late value: it is cut at its blanks, and no word has one."""

    late: Late[str]


def phrase(*words: Word) -> Phrase:
    """Give one word made of others, written one behind the other."""
    return Phrase(tuple(part for word in words for part in parts_of(word)))


def parts_of(word: Word) -> tuple[str | Late[Any], ...]:
    """Give the literals and late values of a word, in order."""
    return word.parts if isinstance(word, Phrase) else (word,)


def quoted(word: Word) -> str:
    """Write a word as bash reads it: literals quoted, late values as their variable."""
    return "".join(f'"${part.name}"' if isinstance(part, Late) else shlex.quote(part) for part in parts_of(word))


def argument(word: Word | Spread) -> str:
    """Write a word of a command line, or those of a late value, as bash reads them."""
    return f"${word.late.name}" if isinstance(word, Spread) else quoted(word)


def argv(command: Iterable[Word | Spread], value: Callable[[Word], str]) -> list[str]:
    """Give a command line as it is run; `value` gives the late values."""
    words = (value(word.late).split() if isinstance(word, Spread) else [value(word)] for word in command)
    return [word for some in words for word in some]


def lates(value: object) -> Iterator[Late[Any]]:
    """Give each late value that `value` is made of, what it needs first."""
    if isinstance(value, Late):
        for needed in value.needs:
            yield from lates(needed)
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from lates(item)
    else:
        kind: Any = type(value)
        for name in _parts(kind):
            yield from lates(getattr(value, name))


@cache
def _parts(kind: type) -> tuple[str, ...]:
    """Name the fields of a dataclass that the script knows; of what is none there are none."""
    found = fields(kind) if is_dataclass(kind) else ()
    return tuple(item.name for item in found if item.metadata.get("script", True))


def run_only(default: Any = MISSING) -> Any:
    """Declare a field whose late values the run finds out, and the script does without."""
    return field(default=default, metadata={"script": False})


class Step(ABC):
    """One line of the document, idempotent by its form: a question, and an action where the answer is no."""

    document: ClassVar[str] = ""
    changes: ClassVar[bool] = True
    # Whether its beginning is progress worth a line.
    told: ClassVar[bool] = True
    where: ClassVar[Place] = Place.NODE
    # What a node is at that does it, where that is more than to look or to run something.
    phase: ClassVar[Phase | None] = None
    # After usermod only a new session has the group.
    ends_session: ClassVar[bool] = False
    # What stands where it is cut short in the middle.
    cut_short: ClassVar[str] = ""
    # Whether a worker may do it while the head is not started yet: it is of use whatever comes of the head.
    ahead: ClassVar[bool] = False

    @property
    @abstractmethod
    def title(self) -> str:
        """What the step does, as progress and errors name it."""

    @property
    @abstractmethod
    def shell(self) -> str:
        """The step as a line of the manual: `question || action`."""

    @property
    def at(self) -> Phase:
        """What a node is at that does it; whether there is anything to do is asked before."""
        return self.phase or (Phase.RUN if self.changes else Phase.ASK)

    @property
    def watched(self) -> tuple[Node, ...]:
        """The nodes that are not done, either, before this step is."""
        return ()

    @abstractmethod
    def done(self, site: Site) -> bool:
        """Ask whether there is nothing to do."""

    @abstractmethod
    def apply(self, site: Site) -> bool | None:
        """Do it; what goes wrong is a `Failure`. False says that nothing could be changed, and was told."""

    def note_state(self, site: Site) -> None:  # noqa: B027 - most have nothing to note
        """Note what stands there of what it is about, where its chain failed, at it or before."""


@dataclass(frozen=True)
class Chain:
    """What one node has to do, in order, on one connection."""

    node: Node
    steps: tuple[Step, ...]

    @property
    def comes_to_node(self) -> bool:
        """Whether any of it is not done on the operator's side."""
        return any(step.where is not Place.OPERATOR for step in self.steps)

    @property
    def node_later(self) -> bool:
        """Whether it begins on the operator's side, and comes to its node after that."""
        return self.comes_to_node and self.steps[0].where is Place.OPERATOR


@dataclass(frozen=True)
class Stage:
    """Chains that run at once; with `after_head` only where the head did not fail before."""

    chains: tuple[Chain, ...]
    after_head: bool = False
    # What is found out on the head while others are at work: who needs it later need not wait for it.
    meanwhile: tuple[Late[Any], ...] = ()

    def may_begin_during(self, other: Stage) -> bool:
        """Tell whether its nodes have something to do while the head alone is at work in the other."""
        at_work = [chain for chain in other.chains if chain.steps]
        if not (self.after_head and len(at_work) == 1 and at_work[0].node.role == "head"):
            return False
        acts = any(step.changes for step in at_work[0].steps)
        return acts and any(chain.node.role != "head" and chain.steps and chain.steps[0].ahead for chain in self.chains)


@dataclass(frozen=True)
class Plan:
    """Stages, one after the other."""

    stages: tuple[Stage, ...]
    # Whether nobody else may act on the cluster meanwhile.
    locked: bool = False

    @property
    def acts(self) -> bool:
        """Whether it has a step that changes something."""
        return any(step.changes for stage in self.stages for chain in stage.chains for step in chain.steps)

    def turns(self) -> Iterator[tuple[Stage, Stage | None]]:
        """Give the stages in turn, each with the next one where its nodes may begin meanwhile."""
        left = list(self.stages)
        while left:
            stage = left.pop(0)
            yield stage, left.pop(0) if left and left[0].may_begin_during(stage) else None

    def first_reached(self) -> tuple[Node, ...]:
        """Give the nodes on which something is done from the start; the head first, since others wait for it."""
        turn = next(self.turns(), ())
        chains = [chain for stage in turn if stage for chain in stage.chains if chain.comes_to_node]
        return tuple(sorted((chain.node for chain in chains), key=lambda node: node.role != "head"))

    def alone(self) -> Plan:
        """Give this plan, with nobody else acting on the cluster meanwhile."""
        return replace(self, locked=True)

    def then(self, other: Plan) -> Plan:
        """Give this plan, and after it the other."""
        return Plan(self.stages + other.stages, self.locked or other.locked)

    def along(self, other: Plan) -> Plan:
        """Give one plan in which each node does its steps of this plan and goes straight on to those of the other.

        Both are of one stage; a step of both is done once.
        """
        (mine,), (theirs,) = self.stages, other.stages
        steps = {chain.node: chain.steps for chain in mine.chains}
        for chain in theirs.chains:
            done = steps.get(chain.node, ())
            steps[chain.node] = done + tuple(step for step in chain.steps if step not in done)
        return Plan((Stage(tuple(Chain(node, done) for node, done in steps.items())),), self.locked or other.locked)
