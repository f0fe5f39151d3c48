"""Publish the application's image."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from deploy import plans
from deploy.desk import Flags, perform

JSON = {"json": "print one JSON document on stdout, whatever happens"}


@task(default=True, help=JSON)
def image(c: Context, json: bool = False) -> None:
    """Create the repository, tag the image and push it."""
    perform(c, "publish.image", plans.publish_image, Flags(json=json))


@task(help=JSON)
def repository(c: Context, json: bool = False) -> None:
    """Create the repository in ECR, unless it is there."""
    perform(c, "publish.repository", plans.publish_repository, Flags(json=json))
