"""Images: had on a node, built, tagged, published."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deploy.errors import Failure
from deploy.lates.registry import docker_cli, logged_in
from deploy.plan import Late, Place, Step, Word, quoted
from deploy.shell import AS_ROOT, apt_install

if TYPE_CHECKING:
    from deploy.site import Site

RECIPE_LABEL = "raydock.recipe"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ROOT_DEADLINE = 900  # seconds for a root file system from the distribution's packages


@dataclass(frozen=True)
class Login(Step):
    """Have the engine accept the registry's login, where an image is absent. Document: `aws ecr get-login`."""

    document: ClassVar[str] = "eval $(aws ecr get-login --region <region>)"
    changes: ClassVar[bool] = False

    image: Late[str]
    credentials: Late[Any]

    @property
    def title(self) -> str:
        return "log into the registry"

    @property
    def shell(self) -> str:
        return (
            f"docker image inspect {quoted(self.image)} >/dev/null 2>&1 || "
            f"{logged_in(self.credentials, self.image).removesuffix(' && ') or ':'}"
        )

    def done(self, site: Site) -> bool:
        """The run needs none: each pull brings its own credentials, in a header inside SSH."""
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""


@dataclass(frozen=True)
class Pull(Step):
    """Have the image on the node. Document: `docker pull <repository-uri>`."""

    document: ClassVar[str] = "docker pull <repository-uri>"

    image: Word
    credentials: Late[Any] | None = None

    @property
    def title(self) -> str:
        return "pull the image"

    @property
    def shell(self) -> str:
        image = quoted(self.image)
        return f"docker image inspect {image} >/dev/null 2>&1 || {docker_cli(self.credentials)} pull -q {image}"

    def done(self, site: Site) -> bool:
        return site.docker.has(site.value(self.image))

    def apply(self, site: Site) -> None:
        credentials = site.resolve(self.credentials) if self.credentials else None
        site.docker.pull(site.value(self.image), credentials, site.say)


@dataclass(frozen=True)
class HaveBase(Pull):
    """Have the image that the application's is built on. Document: `FROM ray-project/deploy`."""

    document: ClassVar[str] = "FROM ray-project/deploy"

    @property
    def title(self) -> str:
        return f"have {self.image}"

    def apply(self, site: Site) -> None:
        """Pull it; `BASE_IMAGE_ABSENT` where it cannot be had."""
        try:
            super().apply(site)
        except Failure as failure:
            raise Failure(
                "BASE_IMAGE_ABSENT",
                f"{self.image} is not on the head, and no registry has it",
                "Make it: invoke build.base",
            ) from failure


@dataclass(frozen=True)
class MakeRoot(Step):
    """Have a root file system with Python and git: pulled, or made of Debian's packages where it cannot be."""

    image: str
    pulled: str
    suite: str = "bookworm"

    @property
    def title(self) -> str:
        return f"have {self.image}"

    @property
    def made(self) -> str:
        """The lines that make the root of the distribution's packages."""
        return (
            f"command -v mmdebstrap >/dev/null || {apt_install('--no-install-recommends', 'mmdebstrap')}\n"
            "as_root mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,python3,python3-venv "
            f'--customize-hook=\'rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale\' {self.suite} - | docker import --message mmdebstrap - {self.image} >/dev/null'
        )

    @property
    def shell(self) -> str:
        return (
            f"docker image inspect {self.image} >/dev/null 2>&1 || "
            f"{{ docker pull -q {self.pulled} && docker tag {self.pulled} {self.image}; }} || {{\n{self.made}\n}}"
        )

    def done(self, site: Site) -> bool:
        return site.docker.has(self.image)

    def apply(self, site: Site) -> None:
        """Pull the root; where that fails, say so and make one on the node."""
        try:
            site.docker.pull(self.pulled, None, site.say)
        except Failure as failure:
            site.say(f"{self.pulled} cannot be pulled ({failure.code}): making a Debian {self.suite} root instead")
            site.run("bash", "-ec", f"set -o pipefail\n{AS_ROOT}\n{self.made}", timeout=ROOT_DEADLINE)
        else:
            repository, _, tag = self.image.partition(":")
            site.docker.tag(self.pulled, repository, tag or "latest")


@dataclass(frozen=True)
class Build(Step):
    """Build an image of a Dockerfile, unless it was built of the same before. Document: `docker build -t <my-app> .`."""

    document: ClassVar[str] = "docker build -t <my-app> ."

    tag: str
    dockerfile: Word
    recipe: Late[str]
    with_ca_bundle: bool = False

    @property
    def title(self) -> str:
        return f"build {self.tag}"

    @property
    def shell(self) -> str:
        tag = shlex.quote(self.tag)
        bundle = f' && cp {CA_BUNDLE} "$memory/build/"' if self.with_ca_bundle else ""
        return (
            f'[ "$(docker image inspect -f \'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}\' {tag} 2>/dev/null)" '
            f'= {quoted(self.recipe)} ] || {{ mkdir -p "$memory/build" && '
            f'printf %s {quoted(self.dockerfile)} >"$memory/build/Dockerfile"{bundle} && '
            f'docker build -t {tag} --label {RECIPE_LABEL}={quoted(self.recipe)} "$memory/build"; }}'
        )

    def done(self, site: Site) -> bool:
        return site.docker.image_labels(self.tag).get(RECIPE_LABEL) == site.value(self.recipe)

    def apply(self, site: Site) -> None:
        context = {"Dockerfile": site.value(self.dockerfile).encode()}
        if self.with_ca_bundle:
            context["ca-certificates.crt"] = site.run("cat", CA_BUNDLE).encode()
        site.docker.build(context, self.tag, {"labels": {RECIPE_LABEL: site.value(self.recipe)}}, site.say)


@dataclass(frozen=True)
class CreateRepository(Step):
    """Have the repository in ECR. Document: `aws ecr create-repository --repository-name <repository-name>`."""

    document: ClassVar[str] = "aws ecr create-repository --repository-name <repository-name> --region=<region>"
    where: ClassVar[Place] = Place.OPERATOR

    name: str
    region: str | None

    @property
    def title(self) -> str:
        return f"have the repository {self.name}"

    @property
    def shell(self) -> str:
        which = f"--region {shlex.quote(self.region)} " if self.region else ""
        name = shlex.quote(self.name)
        return (
            f"aws ecr describe-repositories {which}--repository-names {name} >/dev/null 2>&1 || "
            f"aws ecr create-repository {which}--repository-name {name} "
            "--image-tag-mutability IMMUTABLE_WITH_EXCLUSION "
            "--image-tag-mutability-exclusion-filters filterType=WILDCARD,filter=latest "
            "--image-scanning-configuration scanOnPush=true"
        )

    def done(self, site: Site) -> bool:
        return site.registry.exists()

    def apply(self, site: Site) -> None:
        site.registry.create()


@dataclass(frozen=True)
class Tag(Step):
    """Have the image tagged with the repository. Document: `docker tag <app-tag> <repository-uri>`."""

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
class Push(Step):
    """Have the registry hold the tag, with the digest of this image. Document: `docker push <repository-uri>`."""

    document: ClassVar[str] = "docker push <repository-uri>"

    repository: Word
    tag: Word
    credentials: Late[Any]

    @property
    def title(self) -> str:
        return "push latest" if self.tag == "latest" else "push the image"

    @property
    def shell(self) -> str:
        name, docker = f"{quoted(self.repository)}:{quoted(self.tag)}", docker_cli(self.credentials)
        # The manifest names the image by its id.
        return (
            f"{logged_in(self.credentials, self.repository)}{{ {docker} manifest inspect {name} 2>/dev/null | "
            f"grep -qF \"$(docker image inspect -f '{{{{.Id}}}}' {name})\" || {docker} push -q {name}; }}"
        )

    def done(self, site: Site) -> bool:
        """Ask the registry, through the engine, whether its digest of the tag is one of this image's."""
        repository = site.value(self.repository)
        name = f"{repository}:{site.value(self.tag)}"
        digest = site.docker.published(name, site.resolve(self.credentials))
        here = digest is not None and f"{repository}@{digest}" in site.docker.image_digests(name)
        if here:
            site.note(digest=digest, uri=name)
        return here

    def apply(self, site: Site) -> None:
        repository, tag = site.value(self.repository), site.value(self.tag)
        digest = site.docker.push(repository, tag, site.resolve(self.credentials), site.say)
        site.note(digest=digest, uri=f"{repository}:{tag}")
