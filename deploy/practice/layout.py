"""What a sandbox consists of, told without asking any engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network

PREFIX = "raydock-sandbox"
LABEL = "raydock.sandbox"
SPEC_LABEL = "raydock.sandbox.spec"
NETWORK = PREFIX
AUTHORITY = f"{PREFIX}-ca"
SERVICES = f"{PREFIX}-services"
HEAD = f"{PREFIX}-head"
ADDRESSES = IPv4Network("10.213.0.0/16")

ACCOUNT = "123456789012"
REGION = "us-west-2"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"

SSH_PORT = 22
ECR_PORT = 5000
FIRST_PUBLISHED = 22000
MOST_WORKERS = 200
ENGINE_FILES = "/var/lib/docker"
# The head's images take 3 GB, Ray and its store 1 GB: what is left is this machine's own.
MEMORY_PER_HOST = 6 << 30


@dataclass(frozen=True)
class Container:
    """One container as it is wanted; its port is published on loopback, at `published` if that is free.

    `in_memory` has the folders that are not on disk, each with its mode.
    """

    name: str
    image: str
    address: str
    port: int
    published: int
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    names: Mapping[str, str]
    volumes: tuple[str, ...]
    in_memory: Mapping[str, str]
    is_host: bool

    @property
    def spec(self) -> str:
        """Twelve hex digits that differ where the container would have to be another one."""
        canonical = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Found:
    """One container of a sandbox as the engine has it."""

    name: str
    spec: str
    running: bool


@dataclass(frozen=True)
class Changes:
    """What turns the containers that are there into those that are wanted."""

    remove: tuple[str, ...]
    create: tuple[Container, ...]
    start: tuple[Container, ...]


def services_address(subnet: IPv4Network) -> str:
    """Give the address of the services: the first after the gateway's."""
    return str(subnet[2])


def services(image: str, subnet: IPv4Network) -> Container:
    """Give the one container with the registry, the ECR endpoint, the git server and the resolver."""
    return Container(
        name=SERVICES,
        image=image,
        address=services_address(subnet),
        port=ECR_PORT,
        published=FIRST_PUBLISHED - 1,
        environment={"REGISTRY": REGISTRY, "ACCOUNT": ACCOUNT, "AWS_DEFAULT_REGION": REGION},
        mounts={AUTHORITY: "/srv/ca"},
        names={},
        volumes=("/var/lib/registry",),
        in_memory={},
        is_host=False,
    )


def hosts(image: str, subnet: IPv4Network, *, workers: int, public_key: str, memory: int) -> tuple[Container, ...]:
    """Give the practice hosts: the head, then the workers.

    Where this machine's `memory`, in bytes, is plenty, the hosts' engines keep their images there.
    """
    around = services_address(subnet)
    roomy = memory >= (workers + 1) * MEMORY_PER_HOST
    return tuple(
        Container(
            name=f"{PREFIX}-worker-{number}" if number else HEAD,
            image=image,
            address=str(subnet[10 + number]),
            port=SSH_PORT,
            published=FIRST_PUBLISHED + number,
            environment={"AUTHORIZED_KEY": public_key, "NAMESERVER": around},
            mounts={AUTHORITY: f"/etc/docker/certs.d/{REGISTRY}:ro"},
            names={REGISTRY: around},
            volumes=() if roomy else (ENGINE_FILES,),
            in_memory={ENGINE_FILES: "710", "/tmp": "1777"} if roomy else {},  # noqa: S108 - the host's own
            is_host=True,
        )
        for number in range(workers + 1)
    )


def changes(wanted: tuple[Container, ...], found: tuple[Found, ...]) -> Changes:
    """Decide what to remove, create and start; what is as wanted is left alone."""
    specs = {container.name: container.spec for container in wanted}
    kept = {one.name: one.running for one in found if specs.get(one.name) == one.spec}
    return Changes(
        remove=tuple(one.name for one in found if one.name not in kept),
        create=tuple(container for container in wanted if container.name not in kept),
        start=tuple(container for container in wanted if not kept.get(container.name, True)),
    )


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """Give the first /24 of ours that overlaps no network in use, if there is one."""
    used = tuple(taken)
    ours = ADDRESSES.subnets(new_prefix=24)
    return next((subnet for subnet in ours if not any(subnet.overlaps(other) for other in used)), None)
