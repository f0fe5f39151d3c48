"""What plans are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.plan import Chain, Plan, Stage, Step
from deploy.ray import container_name

if TYPE_CHECKING:
    from deploy.inventory import Inventory, Node
    from deploy.settings import Settings


@dataclass(frozen=True)
class Scope:
    """What a plan is made of: the settings, the nodes, and which of them may be changed."""

    settings: Settings
    inventory: Inventory
    selected: frozenset[str]
    # Whether what runs otherwise than wanted gives way.
    replace: bool = False

    @property
    def anew(self) -> bool:
        """Whether what the head runs now does not decide what it shall run."""
        return self.replace and bool(self.head)

    @property
    def alone(self) -> bool:
        """Whether the head is all there is."""
        return not self.inventory.workers

    @property
    def workers(self) -> tuple[Node, ...]:
        """The workers that may be changed."""
        return tuple(node for node in self.inventory.workers if node.name in self.selected)

    @property
    def head(self) -> tuple[Node, ...]:
        """The head, where it may be changed."""
        return (self.inventory.head,) if self.inventory.head.name in self.selected else ()

    def only(self, names: frozenset[str]) -> Scope:
        """Give the same with fewer nodes."""
        return dataclasses.replace(self, selected=self.selected & names)

    def container(self, role: str) -> str:
        """Give the name of this cluster's container on a head or a worker."""
        return container_name(self.settings.cluster_name, role)


Planner = Callable[[Scope], Plan]


def on_all(scope: Scope, steps: Callable[[Node], tuple[Step, ...]]) -> Plan:
    """Have each selected node do its steps, all at once."""
    return Plan((Stage(tuple(Chain(node, steps(node)) for node in scope.head + scope.workers)),))


def on_head(scope: Scope, *steps: Step) -> Plan:
    """Have the head do the steps."""
    return Plan((Stage((Chain(scope.inventory.head, steps),)),))
