"""The containers of a sandbox, as this machine's engine makes and has them."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import socket
import tarfile
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.types import EndpointConfig, Ulimit

from deploy.errors import Failure
from deploy.grammar import CAPABILITIES
from deploy.practice.layout import LABEL, NETWORK, PREFIX, SPEC_LABEL, Container, Found

# An engine may not raise a limit above its own, which we take to be no lower than ours.
OPEN_FILES = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
PORT_TAKEN = re.compile("port is already allocated|address already in use")


def found(client: DockerClient) -> tuple[Found, ...]:
    """Give the containers of the sandbox that are there."""
    listed = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    return tuple(Found(str(one.name), one.labels.get(SPEC_LABEL, ""), one.status == "running") for one in listed)


def published(client: DockerClient, name: str) -> int:
    """Give the loopback port at which a container is reached."""
    bindings = client.containers.get(name).attrs["HostConfig"]["PortBindings"]
    return int(next(iter(bindings.values()))[0]["HostPort"])


def remove(client: DockerClient, name: str) -> None:
    """Remove a container and the volume that only it had."""
    with contextlib.suppress(NotFound):
        client.containers.get(name).remove(force=True, v=True)


def start(client: DockerClient, wanted: Container) -> None:
    """Have a container that is there run; where its port was taken meanwhile, make it anew at another."""
    there = client.containers.get(wanted.name)
    try:
        there.unpause() if there.status == "paused" else there.start()
    except APIError as error:
        if not PORT_TAKEN.search(str(error.explanation)):
            raise
        remove(client, wanted.name)
        create(client, wanted)


def create(client: DockerClient, wanted: Container) -> None:
    """Create a container and start it."""
    endpoint = EndpointConfig(client.api.api_version, ipv4_address=wanted.address)
    client.api.create_container(
        wanted.image,
        name=wanted.name,
        hostname=wanted.name.removeprefix(f"{PREFIX}-"),
        environment=dict(wanted.environment),
        labels={LABEL: "1", SPEC_LABEL: wanted.spec},
        ports=[wanted.port],
        volumes=list(wanted.volumes),
        host_config=_host_config(client, wanted, free_port(wanted.published)),
        networking_config={"EndpointsConfig": {NETWORK: endpoint}},
    )
    client.api.start(wanted.name)


def _host_config(client: DockerClient, wanted: Container, port: int) -> dict[str, Any]:
    config: dict[str, Any] = client.api.create_host_config(
        init=True,
        port_bindings={wanted.port: ("127.0.0.1", port)},
        binds=[f"{volume}:{place}" for volume, place in wanted.mounts.items()],
        extra_hosts=dict(wanted.names),
        network_mode=NETWORK,
        tmpfs={folder: f"exec,suid,dev,mode={mode}" for folder, mode in wanted.in_memory.items()},
        ulimits=[Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES)],
        **(_as_a_host() if wanted.is_host else {}),
    )
    return config | ({"MaskedPaths": [], "ReadonlyPaths": []} if wanted.is_host else {})


def _as_a_host() -> dict[str, Any]:
    """Give what lets an engine run inside: `--privileged`, less what this machine itself may not do."""
    return {
        "cap_add": bounding_set(Path("/proc/self/status").read_text()),
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        "device_cgroup_rules": ["a *:* rwm"],
        # The control groups of containers within then go with the host.
        "cgroupns": "private",
    }


def bounding_set(status: str) -> list[str]:
    """Read from a `/proc/PID/status` which capabilities a process can have."""
    line = re.search(r"^CapBnd:\s*([0-9a-f]+)", status, re.MULTILINE)
    mask = int(line[1], 16) if line else 0
    return [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]


def free_port(liked: int) -> int:
    """Give a free port of loopback: the liked one if it is."""
    for port in (liked, 0):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise Failure("PORT_IN_USE", "no port of 127.0.0.1 is free", "End what listens there")


def read(client: DockerClient, name: str, path: str) -> dict[str, bytes]:
    """Read the files at a path of a container, by their own names; nothing where the path is not."""
    try:
        stream, _ = client.containers.get(name).get_archive(path)
    except NotFound:
        return {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        bodies = ((entry, archive.extractfile(entry)) for entry in archive)
        return {Path(entry.name).name: body.read() for entry, body in bodies if body}


def write(client: DockerClient, name: str, folder: str, archive: bytes) -> None:
    """Unpack a tar archive in a folder of a container."""
    client.containers.get(name).put_archive(folder, io.BytesIO(archive))


def last_lines(client: DockerClient, name: str) -> str:
    """Give the last lines that a container said."""
    return client.containers.get(name).logs(tail=10).decode(errors="replace").strip()
