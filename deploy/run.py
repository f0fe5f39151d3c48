"""One run of a plan: its hosts, the values they share, and what came of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deploy.errors import Failure
from deploy.git import Git
from deploy.hostkeys import load_known_hosts
from deploy.hosts import Host, LocalHost, SshHost
from deploy.known_hosts import KnownHosts
from deploy.progress import Amount
from deploy.registry import Registry, registry_of
from deploy.report import Outcome

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.plan import Late
    from deploy.plans import Scope
    from deploy.progress import Watch

GATE_DEADLINE = 1800  # seconds that a worker waits for the head to come to what both need


class Shared:
    """A value that is found out once for all nodes; a failure to find it is found once, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known = False
        self._value: Any = None
        self._failure: Failure | None = None

    def get(self, find: Callable[[], Any]) -> Any:
        """Give the value, finding it out if nobody has."""
        with self._lock:
            if not self._known:
                try:
                    self._value = find()
                except Failure as failure:
                    self._failure = failure
                self._known = True
        if self._failure:
            raise self._failure
        return self._value

    def known(self) -> Any:
        """Give the value if there is one by now."""
        return self._value


class Run:
    """The hosts of a run and what they share."""

    def __init__(self, scope: Scope, watch: Watch) -> None:
        """Nothing is contacted before a chain uses it."""
        self.scope, self.settings = scope, scope.settings
        self.outcomes = {node: Outcome(node) for node in scope.inventory.nodes}
        self.begun = time.monotonic()
        # Set while the head has nothing to do before values can be asked of it.
        self.head_ready = threading.Event()
        self.head_ready.set()
        self.watch = watch
        # Why no further step may begin, once somebody said so.
        self.halted: Failure | None = None
        self._hosts: dict[Node, Host] = {}
        self._shared: dict[str, Shared] = {}
        self._lock = threading.Lock()

    @cached_property
    def known_hosts(self) -> KnownHosts:
        """What known_hosts says, read once."""
        return load_known_hosts(self.settings)

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        return registry_of(self.settings)

    @cached_property
    def git(self) -> Git:
        """The operator's git."""
        return Git()

    def host(self, node: Node) -> Host:
        """Give the host of a node."""
        with self._lock:
            if node not in self._hosts:
                self._hosts[node] = LocalHost(node, self) if node.local else SshHost(node, self)
            return self._hosts[node]

    def outcome(self, node: Node) -> Outcome:
        """Give a node's line of the report."""
        return self.outcomes[node]

    def shared(self, late: Late[Any], asking: Host) -> Any:
        """Give a value that all nodes share; who is not the head waits until the head can tell it."""
        head = self.scope.inventory.head
        if asking.node != head and not self.head_ready.is_set():
            asking.say(Amount("waits for the head"))
            if not self.head_ready.wait(GATE_DEADLINE):
                raise Failure("HEAD_FAILED", "the head did not come to tell what this node needs")
        with self._lock:
            cell = self._shared.setdefault(late.name, Shared())
        try:
            return cell.get(lambda: late.resolve(self.host(head)))
        except Failure as failure:
            broken = self.outcomes[head].problem
            if asking.node == head or broken is None:
                raise
            raise Failure("HEAD_FAILED", f"the head failed ({broken.code}), and has what this node needs") from failure

    def halt(self, why: Failure) -> None:
        """Have no further step begin on any node: a chain with steps left fails with `why`. The first reason stays."""
        self.halted = self.halted or why

    def found(self, name: str) -> Any:
        """Give a shared value if it was found out; None if not."""
        cell = self._shared.get(name)
        return cell.known() if cell else None

    def close(self) -> None:
        """Close every connection."""
        for host in list(self._hosts.values()):
            host.close()
