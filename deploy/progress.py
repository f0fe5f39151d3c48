"""What is told while a task runs: lines worth keeping, how far a step is, and what the nodes themselves print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


class Watch(Protocol):
    """Who is told of a run. Called by the threads of the nodes."""

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


class Unheard:
    """A watch for a run of which nobody is told yet."""

    def stage(self, nodes: int) -> None:
        """Say nothing."""

    def begins(self, node: Node) -> None:
        """Say nothing."""

    def step(self, node: Node, title: str) -> None:
        """Say nothing."""

    def hear(self, node: Node, news: News) -> None:
        """Say nothing."""

    def did(self, node: Node, title: str, seconds: float) -> None:
        """Say nothing."""

    def ends(self, node: Node) -> None:
        """Say nothing."""
