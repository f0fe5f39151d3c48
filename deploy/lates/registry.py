"""What is asked of the registry: the repository's URI, a login."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from deploy.plan import Late, Place, Word, parts_of

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Credentials


def repository_uri(settings: Settings) -> Word:
    """Give the repository's URI: as set, else as ECR tells it."""
    if settings.repository_uri:
        return str(settings.repository_uri)
    return Late(
        "repository_uri",
        f"aws ecr describe-repositories {region_option(settings.region)}--repository-names "
        f"{shlex.quote(settings.repository_name)} --query 'repositories[0].repositoryUri' --output text",
        lambda site: site.registry.uri(),
        Place.OPERATOR,
    )


def region_option(region: str | None) -> str:
    """Write `--region …`, or nothing where AWS's own chain decides."""
    return f"--region {shlex.quote(region)} " if region else ""


def registry_password(settings: Settings, image: str = "") -> Late[Credentials | None]:
    """Give the login for the registry of an image, or else of the repository, fresh in each run.

    Of a registry that is not ECR's the script leaves the login to the nodes' own `docker login`.
    """
    named = image or settings.repository_uri or ""
    ecr = not named or ".dkr.ecr." in named.partition("/")[0]
    return Late(
        "registry_password",
        f"aws ecr get-login-password {region_option(settings.region)}".strip() if ecr else "",
        lambda site: site.registry.credentials(),
        Place.OPERATOR,
    )


def logged_in(login: Late[Any] | None, image: Word) -> str:
    """Write the login that comes before a call of `docker_cli`, and ` && `; nothing where none is needed."""
    if login is None or not login.shell:
        return ""
    first = parts_of(image)[0]
    host = f'"${{{first.name}%%/*}}"' if isinstance(first, Late) else shlex.quote(first.partition("/")[0])
    words = f'{docker_cli(login)} login --username AWS --password-stdin {host} <<<"${login.name}" >/dev/null'
    return f"{words} && "


def docker_cli(login: Late[Any] | None) -> str:
    """Write `docker`, with the configuration in memory where there is a login."""
    return 'docker --config "$memory"' if login and login.shell else "docker"
