"""Images on a node: pulled by whoever may, and fit for what they are for."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.lates.registry import RegistryLogin, docker_cli, login_line, with_login
from deploy.plan import Late, Step, Word, quoted, run_only
from deploy.ray import HOLES, WITH_HOLES, WITHOUT_TOKEN, is_of
from deploy.sizes import say_size
from deploy.timings import Phase

if TYPE_CHECKING:
    from deploy.site import Site, Weight


@dataclass(frozen=True)
class Login(Step):
    """Have the engine accept the registry's login, where an image is absent. Document: `aws ecr get-login`."""

    document: ClassVar[str] = "eval $(aws ecr get-login --region <region>)"
    changes: ClassVar[bool] = False
    ahead: ClassVar[bool] = True

    image: Late[str]
    credentials: RegistryLogin

    @property
    def title(self) -> str:
        return "log into the registry"

    @property
    def shell(self) -> str:
        there = f"docker image inspect {quoted(self.image)} >/dev/null 2>&1 || "
        return login_line(self.credentials, there)

    def done(self, site: Site) -> bool:
        """The run needs none: each pull brings its own credentials, in a header inside SSH."""
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""


KNOWS_NONE = "knows no token: whoever reaches its ports runs code on every node"
ALLOW = "Take Ray 2.52 or later; or, where nobody else reaches the nodes, set ALLOW_UNAUTHENTICATED=yes"
# What an image may need beside its own size while it comes: its layers as they are sent.
AMPLE = 2.5


@dataclass(frozen=True)
class Pull(Step):
    """Have the image on the node. Document: `docker pull <repository-uri>`."""

    phase: ClassVar[Phase | None] = Phase.PULL
    document: ClassVar[str] = "docker pull <repository-uri>"
    cut_short: ClassVar[str] = "the engine gives it up, and keeps the layers that are whole"
    ahead: ClassVar[bool] = True

    image: Word
    credentials: RegistryLogin | None = None
    weight: Late[Weight] | None = run_only(None)

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
        if self.weight and (weight := site.resolve(self.weight)).size:
            see_room(site, weight)
        image = site.value(self.image)
        with_login(site, self.credentials, lambda held: site.docker.pull(image, held, site.say))


def see_room(site: Site, weight: Weight) -> None:
    """See that the disk has room for an image; `DISK_FULL` where it cannot fit, a word where it may not."""
    missing, root = weight.size - site.docker.shared_with(weight), str(site.docker.facts().get("DockerRootDir"))
    if missing <= 0 or (free := free_at(site, root)) is None:
        return
    told = f"the image needs {say_size(missing)} in {root}, and {say_size(free)} are free"
    if free < missing:
        raise Failure("DISK_FULL", told, "Make room: docker system df")
    if free < AMPLE * missing:
        site.say(f"{told}: that may not do")


def free_at(site: Site, folder: str) -> int | None:
    """Give the bytes that are free on a folder's disk; None where the node does not tell, as of a folder not its own."""
    try:
        said = site.run("df", "-Pk", folder)
    except Failure as failure:
        if failure.code != "COMMAND_FAILED":
            raise
        return None
    # Of POSIX's columns: the size, used, available, and the share that is used.
    found = re.search(r"\s\d+\s+\d+\s+(\d{1,18})\s+\d+%\s", said)
    return int(found[1]) * 1024 if found else None


@dataclass(frozen=True)
class FitsEngine(Step):
    """Have the image be one for the node's system and architecture: another one's programs do not run there."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False
    ahead: ClassVar[bool] = True

    image: Word

    @property
    def title(self) -> str:
        return "compare the image's architecture"

    @property
    def shell(self) -> str:
        # Both in the names of Go.
        image = f"$(docker image inspect -f '{{{{.Os}}}}/{{{{.Architecture}}}}' {quoted(self.image)})"
        engine = "$(docker version -f '{{.Server.Os}}/{{.Server.Arch}}')"
        return f'[ "{image}" = "{engine}" ] || {{ echo \'the image is for another architecture\' >&2; exit 1; }}'

    def done(self, site: Site) -> bool:
        return site.docker.image_platform(site.value(self.image)) == site.docker.platform()

    def apply(self, site: Site) -> None:
        """Name both."""
        image = site.value(self.image)
        raise Failure(
            "IMAGE_WRONG_ARCH",
            f"{image} is for {site.docker.image_platform(image)}, and this node's engine runs {site.docker.platform()}",
            "Build it on such a machine, or take an image for it",
        )


@dataclass(frozen=True)
class FitsHead(Step):
    """Have a worker's image be one for the running head: Ray joins no other version of itself, or of Python."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    image: Word
    # Of the image and of the head's; both are nothing where these are the same.
    versions: Late[str]
    heads_versions: Late[str]

    @property
    def title(self) -> str:
        return "compare the image's Ray with the head's"

    @property
    def shell(self) -> str:
        return (
            f"[ {quoted(self.heads_versions)} = {quoted(self.versions)} ] || "
            "{ echo 'the head runs another Ray or Python' >&2; exit 1; }"
        )

    def done(self, site: Site) -> bool:
        return not site.value(self.heads_versions)

    def apply(self, site: Site) -> None:
        """Ask both images; `VERSION_MISMATCH` where they differ in a version, to its last part."""
        mine, heads = site.value(self.versions), site.value(self.heads_versions)
        if mine != heads:
            raise Failure(
                "VERSION_MISMATCH",
                f"{site.value(self.image)} has {in_words(mine)}, and the head runs {in_words(heads)}",
                "Run one image everywhere: invoke cluster.start --replace",
            )


def in_words(versions: str) -> str:
    """Say what versions of Ray and of Python these are."""
    ray, _, python = versions.partition(" ")
    return f"Ray {ray}{f' on Python {python}' if python else ''}"


@dataclass(frozen=True)
class FindRay(Step):
    """Find the version of the image's Ray, before anything of the cluster is touched, and see that it may run."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    version: Late[str]
    # Whether the operator has said that Ray may run without a token.
    open_to_all: bool = False

    @property
    def title(self) -> str:
        return "find Ray in the image"

    @property
    def shell(self) -> str:
        version = quoted(self.version)
        refused = f"({'|'.join(WITHOUT_TOKEN)}) echo {shlex.quote(f'it {KNOWS_NONE}. {ALLOW}')} >&2; exit 1 ;;"
        warned = f"({'|'.join(WITH_HOLES)}) echo {shlex.quote(f'it has {HOLES}')} >&2 ;;"
        cases = [warned] if self.open_to_all else [refused, warned]
        return "\n".join((f"echo Ray {version}", f"case {version}. in", *(f"  {case}" for case in cases), "esac"))

    def done(self, site: Site) -> bool:
        """Ask for it; one that is open to all has to be allowed, and one with known holes is told."""
        version = site.value(self.version)
        if is_of(version, WITHOUT_TOKEN) and not self.open_to_all:
            return False
        if is_of(version, WITH_HOLES):
            site.say(f"Ray {version} has {HOLES}: whoever reaches its ports may get in; Ray 2.54 has none of them")
        return True

    def apply(self, site: Site) -> None:
        """Refuse it: `RAY_OPEN`."""
        raise Failure("RAY_OPEN", f"Ray {site.value(self.version)} {KNOWS_NONE}", ALLOW)
