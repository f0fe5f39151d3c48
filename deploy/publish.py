"""Publish the application's image."""

from __future__ import annotations

from invoke.context import Context

from deploy import plans
from deploy.desk import perform
from deploy.flags import Flags, flagged


@flagged("json", "verbose", default=True)
def image(c: Context, flags: Flags) -> None:
    """Create the repository, tag the image and push it."""
    perform(c, "publish.image", plans.publish_image, flags)


@flagged("json", "verbose")
def repository(c: Context, flags: Flags) -> None:
    """Create the repository in ECR, unless it is there."""
    perform(c, "publish.repository", plans.publish_repository, flags)
