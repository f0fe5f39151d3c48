"""One run of a plan: its hosts, the values they share, and what came of each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deploy import audit
from deploy.aws import Waiting
from deploy.commands import end_children
from deploy.errors import Failure, Kind
from deploy.git import Git
from deploy.hosts import Host, LocalHost
from deploy.known_files import load_known_hosts
from deploy.known_hosts import KnownHosts
from deploy.lates.operator import user
from deploy.lock import Lock, Owner, note_in_audit
from deploy.progress import Amount, Watch
from deploy.registry import Registry, registry_of
from deploy.report import Outcome
from deploy.ssh import configuration
from deploy.ssh_hosts import SshHost
from deploy.timings import Phase, timed
from deploy.windows import windows

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.plan import Late
    from deploy.plans import Scope

GATE_DEADLINE = 1800  # seconds that a worker waits for the head to come to what both need
# What is told where nobody answered in time, a pull among it.
SILENT = frozenset({"DOCKER_TIMEOUT", "SSH_STALLED", "SSH_TIMEOUT", "PULL_FAILED", "REGISTRY_UNREACHABLE"})
LOOK = 0.2  # seconds between two looks at whether the run is halted
NOBODY = Watch()


def without_head(failure: Failure, task: str) -> Failure:
    """Give the failure of a run that may not act, since the head on which the lock is taken cannot be reached."""
    if failure.problem.kind is not Kind.UNREACHABLE:
        return failure
    stop = task.startswith("cluster.stop")
    return Failure(
        "HEAD_UNREACHABLE",
        f"{failure.problem.error} ({failure.code}); the cluster's lock is taken there: nothing was done",
        "Is it up? To stop the workers without it: invoke cluster.stop --force" if stop else "Is it up?",
    )


def operator() -> str:
    """Name who acts: `user@machine`."""
    return f"{user()}@{os.uname().nodename}"


def load_engine() -> None:
    """Load what speaks to engines."""
    # Whoever needs it meets again what comes in the way, and tells it.
    with suppress(Exception):
        import deploy.channel
        import deploy.engine  # noqa: F401


def note(head: Host, cluster: str, task: str, line: str = "") -> None:
    """Have a line in the audit: this one, or that the task acts now; that it cannot be written is told, and no more."""
    try:
        told = line or audit.line(operator(), task, time.time(), [], "", interrupted=False)
        wrong = note_in_audit(head, cluster, told)
    except Failure as failure:
        wrong = failure.problem.error
    if wrong:
        head.say(f"the audit on the head has no line of this: {wrong}")


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

    def __init__(self, scope: Scope, watch: Watch = NOBODY, task: str = "") -> None:
        """Nothing is contacted before it is asked for; a run without a `task` has no line in the audit."""
        self.scope, self.settings, self.task = scope, scope.settings, task
        # Whether the plan has a step that changes something: such a task has a line in the audit.
        self.acts = False
        self.outcomes = {node: Outcome(node) for node in scope.inventory.nodes}
        self.begun = time.monotonic()
        # What no failure tells; each has ended the chain of its node, and none of the others.
        self.bugs: list[BaseException] = []
        # Set while the head has nothing to do before values can be asked of it.
        self.head_ready = threading.Event()
        self.head_ready.set()
        self.watch = watch
        # Why no further step may begin, once somebody said so.
        self.halted: Failure | None = None
        # Whether it is known if we may act at all, and why we may not.
        self.decided = threading.Event()
        self.refused = False
        self._lock_of_cluster: Lock | None = None
        self._halting = threading.Event()
        # Set once connections are closed under the steps that use them; then nothing is opened again.
        self.is_cut = False
        # Why nothing is wanted of the workers any more, once the head has failed; then they are not connected to again.
        self.dismissed: Failure | None = None
        # Set once nobody waits any more for steps that are still at work.
        self.left = threading.Event()
        self._hosts: dict[Node, Host] = {}
        self._addresses: dict[str, Node] = {}
        self._shared: dict[str, Shared] = {}
        self._lock = threading.Lock()

    @cached_property
    def known_hosts(self) -> KnownHosts:
        """What known_hosts says, read once."""
        return load_known_hosts(self.settings)

    def read_ssh(self) -> None:
        """Read what says how nodes are reached, and which keys are theirs; what is wrong there is no node's fault.

        Raises:
            RaydockError: `CONFIG`, with the file.
        """
        configuration()
        self.known_hosts  # noqa: B018 - read here, and not first where a node is connected to

    def reach_out(self, nodes: Iterable[Node]) -> None:
        """Begin to connect to nodes, to as many as are worked on at once; who asks one soon is told what came of it.

        Raises:
            RaydockError: what says how nodes are reached cannot be read; nothing was contacted.
        """
        far = [node for node in nodes if not node.local]
        if far:
            self.read_ssh()
            # It takes a core meanwhile, where a login mostly waits for the node.
            threading.Thread(target=load_engine, daemon=True).start()
        for node in far[: windows(self.settings.concurrency).chains]:
            self.host(node).prepare()

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        head = self.scope.inventory.head
        return registry_of(self.settings, Waiting(lambda news: self.watch.hear(head, news), self.pause))

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

    def timed(self, node: Node, phase: Phase) -> AbstractContextManager[None]:
        """Have the block be what a node is at."""
        return timed(self.outcomes[node].spans, phase, lambda: time.monotonic() - self.begun)

    def outcome(self, node: Node) -> Outcome:
        """Give a node's line of the report."""
        return self.outcomes[node]

    def shared(self, late: Late[Any], asking: Host) -> Any:
        """Give a value that all nodes share; who is not the head waits until the head can tell it."""
        head = self.scope.inventory.head
        if asking.node != head and not self.head_ready.is_set():
            asking.say(Amount("waits for the head"))
            with self.timed(asking.node, Phase.WAIT):
                self._await_head()
        with self._lock:
            cell = self._shared.setdefault(late.name, Shared())
        try:
            # Who is not the head has it from there, or from whom asked first.
            with self.timed(asking.node, Phase.ASK if asking.node == head else Phase.WAIT):
                return cell.get(lambda: late.resolve(self.host(head)))
        except Failure as failure:
            broken = self.outcomes[head].problem
            if asking.node == head or broken is None:
                raise
            raise Failure("HEAD_FAILED", f"the head failed ({broken.code}), and has what this node needs") from failure

    def anew(self, late: Late[Any], former: Any, asking: Host) -> Any:
        """Give a value that all nodes share, found out again unless another node did since it was `former`."""
        with self._lock:
            if (cell := self._shared.get(late.name)) and cell.known() is former:
                del self._shared[late.name]
        return self.shared(late, asking)

    def _await_head(self) -> None:
        end = time.monotonic() + GATE_DEADLINE
        while not self.head_ready.wait(LOOK):
            self.check()
            if time.monotonic() > end:
                raise Failure("HEAD_FAILED", "the head did not come to tell what this node needs")

    def lock(self, task: str, patience: float, *, forced: bool) -> None:
        """Have the cluster's lock, or be refused: then no node is touched, and the head's line says why.

        Args:
            task: what for, as others are told.
            patience: seconds to wait for somebody else.
            forced: whether to go on without, where the head cannot be reached.
        """
        head = self.host(self.scope.inventory.head)
        owner = Owner(operator(), task, time.time())
        try:
            head.open()
            head.prepare()
            lock = Lock(head.talk, self.settings.cluster_name, owner)
            lock.take(patience, lambda news: head.say(Amount(news)))
            self._lock_of_cluster = lock
        except Failure as failure:
            self.refused = self.is_cut or not (forced and failure.problem.kind is Kind.UNREACHABLE)
            if self.is_cut:
                return  # we have made it ourselves
            if self.refused:
                outcome = self.outcome(head.node)
                outcome.asked = True
                outcome.fail(without_head(failure, task), "take the lock")
            else:
                head.say("the head cannot be reached: nothing keeps others from acting at the same time")

    def check(self) -> None:
        """See that the next step may begin; raise why not."""
        self._see_lock()
        if self.halted:
            raise self.halted

    def _see_lock(self) -> Failure | None:
        """Give why the lock is lost, if it is; then no further step begins."""
        lost = self._lock_of_cluster.lost() if self._lock_of_cluster else None
        if lost:
            self.halt(lost)
        return lost

    def judged(self, failure: Failure) -> Failure:
        """Give what a failure came of: who was paused until the lock was gone takes that for a node's silence."""
        return (self._see_lock() if failure.code in SILENT else None) or failure

    def halt(self, why: Failure) -> None:
        """Have no further step begin on any node: a chain with steps left fails with `why`. The first reason stays."""
        self.halted = self.halted or why
        self._halting.set()

    def pause(self, seconds: float) -> None:
        """Let time pass; a run that is halted waits no longer."""
        self._halting.wait(seconds)
        self.check()

    def cut(self) -> None:
        """Close what the steps of a halted run are using: what waits for a node ends, and what streams is given up."""
        self.is_cut = True
        # Each by itself: to close a connection may take as long as to lose it, and sudo as long to kill a child.
        for end in (end_children, *(host.cut for host in self._hosts.values())):
            threading.Thread(target=end, daemon=True).start()

    def dismiss_workers(self, why: Failure) -> None:
        """End what is done on every node but the head, for good: what streams there is given up."""
        self.dismissed = why
        for node, host in list(self._hosts.items()):
            if node != self.scope.inventory.head:
                threading.Thread(target=host.cut, daemon=True).start()

    def await_decision(self) -> None:
        """Wait until it is known whether we may act."""
        while not (self.decided.wait(LOOK) or self.halted):
            pass
        if self.halted:
            raise self.halted

    def leave(self) -> None:
        """Have nobody wait any more for the steps that are still at work."""
        self.left.set()

    def first_at(self, address: str, node: Node) -> Node:
        """Give the node that was first found at an address for Ray; the head is there before all others."""
        head = self.scope.inventory.head
        with self._lock:
            return self._addresses.setdefault(address, head if address == self.found("head_address") else node)

    def found(self, name: str) -> Any:
        """Give a shared value if it was found out; None if not."""
        cell = self._shared.get(name)
        return cell.known() if cell else None

    def _last_word(self) -> str:
        """Write the line for the audit; nothing where nothing acted. Who holds the lock waits for one."""
        outcomes = list(self.outcomes.values())
        if not (self.task and (self._lock_of_cluster or (self.acts and audit.acted(outcomes)))):
            return ""
        made = self.outcomes[self.scope.inventory.head].made
        image = str(made.get("image") or self.found("image") or "").rpartition("@")[2]
        since = time.time() - (time.monotonic() - self.begun)
        interrupted = self.halted is not None and self.halted.code == "INTERRUPTED"
        return audit.line(operator(), self.task, since, outcomes, image, interrupted=interrupted)

    def _note(self, line: str) -> None:
        """Have the line in the audit where nobody holds the lock; that it cannot be written is told, and no more."""
        head = self._hosts.get(self.scope.inventory.head)
        if head is None or not head.is_open or not line or self.is_cut:
            return
        note(head, self.settings.cluster_name, self.task, line)

    def close(self) -> None:
        """Let go of the lock, and close every connection; those of a run that was cut are closed, or closing."""
        line = self._last_word()
        if self._lock_of_cluster:
            self._lock_of_cluster.release(line)
        else:
            self._note(line)
        for host in () if self.is_cut else list(self._hosts.values()):
            host.close()
