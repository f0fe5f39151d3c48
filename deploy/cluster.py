"""Set up, start, look at and stop the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.tasks import task

from deploy import plans
from deploy.desk import Flags, perform

if TYPE_CHECKING:
    from deploy.plans import Planner

HELP = {
    "only": "NAME[,NAME]: change only these nodes, named as in workers.txt; the head is `head`",
    "json": "print one JSON document on stdout, whatever happens",
}
IMAGE = {**HELP, "image": "run this image (a tag or @sha256:) instead of the published one"}


def _perform(c: Context, name: str, planner: Planner, **flags: Any) -> None:
    perform(c, f"cluster.{name}", planner, Flags(**flags))


@task(help=HELP)
def install(c: Context, only: str | None = None, json: bool = False) -> None:
    """Install Docker on the head and on every worker, and start it."""
    _perform(c, "install", plans.install, only=only, json=json)


@task(help=IMAGE)
def pull(c: Context, only: str | None = None, json: bool = False, image: str = "") -> None:
    """Pull the published image onto every node, by its digest."""
    _perform(c, "pull", plans.pull, only=only, json=json, image=image)


@task(help=IMAGE)
def setup(c: Context, only: str | None = None, json: bool = False, image: str = "") -> None:
    """Install Docker and pull the image, on all nodes at once."""
    _perform(c, "setup", plans.setup, only=only, json=json, image=image)


@task(help=IMAGE)
def start(c: Context, only: str | None = None, json: bool = False, image: str = "") -> None:
    """Start Ray on the head and the workers, until every node ran a task."""
    _perform(c, "start", plans.start, only=only, json=json, image=image)


@task(help=IMAGE)
def start_head(c: Context, only: str | None = None, json: bool = False, image: str = "") -> None:
    """Start Ray on the head."""
    _perform(c, "start-head", plans.start_head, only=only, json=json, image=image)


@task(help=IMAGE)
def start_workers(c: Context, only: str | None = None, json: bool = False, image: str = "") -> None:
    """Start Ray on the workers of a running head."""
    _perform(c, "start-workers", plans.start_workers, only=only, json=json, image=image)


@task(help=HELP)
def status(c: Context, only: str | None = None, json: bool = False) -> None:
    """Show each node's container, and whether Ray has the node alive."""
    _perform(c, "status", plans.status, only=only, json=json)


@task(help=HELP)
def stop_workers(c: Context, only: str | None = None, json: bool = False) -> None:
    """Stop this cluster's containers on the workers."""
    _perform(c, "stop-workers", plans.stop_workers, only=only, json=json)


@task(help=HELP)
def stop_head(c: Context, only: str | None = None, json: bool = False) -> None:
    """Stop this cluster's container on the head."""
    _perform(c, "stop-head", plans.stop_head, only=only, json=json)


@task(help=HELP)
def stop(c: Context, only: str | None = None, json: bool = False) -> None:
    """Stop this cluster's containers: the workers', then the head's."""
    _perform(c, "stop", plans.stop, only=only, json=json)


@task(
    help={
        "only": HELP["only"],
        "yes": "record the keys without asking",
        "json": HELP["json"],
    }
)
def trust(c: Context, only: str | None = None, yes: bool = False, json: bool = False) -> None:
    """Show the host keys that known_hosts does not vouch for, and record them."""
    from deploy.trust import trust_hosts

    trust_hosts(c, Flags(only=only, json=json), yes=yes)
