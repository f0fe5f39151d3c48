"""The operator's own Docker configuration: the logins that `docker login` and credential helpers keep."""

from __future__ import annotations

from docker import auth
from docker.errors import DockerException

from deploy.errors import Failure


def configured_login(registry: str) -> tuple[str, str] | None:
    """Give user and password for a registry; None where nothing is kept for it."""
    try:
        found = auth.load_config().resolve_authconfig(registry)
    except DockerException as error:
        raise Failure(
            "REGISTRY_AUTH", f"Docker's credential helper: {error}", f"Log in: docker login {registry}"
        ) from error
    if not found or not found.get("username"):
        return None
    return str(found["username"]), str(found["password"])
