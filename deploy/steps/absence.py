"""Why a node that was started is not in the cluster: one cause, of what can be seen from the node and from the head."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deploy.errors import Failure
from deploy.ray import RAY, TOKEN_PATH
from deploy.steps.cluster import port_open, ports_shut
from deploy.steps.containers import LOG_TAIL, exited, note_container

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.site import Found, RayNode, Site

START = "Start it again: invoke cluster.stop cluster.start --only {node}"
ENDED = ("RAY_EXITED", "NOT_RUNNING", "NODE_RESTARTED")
SEE = "See what it says: docker logs {} there"


class Ports(NamedTuple):
    """The port at which a node of each role shows that its Ray is there."""

    head: int
    worker: int


class Names(NamedTuple):
    """What the cluster's containers are called, and the ports of the nodes."""

    head: str
    worker: str
    ports: Ports

    def container(self, node: Node) -> str:
        """Give the name of the cluster's container on a node."""
        return self.head if node.role == "head" else self.worker

    def port(self, node: Node) -> int:
        """Give the port at which a node's Ray shows itself."""
        return self.ports.head if node.role == "head" else self.ports.worker


@dataclass(frozen=True)
class HeadsView:
    """What the head shows, looked at once for all nodes that are absent."""

    labels: Mapping[str, str]
    token: bytes | None
    rows: Sequence[RayNode]
    # The addresses at whose port nothing answers the head.
    unreached: frozenset[str]


def heads_view(head: Site, name: str, places: Sequence[tuple[str, int]] = ()) -> HeadsView:
    """Look at the head's container, at Ray's list, and at the ports of nodes from there."""
    found = head.docker.find(name)
    return HeadsView(
        found.labels if found else {},
        head.docker.get_file(name, TOKEN_PATH),
        head.ray.nodes(),
        frozenset(ports_shut(head, places)) if places else frozenset(),
    )


@dataclass(frozen=True)
class Absence:
    """A node whose container runs, and that Ray does not have alive."""

    head: HeadsView
    peer: Site
    # Its address for Ray, and the port at which its Ray shows itself.
    address: str
    port: int
    container: Found

    def label(self, key: str) -> tuple[str, str]:
        """Give a label of its container, and of the head's."""
        return self.container.labels.get(key, ""), self.head.labels.get(key, "")

    @property
    def rows(self) -> list[RayNode]:
        """The lives of it that Ray knows."""
        return [row for row in self.head.rows if row.address == self.address]


# For how many hundredths of a second a node's first process runs, whatever its clock says; a container's counts as a
# machine's. Linux says the first in as many digits, and the other in ticks of CLK_TCK a second.
AGE = """line=$(cat /proc/1/stat) && set -- ${line##*) } && read -r up _ </proc/uptime && \
echo $((${up%.*}${up#*.} - ${20} * 100 / $(getconf CLK_TCK)))"""
DRIFT = 0.1  # seconds that the two clocks may differ by


def restarted(peer: Site) -> bool:
    """Tell whether a node restarted since its container was started in this run; where nobody knows, it did not."""
    if not peer.started:
        return False
    # Taken before the question: a node that did not restart is older than this.
    started_for = peer.started_for
    try:
        age = peer.run("sh", "-c", AGE).strip()
    except Failure:
        return False
    return known_age(age) and int(age) / 100 + DRIFT < started_for


def known_age(text: str) -> bool:
    """Tell whether a node said how old it is."""
    return re.fullmatch("[0-9]{1,12}", text) is not None


def check_running(peer: Site, name: str) -> Found:
    """Give a node's running container; `NODE_RESTARTED`, `NOT_RUNNING` or `RAY_EXITED` where it does not run."""
    found = peer.docker.find(name)
    if not (found and found.running) and restarted(peer):
        note_container(peer, found)
        error = f"the node restarted since its container {name} was started"
        raise Failure("NODE_RESTARTED", error, "See why it did; start it again: invoke cluster.start")
    if found is None:
        note_container(peer, None)
        raise Failure("NOT_RUNNING", f"its container {name} is gone", "Start it again: invoke cluster.start")
    if not found.running:
        raise exited(peer, found)
    return found


def another_version(absence: Absence) -> Failure | None:
    """Ray of one version does not join Ray of another; the last part counts, too."""
    mine, heads = absence.label(RAY)
    if mine == heads or not (mine and heads):
        return None
    error = f"it runs Ray {mine}, and the head {heads}"
    return Failure("VERSION_MISMATCH", error, "Run one image everywhere: invoke cluster.start --replace")


def another_token(absence: Absence) -> Failure | None:
    """A worker with another token asks for ever, and never joins. No token is shown."""
    if absence.peer.docker.get_file(absence.container.name, TOKEN_PATH) == absence.head.token:
        return None
    error = f"the token in {absence.container.name} is another than the head's, which lets nobody in with it"
    return Failure("TOKEN_MISMATCH", error, START.format(node=absence.peer.node.name))


def another_address(absence: Absence) -> Failure | None:
    """Ray has it under an address that it was not started with: an argument of the operator's says so."""
    own = set(absence.peer.run("hostname", "-I").split())
    taken = sorted({row.address for row in absence.head.rows if row.alive} & own)
    if not taken or absence.address in taken:
        return None
    error = f"Ray has it as {taken[0]}, and it was started for {absence.address}"
    return Failure("ADDRESS_MISMATCH", error, "See RAY_START_ARGS; say the address with private= in workers.txt")


def known_port(text: str) -> bool:
    """Tell whether a label has a port where one was written."""
    return re.fullmatch("[0-9]{1,5}", text) is not None


def no_way_to_the_head(absence: Absence) -> Failure | None:
    """The worker does not get through to the head's port."""
    host, _, port = absence.label("raydock.head")[0].rpartition(":")
    if not host or not known_port(port) or port_open(absence.peer, host, int(port)):
        return None
    error = f"the head's {host}:{port} cannot be reached from this node"
    return Failure("GCS_UNREACHABLE", error, "Open the port between them, or set HEAD_ADDRESS")


def no_way_from_the_head(absence: Absence) -> Failure | None:
    """The head does not get through to the worker."""
    if absence.address not in absence.head.unreached:
        return None
    error = f"the head cannot reach {absence.address}:{absence.port}, where its Ray listens"
    return Failure("RAY_NOT_JOINED", error, "Open Ray's ports from the head to it, see docs/ports.md")


def in_rays_words(absence: Absence) -> Failure:
    """What Ray says of it, or else the last that it wrote itself."""
    rows = absence.rows
    lines = absence.peer.docker.logs(absence.container.name, LOG_TAIL)
    absence.peer.note(log_tail=list(lines))
    said = next((row.why for row in reversed(rows) if row.why), "") or (lines[-1] if lines else "it wrote nothing")
    error = f"its container runs, and Ray {'has it dead' if rows else 'does not know it'}: {said}"
    again = absence.peer.node.role == "worker"
    return Failure(
        "RAY_NOT_JOINED",
        error,
        START.format(node=absence.peer.node.name) if again else SEE.format(absence.container.name),
    )


# Gives a node's failure, or none.
Judge = Callable[[Absence], Failure | None]
Absent = Sequence[tuple["Site", str]]

# What time does not mend, and what it may; each in the order in which one explains the next.
LASTING: tuple[Judge, ...] = (another_version, another_token)
PASSING: tuple[Judge, ...] = (another_address, no_way_to_the_head, no_way_from_the_head)


def lasting_cause(absence: Absence) -> Failure | None:
    """Give why it can never join; None where it may only be slow. Of the head's own node nothing but its end is known."""
    if absence.peer.node.role == "head":
        return None
    return next(filter(None, (look(absence) for look in LASTING)), None)


def cause(absence: Absence) -> Failure:
    """Give the one cause for its not being there."""
    absence.peer.note(ray="dead" if absence.rows else "absent", address=absence.address)
    passing = PASSING if absence.peer.node.role == "worker" else ()
    return (
        lasting_cause(absence)
        or next(filter(None, (look(absence) for look in passing)), None)
        or in_rays_words(absence)
    )


def without_answer(absence: Absence) -> Failure:
    """Give why a node that Ray has alive ran no task."""
    shut = no_way_to_the_head(absence) or no_way_from_the_head(absence) if absence.peer.node.role == "worker" else None
    return Failure(
        "NODE_NOT_SCHEDULABLE",
        f"Ray has it alive, and a task did not come back from it within 20 s{f': {shut.error}' if shut else ''}",
        "Open Ray's worker ports between it and the head (10002-19999 and those of its agents)",
    )


def shut(port: int) -> Failure:
    """Give the failure of a node of an old Ray, of which nothing but its port can be seen."""
    error = f"its container runs, and its port {port} is not open"
    return Failure("RAY_NOT_JOINED", error, "See its output: docker logs there")


def judged(site: Site, names: Names, absent: Absent, judge: Judge | None, *, from_head: bool = False) -> set[str]:
    """See whether nodes run, and have a judge, if there is one, say of each that does why it is not there.

    Args:
        site: the head.
        names: of the containers, and the ports.
        absent: the nodes, each with its address for Ray.
        judge: gives a node's failure, or none; a container that does not run is one by itself.
        from_head: whether the judge wants to know which of them the head reaches, which may take seconds.

    Returns:
        The roles of those whose containers have ended.
    """
    places = [(address, names.port(peer.node)) for peer, address in absent if from_head and peer.node.role == "worker"]
    head = heads_view(site, names.head, places) if judge else None
    ended: set[str] = set()

    def see(one: tuple[Site, str]) -> None:
        peer, address = one
        try:
            container = check_running(peer, names.container(peer.node))
            if judge and head and (why := judge(Absence(head, peer, address, names.port(peer.node), container))):
                raise why
        except Failure as failure:
            peer.fail(failure)
            if failure.code in ENDED:
                ended.add(peer.node.role)

    site.at_once(see, absent)
    return ended
