"""Images on a node: pulled by whoever may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deploy.lates.registry import docker_cli, logged_in
from deploy.plan import Late, Step, Word, quoted

if TYPE_CHECKING:
    from deploy.site import Site


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
