"""What a row of the catalogue is: a fault, the task that meets it, and what the operator must be told.

A row is a generator that gets the bench. It brings its fault about, yields, and heals:

    @row("S2", "sshd does not listen", code="SSH_REFUSED", exit=4, within=1)
    def no_sshd(bench: Bench) -> Fault:
        with bench.worker.refuses(22):
            done = yield
        assert "Is sshd running" in done.err

While it waits at `yield`, the frame runs the row's task and asks the oracles; what the task told comes back as the
value of `yield`, for what else the row expects. After its end the frame heals nothing more: it runs `converge` once,
which must reach the wanted state, and once more, which must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.bench import Bench
    from tests.hosts.observer import Done

SLACK = 5.0  # seconds beyond a deadline that are let pass
Fault = Generator[None, "Done", None]


@dataclass(frozen=True)
class Row:
    """A fault of the catalogue, and what is expected of a task that meets it."""

    number: str
    title: str
    fault: Callable[[Bench], Fault]
    # What the operator types; without words the row types by itself, and gives its last `Done` by `bench.typed`.
    task: tuple[str, ...] = ("cluster.status",)
    exit: int = 0
    # The code that is told, and the node that it is told of: `worker` (the last), `other` (the first), `head`, `all`,
    # or nobody, where it is none of a node's.
    code: str | None = None
    told_of: str = "worker"
    # The nodes that the fault hits, where they are not those that the code is told of: all others are healthy.
    sick: tuple[str, ...] | None = None
    # Seconds after which the operator has the report, with the fault there and all else quick.
    within: float = 30
    # Whether the cluster runs when the fault comes; None: it is no matter.
    running: bool | None = True
    # What brings the wanted state about after healing.
    converge: tuple[str, ...] = ("cluster.start",)
    # Whether every run of all tests has it, or only `script/test faults`.
    quick: bool = False
    bench: str = "A"
    # Oracles that cannot judge this row, each with its reason.
    blind: tuple[tuple[str, str], ...] = ()

    @property
    def hits(self) -> tuple[str, ...]:
        """The nodes that the fault hits, in words of the bench's `groups`; without a code it hits none."""
        if self.sick is not None:
            return self.sick
        return (self.told_of,) if self.code else ()

    @property
    def letter(self) -> str:
        """The family of the fault."""
        return self.number[0]


ROWS: dict[str, Row] = {}


def row(number: str, title: str, **how: object) -> Callable[[Callable[[Bench], Fault]], Callable[[Bench], Fault]]:
    """Enter a fault into the catalogue; see `Row` for what can be said of it."""

    def enter(fault: Callable[[Bench], Fault]) -> Callable[[Bench], Fault]:
        assert number not in ROWS, f"{number} is there already"
        ROWS[number] = Row(number, title, fault, **how)  # type: ignore[arg-type]  # the fields check what they are given
        return fault

    return enter
