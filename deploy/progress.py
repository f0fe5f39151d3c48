"""What is told while a task runs: lines worth keeping, how far a step is, and what the nodes themselves print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.inventory import Node


@dataclass(frozen=True)
class Amount:
    """How far a step is, in words, and in bytes where it knows of any."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Output:
    """A line that the node itself printed."""

    text: str


News = str | Amount | Output
Say = Callable[[News], None]


class Watch:
    """Who is told of a run, by the threads of the nodes; by itself it makes nothing of it."""

    def stage(self, nodes: int) -> None:
        """So many nodes begin to act at once."""

    def begins(self, node: Node) -> None:
        """A node begins its steps."""

    def step(self, node: Node, title: str) -> None:
        """A node begins a step that has something to do."""

    def hear(self, node: Node, news: News) -> None:
        """Something is told of a node."""

    def did(self, node: Node, title: str, seconds: float) -> None:
        """A node has done a step."""

    def ends(self, node: Node) -> None:
        """A node has no more steps, or failed."""
