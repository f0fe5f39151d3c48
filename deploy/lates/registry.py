"""What is asked of the registry: the repository's URI, a login."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.plan import Late, Place, Word, quoted

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Credentials, Site

T = TypeVar("T")
NEARLY_OVER = 600  # seconds before its end in which a login is asked for anew


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


@dataclass(frozen=True)
class RegistryLogin(Late[Any]):
    """A login for one registry; the script leaves one without `shell` to Docker's own configuration on each node."""

    host: Word = ""


def registry_password(settings: Settings, image: str | None = None) -> RegistryLogin:
    """Give the login for the registry of an image, or else of the repository, fresh in each run.

    Of a registry that is not ECR's the script leaves the login to the nodes' own `docker login`.
    """
    name, at = "registry_password", Place.OPERATOR
    if settings.repository_uri:
        host = host_of(settings.repository_uri)
        return RegistryLogin(name, "", lambda site: site.registry.credentials(host), at, host=host)
    shell = f"aws ecr get-login-password {region_option(settings.region)}".strip()
    if image:
        host = host_of(image)
        return RegistryLogin(name, shell, lambda site: site.registry.credentials(host), at, host=host)
    uri = repository_uri(settings)
    needs = (uri,) if isinstance(uri, Late) else ()
    return RegistryLogin(name, shell, lambda site: site.registry.credentials(host_of(site.value(uri))), at, needs, uri)


def host_of(repository: str) -> str:
    """Give the registry of a repository."""
    return ImageRef.parse(repository).registry


def logged_in(login: RegistryLogin | None) -> str:
    """Write the login that comes before a call of `docker_cli`, and ` && `; nothing where none is needed.

    Of a login that is kept on each node it is a comment, in a line of its own.
    """
    if login is None:
        return ""
    if not login.shell:
        return f"# log in there first: docker login {quoted(login.host)}\n"
    # The registry's own host: the image may be another's, which shall not learn the login.
    host = f'"${{{login.host.name}%%/*}}"' if isinstance(login.host, Late) else quoted(login.host)
    # A pipe: a here-string of an older bash is a file on the disk.
    password = f"printf '%s\\n' \"${login.name}\""
    return f"{password} | {docker_cli(login)} login --username AWS --password-stdin {host} >/dev/null && "


def login_line(login: RegistryLogin, question: str = "") -> str:
    """Write a login as a line of its own, behind a question whether it is needed."""
    words = logged_in(login)
    if words.startswith("#"):
        return f"{words}:"
    return f"{question}{words.removesuffix(' && ') or ':'}"


def with_login(site: Site, login: RegistryLogin | None, use: Callable[[Credentials | None], T]) -> T:
    """Do something with a login, or without where none is needed.

    One of AWS's that ends soon, or is refused, is asked for anew, once for all nodes; what is refused then as well tells
    the next move that the registry knows.
    """
    if login is None:
        return use(None)
    held = site.resolve(login)
    # One that Docker's configuration keeps would be the same again.
    if held and login.shell:
        held = held if lasts(held) else site.anew(login, held)
        try:
            return use(held)
        except Failure as failure:
            if failure.code != "REGISTRY_AUTH":
                raise
            held = site.anew(login, held)
    try:
        return use(held)
    except Failure as failure:
        if failure.code != "REGISTRY_AUTH" or not site.registry.cure:
            raise
        raise Failure(failure.code, failure.error, site.registry.cure) from failure


def lasts(held: Credentials) -> bool:
    """Tell whether a login has a while to go, as far as anybody tells."""
    return held.expires is None or held.expires > time.time() + NEARLY_OVER


def docker_cli(login: RegistryLogin | None) -> str:
    """Write `docker`, with the configuration in memory where there is a login."""
    return 'docker --config "$memory"' if login and login.shell else "docker"
