"""Ray as containers: what `ray start` is asked on the head and on a worker, and the spec that names it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from deploy.plan import Late, Spread, Word, argument, lates, phrase, quoted
from deploy.reading import Fields, Odd, parsed

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings
    from deploy.site import Site

TOKEN_PATH = "/run/ray-token"  # noqa: S105 - a path, not a token
RAY = "raydock.ray"  # the label with the version of Ray that a container runs
RUN = "raydock.run"  # the label with the fingerprint of its token
ADDRESS = "raydock.address"  # the label with the address that Ray was started with in it
HARDENED = "--cap-drop ALL --security-opt no-new-privileges"  # as every container of ours is
STOP_GRACE = 45  # seconds; `ray start --block` drains up to 30 s on SIGTERM


@dataclass(frozen=True)
class Dialect:
    """The flags of `ray start` in a range of Ray's versions. `{…}` stands for a value."""

    head: tuple[str, ...]
    worker: tuple[str, ...]


def dialect(port: str, address: str, num_workers: str, *dashboard: str) -> Dialect:
    """Give a dialect by what it calls the head's port, the head's address and the node's workers."""
    head, node = f"{port}={{port}}", f"{address}={{head}}"
    usual = ("--object-manager-port={object_manager_port}", "--node-ip-address={address}")
    workers = f"{num_workers}={{num_workers}}"
    return Dialect(("--head", "--block", head, *usual, workers, *dashboard), ("--block", node, *usual, workers))


# By the versions that speak it: a pattern as `case` in bash reads it, of which the first that fits holds. An old Ray
# refuses what it does not know, so the dashboard's host and port are asked only of one that has these flags.
DIALECTS: Mapping[str, Dialect] = {
    "0.[0-5].*": dialect("--redis-port", "--redis-address", "--num-workers"),  # the document's own
    "0.[67].*": dialect("--redis-port", "--redis-address", "--num-cpus"),
    # `--address` came first; since 0.8.4 `--redis-address` is refused, and `--port` is there since 0.8.6.
    "0.8.[0-5].*": dialect("--redis-port", "--address", "--num-cpus"),
    "0.8.6.*": dialect("--port", "--address", "--num-cpus"),
    "*": dialect(
        "--port",
        "--address",
        "--num-cpus",
        "--dashboard-host={dashboard_host}",
        "--dashboard-port={dashboard_port}",
    ),
}
# Versions whose head has no list of its nodes that we could read, and takes no jobs.
MUTE = "[01].*"


# Versions that ask nobody for a token, and those of which it is known how to get in all the same.
WITHOUT_TOKEN = ("[01].*", "2.[0-9].*", "2.[1-4][0-9].*", "2.5[01].*")
WITH_HOLES = (*WITHOUT_TOKEN, "2.5[23].*")
HOLES = "CVE-2023-48022, CVE-2025-62593, CVE-2026-27482"


def is_of(version: str, patterns: Sequence[str]) -> bool:
    """Tell whether a version is one of these; bash's `case` reads the patterns likewise, with a dot behind it."""
    return any(fnmatchcase(f"{version}.", pattern) for pattern in patterns)


def spoken(version: str) -> str:
    """Give the key of the dialect that a version of Ray speaks."""
    return next(versions for versions in DIALECTS if fnmatchcase(f"{version}.", versions))


def is_mute(labels: Mapping[str, str]) -> bool:
    """Tell by a container's labels whether its Ray is below 2.0; one without the label was started by today's."""
    return fnmatchcase(labels.get(RAY, ""), MUTE)


def mute_shell(head: str) -> str:
    """Write the question whether the head's container runs a Ray below 2.0."""
    fields = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{RAY}"}}}}'
    return f"[[ \"$(docker inspect -f '{fields}' {head})\" == true\\ {MUTE} ]]"


@dataclass(frozen=True)
class Container:
    """A container of ours: what `docker create` is told."""

    name: str
    cluster: str
    role: str
    asked: str
    image: Late[str]
    command: tuple[Word | Spread, ...]
    environment: tuple[tuple[str, str], ...]
    shm_size: Word
    gpus: Word
    volumes: tuple[str, ...]
    capabilities: tuple[str, ...]
    labels: tuple[tuple[str, Word], ...]
    # Limits; empty and none where the node's own are the only ones.
    memory: str = ""
    pids_limit: int | None = None

    @property
    def spec(self) -> str:
        """What was asked, in short: the label by which a running container is known to be the wanted one."""
        return f"v1:{hashlib.sha256(self.asked.encode()).hexdigest()[:12]}"


def container_name(cluster: str, role: str) -> str:
    """Give the name of a cluster's container on a head or a worker."""
    return f"raydock-{cluster}-{role}"


def environment(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Give the variables of every container; the operator's own come last and win."""
    token = () if settings.allow_unauthenticated else (("RAY_AUTH_TOKEN_PATH", TOKEN_PATH),)
    return (
        # With the mode unset, a head that finds a token turns authentication on by itself, and a worker does not.
        ("RAY_AUTH_MODE", "disabled" if settings.allow_unauthenticated else "token"),
        *token,
        ("RAY_USAGE_STATS_ENABLED", "0"),
        *(entry.partition("=")[::2] for entry in settings.container_env),
    )


def asked(settings: Settings, node: Node) -> dict[str, Any]:
    """Give what the operator asked of a node, with `auto` as `auto`: the part of a container that has a spec."""
    options = node.options
    wanted = {
        "role": node.role,
        "redis_port": settings.redis_port,
        "object_manager_port": settings.object_manager_port,
        "shm_size": options.shm_size or settings.shm_size,
        "num_workers": str(options.num_workers or settings.num_workers),
        "gpus": options.gpus or settings.gpus,
        "resources": options.resources,
        "volumes": list(settings.volumes),
        "container_env": list(settings.container_env),
        "ray_start_args": list(settings.ray_start_args),
        "allow_unauthenticated": settings.allow_unauthenticated,
    }
    if settings.capabilities:
        wanted["capabilities"] = list(settings.capabilities)
    # What was not asked is not there: a cluster that was started before these settings were has the same spec.
    limits = {"memory": settings.memory, "pids_limit": settings.pids_limit}
    wanted |= {key: limit for key, limit in limits.items() if limit is not None}
    if node.role == "head":
        wanted |= {"dashboard_port": settings.dashboard_port, "dashboard_host": settings.dashboard_host}
    return wanted


def changed_keys(old: str, new: str) -> Iterable[str]:
    """Name the keys in which two askings differ, as settings are named."""
    try:
        before, after = (Fields.read(parsed(asked)).of for asked in (old, new))
    except Odd:
        return ()
    return sorted(key.upper() for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def fill(flags: Iterable[str], values: Mapping[str, Word]) -> tuple[Word, ...]:
    """Put values for the `{…}` of a dialect's flags."""

    def word(flag: str) -> Word:
        text, _, key = flag.removesuffix("}").partition("{")
        if not key:
            return flag
        return phrase(text, values[key])

    return tuple(map(word, flags))


def ray_flags(role: str, version: Late[str], values: Mapping[str, Word]) -> Late[str]:
    """Give the flags of `ray start` on a node, as the image's Ray calls them."""
    rows = {versions: fill(row.head if role == "head" else row.worker, values) for versions, row in DIALECTS.items()}
    cases = [f"  ({versions}) echo {' '.join(map(quoted, flags))} ;;" for versions, flags in rows.items()]

    def resolve(site: Site) -> str:
        return " ".join(map(site.value, rows[spoken(site.value(version))]))

    return Late(
        "ray_flags",
        "\n".join((f'case "${version.name}." in', *cases, "esac")),
        resolve,
        needs=tuple(dict.fromkeys((version, *lates(tuple(rows.values()))))),
    )


@dataclass(frozen=True)
class NodeValues:
    """The late values of a container."""

    image: Late[str]
    version: Late[str]
    address: Late[str]
    head: Word
    run: Word
    sizes: Mapping[str, Word]


def ray_container(settings: Settings, node: Node, found: NodeValues) -> Container:
    """Give the container that runs Ray on a node."""
    wanted = asked(settings, node)
    sizes = {key: found.sizes[key] if wanted[key] == "auto" else wanted[key] for key in found.sizes}
    flags = ray_flags(
        node.role,
        found.version,
        {
            "port": str(settings.redis_port),
            "object_manager_port": str(settings.object_manager_port),
            "dashboard_host": settings.dashboard_host,
            "dashboard_port": str(settings.dashboard_port),
            "address": found.address,
            "head": found.head,
            "num_workers": sizes["num_workers"],
        },
    )
    resources = (f"--resources={node.options.resources}",) if node.options.resources else ()
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return Container(
        name=container_name(settings.cluster_name, node.role),
        cluster=settings.cluster_name,
        role=node.role,
        asked=text,
        image=found.image,
        command=("ray", "start", Spread(flags), *resources, *settings.ray_start_args),
        environment=environment(settings),
        shm_size=sizes["shm_size"],
        gpus="" if sizes["gpus"] == "none" else sizes["gpus"],
        volumes=tuple(settings.volumes),
        capabilities=tuple(settings.capabilities),
        labels=(
            ("raydock.head", found.head),
            (ADDRESS, found.address),
            (RUN, found.run),
            ("raydock.image", found.image),
            (RAY, found.version),
        ),
        memory=settings.memory or "",
        pids_limit=settings.pids_limit,
    )


def all_labels(container: Container) -> tuple[tuple[str, Word], ...]:
    """Give every label of a container: those that say whose it is, what was asked, and what was found."""
    return (
        ("raydock.cluster", container.cluster),
        ("raydock.role", container.role),
        ("raydock.spec", container.spec),
        ("raydock.asked", container.asked),
        *container.labels,
    )


def create_line(container: Container) -> str:
    """Write the `docker create` of a container, as the script has it."""
    gpus = container.gpus
    words: list[str] = ["docker create --name", quoted(container.name)]
    words += [f"--label {key}={quoted(value)}" for key, value in all_labels(container)]
    words += ["--network host", f"--shm-size {quoted(container.shm_size)}"]
    # Docker lets a container have as much swap again where it is not told.
    words += [f"--memory {container.memory} --memory-swap {container.memory}"] if container.memory else []
    words += [f"--pids-limit {container.pids_limit}"] if container.pids_limit else []
    words += ["--cap-drop ALL", *(f"--cap-add CAP_{name}" for name in container.capabilities)]
    words += ["--security-opt no-new-privileges"]
    words += [f"--env {shlex.quote(f'{key}={value}')}" for key, value in container.environment]
    words += [f"--volume {shlex.quote(volume)}" for volume in container.volumes]
    if isinstance(gpus, Late):
        words += [f'${{{gpus.name}:+--gpus "${gpus.name}"}}']
    elif gpus:
        words += [f"--gpus {quoted(gpus)}"]
    words += [quoted(container.image), *map(argument, container.command)]
    return " ".join(words)
