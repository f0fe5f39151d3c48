"""The cluster: started, looked at, stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy import lates
from deploy.plan import Chain, Late, Plan, Stage, Step, phrase
from deploy.plans.nodes import have_image, wanted_image
from deploy.plans.scope import Scope, on_all, on_head
from deploy.ports import listening
from deploy.ray import NodeValues, ray_container
from deploy.steps.absence import Ports
from deploy.steps.clearing import ClearName, Compare
from deploy.steps.cluster import AwaitGcs, FindAddress, FreePorts, HeadRuns, ReachGcs
from deploy.steps.containers import Create, LayToken, ShowContainer, StartContainer, StopContainers
from deploy.steps.history import ShowHistory
from deploy.steps.images import FindRay, FitsHead
from deploy.steps.joining import Join, Probe, Settle, ShowRay
from deploy.steps.setup import MakeStateFolder

if TYPE_CHECKING:
    from deploy.inventory import Node


def ray_version(scope: Scope) -> Late[str]:
    """Give the version of Ray in it."""
    return lates.ray_version(scope.settings, wanted_image(scope), anew=scope.anew)


def ports(scope: Scope) -> Ports:
    """Give the ports at which nodes show that they are alive where Ray itself does not tell."""
    return Ports(head=scope.settings.redis_port, worker=scope.settings.object_manager_port)


def history(scope: Scope, lines: int) -> Plan:
    """Show what was done to the cluster."""
    return on_head(scope, ShowHistory(MakeStateFolder(scope.settings.cluster_name).path, lines))


def heads_values(scope: Scope) -> NodeValues:
    """Give the late values of the head's container; but for the address they are those of every node."""
    settings = scope.settings
    head = lates.head_address(settings, alone=scope.alone)
    return NodeValues(
        image=wanted_image(scope),
        version=ray_version(scope),
        address=head,
        head=phrase(head, f":{settings.redis_port}"),
        run=lates.run_id(settings, lates.token(settings)),
        sizes={"shm_size": lates.shm_size(settings), "num_workers": lates.NUM_WORKERS, "gpus": lates.GPUS},
    )


def values_of(node: Node, heads: NodeValues) -> NodeValues:
    """Give the late values of a node's container; what it has in common with others is made once."""
    return heads if node.role == "head" else replace(heads, address=lates.node_address(node, heads.address))


def run_container(scope: Scope, node: Node, values: NodeValues) -> tuple[Step, ...]:
    """Give the steps of the document's `docker run`."""
    container = ray_container(scope.settings, node, values)
    # With the head all that Ray knew is gone.
    former = lates.former(scope.container("head")) if node.role == "worker" else None
    # Without authentication too: by its fingerprint the workers of a former head are known.
    lay = LayToken(container.name, lates.token(scope.settings))
    free = FreePorts(container.name, listening(scope.settings, node.role))
    return (ClearName(container), free, Create(container), lay, StartContainer(container.name, former))


def start_head(scope: Scope) -> Plan:
    """Start Ray on the head; where the head is not selected, only see that it runs."""
    head, name = scope.inventory.head, scope.container("head")
    if not scope.head:
        return on_head(scope, HeadRuns(name))
    values = heads_values(scope)
    steps = (
        *have_image(scope),
        FindRay(values.version, scope.settings.allow_unauthenticated),
        *run_container(scope, head, values),
    )
    return on_head(scope, *steps, AwaitGcs(name, values.address, scope.settings.redis_port)).alone()


def fits_head(scope: Scope) -> tuple[Step, ...]:
    """Give the step by which a worker's image is one for a head that runs already."""
    image, head = wanted_image(scope), scope.container("head")
    heads = lates.heads_versions(head, image)
    return (FitsHead(image, lates.versions(image, heads), heads),)


def start_on_workers(scope: Scope, fits: tuple[Step, ...] = ()) -> Plan:
    """Start Ray on the workers, and watch until every node is there and ran a task."""
    heads = heads_values(scope)
    reach = ReachGcs(heads.address, scope.settings.redis_port)

    def steps(node: Node) -> tuple[Step, ...]:
        values = values_of(node, heads)
        find = (FindAddress(values.address),)
        # One that is written down may be the head's, which is not known before the head is through.
        found = (*fits, reach, *find) if node.private else (*find, *fits, reach)
        return (*have_image(scope), *found, *run_container(scope, node, values))

    chains = tuple(Chain(node, steps(node)) for node in scope.workers)
    looked = Stage((Chain(scope.inventory.head, watch(scope)),), after_head=True)
    # Ray's API wants the token, and an engine takes its time to give it.
    meanwhile = () if scope.settings.allow_unauthenticated else (lates.token(scope.settings),)
    return Plan((Stage(chains, after_head=True, meanwhile=meanwhile), looked), locked=True)


def addresses(scope: Scope, nodes: tuple[Node, ...]) -> tuple[tuple[Node, Late[str]], ...]:
    """Give each node with its address for Ray."""
    heads = heads_values(scope)
    return tuple((node, values_of(node, heads).address) for node in nodes)


def watch(scope: Scope) -> tuple[Step, ...]:
    """Give the steps that wait for the started nodes to be alive, and run a task on each."""
    nodes = addresses(scope, (scope.inventory.head, *scope.workers))
    head, worker = scope.container("head"), scope.container("worker")
    # Nobody is left whom Ray could tell that a node goes.
    undo = StopContainers(scope.settings.cluster_name, "worker", grace=0)
    return (
        Join(head, worker, nodes, ports(scope), undo, lates.former(head)),
        Probe(head, worker, nodes, ports(scope)),
        Settle(head, worker, nodes, ports(scope)),
    )


def start_workers(scope: Scope) -> Plan:
    """See that the head runs, and start Ray on the workers."""
    return on_head(scope, HeadRuns(scope.container("head"))).then(start_on_workers(scope, fits_head(scope)))


def start(scope: Scope) -> Plan:
    """Start Ray on the head, then on the workers."""
    return start_head(scope).then(start_on_workers(scope, () if scope.head else fits_head(scope)))


def compare(scope: Scope) -> Plan:
    """See on each node which containers of ours run otherwise than wanted."""
    heads = heads_values(scope)

    def steps(node: Node) -> tuple[Step, ...]:
        return (Compare(ray_container(scope.settings, node, values_of(node, heads))),)

    return on_all(scope, steps)


def status(scope: Scope) -> Plan:
    """Look at each node's container, and then at Ray's node list."""
    found = addresses(scope, scope.head + scope.workers)
    nodes = tuple((node, lates.started_with(scope.container(node.role), address)) for node, address in found)
    address = dict(nodes)
    look = on_all(scope, lambda node: (ShowContainer(scope.container(node.role)), FindAddress(address[node])))
    everybody = len(nodes) == len(scope.inventory.nodes)
    show = ShowRay(scope.container("head"), nodes, ports(scope), scope.container("worker"), everybody)
    ask = Stage((Chain(scope.inventory.head, (show,)),), after_head=True)
    return Plan((*look.stages, ask))


def stop_workers(scope: Scope) -> Plan:
    """Stop the containers of this cluster on the workers."""
    steps = (StopContainers(scope.settings.cluster_name, "worker"),)
    return Plan((Stage(tuple(Chain(node, steps) for node in scope.workers)),), locked=True)


def stop_head(scope: Scope) -> Plan:
    """Stop the container of this cluster on the head."""
    steps = (StopContainers(scope.settings.cluster_name, "head"),)
    return Plan((Stage(tuple(Chain(node, steps) for node in scope.head)),), locked=True)


def stop(scope: Scope) -> Plan:
    """Stop the workers, then the head."""
    return stop_workers(scope).then(stop_head(scope))
