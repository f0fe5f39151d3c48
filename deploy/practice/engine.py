"""The Docker engine of this machine: the connection, the images, the network and the volume of a sandbox."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from ipaddress import IPv4Network
from pathlib import Path

import docker
import requests
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from deploy.errors import Failure, Mistake
from deploy.practice.layout import ADDRESSES, AUTHORITY, LABEL, NETWORK, free_subnet

AGAIN = "Mend that, and run the same again"
ROUTES = Path("/proc/net/route")
PATIENCE = 120


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Turn what the engine refuses into an error that an operator can read."""
    try:
        yield
    except APIError as error:
        code = "NAME_CONFLICT" if error.status_code == HTTPStatus.CONFLICT else "DOCKER_FAILED"
        raise Failure(code, f"Docker refuses: {error.explanation or error}".rstrip("."), AGAIN) from error
    except requests.RequestException as error:
        raise Failure("DOCKER_DOWN", f"Docker does not answer: {error}", "Run script/bootstrap") from error


def connect() -> DockerClient:
    """Connect to the engine of this machine: only its published ports are on our loopback.

    Raises:
        Mistake: DOCKER_HOST names an engine elsewhere.
        Failure: no engine answers.
    """
    where = os.environ.get("DOCKER_HOST", "")
    if where and not where.startswith("unix://"):
        wrong = f"DOCKER_HOST is {where!r}, and practice hosts need an engine on this machine"
        raise Mistake.of("CONFIG", wrong, "Unset it, or name a unix:// socket")
    try:
        return docker.from_env(version="auto", timeout=PATIENCE)
    except (DockerException, requests.RequestException) as error:
        cause = f"no Docker engine answers on this machine: {error}"
        raise Failure("DOCKER_DOWN", cause, "Run script/bootstrap") from error


def image_label(client: DockerClient, image: str, label: str) -> str:
    """Give a label of a local image, empty where there is none."""
    try:
        return str(client.images.get(image).labels.get(label, ""))
    except ImageNotFound:
        return ""


def image_id(client: DockerClient, image: str) -> str:
    """Give the id of a local image."""
    return str(client.images.get(image).id)


def build(
    client: DockerClient,
    folder: Path,
    *,
    tag: str,
    target: str,
    labels: Mapping[str, str],
    arguments: Mapping[str, str],
) -> None:
    """Build an image from a folder.

    Raises:
        Failure: a step failed; its last lines are told.
    """
    said: list[str] = []
    for line in client.api.build(
        path=str(folder),
        tag=tag,
        target=target,
        labels=dict(labels),
        buildargs=dict(arguments),
        rm=True,
        forcerm=True,
        decode=True,
    ):
        said += str(line.get("stream", "")).splitlines()
        if "error" in line:
            raise Failure("BUILD_FAILED", "\n".join([line["error"], *said[-30:]]), AGAIN, place=tag)


def ensure_network(client: DockerClient) -> IPv4Network:
    """Have the network of the sandbox, and give its addresses."""
    found = client.networks.list(names=[f"^{NETWORK}$"], filters={"label": LABEL})
    network = found[0] if found else _create_network(client)
    network.reload()
    return IPv4Network(network.attrs["IPAM"]["Config"][0]["Subnet"])


def _create_network(client: DockerClient) -> Network:
    """Create the network, with addresses that neither a route of this machine nor another network has."""
    subnet = free_subnet((*_routes(), *_subnets(client)))
    if subnet is None:
        raise Failure("DOCKER_FAILED", f"every /24 of {ADDRESSES} is in use on this machine", AGAIN)
    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    return client.networks.create(
        NETWORK,
        driver="bridge",
        check_duplicate=True,
        labels={LABEL: "1"},
        ipam=IPAMConfig(pool_configs=[pool]),
    )


def _subnets(client: DockerClient) -> Iterable[IPv4Network]:
    for network in client.networks.list():
        for config in network.attrs["IPAM"]["Config"] or ():
            if "." in config.get("Subnet", ""):
                yield IPv4Network(config["Subnet"])


def _routes() -> Iterable[IPv4Network]:
    """Give the networks that this machine has routes to, the default one left out."""
    lines = ROUTES.read_text().splitlines()[1:] if ROUTES.exists() else []
    for line in lines:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        if int(mask, 16):
            yield IPv4Network((_little(destination), _little(mask).bit_count()))


def _little(digits: str) -> int:
    """Read a number as /proc/net/route has it: the last byte first."""
    return int.from_bytes(bytes.fromhex(digits), "little")


def ensure_authority(client: DockerClient) -> None:
    """Have the volume through which the hosts see the registry's certificate authority."""
    try:
        client.volumes.get(AUTHORITY)
    except NotFound:
        client.volumes.create(AUTHORITY, labels={LABEL: "1"})


def clear(client: DockerClient) -> bool:
    """Remove the network and the volume of the sandbox; tell whether there was one."""
    ours = {"label": LABEL}
    networks, volumes = client.networks.list(filters=ours), client.volumes.list(filters=ours)
    for network in networks:
        network.remove()
    for volume in volumes:
        volume.remove()
    return bool(networks or volumes)
