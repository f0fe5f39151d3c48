"""Build the application's image on the head's engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from invoke.context import Context

from deploy.desk import answer, perform, say, scope_of
from deploy.flags import Flags, flagged


@flagged("json", "verbose", "timings", default=True)
def image(c: Context, flags: Flags) -> None:
    """Build the application's image from Dockerfile.template."""
    perform(c, "build.image", flags)


@flagged("json")
def dockerfile(c: Context, flags: Flags) -> None:  # noqa: ARG001 - Invoke gives it
    """Print the Dockerfile that `build` uses, rendered from Dockerfile.template."""
    from deploy.plans import image as plans

    with answer("build.dockerfile", flags) as report:
        text, _ = plans.dockerfile(scope_of(flags))
        report.facts["dockerfile"] = text.replace(plans.NO_COMMIT, "<my-project-commit>")
        if not flags.json:
            sys.stdout.write(report.facts["dockerfile"] + "\n")


@flagged("json", "verbose", "timings")
def base(c: Context, flags: Flags) -> None:
    """Make ray-project/deploy, the image with Ray that applications are built on."""
    perform(c, "build.base", flags)


@flagged("json")
def shell(c: Context, flags: Flags) -> None:
    """Open a shell in a new container of the base image, to install the application by hand.

    Document: `docker run -t -i ray-project/deploy`. It runs on the head's engine, at this terminal; `exit` ends it, and
    its container stays for build.commit. Where stdin or stdout is no terminal, it reads a script from stdin. The exit
    code is the shell's; 125 is our own failure.
    """
    from deploy import manual

    manual.shell(c, flags)


@flagged("json", "verbose", "timings")
def containers(c: Context, flags: Flags) -> None:
    """List the containers that build.shell left, the newest first.

    Document: `docker ps -a`.
    """
    perform(c, "build.containers", flags, show=show_containers)


@flagged("json", "verbose", "timings", needs=["container"])
def commit(c: Context, flags: Flags) -> None:
    """Make the application's image, APP_TAG, of a container that build.shell left.

    Document: `docker commit -t <app-tag> <container-id>`. Labels of the image say what it was made of, by
    whom, when, and how much was changed.
    """
    from deploy.plans import image as plans

    perform(c, "build.commit", flags, planner=lambda scope: plans.build_commit(scope, flags.container))


def show_containers(facts: Mapping[str, Any]) -> None:
    """Print a line for each container."""
    from deploy.show.jobs import listing

    if found := facts.get("containers"):
        titles = tuple(found[0])
        listing(titles, [[str(one[title]) for title in titles] for one in found])
        say(f"make the application's image of one: invoke build.commit {found[0]['container']}")
    else:
        say("no containers: build.shell has left none")
