"""The operator's own Docker configuration: the logins that `docker login` and credential helpers keep."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docker import auth
from docker.errors import DockerException
from docker.utils.config import find_config_file

from deploy.errors import Failure
from deploy.files import openings
from deploy.secret import Secret
from deploy.site import Credentials

HELPER_DEADLINE = 60.0  # seconds: a helper may ask somebody to unlock it
LONGEST = 200  # characters of a helper's reason
NOT_FOUND = "credentials not found in native keychain"  # a helper's words, by Docker's protocol


def configured_login(registry: str) -> Credentials | None:
    """Give the login for a registry; None where nothing is kept for it, `REGISTRY_AUTH` where it cannot be had."""
    try:
        check_json()
        config = auth.load_config()
        helper = config.get_credential_store(registry)
        found = asked(str(helper), registry) if helper else None
        return found or kept(config.auths, registry)
    except (AttributeError, DockerException, OSError, TypeError, ValueError) as error:
        # The SDK looks at no shape before it takes it; the error may repeat what stands there.
        raise unusable(registry, "Docker's own configuration cannot be read") from error


def check_json() -> None:
    """See that the configuration is JSON, or empty; the SDK takes any other for an empty one."""
    file = Path(str(find_config_file() or ""))
    if file.name == "config.json" and (text := file.read_text(encoding="utf-8")).strip():
        json.loads(text)


def openings_of_logins() -> Iterator[str]:
    """Say who else can read or change the logins that stand in the configuration itself."""
    file = find_config_file()
    if file and auth.load_config().auths:
        yield from openings(Path(str(file)), str(file), "logins in it")


def kept(auths: Mapping[str, Any], registry: str) -> Credentials | None:
    """Give the login that stands in the configuration itself."""
    found = auth.AuthConfig({"auths": dict(auths)}).resolve_authconfig(registry) or {}
    if token := found.get("IdentityToken"):
        return credentials(registry, auth.TOKEN_USERNAME, token)
    return credentials(registry, found["username"], found["password"]) if found.get("username") else None


def asked(helper: str, registry: str) -> Credentials | None:
    """Give the login that a credential helper has."""
    # The SDK asks helpers without any deadline.
    program = f"docker-credential-{helper}"
    server = auth.INDEX_URL if registry == auth.INDEX_NAME else registry
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_DEADLINE)
    except subprocess.TimeoutExpired as error:
        raise unusable(registry, f"{program} did not answer within {HELPER_DEADLINE:g} s") from error
    except OSError as error:
        raise unusable(registry, f"{program} cannot be run: {error.strerror}") from error
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode and NOT_FOUND in said:
        return None
    if done.returncode:
        raise unusable(registry, f"{program} ended with {done.returncode}: {complaint(said)}")
    return answered(said, program, registry)


def complaint(said: str) -> str:
    """Give a failed helper's reason, which by Docker's protocol is a plain line; an answer may have the login in it."""
    if "{" in said:
        return "what it says may be a login, and is not repeated"
    return said.partition("\n")[0][:LONGEST] or "it says nothing"


def answered(said: str, program: str, registry: str) -> Credentials | None:
    """Give the login that a helper's answer has; some answer with an empty one where they have none."""
    try:
        user, secret = (str(json.loads(said)[key]) for key in ("Username", "Secret"))
    except (KeyError, TypeError, ValueError):
        # Without its cause: that would repeat what the helper said.
        raise unusable(registry, f"{program} gave no login that Docker knows") from None
    return credentials(registry, user, secret) if user or secret else None


def credentials(registry: str, user: str, secret: str) -> Credentials:
    """Give a login; by the user's name Docker marks what is an identity token, and no password."""
    return Credentials(user, Secret(secret), registry, identity=user == auth.TOKEN_USERNAME)


def unusable(registry: str, why: str) -> Failure:
    """Give the failure for a login that cannot be had."""
    return Failure("REGISTRY_AUTH", why, login_cure(registry))


def login_cure(registry: str) -> str:
    """Give the next move where a registry refuses us."""
    return f"Log in: docker login {registry}"
