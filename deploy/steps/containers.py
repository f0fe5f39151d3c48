"""Ray's containers: created, given the token, started, shown, stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Late, Step, run_only
from deploy.ray import STOP_GRACE, TOKEN_PATH, Container, create_line
from deploy.timings import Phase

if TYPE_CHECKING:
    from deploy.site import Found, Listed, Site

LOG_TAIL = 20  # lines of a container that ended


def note_container(site: Site, found: Found | None) -> None:
    """Put a container, or its absence, into the node's line of the report."""
    if found is None:
        site.note(container="absent", container_id=None, spec=None, digest=None)
        return
    site.note(
        container="running" if found.running else "exited",
        container_id=found.id[:12],
        spec=found.labels.get("raydock.spec"),
        digest=found.labels.get("raydock.image", "").partition("@")[2] or None,
    )


def check_ours(found: Found | None, cluster: str) -> None:
    """See that a container is one of the cluster's, if there is one; `NAME_CONFLICT` where it is somebody else's."""
    if found and found.labels.get("raydock.cluster") != cluster:
        raise Failure(
            "NAME_CONFLICT",
            f"the container {found.name} is not one of ours",
            f"Rename it (docker rename {found.name} …), or choose another CLUSTER_NAME",
        )


def is_running(name: str) -> str:
    """Write the question whether a container runs."""
    return f"[ \"$(docker inspect -f '{{{{.State.Running}}}}' {name})\" = true ]"


@dataclass(frozen=True)
class Create(Step):
    """Create Ray's container. Document: `docker run -d --shm-size=<shm-size> --net=host <repository-uri> ray start`."""

    document: ClassVar[str] = "docker run -d --shm-size=<shm-size> --net=host <repository-uri> ray start …"
    cut_short: ClassVar[str] = "one that was created and not started gives way at the next start"

    container: Container

    @property
    def title(self) -> str:
        return "create the container"

    @property
    def shell(self) -> str:
        name, cluster = self.container.name, self.container.cluster
        label = "'{{index .Config.Labels \"raydock.cluster\"}}'"
        ours = f'[ "$(docker inspect -f {label} {name} 2>/dev/null)" = {cluster} ]'
        # Where somebody else's has the name, the engine refuses.
        return f"{ours} || {create_line(self.container)} >/dev/null"

    def done(self, site: Site) -> bool:
        """Tell whether ours is there; `NAME_CONFLICT` where somebody else's is. One that comes now the engine refuses."""
        found = site.docker.seen(self.container.name)
        check_ours(found, self.container.cluster)
        return found is not None

    def apply(self, site: Site) -> None:
        site.docker.create(self.container, site.value)


@dataclass(frozen=True)
class LayToken(Step):
    """Have Ray's token in the container, readable by its user alone, and written nowhere else."""

    cut_short: ClassVar[str] = Create.cut_short

    name: str
    token: Late[str]

    @property
    def title(self) -> str:
        return "lay Ray's token in"

    @property
    def shell(self) -> str:
        file = TOKEN_PATH.rpartition("/")[2]
        return (
            f"{{ {is_running(self.name)} && docker cp {self.name}:{TOKEN_PATH} - >/dev/null 2>&1; }} ||\n"
            # What one that never ran has by that name may be its image's.
            f"  docker diff {self.name} | grep -q ' {TOKEN_PATH}$' || {{\n"
            f"  user=$(docker inspect -f '{{{{.Config.User}}}}' {self.name}); user=${{user%%:*}}\n"
            f"  [[ ${{user:=0}} =~ ^[0-9]+$ ]] || user=$(docker cp {self.name}:/etc/passwd - | tar -xO "
            '| grep "^$user:" | cut -d: -f3)\n'
            f'  (umask 077; printf %s "${self.token.name}" >"$memory/{file}")\n'
            f'  tar -C "$memory" --numeric-owner --owner="$user" --group=0 -cf - {file} '
            f"| docker cp - {self.name}:{TOKEN_PATH.rpartition('/')[0]}\n}}"
        )

    def done(self, site: Site) -> bool:
        return site.docker.has_laid(self.name, TOKEN_PATH)

    def apply(self, site: Site) -> None:
        uid = site.docker.user_id(self.name)
        site.docker.put_file(self.name, TOKEN_PATH, site.value(self.token).encode(), uid)


@dataclass(frozen=True)
class StartContainer(Step):
    """Start the container that was created. Document: `docker run -d …`."""

    document: ClassVar[str] = "docker run -d …"

    name: str
    former: Late[frozenset[str]] | None = run_only(default=None)

    @property
    def title(self) -> str:
        return "start the container"

    @property
    def shell(self) -> str:
        return f"{is_running(self.name)} || docker start {self.name} >/dev/null"

    def done(self, site: Site) -> bool:
        found = site.docker.seen(self.name)
        if found and found.running:
            found = site.docker.find(self.name)  # it may have ended since
        note_container(site, found)
        return found is not None and found.running

    def apply(self, site: Site) -> None:
        """Start it, once it is known which nodes Ray takes for alive without it: a dead one's former life may be."""
        if self.former:
            site.resolve(self.former)
        site.docker.start(self.name)
        site.note(started=time.monotonic())
        note_container(site, site.docker.find(self.name))


@dataclass(frozen=True)
class StopContainers(Step):
    """Stop and remove this cluster's containers of a role. Document: `docker kill $(docker ps -q)`."""

    phase: ClassVar[Phase | None] = Phase.STOP
    document: ClassVar[str] = "docker kill $(docker ps -q)"
    cut_short: ClassVar[str] = "the engine may go on with it"

    cluster: str
    role: str
    grace: int = STOP_GRACE  # seconds to end in

    @property
    def title(self) -> str:
        return "stop the container"

    @property
    def shell(self) -> str:
        ours = f"docker ps -aq --filter label=raydock.cluster={self.cluster} --filter label=raydock.role={self.role}"
        return f'[ -z "$({ours})" ] || {{ docker stop -t {self.grace} $({ours}) && docker rm $({ours}); }} >/dev/null'

    @property
    def labels(self) -> Mapping[str, str]:
        """Give what all of them bear."""
        return {"raydock.cluster": self.cluster, "raydock.role": self.role}

    def ours(self, listed: Iterable[Listed]) -> tuple[Listed, ...]:
        """Give the containers that bear both labels; the engine's filter is not taken at its word."""
        return tuple(one for one in listed if self.labels.items() <= one.labels.items())

    def done(self, site: Site) -> bool:
        found = self.ours(site.docker.listed(self.labels))
        if not found:
            note_container(site, None)
        return not found

    def apply(self, site: Site) -> None:
        for one in self.ours(site.docker.seen_in_list(self.labels)):
            if one.running:
                site.docker.stop(one.id, self.grace)
            site.docker.remove(one.id)
        note_container(site, None)


@dataclass(frozen=True)
class ShowContainer(Step):
    """Look at the cluster's container on a node. Document: `docker ps`."""

    document: ClassVar[str] = "docker ps"
    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    name: str

    @property
    def title(self) -> str:
        return "look at the container"

    @property
    def shell(self) -> str:
        return f"docker ps -a --filter name=^/{self.name}$"

    def done(self, site: Site) -> bool:
        return False

    def apply(self, site: Site) -> None:
        """Note what there is; `NOT_RUNNING` or `RAY_EXITED` where it is not a running container."""
        found = site.docker.find(self.name)
        note_container(site, found)
        if found is None:
            raise Failure("NOT_RUNNING", f"no container {self.name}", "Start it: invoke cluster.start")
        if not found.running:
            raise exited(site, found)


def exited(site: Site, found: Found) -> Failure:
    """Give the failure of a container that ended, and put its last lines into the report."""
    lines = site.docker.logs(found.name, LOG_TAIL)
    site.note(container="exited", log_tail=list(lines), ray="absent")
    last = lines[-1] if lines else "it wrote nothing"
    return Failure(
        "RAY_EXITED",
        f"{found.name} ended with {found.exit_code}: {last}",
        f"All of it: docker logs {found.name}",
    )
