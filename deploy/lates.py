"""The values that are found out at contact: the image's digest, addresses, sizes, the token."""

from __future__ import annotations

import hashlib
import secrets
import shlex
from typing import TYPE_CHECKING, Any

from deploy.errors import Failure
from deploy.plan import Late, Place, Word, phrase
from deploy.ray import TOKEN_PATH, container_name

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings
    from deploy.site import Credentials, Site

SHM_CAP = 200 * 10**9  # bytes, of DESIGN's "at most 200 GB"


# --- sizes of a node -------------------------------------------------------------------------------------------

SHM_SIZE: Late[str] = Late(
    "shm_size",
    f"shm_size=$(($(docker info -f '{{{{.MemTotal}}}}') * 33 / 100)); echo $((shm_size < {SHM_CAP} ? shm_size : {SHM_CAP}))",
    lambda site: str(min(int(site.docker.facts()["MemTotal"]) * 33 // 100, SHM_CAP)),
)
NUM_WORKERS: Late[str] = Late(
    "num_workers", "docker info -f '{{.NCPU}}'", lambda site: str(int(site.docker.facts()["NCPU"]))
)
GPUS: Late[str] = Late(
    "gpus",
    "docker info -f '{{json .Runtimes}}' | grep -q nvidia && echo all || true",
    lambda site: "all" if "nvidia" in site.docker.facts().get("Runtimes", {}) else "",
)


# --- addresses -------------------------------------------------------------------------------------------------


def route_source(site: Site, target: str) -> str:
    """Give the source address of a node's route to `target`; `ADDRESS_MISMATCH` where there is no route."""
    words = site.run("ip", "-o", "route", "get", target).split()
    if "src" not in words[:-1]:
        raise Failure("ADDRESS_MISMATCH", f"no route to {target}", "Say the address with HEAD_ADDRESS or private=")
    return words[words.index("src") + 1]


def source_shell(target: str) -> str:
    """Write how the script asks for the source address of the route to `target` (a shell word)."""
    return f'route=$(ip -o route get {target}); route=${{route##* src }}; echo "${{route%% *}}"'


def checked(site: Site, address: str) -> str:
    """Give the address if it is one of the node's; Ray would start with a foreign one and never be reached."""
    if not site.run("ip", "-o", "addr", "show", "to", address).strip():
        raise Failure(
            "ADDRESS_MISMATCH",
            f"{address} is not an address of this node",
            f"Correct {'HEAD_ADDRESS' if site.node.role == 'head' else f'private= at {site.node.place}'}",
        )
    return address


def checked_shell(address: str) -> str:
    """Write the check and the address."""
    word = shlex.quote(address)
    return f'[ -n "$(ip -o addr show to {word})" ] && echo {word}'


# A documentation address (RFC 5737): it is asked of the routing table, and never contacted.
ANYWHERE = "192.0.2.1"


def head_address(settings: Settings, *, alone: bool) -> Late[str]:
    """Give the head's address for Ray: as set, else the source of its default route, loopback when alone."""
    fixed = str(settings.head_address) if settings.head_address else "127.0.0.1" if alone else ""
    if fixed:
        return Late("head_address", checked_shell(fixed), lambda site: checked(site, fixed), Place.HEAD)
    return Late("head_address", source_shell(ANYWHERE), lambda site: route_source(site, ANYWHERE), Place.HEAD)


def node_address(node: Node, head: Late[str]) -> Late[str]:
    """Give a worker's address for Ray: `private=`, else the source of its route to the head."""
    if node.private:
        private = node.private
        return Late("address", checked_shell(private), lambda site: checked(site, private))
    return Late(
        "address",
        source_shell(f'"${head.name}"'),
        lambda site: route_source(site, site.value(head)),
        needs=(head,),
    )


# --- the registry ----------------------------------------------------------------------------------------------


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


# --- the image -------------------------------------------------------------------------------------------------


def by_digest(site: Site, image: str, credentials: Credentials | None) -> str:
    """Give `repository@sha256:…` for a tag, as its registry tells the engine; `IMAGE_NOT_FOUND` where it does not."""
    if "@" in image:
        return image
    digest = site.docker.published(image, credentials)
    if digest is None:
        raise Failure("IMAGE_NOT_FOUND", f"the registry has no {image}", "Publish it: invoke build publish")
    return f"{repository_of(image)}@{digest}"


def repository_of(image: str) -> str:
    """Give an image's name without its tag or digest."""
    name = image.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


PUBLISHED_SHELL = (
    'docker --config "$memory" pull -q {tag} >/dev/null && '
    "docker image inspect -f '{{{{range .RepoDigests}}}}{{{{println .}}}}{{{{end}}}}' {tag} | grep -F {repository}@"
)


def wanted_image(settings: Settings, *, alone: bool, fresh: bool) -> Late[str]:
    """Give the image that every node shall run, found once on the head.

    `--image` or `IMAGE`; else what the running head has (unless `fresh`, as for a replacement); else what was
    published; without workers and without a registry, `APP_TAG` in the head's engine.
    """
    head = container_name(settings.cluster_name, "head")
    running = (
        f"docker inspect -f '{{{{if .State.Running}}}}{{{{index .Config.Labels \"raydock.image\"}}}}{{{{end}}}}' {head} "
        "2>/dev/null | grep ."
    )
    if settings.image:
        image = str(settings.image)
        login = login_for(settings, image)
        shell = (
            f"echo {shlex.quote(image)}"
            if "@" in image
            else PUBLISHED_SHELL.format(tag=shlex.quote(image), repository=shlex.quote(repository_of(image)))
        )
        return Late(
            "image",
            shell,
            lambda site: by_digest(site, image, login and site.resolve(login)),
            Place.HEAD,
            needs=(login,) if login else (),
        )
    if alone and not settings.repository_uri:
        return Late(
            "image",
            f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(str(settings.app_tag))}",
            lambda site: local_image(site, str(settings.app_tag)),
            Place.HEAD,
        )
    uri, login = repository_uri(settings), registry_password(settings)

    def resolve(site: Site) -> str:
        found = None if fresh else site.docker.find(head)
        if found and found.running and found.labels.get("raydock.image"):
            return found.labels["raydock.image"]
        return by_digest(site, site.value(phrase_of(uri, ":latest")), site.resolve(login))

    tag = f'"${uri.name}":latest' if isinstance(uri, Late) else f"{shlex.quote(str(uri))}:latest"
    repository = f'"${uri.name}"' if isinstance(uri, Late) else shlex.quote(str(uri))
    published = PUBLISHED_SHELL.format(tag=tag, repository=repository)
    needs: tuple[Late[Any], ...] = (uri, login) if isinstance(uri, Late) else (login,)
    return Late("image", published if fresh else f"{running} || {{ {published}; }}", resolve, Place.HEAD, needs=needs)


def image_tag(image: str) -> Late[str]:
    """Give the tag under which an image is published: the first 12 hex digits of its id."""

    def resolve(site: Site) -> str:
        return local_image(site, image).removeprefix("sha256:")[:12]

    shell = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(image)} | cut -c8-19"
    return Late("image_tag", shell, resolve, Place.HEAD)


def login_for(settings: Settings, image: str) -> Late[Credentials | None] | None:
    """Give the login that an image of this name needs: ours for our own registry, none for another's."""
    host = image.partition("/")[0]
    ours = bool(settings.repository_uri) and str(settings.repository_uri).partition("/")[0] == host
    return registry_password(settings) if ours or ".dkr.ecr." in host else None


def phrase_of(word: Word, suffix: str) -> Word:
    """Give a word with something written behind it."""
    return phrase(word, suffix) if isinstance(word, str | Late) else phrase(*word.parts, suffix)


def local_image(site: Site, tag: str) -> str:
    """Give the id of an image in the head's engine."""
    if (found := site.docker.image_id(tag)) is None:
        raise Failure("IMAGE_NOT_FOUND", f"the head's engine has no image {tag}", "Build it: invoke build")
    return found


# --- Ray's token -----------------------------------------------------------------------------------------------


def token(settings: Settings) -> Late[str]:
    """Give Ray's token: that of the running head, else a new one. It is written nowhere but into containers."""
    head = container_name(settings.cluster_name, "head")

    def resolve(site: Site) -> str:
        found = site.docker.find(head)
        kept = site.docker.get_file(head, TOKEN_PATH) if found and found.running else None
        return kept.decode("ascii", "replace") if kept else secrets.token_hex(32)

    return Late(
        "token",
        f"[ \"$(docker inspect -f '{{{{.State.Running}}}}' {head} 2>/dev/null)\" = true ] && "
        f"docker cp {head}:{TOKEN_PATH} - | tar -xO || head -c 32 /dev/urandom | sha256sum | cut -c1-64",
        resolve,
        Place.HEAD,
    )


def run_id(of: Late[str]) -> Late[str]:
    """Give the token's fingerprint, by which a worker of a former head is known."""
    return Late(
        "run",
        f'printf %s "${of.name}" | sha256sum | cut -c1-12',
        lambda site: hashlib.sha256(site.value(of).encode()).hexdigest()[:12],
        Place.OPERATOR,
        needs=(of,),
    )
