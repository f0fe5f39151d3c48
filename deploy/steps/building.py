"""Images made on the head: the root, the base with Ray, the application."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deploy.durations import parse_duration
from deploy.errors import Failure
from deploy.lates.project import FOLDER
from deploy.plan import Late, Step, Word, quoted
from deploy.shell import AS_ROOT, apt_install
from deploy.steps.images import Pull

if TYPE_CHECKING:
    from deploy.site import Site
from deploy.timings import Phase

RECIPE_LABEL = "raydock.recipe"
REVISION_LABEL = "org.opencontainers.image.revision"  # by Dockerfile.template
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ROOT_DEADLINE = 900  # seconds for a root file system from the distribution's packages


def recipe_of(tag: str) -> str:
    """Write the command that tells what an image was built of."""
    return f"docker image inspect -f '{{{{index .Config.Labels \"{RECIPE_LABEL}\"}}}}' {shlex.quote(tag)}"


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

    phase: ClassVar[Phase | None] = Phase.BUILD
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
            site.run("bash", "-ec", f"set -o pipefail\n{AS_ROOT}\n{self.made}", timeout=ROOT_DEADLINE, live=True)
        else:
            repository, _, tag = self.image.partition(":")
            site.docker.tag(self.pulled, repository, tag or "latest")


@dataclass(frozen=True)
class Build(Step):
    """Build an image of a Dockerfile, unless it was built of the same before. Document: `docker build -t <my-app> .`."""

    phase: ClassVar[Phase | None] = Phase.BUILD
    document: ClassVar[str] = "docker build -t <my-app> ."
    cut_short: ClassVar[str] = "the engine gives it up, and keeps the steps that are done"

    tag: str
    dockerfile: Word
    recipe: Late[str]
    with_ca_bundle: bool = False
    project: Late[AbstractContextManager[Path]] | None = None
    # For how long a step may say nothing.
    idle: str = "30m"

    @property
    def title(self) -> str:
        return f"build {self.tag}"

    @property
    def shell(self) -> str:
        tag = shlex.quote(self.tag)
        bundle = f' && cp {CA_BUNDLE} "$memory/build/"' if self.with_ca_bundle else ""
        folder, tree = '"$memory/build"', ""
        if self.project:
            folder = f'"$memory/build/{FOLDER}"'
            tree = f" && printf %s {quoted(self.project)} | base64 -d | tar -xpzC {folder}"
        return (
            f'[ "$({recipe_of(self.tag)} 2>/dev/null)" '
            f"= {quoted(self.recipe)} ] || {{ mkdir -p {folder} && "
            f'printf %s {quoted(self.dockerfile)} >"$memory/build/Dockerfile"{bundle}{tree} && '
            f'docker build -t {tag} --label {RECIPE_LABEL}={quoted(self.recipe)} "$memory/build"; }}'
        )

    def done(self, site: Site) -> bool:
        built = site.docker.image_labels(self.tag).get(RECIPE_LABEL) == site.value(self.recipe)
        if built:
            self.note(site)
        return built

    def apply(self, site: Site) -> None:
        context = {"Dockerfile": site.value(self.dockerfile).encode()}
        if self.with_ca_bundle:
            context["ca-certificates.crt"] = site.run("cat", CA_BUNDLE).encode()
        options = {"labels": {RECIPE_LABEL: site.value(self.recipe)}}
        with site.resolve(self.project) if self.project else nullcontext() as tree:
            site.docker.build(context, self.tag, options, site.say, tree=tree, idle=parse_duration(self.idle))
        self.note(site)

    def note(self, site: Site) -> None:
        """Put the image into the report."""
        revision = site.docker.image_labels(self.tag).get(REVISION_LABEL)
        site.made(image=site.docker.image_id(self.tag), digest=None, uri=None, tags=[self.tag], revision=revision)
