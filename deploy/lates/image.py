"""The wanted image: which one every node shall run."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.lates.registry import RegistryLogin, docker_cli, logged_in, registry_password, repository_uri, with_login
from deploy.plan import Late, Place, Word, phrase, quoted
from deploy.ray import container_name
from deploy.site import Weight

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Credentials, Site

# A registry of AWS's, of all its partitions: whoever else has such a name before his own is not told a login of AWS's.
ECR = re.compile(
    r"[0-9]+[.]dkr[.-]ecr(-fips)?[.][a-z0-9-]+[.]"
    r"(amazonaws[.](com([.]cn)?|eu)|on[.](aws|amazonwebservices[.]com[.]cn)|c2s[.]ic[.]gov|sc2s[.]sgov[.]gov)"
)


def wanted_image(settings: Settings, *, alone: bool, anew: bool = False) -> Late[str]:
    """Give the image that every node shall run, found once on the head.

    `--image` or `IMAGE`; else what the running head has, unless it shall run anew; else what was published; without
    workers and without a registry, `APP_TAG` in the head's engine.
    """
    if settings.image:
        given = given_image(settings, settings.image)
        return here_or(given, settings.image) if alone else given
    newest = app_image(settings.app_tag) if alone and not settings.repository_uri else published_image(settings)
    return newest if anew else running_or(settings, newest)


def given_image(settings: Settings, image: str) -> Late[str]:
    """Give the image that the operator named, by its digest."""
    login = login_for(settings, image)
    shell = f"echo {shlex.quote(image)}" if "@" in image else published_shell(image, repository_of(image), login)

    def resolve(site: Site) -> str:
        if "@" in image:
            return image
        return with_login(site, login, lambda held: by_digest(site, image, held))

    return Late("image", shell, resolve, Place.HEAD, needs=(login,) if login else ())


def here_or(given: Late[str], image: str) -> Late[str]:
    """Give an image that the engine has, by its id, as `docker run` would take it; else as its registry has it."""
    here = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(image)} 2>/dev/null"
    return Late(
        "image",
        f"{here} || {{ {given.shell}; }}",
        lambda site: site.docker.image_id(image) or given.resolve(site),
        Place.HEAD,
        needs=given.needs,
    )


def app_image(tag: str) -> Late[str]:
    """Give the image that was built on the head, by its id."""
    shell = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(tag)}"
    return Late("image", shell, lambda site: local_image(site, tag), Place.HEAD)


def published_image(settings: Settings) -> Late[str]:
    """Give what was published last."""
    uri, login = repository_uri(settings), registry_password(settings)
    latest = phrase(uri, ":latest")

    def resolve(site: Site) -> str:
        return with_login(site, login, lambda held: by_digest(site, site.value(latest), held))

    return Late("image", published_shell(latest, uri, login), resolve, Place.HEAD, needs=(login,))


def running_or(settings: Settings, newest: Late[str]) -> Late[str]:
    """Give what the running head has, else the newest."""
    head = container_name(settings.cluster_name, "head")
    running = (
        f"docker inspect -f '{{{{if .State.Running}}}}{{{{index .Config.Labels \"raydock.image\"}}}}{{{{end}}}}' {head}"
    )

    def resolve(site: Site) -> str:
        found = site.docker.find(head)
        if found and found.running and found.labels.get("raydock.image"):
            return found.labels["raydock.image"]
        return newest.resolve(site)

    shell = f"{running} 2>/dev/null | grep . || {{ {newest.shell}; }}"
    return Late("image", shell, resolve, Place.HEAD, needs=newest.needs)


def published_shell(tag: Word, repository: Word, login: RegistryLogin | None) -> str:
    """Write how the script asks for a tag's digest: of a pull, which every node needs anyway.

    The engine's own list would not do: it shortens the names of Docker's own hub, and may have more than one digest.
    """
    digest = f'while read -r word digest; do [ "$word" != Digest: ] || echo {quoted(repository)}@"$digest"; done'
    return f"{logged_in(login)}{docker_cli(login)} pull {quoted(tag)} | {digest} | grep ."


def by_digest(site: Site, image: str, credentials: Credentials | None) -> str:
    """Give `repository@sha256:…` for a tag, as its registry tells the engine; `IMAGE_NOT_FOUND` where it does not."""
    digest = site.docker.published(image, credentials)
    if digest is None:
        raise Failure("IMAGE_NOT_FOUND", f"the registry has no {image}", "Publish it: invoke build publish")
    return f"{repository_of(image)}@{digest}"


def weight_on_head(image: Late[str]) -> Late[Weight]:
    """Give what an image weighs in the head's engine, where it most often was built; nothing where it is not there."""

    def resolve(site: Site) -> Weight:
        try:
            return site.docker.image_weight(site.value(image))
        except Failure as failure:
            if failure.code != "SSH_NO_CHANNEL":
                raise
            return Weight()  # it only tells how much is to come: not worth what the head's sshd has no room for now

    return Late("weight", "", resolve, Place.HEAD)


def repository_of(image: str) -> str:
    """Give an image's name without its tag or digest."""
    return ImageRef.parse(image).repository


def image_tag(image: str) -> Late[str]:
    """Give the tag under which an image is published: the first 12 hex digits of its id."""

    def resolve(site: Site) -> str:
        return local_image(site, image).removeprefix("sha256:")[:12]

    shell = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(image)} | cut -c8-19"
    return Late("image_tag", shell, resolve, Place.HEAD)


def login_for(settings: Settings, image: str) -> RegistryLogin | None:
    """Give the login that an image of this name needs: ours for our own registry, none for another's."""
    host, own = ImageRef.parse(image).registry, settings.repository_uri
    # Nobody but our own registry is told its login.
    ours = ImageRef.parse(own).registry == host if own else bool(ECR.fullmatch(host))
    return registry_password(settings, image) if ours else None


def local_image(site: Site, tag: str) -> str:
    """Give the id of an image in the head's engine."""
    if (found := site.docker.image_id(tag)) is None:
        raise Failure("IMAGE_NOT_FOUND", f"the head's engine has no image {tag}", "Build it: invoke build")
    return found
