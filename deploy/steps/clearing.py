"""The name that Ray's container takes: free, or borne by the wanted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Step, Word, quoted
from deploy.ray import RUN, STOP_GRACE, Container, all_labels, changed_keys
from deploy.steps.containers import check_ours, note_container

if TYPE_CHECKING:
    from deploy.site import Found, Site
from deploy.timings import Phase

# What tells the wanted container from another: what was asked, the image, the head and its token.
IDENTITY = ("raydock.cluster", "raydock.spec", "raydock.image", "raydock.head", RUN)


def identity(container: Container) -> Mapping[str, Word]:
    """Give the labels by which the wanted container is known."""
    labels = dict(all_labels(container))
    return {key: labels[key] for key in IDENTITY}


def identity_on(site: Site, container: Container) -> Mapping[str, str]:
    """Give them as they are on a node."""
    return {key: site.value(value) for key, value in identity(container).items()}


@dataclass(frozen=True)
class ClearName(Step):
    """Have the container's name free, or borne by the wanted one. Stale ones of ours go; no other is touched."""

    phase: ClassVar[Phase | None] = Phase.STOP
    container: Container

    @property
    def title(self) -> str:
        return "clear the name"

    @property
    def shell(self) -> str:
        name = self.container.name
        fields = " ".join(f'{{{{index .Config.Labels "{key}"}}}}' for key in IDENTITY)
        wanted = " ".join(map(quoted, identity(self.container).values()))
        mine = f"--filter name=^/{name}$ --filter label=raydock.cluster={self.container.cluster}"
        stale = f"{mine} --filter status=created --filter status=exited --filter status=dead"
        return (
            f'[ -z "$(docker ps -aq --filter name=^/{name}$)" ] || '
            f"[ \"$(docker inspect -f '{{{{.State.Running}}}} {fields}' {name})\" = true\\ {wanted.replace(' ', chr(92) + ' ')} ] || "
            f'docker rm "$(docker ps -aq {stale})" 2>/dev/null || '
            f"{{ echo '{name} runs with another spec or is not ours: nothing was touched' >&2; exit 1; }}"
        )

    def done(self, site: Site) -> bool:
        found = site.docker.find(self.container.name)
        if found is None:
            return True
        wanted = identity_on(site, self.container)
        return found.running and all(found.labels.get(key) == value for key, value in wanted.items())

    def apply(self, site: Site) -> None:
        """Remove what is stale; `NAME_CONFLICT` for somebody else's, `SPEC_CHANGED` for ours that runs otherwise."""
        found = site.docker.find(self.container.name)
        if found is None:
            return
        check_ours(found, self.container.cluster)
        if found.running and not self.former(found, site):
            self.refuse(found, site)
        site.say(f"removing the stale container {found.id[:12]} ({found.state})")
        if found.running:
            site.docker.stop(found.id, STOP_GRACE)
        site.docker.remove(found.id)

    def note_state(self, site: Site) -> None:
        """Note the cluster's own container; somebody else's is none."""
        found = site.docker.find(self.container.name)
        note_container(site, found if found and found.labels.get("raydock.cluster") == self.container.cluster else None)

    def former(self, found: Found, site: Site) -> bool:
        """Tell whether a running worker belongs to a head that is gone."""
        wanted = identity_on(site, self.container)
        return self.container.role == "worker" and any(
            found.labels.get(key) != wanted[key] for key in ("raydock.head", RUN)
        )

    def refuse(self, found: Found, site: Site) -> None:
        """Say in which settings, or in what else, the running container differs."""
        note_container(site, found)
        others = ", ".join(differing(found, self.container, site)) or "spec"
        raise Failure(
            "SPEC_CHANGED",
            f"{found.name} runs with another {others}; it was left as it is",
            "Replace it: invoke cluster.start --replace",
        )


def differing(found: Found, container: Container, site: Site) -> list[str]:
    """Name the settings, and what else, in which a running container is not the wanted one."""
    keys = list(changed_keys(found.labels.get("raydock.asked", ""), container.asked))
    if found.labels.get("raydock.image") != site.value(container.image):
        keys.append("the image")
    if found.labels.get("raydock.head") != site.value(dict(container.labels)["raydock.head"]):
        keys.append("the head's address")
    return keys


@dataclass(frozen=True)
class Compare(Step):
    """See whether a container of ours runs otherwise than wanted, and note in what."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    container: Container

    @property
    def title(self) -> str:
        return "compare the container"

    @property
    def shell(self) -> str:
        return f"docker inspect -f '{{{{json .Config.Labels}}}}' {self.container.name}"

    def done(self, site: Site) -> bool:
        """Note it; what does not run, or is somebody else's, is for `ClearName` to judge."""
        found = site.docker.find(self.container.name)
        note_container(site, found)
        if found and found.running and found.labels.get("raydock.cluster") == self.container.cluster:
            site.note(differs=differing(found, self.container, site))
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""
