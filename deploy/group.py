"""The group: every node's steps as one chain on one connection, a bounded number of nodes at a time.

Connecting has a window of its own: who is not there keeps no place from those who are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fabric import Group

from deploy.doors import Doors
from deploy.errors import Failure, Kind
from deploy.grammar import plain
from deploy.plan import Place, lates
from deploy.progress import Amount
from deploy.timings import Phase, Span
from deploy.windows import windows

if TYPE_CHECKING:
    from deploy.errors import Problem
    from deploy.hosts import Host
    from deploy.plan import Chain, Late, Plan, Stage, Step
    from deploy.run import Run

NOTED = 0.5  # seconds after which a step that changed nothing is told all the same
LOOK = 0.1  # seconds between two looks at whether a thread has ended


@dataclass
class Doing:
    """How far a chain is: which step is at work, or comes next. One has begun once its question is answered.

    It is to be done `since` a moment, as `time.monotonic` has it. What is `early` is begun while the head is at what
    comes before: until it is through that, only steps that may be done ahead are done, and none once it has failed.
    """

    chain: Chain
    early: bool = False
    number: int = 0
    begun: bool = False
    through: bool = False
    since: float = 0.0

    @property
    def step(self) -> Step:
        """The step."""
        return self.chain.steps[self.number]

    @property
    def rest(self) -> tuple[Step, ...]:
        """What is not done: this step, and those after it."""
        return self.chain.steps[self.number :]


class HostGroup(Group):  # type: ignore[misc]  # Fabric has no types
    """The nodes of a run. Unlike Fabric's own groups it starts a bounded number of threads, and joins none for ever."""

    def __init__(self, run: Run) -> None:
        """Make the group of a run's nodes; a connection is opened when its chain begins."""
        super().__init__()
        self._run = run
        # Clear while the head is at what must have succeeded before others go on from what they may do ahead.
        self._head_through = threading.Event()
        self._head_through.set()
        # What is found out there from then on.
        self._meanwhile: Sequence[Late[Any]] = ()

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse Fabric's one-command calls: a plan is performed."""
        raise NotImplementedError(f"{method}: perform a plan")

    def perform(self, plan: Plan, lock: Callable[[], None] = lambda: None) -> None:
        """Perform the stages; what came of each node stands in the run's outcomes.

        Args:
            plan: what to do.
            lock: has the lock of the cluster, where the plan wants it.

        Raises:
            RaydockError: what says how nodes are reached cannot be read; nothing was contacted.
        """
        self._run.acts = plan.acts
        if any(not chain.node.local for stage in plan.stages for chain in stage.chains):
            self._run.read_ssh()
        try:
            if plan.locked:
                threading.Thread(target=self._lock, args=(lock,), daemon=True).start()
            else:
                self._run.decided.set()
            for stage, following in plan.turns():
                if not (self._run.refused or (stage.after_head and self._head_problem)):
                    self._stage(stage, following)
        finally:
            self._run.close()

    @property
    def _head_problem(self) -> Problem | None:
        return self._run.outcomes[self._run.scope.inventory.head].problem

    def _stage(self, stage: Stage, following: Stage | None) -> None:
        """Perform a stage, and with it the one that follows where its nodes may begin meanwhile."""
        head = self._run.scope.inventory.head
        # The head first: others may wait for what only it can tell.
        chains = sorted(stage.chains, key=lambda chain: chain.node != head)
        doings = [Doing(chain, since=time.monotonic()) for chain in chains]
        if following:
            doings += [Doing(chain, early=True, since=time.monotonic()) for chain in following.chains]
            self._head_through.clear()
        if any(chain.node == head for chain in chains) and len(doings) > 1:
            self._run.head_ready.clear()
        self._run.watch.stage(len(doings))
        doors = Doors(windows(self._run.settings.concurrency))
        if any(chain.node == head for chain in chains):
            doors.take_place()  # the head's own, before anybody who waits for it takes the last one
        if not following:
            self._find_out(stage.meanwhile)
        self._meanwhile = following.meanwhile if following else ()
        threads = self._let_in(doings, doors)
        for thread in threads:
            while thread.is_alive() and not self._run.left.is_set():
                thread.join(LOOK)
        for doing in doings:
            # Nobody waits for it any more.
            if doing.chain.steps and not (doing.through or self._is_vain(doing)):
                self._fail(doing, self._run.halted)
        self._run.head_ready.set()
        self._head_through.set()

    def _let_in(self, doings: list[Doing], doors: Doors) -> list[threading.Thread]:
        """Begin with each as soon as it may come in, by a thread of its own; not once nobody waits any more."""
        threads: list[threading.Thread] = []
        for doing in doings:
            node = doing.chain.node
            while node != self._run.scope.inventory.head and not doors.enter(node):
                if self._run.left.is_set() or self._is_vain(doing):
                    return threads
            # A daemon: what hangs in a system call cannot keep the process from ending.
            threads.append(threading.Thread(target=self._work, args=(doing, doors), daemon=True))
            threads[-1].start()
        return threads

    def _work(self, doing: Doing, doors: Doors) -> None:
        try:
            self._placed(doing, doors)
        except BaseException as bug:  # noqa: BLE001 - the fence around one node; told with its traceback at the end
            doing.through = True
            if self._is_vain(doing):
                return  # we have cut its line
            outcome = self._run.outcome(doing.chain.node)
            outcome.asked = True
            failure = self._broken(bug)
            if doing.chain.steps:
                self._fail(doing, failure)
            elif failure:
                outcome.fail(failure)
        finally:
            if doing.chain.node == self._run.scope.inventory.head and not self._head_through.is_set():
                self._end_wait_for_head()

    def _end_wait_for_head(self) -> None:
        """Let those go on who wait for the head; where it failed, end what they do ahead."""
        self._head_through.set()
        problem = self._head_problem
        if problem is None:
            self._find_out(self._meanwhile)
        elif not self._run.halted:
            error = f"the head failed ({problem.code}), without which nothing is started here"
            self._run.dismiss_workers(Failure("HEAD_FAILED", error))

    def _find_out(self, values: Sequence[Late[Any]]) -> None:
        """Find out values of the head's by a thread of its own; whoever needs one is told what came in the way."""

        def work() -> None:
            # What is no failure, as where our line is cut, whoever asks meets again.
            with suppress(Exception):
                for late in values:
                    self._run.host(self._run.scope.inventory.head).resolve(late)

        if values:
            threading.Thread(target=work, daemon=True).start()

    def _is_vain(self, doing: Doing) -> bool:
        """Tell whether it was begun early, for a head that has failed; what is halted says itself where it stands."""
        failed = self._head_through.is_set() and self._head_problem is not None
        return doing.early and (self._run.dismissed is not None or (failed and not self._run.halted))

    def _goes_on(self, host: Host, doing: Doing) -> bool:
        """Have what was begun early wait until the head is through, and tell whether it is of any use then."""
        if not doing.early:
            return True
        if not self._head_through.is_set():
            host.say(Amount("waits for the head"))
            with self._run.timed(host.node, Phase.WAIT):
                while not (self._head_through.wait(LOOK) or self._run.halted):
                    pass
            if not host.is_open:
                host.close()  # its link ended while nothing was done there: the next step has one of its own
        if self._is_vain(doing):
            return False
        doing.early = False
        return True

    def _placed(self, doing: Doing, doors: Doors) -> None:
        """Connect, and then work on the chain in a place; who is not there needs none. The head has its place."""
        node = doing.chain.node
        if node == self._run.scope.inventory.head:
            try:
                self._chain(doing)
            finally:
                doors.leave_place()
            return
        try:
            if missing := self._missing(doing):
                doors.leave(node)  # it may wait for the head before it is told
                self._chain(doing, missing)
                return
            with ExitStack() as stack:
                with self._run.timed(node, Phase.WAIT):
                    stack.enter_context(doors.place(node))
                self._chain(doing)
        finally:
            doors.leave(node)

    def _missing(self, doing: Doing) -> Failure | None:
        node, run = doing.chain.node, self._run
        if run.outcome(node).problem or not doing.chain.steps or run.halted or run.refused or self._is_vain(doing):
            return None
        run.outcome(node).spans.append(Span(Phase.WAIT, doing.since - run.begun, time.monotonic() - run.begun))
        try:
            run.host(node).dial()
        except Failure as failure:
            return failure
        return None

    def _chain(self, doing: Doing, missing: Failure | None = None) -> None:
        chain = doing.chain
        host, outcome = self._run.host(chain.node), self._run.outcome(chain.node)
        is_head = chain.node == self._run.scope.inventory.head
        self._run.watch.begins(chain.node)
        if chain.node_later:
            host.prepare()
        try:
            if self._is_vain(doing) or (chain.steps and not self._may_act(host, missing)):
                return
            # What is done ahead for a head that fails was not asked for.
            outcome.asked = outcome.asked or (bool(chain.steps) and not doing.early)
            if outcome.problem is None:
                for doing.number, step in enumerate(chain.steps):
                    doing.begun = False
                    if not step.ahead:
                        if not self._goes_on(host, doing):
                            return
                        outcome.asked = True
                    if is_head and any(late.at is Place.HEAD for late in lates(step)):
                        self._run.head_ready.set()
                    self._step(host, step, doing)
                outcome.asked = outcome.asked or bool(chain.steps)
        except Failure as failure:
            # Where the head fails, too, that is the cause, and nothing was wanted here.
            if not self._goes_on(host, doing):
                return
            outcome.asked = True
            if failure is missing and not self._run.is_cut:
                outcome.fail(failure, "connect")
            else:
                self._fail(doing, self._run.judged(failure))
                self._look(host, doing, failure)
        finally:
            doing.through = True
            self._run.watch.ends(chain.node)
            if is_head:
                self._run.head_ready.set()
            else:
                host.close()

    def _look(self, host: Host, doing: Doing, failure: Failure) -> None:
        """Note what stands on a node whose chain failed, where its engine is not what failed."""
        silent = failure.problem.kind is not Kind.FAILED or failure.code.startswith("DOCKER_")
        # What stands on a machine that two names lead to is the other's to tell: it goes on there.
        silent = silent or failure.code == "SAME_MACHINE"
        if silent or self._run.halted or not host.is_open or self._run.outcome(host.node).looked:
            return
        with suppress(Failure):
            for step in doing.chain.steps:
                step.note_state(host)

    def _may_act(self, host: Host, failure: Failure | None) -> bool:
        """Tell whether we may act; while that is found out, connect. Where that fails, it is the node's own failure."""
        # The head's connection is the one by which it is found out.
        if failure is None and not self._run.decided.is_set() and host.node != self._run.scope.inventory.head:
            try:
                host.open()
                host.prepare()
            except Failure as found:
                failure = found
        with self._run.timed(host.node, Phase.WAIT):
            self._run.await_decision()
        if failure and not self._run.refused:
            raise failure
        return not self._run.refused

    def _lock(self, lock: Callable[[], None]) -> None:
        try:
            lock()
        except BaseException as bug:  # noqa: BLE001 - told with its traceback at the end
            self._run.refused = True
            if failure := self._broken(bug):
                outcome = self._run.outcome(self._run.scope.inventory.head)
                outcome.asked = True
                outcome.fail(failure, "take the lock")
        finally:
            self._run.decided.set()

    def _broken(self, bug: BaseException) -> Failure | None:
        """Keep a bug, and give the failure that it is to its node; what libraries raise whose line we cut is none."""
        if self._run.is_cut:
            return self._run.halted
        self._run.bugs.append(bug)
        error = f"Raydock itself failed here: {type(bug).__name__}: {plain(str(bug), 200)}"
        return Failure("BUG", error, "Report it, with the traceback; what was done of the step is unknown")

    def _step(self, host: Host, step: Step, doing: Doing) -> None:
        self._run.check()
        begun = time.monotonic()
        with self._run.timed(host.node, Phase.ASK):
            if step.done(host):
                return
        if step.told:
            self._run.watch.step(host.node, step.title)
        # The question may have taken long: the lock may be somebody else's by now.
        self._run.check()
        doing.begun = True
        with self._run.timed(host.node, step.at):
            changed = step.apply(host) is not False and step.changes
        took = time.monotonic() - begun
        if changed:
            self._run.outcome(host.node).done.append(step.title)
        if step.told and (changed or took > NOTED):
            self._run.watch.did(host.node, step.title, took)

    def _fail(self, doing: Doing, failure: Failure | None) -> None:
        """Put into the report what came in the way of a step; who asks for it himself is told where he did."""
        halted = self._run.halted
        if failure is None or (halted and self._run.is_cut):
            failure = halted or Failure("INTERRUPTED", "interrupted")
        if failure.code == "INTERRUPTED":
            failure = interrupted(doing)
        if failure.code == "SSH_LOST" and failure is not halted:
            failure = lost(failure, doing.step)
        node = doing.chain.node
        if doing.begun and self._run.is_cut:
            self._run.outcome(node).forget()
        # One that was interrupted says itself where.
        title = "" if failure.code == "INTERRUPTED" else doing.step.title
        self._run.outcome(node).fail(failure, title)
        if failure is halted or failure.code == "INTERRUPTED":
            for other in {other for step in doing.rest for other in step.watched} - {node}:
                self._run.outcome(other).fail(failure, title)


def interrupted(doing: Doing) -> Failure:
    """Say what stands where a chain was cut short."""
    where = "during" if doing.begun else "before"
    left = f"; {doing.step.cut_short}" if doing.begun and doing.step.cut_short else ""
    return Failure("INTERRUPTED", f"interrupted {where} `{doing.step.title}`{left}", "Run the task again: it goes on")


def lost(failure: Failure, step: Step) -> Failure:
    """Say of a link that is lost in which step it was: what came of that is left open."""
    error = f"lost contact during `{step.title}`; its state is unknown ({failure.error})"
    return Failure(failure.code, error, failure.cure)
