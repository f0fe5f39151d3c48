"""The plans: for each task its steps, as the manual lists them."""

from deploy.plans.cluster import (
    compare,
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
from deploy.plans.image import NO_COMMIT, build_base, build_image, dockerfile, publish_image, publish_repository
from deploy.plans.scope import Planner, Scope

__all__ = [
    "NO_COMMIT",
    "Planner",
    "Scope",
    "build_base",
    "build_image",
    "compare",
    "dockerfile",
    "install",
    "publish_image",
    "publish_repository",
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
