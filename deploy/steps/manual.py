"""The image made by hand: the containers that shells were left in, and the image of one."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deploy.errors import Failure
from deploy.plan import Late, Step
from deploy.timings import Phase

if TYPE_CHECKING:
    from deploy.site import Found, Site

# On a container: that it was made by hand, for which cluster. An image of it has the label too, and there it is empty.
MANUAL_LABEL = "raydock.manual"
BY_LABEL = "raydock.by"
# On an image: the container that it is of, and as it was left when.
CONTAINER_LABEL = "raydock.container"
DIFF_LABEL = "raydock.diff"
LIST = "See what there is: invoke build.containers"
# Others are left out of a summary: a label's quotes must hold.
PLAIN_NAME = "[A-Za-z0-9._-]+"


@dataclass(frozen=True)
class ShowLeft(Step):
    """List the containers that shells were left in. Document: `docker ps -a`."""

    document: ClassVar[str] = "docker ps -a"
    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    cluster: str

    @property
    def title(self) -> str:
        return "list the containers"

    @property
    def shell(self) -> str:
        return f"docker ps -a --filter label={MANUAL_LABEL}={self.cluster}"

    def done(self, site: Site) -> bool:
        """Note them, the newest first."""
        found = site.docker.containers({MANUAL_LABEL: self.cluster})
        left = [one for one in found if one.labels.get(MANUAL_LABEL) == self.cluster]
        site.made(containers=[record(one) for one in sorted(left, key=lambda one: one.created, reverse=True)])
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""


def record(found: Found) -> dict[str, Any]:
    """Give a container's object in the JSON document."""
    return {
        "container": found.id[:12],
        "created": f"{found.created[: len('2026-01-01T00:00:00')]}Z",
        "state": found.state,
        "image": found.image,
        "by": found.labels.get(BY_LABEL, ""),
    }


@dataclass(frozen=True)
class Commit(Step):
    """Make the application's image of a container. Document: `docker commit -t <app-tag> <container-id>`.

    Its labels say what it was made of, by whom, when, and what was done in between.
    """

    phase: ClassVar[Phase | None] = Phase.BUILD
    document: ClassVar[str] = "docker commit -t <app-tag> <container-id>"

    container: str
    cluster: str
    tag: str
    by: Late[str]
    now: Late[str]

    @property
    def title(self) -> str:
        return f"commit {self.container} as {self.tag}"

    @property
    def shell(self) -> str:
        name, tag = self.container, shlex.quote(self.tag)
        values = self.labels(f"${self.by.name}", f"${self.now.name}", "$left", "${base##*@}", "$diff")
        labels = " ".join(f'{key}=\\"{value}\\"' for key, value in values.items())
        is_left = f'{{{{index .Config.Labels "{MANUAL_LABEL}"}}}} {{{{.State.Running}}}}'
        return "\n".join(
            (
                f"[ \"$(docker inspect -f '{is_left}' {name})\" = '{self.cluster} false' ] || "
                f"{{ echo 'no container that a shell was left in: {name}' >&2; exit 1; }}",
                f"left=$(docker inspect -f '{{{{.Id}}}}@{{{{.State.FinishedAt}}}}' {name})",
                f"base=$(docker inspect -f '{{{{.Image}}}}' {name})",
                "command=$(docker image inspect -f '{{with .Config.Cmd}}{{json .}}{{else}}[]{{end}}' \"$base\")",
                "base=$(docker image inspect -f "
                "'{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' \"$base\")",
                f"diff=\"$(docker diff {name} | cut -c1 | sort | uniq -c | tr -s ' ' | cut -c2- | paste -sd,) in "
                f"$(docker diff {name} | cut -d/ -f2 | LC_ALL=C sort -u | {{ grep -xE '{PLAIN_NAME}' || true; }} | "
                "paste -sd' ')\"",
                f'[ "$(docker image inspect -f \'{{{{index .Config.Labels "{CONTAINER_LABEL}"}}}}\' {tag} 2>/dev/null)" = '
                f'"$left" ] || docker commit -c "CMD $command" -c "LABEL {labels}" {name} {tag} >/dev/null',
            )
        )

    def labels(self, by: str, now: str, left: str, base: str, diff: str) -> dict[str, str]:
        """Give the labels of the image."""
        return {
            CONTAINER_LABEL: left,
            "org.opencontainers.image.base.digest": base,
            "org.opencontainers.image.authors": by,
            "org.opencontainers.image.created": now,
            DIFF_LABEL: diff,
            MANUAL_LABEL: "",
        }

    def left(self, site: Site) -> Found:
        """Give the container; `CONTAINER_NOT_FOUND` and `CONTAINER_RUNS` where it is none that was left."""
        found = site.docker.find(self.container)
        if found is None or found.labels.get(MANUAL_LABEL) != self.cluster:
            raise Failure("CONTAINER_NOT_FOUND", f"no shell was left in a container {self.container}", LIST)
        if found.running:
            raise Failure(
                "CONTAINER_RUNS", f"a shell is open in {self.container}", "Leave it by `exit`, and say it again"
            )
        return found

    def done(self, site: Site) -> bool:
        found = self.left(site)
        done = site.docker.image_labels(self.tag).get(CONTAINER_LABEL) == f"{found.id}@{found.finished}"
        if done:
            self.note(site)
        return done

    def apply(self, site: Site) -> None:
        found = self.left(site)
        known = site.docker.image_digests(found.image_id)
        labels = self.labels(
            site.value(self.by),
            site.value(self.now),
            f"{found.id}@{found.finished}",
            (known[0] if known else found.image_id).rpartition("@")[2],
            summary(site.docker.diff(found.id)),
        )
        command = json.dumps(list(site.docker.image_command(found.image_id)))
        written = " ".join(f'{key}="{value}"' for key, value in labels.items())
        site.docker.commit(found.id, self.tag, (f"CMD {command}", f"LABEL {written}"))
        self.note(site)

    def note(self, site: Site) -> None:
        """Put the image into the report."""
        site.made(image=site.docker.image_id(self.tag), digest=None, uri=None, tags=[self.tag], revision=None)


def summary(changes: Iterable[str]) -> str:
    """Say how much of a container differs from its image, and where: `3 A,1 C in app root`."""
    listed = list(changes)
    counts = sorted(Counter(change[:1] for change in listed).items())
    places = {change.split("/")[1] for change in listed if "/" in change}
    plain = sorted(place for place in places if re.fullmatch(PLAIN_NAME, place))
    return f"{','.join(f'{count} {kind}' for kind, count in counts)} in {' '.join(plain)}"
