"""The group: every node's steps as one chain on one connection, a bounded number of nodes at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fabric import Group

from deploy.errors import Failure
from deploy.plan import Place, lates

if TYPE_CHECKING:
    from deploy.hosts import Host
    from deploy.plan import Chain, Plan, Stage, Step
    from deploy.run import Run

NOTED = 0.5  # seconds after which a step that changed nothing is told all the same


class HostGroup(Group):  # type: ignore[misc]  # Fabric has no types
    """The nodes of a run. Unlike Fabric's own groups it starts a bounded number of threads, and joins none for ever."""

    def __init__(self, run: Run) -> None:
        """Make the group of a run's nodes; a connection is opened when its chain begins."""
        super().__init__()
        self._run = run
        self._bugs: list[BaseException] = []

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse Fabric's one-command calls: a plan is performed."""
        raise NotImplementedError(f"{method}: perform a plan")

    def perform(self, plan: Plan, lock: Callable[[], None] = lambda: None) -> None:
        """Perform the stages; what came of each node stands in the run's outcomes.

        Args:
            plan: what to do.
            lock: has the lock of the cluster, where the plan wants it.
        """
        try:
            if plan.locked:
                threading.Thread(target=self._lock, args=(lock,), daemon=True).start()
            else:
                self._run.decided.set()
            for stage in plan.stages:
                head = self._run.outcomes[self._run.scope.inventory.head]
                if not (self._run.refused or self._bugs or (stage.after_head and head.problem)):
                    self._stage(stage)
            if self._bugs:
                raise self._bugs[0]
        finally:
            self._run.close()

    def _stage(self, stage: Stage) -> None:
        head = self._run.scope.inventory.head
        # The head first: others may wait for what only it can tell.
        chains = sorted(stage.chains, key=lambda chain: chain.node != head)
        if any(chain.node == head for chain in chains) and len(chains) > 1:
            self._run.head_ready.clear()
        waiting: queue.SimpleQueue[Chain] = queue.SimpleQueue()
        for chain in chains:
            waiting.put(chain)
        self._run.watch.stage(len(chains))
        size = min(self._run.settings.concurrency, len(chains))
        # Daemons: what hangs in a system call cannot keep the process from ending.
        threads = [threading.Thread(target=self._work, args=(waiting,), daemon=True) for _ in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # a join without time-out takes no Ctrl-C
        self._run.head_ready.set()

    def _work(self, waiting: queue.SimpleQueue[Chain]) -> None:
        while True:
            try:
                chain = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._chain(chain)
            except BaseException as bug:  # noqa: BLE001 - the fence around one node; raised again by the main thread
                self._bugs.append(bug)
                return

    def _chain(self, chain: Chain) -> None:
        host, outcome = self._run.host(chain.node), self._run.outcome(chain.node)
        is_head = chain.node == self._run.scope.inventory.head
        self._run.watch.begins(chain.node)
        step: Step | None = None
        try:
            if chain.steps and not self._may_act(host):
                return
            outcome.asked = outcome.asked or bool(chain.steps)
            if outcome.problem is None:
                for step in chain.steps:
                    if is_head and any(late.at is Place.HEAD for late in lates(step)):
                        self._run.head_ready.set()
                    self._step(host, step)
        except Failure as failure:
            outcome.fail(failure, step.title if step else "")
        finally:
            self._run.watch.ends(chain.node)
            if is_head:
                self._run.head_ready.set()
            else:
                host.close()

    def _may_act(self, host: Host) -> bool:
        """Tell whether we may act; while that is found out, connect. Where that fails, it is the node's own failure."""
        failure = None
        # The head's connection is the one by which it is found out.
        if not self._run.decided.is_set() and host.node != self._run.scope.inventory.head:
            try:
                host.open()
            except Failure as found:
                failure = found
        self._run.decided.wait()
        if failure and not self._run.refused:
            raise failure
        return not self._run.refused

    def _lock(self, lock: Callable[[], None]) -> None:
        try:
            lock()
        except BaseException as bug:  # noqa: BLE001 - raised again by the main thread
            self._run.refused = True
            self._bugs.append(bug)
        finally:
            self._run.decided.set()

    def _step(self, host: Host, step: Step) -> None:
        self._run.check()
        begun = time.monotonic()
        if step.done(host):
            return
        if step.told:
            self._run.watch.step(host.node, step.title)
        step.apply(host)
        took = time.monotonic() - begun
        if step.changes:
            self._run.outcome(host.node).done.append(step.title)
        if step.told and (step.changes or took > NOTED):
            self._run.watch.did(host.node, step.title, took)
