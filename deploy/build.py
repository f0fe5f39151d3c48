"""Build the application's image on the head's engine."""

from __future__ import annotations

import sys

from invoke.context import Context

from deploy import plans
from deploy.desk import answer, perform, scope_of
from deploy.flags import Flags, flagged


@flagged("json", "verbose", default=True)
def image(c: Context, flags: Flags) -> None:
    """Build the application's image from Dockerfile.template."""
    perform(c, "build.image", plans.build_image, flags)


@flagged("json")
def dockerfile(c: Context, flags: Flags) -> None:  # noqa: ARG001 - Invoke gives it
    """Print the Dockerfile that `build` uses, rendered from Dockerfile.template."""
    with answer("build.dockerfile", flags) as report:
        text, _ = plans.dockerfile(scope_of(flags))
        report.facts["dockerfile"] = text.replace(plans.NO_COMMIT, "<my-project-commit>")
        if not flags.json:
            sys.stdout.write(report.facts["dockerfile"] + "\n")


@flagged("json", "verbose")
def base(c: Context, flags: Flags) -> None:
    """Make ray-project/deploy, the image with Ray that applications are built on."""
    perform(c, "build.base", plans.build_base, flags)
