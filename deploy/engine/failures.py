"""The engine's own words, and those of the HTTP below it, as Failures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import requests
import urllib3
from docker.errors import APIError, DockerException

from deploy.errors import Failure
from deploy.reading import Odd

if TYPE_CHECKING:
    from deploy.site import Credentials

START = "See to it: sudo service docker status"
LOOK = "Look what answers there: docker version"
LONGEST = 4000  # characters of an engine's words that are looked at, and told from their beginning and end


class Sign(NamedTuple):
    """What an error's text shows: its code, and the next move."""

    pattern: str
    code: str
    cure: str = ""


# The first that fits.
ANY = (Sign(r"no space left on device|disk quota exceeded", "DISK_FULL", "Make room: docker system df"),)
REGISTRY = (
    *ANY,
    Sign(
        r"verification failed|unexpected digest|invalid checksum|gzip: invalid|flate: corrupt",
        "DIGEST_MISMATCH",
        "What the registry sent is damaged; publish the image anew, under another tag if it is the same again",
    ),
    Sign(r"x509:|\btls: ", "REGISTRY_TLS", "Put the registry's CA into /etc/docker/certs.d/REGISTRY/ca.crt"),
    Sign(r"http: server gave HTTP response to HTTPS client", "REGISTRY_TLS", "Have the registry speak TLS"),
    Sign(
        r"immutable",
        "TAG_IMMUTABLE",
        "Publish another commit: its image has a tag of its own",
    ),
    Sign(
        r"no basic auth|unauthorized|(?<!permission )denied|authentication required|40[13] forbidden",
        "REGISTRY_AUTH",
        "Check the login for the registry",
    ),
    Sign(
        r"dial tcp|connection refused|no such host|server misbehaving|\btimeout|deadline exceeded"
        r"|awaiting headers|unreachable|reset by|unexpected EOF|temporary failure in name resolution",
        "REGISTRY_UNREACHABLE",
        "Check that the node reaches the registry",
    ),
    Sign(r"no matching manifest", "IMAGE_WRONG_ARCH", "Build it on such a machine, or take an image for it"),
    Sign(
        r"manifest unknown|name unknown|not found|no such image|does not exist locally|(tag|repository) does not exist",
        "IMAGE_NOT_FOUND",
        "Check the name, or publish it: invoke publish",
    ),
)
BASE = (
    Sign(r"repository does not exist", "BASE_IMAGE_ABSENT", "Make it: invoke build.base, or set BASE_IMAGE"),
    *REGISTRY,
)
IMAGE = (*ANY, Sign(r"no such image", "IMAGE_NOT_FOUND", "Pull it: invoke cluster.pull"))
CONTAINER = (
    *IMAGE,
    Sign(
        r"could not select device driver|nvidia", "DOCKER_FAILED", "Install the GPU's container toolkit, or GPUS=none"
    ),
    Sign(r"is already in use by container", "NAME_CONFLICT", "Rename or remove it, or choose another CLUSTER_NAME"),
    Sign(
        r"capability|\bcap_?(add|drop|s)?\b|seccomp|apparmor|no.?new.?privileges|security.?opt",
        "HARDENING_REFUSED",
        "The engine must be able to drop capabilities",
    ),
)


def failure(action: str, text: str, signs: Sequence[Sign] = ANY, *, otherwise: str = "DOCKER_FAILED") -> Failure:
    """Give the failure of an action of which the engine said `text`."""
    said = " ".join(text.split())
    # A repository or a path may have any word in its name.
    shown = re.sub(r"\S*/\S*", "", said[:LONGEST])
    for sign in signs:
        if re.search(sign.pattern, shown, re.IGNORECASE):
            return Failure(sign.code, f"{action}: {said}", sign.cure)
    return Failure(otherwise, f"{action}: {said}")


@contextmanager
def told(
    action: str,
    signs: Sequence[Sign] = ANY,
    *,
    otherwise: str = "DOCKER_FAILED",
    login: Credentials | None = None,
) -> Iterator[None]:
    """Turn whatever goes wrong in the block, which does `action`, into a Failure; none tells the `login`'s password."""
    try:
        with _told(action, signs, otherwise):
            yield
    except Failure as found:
        if (error := shortened(scrubbed(found.error, login))) == found.error:
            raise
        raise Failure(found.code, error, found.cure, place=found.place) from None


@contextmanager
def _told(action: str, signs: Sequence[Sign], otherwise: str) -> Iterator[None]:
    try:
        yield
    except Odd as error:
        raise Failure("DOCKER_FAILED", f"{action}: the engine's answer makes no sense: {error}", LOOK) from error
    except APIError as error:
        raise failure(action, words_of(error), signs, otherwise=otherwise) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if timed_out(error):
            raise Failure("DOCKER_TIMEOUT", f"{action}: the Docker engine did not answer in time", START) from error
        raise Failure("DOCKER_DOWN", f"{action}: the connection to the Docker engine ended", START) from error
    except DockerException as error:
        raise failure(action, str(error), signs, otherwise=otherwise) from error


@contextmanager
def overdue(command: str, seconds: float) -> Iterator[None]:
    """Turn a time-out in the block into a command that took too long."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, TimeoutError) as error:
        if not timed_out(error):
            raise
        raise Failure("COMMAND_FAILED", f"{command} did not end within {seconds:g} s") from error


def words_of(error: APIError) -> str:
    """Give what the engine said, without the URL that the SDK adds."""
    return str(error.explanation or error)


def timed_out(error: BaseException) -> bool:
    """Tell whether it was a time-out: in a body, requests shows it as a lost connection."""
    kinds = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    return isinstance(error, kinds) or any(isinstance(part, kinds) for part in error.args)


def shortened(text: str) -> str:
    """Give a text, or the beginning and the end of a very long one."""
    return text if len(text) <= 2 * LONGEST else f"{text[:LONGEST]} … {text[-LONGEST:]}"


def scrubbed(text: str, login: Credentials | None) -> str:
    """Give the text without the password, in whatever form an engine or a registry may repeat it."""
    for form in sorted(forms(login), key=len, reverse=True) if login and login.password else ():
        text = text.replace(form, str(login and login.password))
    return text


def forms(login: Credentials) -> set[str]:
    """Give what a password looks like on its way: as it is, quoted, and in the two headers that have it."""
    password = login.password.reveal()
    plain = {password, quote(password), quote(password, safe=""), json.dumps(password)[1:-1]}
    packed = [f"{login.user}:{password}", password, json.dumps(auth_config(login))]
    coded = [kind(one.encode()).decode() for one in packed for kind in (base64.b64encode, base64.urlsafe_b64encode)]
    return plain | {one.rstrip("=") for one in coded}


def auth_config(login: Credentials) -> dict[str, str]:
    """Give the login as the engine wants it."""
    secret, registry = login.password.reveal(), {"serveraddress": login.registry}
    if login.identity:
        return {"identitytoken": secret, **registry}
    return {"username": login.user, "password": secret, **registry}
