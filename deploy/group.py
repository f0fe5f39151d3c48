"""The group: every node's steps as one chain on one connection, a bounded number of nodes at a time."""

from __future__ import annotations

import queue
import threading
import time
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

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse Fabric's one-command calls: a plan is performed."""
        raise NotImplementedError(f"{method}: perform a plan")

    def perform(self, plan: Plan) -> None:
        """Perform the stages; what came of each node stands in the run's outcomes."""
        try:
            for stage in plan.stages:
                if stage.after_head and self._run.outcomes[self._run.scope.inventory.head].problem:
                    continue
                self._stage(stage)
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
        bugs: list[BaseException] = []
        self._run.watch.stage(len(chains))
        size = min(self._run.settings.concurrency, len(chains))
        # Daemons: what hangs in a system call cannot keep the process from ending.
        threads = [threading.Thread(target=self._work, args=(waiting, bugs), daemon=True) for _ in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # a join without time-out takes no Ctrl-C
        self._run.head_ready.set()
        if bugs:
            raise bugs[0]

    def _work(self, waiting: queue.SimpleQueue[Chain], bugs: list[BaseException]) -> None:
        while True:
            try:
                chain = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._chain(chain)
            except BaseException as bug:  # noqa: BLE001 - the fence around one node; raised again by the main thread
                bugs.append(bug)
                return

    def _chain(self, chain: Chain) -> None:
        host, outcome = self._run.host(chain.node), self._run.outcome(chain.node)
        is_head = chain.node == self._run.scope.inventory.head
        outcome.asked = outcome.asked or bool(chain.steps)
        self._run.watch.begins(chain.node)
        step: Step | None = None
        try:
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

    def _step(self, host: Host, step: Step) -> None:
        if self._run.halted:
            raise self._run.halted
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
