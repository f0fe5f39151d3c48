"""The image published: its repository, its tags, the push."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.lates.registry import RegistryLogin, docker_cli, login_line, region_option, with_login
from deploy.plan import Place, Step, Word, quoted
from deploy.steps.building import REVISION_LABEL

if TYPE_CHECKING:
    from deploy.site import Site
from deploy.timings import Phase


@dataclass(frozen=True)
class CreateRepository(Step):
    """Have the repository in ECR. Document: `aws ecr create-repository --repository-name <repository-name>`."""

    phase: ClassVar[Phase | None] = Phase.UPLOAD
    document: ClassVar[str] = "aws ecr create-repository --repository-name <repository-name> --region=<region>"
    where: ClassVar[Place] = Place.OPERATOR

    name: str
    region: str | None

    @property
    def title(self) -> str:
        return f"have the repository {self.name}"

    @property
    def shell(self) -> str:
        which, name = region_option(self.region), shlex.quote(self.name)
        return (
            f"aws ecr describe-repositories {which}--repository-names {name} >/dev/null 2>&1 || "
            f"aws ecr create-repository {which}--repository-name {name} "
            "--image-tag-mutability IMMUTABLE_WITH_EXCLUSION "
            "--image-tag-mutability-exclusion-filters filterType=WILDCARD,filter=latest "
            "--image-scanning-configuration scanOnPush=true"
        )

    def done(self, site: Site) -> bool:
        """Ask whether it is there; one that is kept otherwise stays so, and is told."""
        if not site.registry.exists():
            return False
        for difference in site.registry.differences():
            site.say(difference)
        return True

    def apply(self, site: Site) -> None:
        site.registry.create()


@dataclass(frozen=True)
class ShowRepository(Step):
    """Show the repository. Document: `{"repository": {"repositoryUri": …}}`."""

    document: ClassVar[str] = '"repositoryUri": <repository-uri>'
    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False
    where: ClassVar[Place] = Place.OPERATOR

    name: str
    region: str | None
    # Of a registry that is not ECR's nothing else is known.
    uri: str = ""

    @property
    def title(self) -> str:
        return "show the repository"

    @property
    def shell(self) -> str:
        if self.uri:
            return f"echo {shlex.quote(self.uri)}"
        which, name = region_option(self.region), shlex.quote(self.name)
        return (
            f"aws ecr describe-repositories {which}--repository-names {name} --query '{{repository: repositories[0]}}'"
        )

    def done(self, site: Site) -> bool:
        """Note it."""
        site.made(repository=dict(site.registry.shown()))
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""


@dataclass(frozen=True)
class Tag(Step):
    """Have the image tagged with the repository. Document: `docker tag <app-tag> <repository-uri>`."""

    phase: ClassVar[Phase | None] = Phase.UPLOAD
    document: ClassVar[str] = "docker tag <app-tag> <repository-uri>"

    source: str
    repository: Word
    tag: Word

    @property
    def title(self) -> str:
        return f"tag {self.source}"

    @property
    def shell(self) -> str:
        source, name = shlex.quote(self.source), f"{quoted(self.repository)}:{quoted(self.tag)}"
        return (
            f"[ \"$(docker image inspect -f '{{{{.Id}}}}' {name} 2>/dev/null)\" = "
            f"\"$(docker image inspect -f '{{{{.Id}}}}' {source})\" ] || docker tag {source} {name}"
        )

    def done(self, site: Site) -> bool:
        name = f"{site.value(self.repository)}:{site.value(self.tag)}"
        return site.docker.image_id(name) == site.docker.image_id(self.source)

    def apply(self, site: Site) -> None:
        site.docker.tag(self.source, site.value(self.repository), site.value(self.tag))


@dataclass(frozen=True)
class CheckLogin(Step):
    """Have the registry accept the login, as the engine asks it. Document: `eval $(aws ecr get-login)`."""

    document: ClassVar[str] = "eval $(aws ecr get-login --region <region>)"
    changes: ClassVar[bool] = False

    repository: Word
    credentials: RegistryLogin

    @property
    def title(self) -> str:
        return "log into the registry"

    @property
    def shell(self) -> str:
        return login_line(self.credentials)

    def done(self, site: Site) -> bool:
        """Note whose login it is, and until when; where none is kept, the registry may want none."""
        login = site.resolve(self.credentials)
        if login is None:
            site.made(login=None)
            return True
        with_login(site, self.credentials, lambda held: site.docker.login(held) if held else None)
        login = site.resolve(self.credentials)
        site.made(login={"registry": login.registry, "user": login.user, "expires": moment(login.expires)})
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`. Nothing is stored: each push and pull brings the login in its own header."""


@dataclass(frozen=True)
class Push(Step):
    """Have the registry hold the tag, with the digest of this image. Document: `docker push <repository-uri>`.

    In the script `CheckLogin` comes before it.
    """

    phase: ClassVar[Phase | None] = Phase.UPLOAD
    document: ClassVar[str] = "docker push <repository-uri>"
    cut_short: ClassVar[str] = "the engine gives it up, and the registry keeps the layers that are whole"

    repository: Word
    tag: Word
    credentials: RegistryLogin

    @property
    def title(self) -> str:
        return "push the image"

    @property
    def name(self) -> str:
        """The tag in whole, as bash reads it."""
        return f"{quoted(self.repository)}:{quoted(self.tag)}"

    @property
    def question(self) -> str:
        """Whether the registry has this image: its manifest names it by its id."""
        return (
            f"{docker_cli(self.credentials)} manifest inspect {self.name} 2>/dev/null | "
            f"grep -qF \"$(docker image inspect -f '{{{{.Id}}}}' {self.name})\""
        )

    @property
    def push(self) -> str:
        """What pushes it."""
        return f"{docker_cli(self.credentials)} push -q {self.name}"

    @property
    def shell(self) -> str:
        return f"{self.question} || {self.push}"

    def done(self, site: Site) -> bool:
        """Ask the registry, through the engine, whether its digest of the tag is one of this image's."""
        repository = site.value(self.repository)
        name = f"{repository}:{site.value(self.tag)}"
        digest = with_login(site, self.credentials, lambda held: site.docker.published(name, held))
        return digest is not None and f"{listed(repository)}@{digest}" in site.docker.image_digests(name)

    def apply(self, site: Site) -> bool:
        """Push it; `IMAGE_NOT_FOUND` where the engine has no such tag."""
        repository, tag = site.value(self.repository), site.value(self.tag)
        if not site.docker.has(f"{repository}:{tag}"):
            raise Failure(
                "IMAGE_NOT_FOUND", f"the head's engine has no {repository}:{tag}", "Tag it: invoke publish.tag"
            )
        with_login(site, self.credentials, lambda held: site.docker.push(repository, tag, held, site.say))
        return True


@dataclass(frozen=True)
class PushLatest(Push):
    """Have the registry hold the image as `latest`, too, where that may move. Document: `docker push <repository-uri>`.

    Who keeps a registry in which no tag moves means it: there the image is published by its own tag alone.
    """

    # The tag that names the image by what it is.
    own: Word

    @property
    def title(self) -> str:
        return "push latest"

    @property
    def shell(self) -> str:
        stays = f"latest may not move: set IMAGE={quoted(self.repository)}:{quoted(self.own)}"
        return (
            f'{self.question} || {{ said=$({self.push} 2>&1) && echo "$said"; }} || {{ echo "$said" >&2; '
            f'case $said in *immutable*) echo "{stays}" >&2;; *) false;; esac; }}'
        )

    def done(self, site: Site) -> bool:
        done = super().done(site)
        if done:
            self.note(site, "latest")
        return done

    def apply(self, site: Site) -> bool:
        """Push it; where the registry's tags may not move, say under which name the image is to be run."""
        try:
            super().apply(site)
        except Failure as failure:
            if failure.code != "TAG_IMMUTABLE":
                raise
            name = f"{site.value(self.repository)}:{site.value(self.own)}"
            site.say(f"latest stays what it was, for the registry lets no tag move: run this image with IMAGE={name}")
            self.note(site)
            return False
        self.note(site, "latest")
        return True

    def note(self, site: Site, *also: str) -> None:
        """Put the tags into the report."""
        site.made(tags=[site.value(self.own), *also])


@dataclass(frozen=True)
class ShowPublished(Step):
    """Tell under which names the image is published. Document: `<repository-uri>`."""

    document: ClassVar[str] = "<repository-uri>"
    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    repository: Word
    tag: Word

    @property
    def title(self) -> str:
        return "tell what is published"

    @property
    def shell(self) -> str:
        name = f"{quoted(self.repository)}:{quoted(self.tag)}"
        return f"docker image inspect -f '{{{{join .RepoDigests \" \"}}}}' {name}"

    def done(self, site: Site) -> bool:
        """Note it."""
        repository, tag = site.value(self.repository), site.value(self.tag)
        name = f"{repository}:{tag}"
        known = [found for found in site.docker.image_digests(name) if found.startswith(f"{listed(repository)}@")]
        digest = known[0].partition("@")[2] if known else None
        site.made(
            image=known[0] if known else None,
            digest=digest,
            uri=name,
            revision=site.docker.image_labels(name).get(REVISION_LABEL),
        )
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""


def listed(repository: str) -> str:
    """Give a repository's name as an engine lists it."""
    return ImageRef.parse(repository).listed


def moment(seconds: float | None) -> str | None:
    """Write a time, in seconds since 1970, in UTC; None stays."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
