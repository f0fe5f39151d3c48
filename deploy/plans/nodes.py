"""The nodes: with Docker, and with the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy import lates
from deploy.plan import Late, Plan, Step
from deploy.plans.scope import Scope, on_all
from deploy.steps.images import FitsEngine, Login, Pull
from deploy.steps.setup import InstallDocker, JoinDockerGroup, MakeStateFolder, StartDocker

if TYPE_CHECKING:
    from deploy.inventory import Node


def install(scope: Scope) -> Plan:
    """Install Docker, start it, and let the login user speak to it."""

    def steps(node: Node) -> tuple[Step, ...]:
        docker = (InstallDocker(), StartDocker(), JoinDockerGroup())
        return (*docker, MakeStateFolder(scope.settings.cluster_name)) if node.role == "head" else docker

    return on_all(scope, steps).alone()


def wanted_image(scope: Scope) -> Late[str]:
    """Give the image that every node shall run."""
    return lates.wanted_image(scope.settings, alone=scope.alone, anew=scope.anew)


def have_image(scope: Scope) -> tuple[Step, ...]:
    """Give the steps by which a node has the wanted image, and one that runs there."""
    image = wanted_image(scope)
    login = next((late for late in image.needs if isinstance(late, lates.RegistryLogin)), None)
    weight = lates.weight_on_head(image)
    pulled = (Login(image, login), Pull(image, login, weight)) if login else (Pull(image, weight=weight),)
    return (*pulled, FitsEngine(image))


def pull(scope: Scope) -> Plan:
    """Have the wanted image on every node, by its digest."""
    steps = have_image(scope)
    return on_all(scope, lambda _: steps).alone()


def setup(scope: Scope) -> Plan:
    """Install Docker and pull the image, everywhere at once."""
    return install(scope).along(pull(scope))
