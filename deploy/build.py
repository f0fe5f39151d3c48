"""Build the application's image on the head's engine."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from deploy import plans
from deploy.desk import Flags, mistakes_told, perform, scope_of

JSON = {"json": "print one JSON document on stdout, whatever happens"}


@task(default=True, help=JSON)
def image(c: Context, json: bool = False) -> None:
    """Build the application's image from Dockerfile.template."""
    perform(c, "build.image", plans.build_image, Flags(json=json))


@task
def dockerfile(c: Context) -> None:  # noqa: ARG001 - Invoke gives it
    """Print the Dockerfile that `build` uses, rendered from Dockerfile.template."""
    with mistakes_told("build.dockerfile"):
        text, _ = plans.dockerfile(scope_of(Flags()))
        sys.stdout.write(text.replace(plans.NO_COMMIT, "<my-project-commit>") + "\n")


@task(help=JSON)
def base(c: Context, json: bool = False) -> None:
    """Make ray-project/deploy, the image with Ray that applications are built on."""
    perform(c, "build.base", plans.build_base, Flags(json=json))
