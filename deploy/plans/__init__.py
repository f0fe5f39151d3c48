"""The plans: for each task its steps, as the manual lists them."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.plans.cluster import (
    compare,
    history,
    install,
    pull,
    setup,
    start,
    start_head,
    start_workers,
    status,
    stop,
    stop_head,
    stop_workers,
)
from deploy.plans.image import (
    NO_COMMIT,
    build_base,
    build_commit,
    build_containers,
    build_image,
    dockerfile,
    publish_image,
    publish_login,
    publish_push,
    publish_repository,
    publish_tag,
)
from deploy.plans.scope import Planner, Scope

# By the task's name; what a task is told besides, as which container, makes another one.
PLANNERS: Mapping[str, Planner] = {
    "build.image": build_image,
    "build.base": build_base,
    "build.containers": build_containers,
    "publish.image": publish_image,
    "publish.repository": publish_repository,
    "publish.tag": publish_tag,
    "publish.login": publish_login,
    "publish.push": publish_push,
    "cluster.install": install,
    "cluster.pull": pull,
    "cluster.setup": setup,
    "cluster.start": start,
    "cluster.start-head": start_head,
    "cluster.start-workers": start_workers,
    "cluster.status": status,
    "cluster.stop": stop,
    "cluster.stop-head": stop_head,
    "cluster.stop-workers": stop_workers,
}

__all__ = [
    "NO_COMMIT",
    "PLANNERS",
    "Planner",
    "Scope",
    "build_base",
    "build_commit",
    "build_containers",
    "build_image",
    "compare",
    "dockerfile",
    "history",
    "install",
    "publish_image",
    "publish_login",
    "publish_push",
    "publish_repository",
    "publish_tag",
    "pull",
    "setup",
    "start",
    "start_head",
    "start_workers",
    "status",
    "stop",
    "stop_head",
    "stop_workers",
]
