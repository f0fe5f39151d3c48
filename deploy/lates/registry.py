"""What is asked of the registry: the repository's URI, a login."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from deploy.plan import Late, Place, Word

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Credentials


def repository_uri(settings: Settings) -> Word:
    """Give the repository's URI: as set, else as ECR tells it."""
    if settings.repository_uri:
        return str(settings.repository_uri)
    return Late(
        "repository_uri",
        f"aws ecr describe-repositories {region_option(settings)}--repository-names "
        f"{shlex.quote(settings.repository_name)} --query 'repositories[0].repositoryUri' --output text",
        lambda site: site.registry.uri(),
        Place.OPERATOR,
    )


def region_option(settings: Settings) -> str:
    """Write `--region …`, or nothing where AWS's own chain decides."""
    return f"--region {shlex.quote(settings.region)} " if settings.region else ""


def registry_password(settings: Settings) -> Late[Credentials | None]:
    """Give the login for the registry, fresh in each run."""
    return Late(
        "registry_password",
        f"aws ecr get-login-password {region_option(settings)}".strip(),
        lambda site: site.registry.credentials(),
        Place.OPERATOR,
    )
