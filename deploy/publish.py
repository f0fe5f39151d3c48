"""Publish the application's image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from invoke.context import Context

from deploy.desk import perform, say
from deploy.flags import Flags, flagged


@flagged("json", "verbose", "timings", default=True)
def image(c: Context, flags: Flags) -> None:
    """Create the repository, tag the image, log in and push it."""
    perform(c, "publish.image", flags)


@flagged("json", "verbose", "timings")
def repository(c: Context, flags: Flags) -> None:
    """Create the repository in ECR, unless it is there, and show it.

    Document: `aws ecr create-repository --repository-name <repository-name> --region=<region>`. With REPOSITORY_URI
    there is none to create.
    """
    perform(c, "publish.repository", flags, show=show_repository)


@flagged("json", "verbose", "timings")
def tag(c: Context, flags: Flags) -> None:
    """Tag the image with the repository's URI: by its id, and as the latest.

    Document: `docker tag <app-tag> <repository-uri>`.
    """
    perform(c, "publish.tag", flags)


@flagged("json", "verbose", "timings")
def login(c: Context, flags: Flags) -> None:
    """Have the head's engine check the registry's login; nothing is stored.

    Document: `eval $(aws ecr get-login --region <region>)`. No later task needs it: each gets a login of its own.
    """
    perform(c, "publish.login", flags, show=show_login)


@flagged("json", "verbose", "timings")
def push(c: Context, flags: Flags) -> None:
    """Push the tagged image, and then move `latest` to it.

    Document: `docker push <repository-uri>`.
    """
    perform(c, "publish.push", flags)


def show_repository(facts: Mapping[str, Any]) -> None:
    """Print what the document shows."""
    if "repository" in facts:
        print(json.dumps({"repository": facts["repository"]}, indent=4))


def show_login(facts: Mapping[str, Any]) -> None:
    """Say whose login it was."""
    if "login" not in facts:
        return
    if (found := facts["login"]) is None:
        say("no login is kept for this registry: what it gives to everybody can be had")
        return
    until = f", good until {found['expires']}" if found["expires"] else ""
    say(f"{found['registry']} accepts {found['user']}{until}")
