"""The nodes as Ray has them: who joined, and a task on each."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Late, Step, Word, run_only
from deploy.probes import ALIVE, ATTENDED, PROBE, PROBED_PATH, all_probed_path
from deploy.ray import RAY, is_mute, mute_shell
from deploy.reading import Odd, parsed, typed
from deploy.steps.absence import (
    Absent,
    Judge,
    Names,
    Ports,
    cause,
    check_running,
    judged,
    lasting_cause,
    shut,
    without_answer,
)
from deploy.steps.cluster import port_open, ports_shut
from deploy.steps.containers import StopContainers

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.site import Site
from deploy.timings import Phase

JOIN_DEADLINE = 90  # seconds from the workers' start to their being alive
PROBE_DEADLINE = 60  # seconds for a task on every node; those that do not answer have 20 of them
POLL = 0.25  # seconds between two looks at Ray's node list
SETTLE = 3  # seconds for which a node that joined has to stay
LOOK = 2.0  # seconds between two looks at the containers of nodes that are not alive yet
SLOW = 8.0  # seconds after which it is asked whether a node can join at all


IsAlive = Callable[["Site", str], bool]


def missing(site: Site, nodes: tuple[tuple[Node, Word], ...], is_alive: IsAlive) -> list[tuple[Site, str]]:
    """Give the nodes, among those that nothing failed on, that are not alive, and note those that are."""
    absent = []
    for node, address in nodes:
        peer = site.peer(node)
        if not peer.standing:
            continue
        try:
            where = peer.value(address)
            alive = is_alive(peer, where)
        except Failure as failure:
            peer.fail(failure)
            continue
        if alive:
            peer.note(ray="alive", address=where)
        else:
            absent.append((peer, where))
    return absent


def by_rays_list(site: Site, former: frozenset[str] = frozenset()) -> IsAlive:
    """Give what Ray itself says of a node.

    Ray takes a node that was killed for alive for some time: of one that was started since, its `former` lives do
    not count.
    """
    alive: defaultdict[str, set[str]] = defaultdict(set)
    for row in site.ray.nodes():
        if row.alive:
            alive[row.address].add(row.node_id)

    def is_alive(peer: Site, address: str) -> bool:
        past = former if peer.started and peer.node.role == "worker" else frozenset()
        return not alive[address] <= past

    return is_alive


def by_port(ports: Ports) -> IsAlive:
    """Give what a node's port says of it; that its container runs was seen, or will be."""
    return lambda peer, address: port_open(peer, address, getattr(ports, peer.node.role))


def mute(site: Site, head: str) -> str:
    """Give the version of the head's Ray where that is one without a list of its nodes; else nothing."""
    found = site.docker.seen(head)
    return found.labels[RAY] if found and is_mute(found.labels) else ""


def tell_mute(site: Site, version: str) -> None:
    """Say what is known of the nodes of an old Ray."""
    site.say(f"Ray {version} tells nothing of its nodes: alive is whose container runs, with its port open")


@dataclass(frozen=True)
class Join(Step):
    """Have every started node alive in the head's node list."""

    phase: ClassVar[Phase | None] = Phase.JOIN
    changes: ClassVar[bool] = False

    head: str
    worker: str
    nodes: tuple[tuple[Node, Word], ...] = run_only()
    ports: Ports = run_only()
    # What takes a worker back that was started for a head that ended.
    undo: StopContainers = run_only()
    former: Late[frozenset[str]] | None = run_only(default=None)

    @property
    def names(self) -> Names:
        """The containers' names, and the nodes' ports."""
        return Names(self.head, self.worker, self.ports)

    @property
    def title(self) -> str:
        return f"wait for {len(self.nodes)} nodes to join"

    @property
    def shell(self) -> str:
        ask = f'[ "$(docker exec {self.head} python -c {shlex.quote(ALIVE)} 2>/dev/null)" -ge {len(self.nodes)} ] 2>/dev/null'
        wait = f"for _ in {{1..{JOIN_DEADLINE // 3}}}; do {ask} && break; sleep 1; done; {ask}"
        return f"{mute_shell(self.head)} || {{ {wait}; }}"

    @property
    def watched(self) -> tuple[Node, ...]:
        return tuple(node for node, _ in self.nodes)

    def done(self, site: Site) -> bool:
        version = mute(site, self.head)
        if version:
            tell_mute(site, version)
        return not self.missing(site, version)

    def missing(self, site: Site, version: str) -> list[tuple[Site, str]]:
        """Give the nodes that are not alive yet, as Ray tells; with the `version` of a mute one, as their ports do."""
        if version:
            return missing(site, self.nodes, self.runs)
        # Whoever was started found it out first. With the head all that Ray knew is gone.
        workers = [node for node, _ in self.nodes if node.role == "worker"]
        again = self.former and any(site.peer(node).started for node in workers)
        return missing(site, self.nodes, by_rays_list(site, site.resolve(self.former) if again else frozenset()))

    def runs(self, peer: Site, address: str) -> bool:
        """Tell whether a node's container runs and its port is open; a container that does not run is a failure."""
        check_running(peer, self.names.container(peer.node))
        return by_port(self.ports)(peer, address)

    def apply(self, site: Site) -> None:
        """Watch the list; a node whose container ends, or that has not joined in time, fails with its cause."""
        begun = time.monotonic()
        look, judged = begun + LOOK, False
        version = mute(site, self.head)
        while absent := self.missing(site, version):
            now = time.monotonic()
            if now > begun + JOIN_DEADLINE:
                self.give_up(site, absent, version)
            elif now > look:
                slow = now > begun + SLOW and not judged and not version
                self.look(site, absent, lasting_cause if slow else None)
                judged = judged or slow
                look = time.monotonic() + LOOK
            site.pause(POLL)

    def give_up(self, site: Site, absent: Absent, version: str) -> None:
        """Give each node that has not come its cause; of an old Ray's nothing but its port can be seen."""
        if not version:
            self.look(site, absent, cause, from_head=True)
            return
        self.look(site, absent, None)
        for peer, _ in absent:
            peer.fail(shut(self.names.port(peer.node)))

    def look(self, site: Site, absent: Absent, judge: Judge | None, *, from_head: bool = False) -> None:
        """See whether the nodes that are absent run, and what a judge says of each that does."""
        if "head" in judged(site, self.names, absent, judge, from_head=from_head):
            self.take_back(site)

    def take_back(self, site: Site) -> None:
        """Remove what this run started on workers, which no head will ever have."""
        peers = [peer for peer in map(site.peer, self.watched) if peer.node.role == "worker" and peer.started]
        site.at_once(self.remove, [peer for peer in peers if peer.standing])

    def remove(self, peer: Site) -> None:
        """Remove a worker's container, and fail with the head's end."""
        try:
            self.undo.apply(peer)
            error = "the head's container ended while the workers were started; the one started here was removed"
            raise Failure("HEAD_LOST", error, "Mend the head, then: invoke cluster.start")
        except Failure as failure:
            peer.fail(failure)


def addresses_in(output: str) -> set[str] | None:
    """Read the probe's own line, a JSON list of addresses; None where there is none.

    Ray says of its own accord, before that line and after it, what became of other nodes.
    """
    for line in reversed(output.splitlines()):
        try:
            return {typed(one, str) for one in typed(parsed(line), list)}
        except Odd:
            continue
    return None


@dataclass(frozen=True)
class Probe(Step):
    """Have every node run a task."""

    phase: ClassVar[Phase | None] = Phase.JOIN
    changes: ClassVar[bool] = False

    head: str
    worker: str = run_only()
    nodes: tuple[tuple[Node, Word], ...] = run_only()
    ports: Ports = run_only()

    @property
    def title(self) -> str:
        return "run a task on every node"

    @property
    def shell(self) -> str:
        ask = f"[ \"$(docker exec {self.head} python -c {shlex.quote(PROBE)} 2>/dev/null)\" = '[]' ]"
        return f"{mute_shell(self.head)} || {ask}"

    @property
    def watched(self) -> tuple[Node, ...]:
        return tuple(node for node, _ in self.nodes)

    def done(self, site: Site) -> bool:
        """Tell whether each node that Ray has alive ran one already; the record stands in the head's container.

        An old Ray is not asked to run one.
        """
        if mute(site, self.head):
            return True
        alive = {node.node_id for node in site.ray.nodes() if node.alive}
        if not alive or site.docker.has_file(self.head, all_probed_path(alive)):
            return bool(alive)
        # Some are gone since, or new.
        recorded = (site.docker.get_file(self.head, PROBED_PATH) or b"").decode("ascii", "replace").split()
        return alive <= set(recorded)

    def apply(self, site: Site) -> None:
        """Run it; `NODE_NOT_SCHEDULABLE` for each node that did not answer within 20 s."""
        code, output = site.docker.exec(self.head, ("python", "-c", PROBE, ATTENDED), PROBE_DEADLINE)
        silent = addresses_in(output) if code == 0 else None
        if silent is None:
            raise Failure("HEAD_FAILED", f"the probe task ended with {code}: {output.strip()[-300:]}")
        asked = [(site.peer(node), address) for node, address in self.nodes if site.peer(node).standing]
        mute_ones = [(peer, where) for peer, address in asked if (where := peer.value(address)) in silent]
        if mute_ones:
            # Ray has a node alive for some time after its end.
            judged(site, Names(self.head, self.worker, self.ports), mute_ones, without_answer, from_head=True)


@dataclass(frozen=True)
class Settle(Step):
    """Have every node that was started still there after a while: some join, and end of what they meet."""

    phase: ClassVar[Phase | None] = Phase.JOIN
    changes: ClassVar[bool] = False

    head: str
    worker: str = run_only()
    nodes: tuple[tuple[Node, Word], ...] = run_only()
    ports: Ports = run_only()

    @property
    def title(self) -> str:
        return "see that they stay"

    @property
    def shell(self) -> str:
        ask = f'[ "$(docker exec {self.head} python -c {shlex.quote(ALIVE)} 2>/dev/null)" -ge {len(self.nodes)} ]'
        return f"{mute_shell(self.head)} || {{ sleep {SETTLE}; {ask}; }}"

    @property
    def watched(self) -> tuple[Node, ...]:
        return tuple(node for node, _ in self.nodes)

    def done(self, site: Site) -> bool:
        """Nothing has to settle where nothing was started."""
        return not any(site.peer(node).started for node, _ in self.nodes)

    def apply(self, site: Site) -> None:
        """Look once more; `NODE_UNSTABLE` for each node that joined, and is gone."""
        site.pause(SETTLE)
        # An old Ray tells of none.
        unlisted = [] if mute(site, self.head) else [peer for peer, _ in missing(site, self.nodes, by_rays_list(site))]
        for peer in unlisted:
            self.look(peer, "Ray does not have it alive any more")
        # Ray counts for some time who was killed: its port does not answer any more.
        standing = [(site.peer(node), address) for node, address in self.nodes if site.peer(node).standing]
        places = [(peer, peer.value(address)) for peer, address in standing]
        silent = ports_shut(site, [(address, getattr(self.ports, peer.node.role)) for peer, address in places])
        for peer, address in places:
            if address in silent:
                self.look(peer)

    def look(self, peer: Site, why: str = "") -> None:
        """Say why a node is gone: its container knows best. One that runs may have its port shut to the head alone."""
        try:
            check_running(peer, self.head if peer.node.role == "head" else self.worker)
        except Failure as failure:
            why = failure.error
        if why:
            peer.note(ray="dead")
            cure = "See what it says: docker logs there"
            peer.fail(Failure("NODE_UNSTABLE", f"it joined, and {SETTLE} s later it was gone: {why}", cure))


@dataclass(frozen=True)
class ShowRay(Step):
    """Look at Ray's node list, and tell which listed nodes are not in it."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    head: str
    nodes: tuple[tuple[Node, Word], ...] = run_only()
    ports: Ports = run_only()
    worker: str = run_only(default="")
    # Whether its nodes are all that are listed.
    everybody: bool = run_only(default=False)

    @property
    def title(self) -> str:
        return "ask Ray for its nodes"

    @property
    def shell(self) -> str:
        return f"{mute_shell(self.head)} || docker exec {self.head} ray status"

    @property
    def watched(self) -> tuple[Node, ...]:
        return tuple(node for node, _ in self.nodes)

    def done(self, site: Site) -> bool:
        if not (version := mute(site, self.head)):
            absent = missing(site, self.nodes, by_rays_list(site))
            if self.everybody and all(site.peer(node).standing for node, _ in self.nodes):
                self.tell_orphans(site)
            return not absent
        tell_mute(site, version)
        for peer, address in missing(site, self.nodes, by_port(self.ports)):
            peer.note(ray="absent", address=address)
            peer.fail(shut(getattr(self.ports, peer.node.role)))
        return True

    def tell_orphans(self, site: Site) -> None:
        """Tell which nodes Ray has alive, and no list names: they were taken off it while they ran."""
        listed = {site.peer(node).value(address) for node, address in self.nodes}
        orphans = sorted({row.address for row in site.ray.nodes() if row.alive} - listed)
        for address in orphans:
            site.say(
                f"ORPHAN {address}: Ray has it alive, and no list names it. "
                f"List it again, or end it there: docker stop --time 45 {self.worker}"
            )
        if orphans:
            site.made(orphans=orphans)

    def apply(self, site: Site) -> None:
        """Give each that is not alive its one cause."""
        absent = missing(site, self.nodes, by_rays_list(site))
        judged(site, Names(self.head, self.worker, self.ports), absent, cause, from_head=True)
