"""The plans: for each task its steps, as the manual lists them. A task loads what makes its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from deploy.plans.scope import Planner, Scope

# By the task's name, where its planner stands; what a task is told besides, as which container, makes another one.
PLANNERS: Mapping[str, str] = {
    "build.image": "image.build_image",
    "build.base": "image.build_base",
    "build.containers": "image.build_containers",
    "publish.image": "image.publish_image",
    "publish.repository": "image.publish_repository",
    "publish.tag": "image.publish_tag",
    "publish.login": "image.publish_login",
    "publish.push": "image.publish_push",
    "cluster.install": "nodes.install",
    "cluster.pull": "nodes.pull",
    "cluster.setup": "nodes.setup",
    "cluster.start": "cluster.start",
    "cluster.start-head": "cluster.start_head",
    "cluster.start-workers": "cluster.start_workers",
    "cluster.status": "cluster.status",
    "cluster.stop": "cluster.stop",
    "cluster.stop-head": "cluster.stop_head",
    "cluster.stop-workers": "cluster.stop_workers",
}


def planner_of(task: str) -> Planner:
    """Give what makes the plan of a task."""
    module, _, name = PLANNERS[task].partition(".")
    found: Planner = getattr(import_module(f"{__name__}.{module}"), name)
    return found


__all__ = ["PLANNERS", "Planner", "Scope", "planner_of"]
