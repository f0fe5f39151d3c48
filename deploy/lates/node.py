"""What is found on a node: its sizes and its addresses for Ray."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.grammar import address, shown
from deploy.plan import Late, Place
from deploy.ray import ADDRESS
from deploy.sizes import LARGEST, parse_size

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings
    from deploy.site import Site

SHM_CAP = 200 * 10**9  # bytes, of DESIGN's "at most 200 GB"


NUM_WORKERS: Late[str] = Late(
    "num_workers", "docker info -f '{{.NCPU}}'", lambda site: str(int(site.docker.facts()["NCPU"]))
)
GPUS: Late[str] = Late(
    "gpus",
    "docker info -f '{{range $name, $_ := .Runtimes}}{{if eq $name \"nvidia\"}}all{{end}}{{end}}'",
    lambda site: "all" if "nvidia" in site.docker.facts().get("Runtimes", {}) else "",
)


def shm_size(settings: Settings) -> Late[str]:
    """Give a container's shared memory: a third of the node's RAM, or of MEMORY where that is less, at most the cap."""
    most = parse_size(settings.memory) if settings.memory else LARGEST
    return Late(
        "shm_size",
        f"ram=$(docker info -f '{{{{.MemTotal}}}}') && shm_size=$(((ram < {most} ? ram : {most}) * 33 / 100)) && "
        f"echo $((shm_size < {SHM_CAP} ? shm_size : {SHM_CAP}))",
        lambda site: str(min(min(int(site.docker.facts()["MemTotal"]), most) * 33 // 100, SHM_CAP)),
    )


def route_source(site: Site, target: str) -> str:
    """Give the source address of a node's route to `target`; `ADDRESS_MISMATCH` where it tells none."""
    words = site.run("ip", "-o", "route", "get", target).split()
    if "src" not in words[:-1]:
        raise Failure("ADDRESS_MISMATCH", f"no route to {target}", "Say the address with HEAD_ADDRESS or private=")
    source = words[words.index("src") + 1]
    try:
        return address(source)
    except ValueError as wrong:
        error = f"its route to {target} has the source {shown(source)}, which {wrong}"
        raise Failure("ADDRESS_MISMATCH", error, "Say the address with HEAD_ADDRESS or private=") from wrong


def source_shell(target: str) -> str:
    """Write how the script asks for the source address of the route to `target` (a shell word)."""
    return f"ip -o route get {target} | grep -oE ' src [0-9A-Fa-f.:]+' | cut -c6-"


def checked(site: Site, address: str) -> str:
    """Give the address if it is one of the node's; Ray would start with a foreign one and never be reached."""
    if not site.run("ip", "-o", "addr", "show", "to", address).strip():
        raise Failure(
            "ADDRESS_MISMATCH",
            f"{address} is not an address of this node",
            f"Correct {'HEAD_ADDRESS' if site.node.role == 'head' else f'private= at {site.node.place}'}",
        )
    return address


def checked_shell(address: str) -> str:
    """Write the check and the address."""
    word = shlex.quote(address)
    return f'[ -n "$(ip -o addr show to {word})" ] && echo {word}'


# A documentation address (RFC 5737): it is asked of the routing table, and never contacted.
ANYWHERE = "192.0.2.1"


# Ray takes 127.0.0.1 for a mistake and puts a reachable address of the machine in its place; not so its neighbour,
# which Linux counts to the loopback as well.
LOOPBACK = "127.0.0.2"


def head_address(settings: Settings, *, alone: bool) -> Late[str]:
    """Give the head's address for Ray: as set, else loopback when alone, else the source of its default route."""
    if settings.head_address:
        fixed = str(settings.head_address)
        return Late("head_address", checked_shell(fixed), lambda site: checked(site, fixed), Place.HEAD)
    if alone:
        return Late("head_address", f"echo {LOOPBACK}", lambda _: LOOPBACK, Place.HEAD)
    return Late("head_address", source_shell(ANYWHERE), lambda site: route_source(site, ANYWHERE), Place.HEAD)


def node_address(node: Node, head: Late[str]) -> Late[str]:
    """Give a worker's address for Ray: `private=`, else the source of its route to the head."""
    if node.private:
        private = node.private
        return Late("address", checked_shell(private), lambda site: checked(site, private))
    return Late(
        "address",
        source_shell(f'"${head.name}"'),
        lambda site: route_source(site, site.value(head)),
        needs=(head,),
    )


def started_with(container: str, found: Late[str]) -> Late[str]:
    """Give the address that a node's container was started with, as Ray has it; as `found` where it bears none."""
    shown = f"docker inspect -f '{{{{index .Config.Labels \"{ADDRESS}\"}}}}' {container} 2>/dev/null | grep ."

    def resolve(site: Site) -> str:
        ours = site.docker.seen(container)
        try:
            return address(ours.labels.get(ADDRESS, "")) if ours else found.resolve(site)
        except ValueError:  # one of before there was a label, or somebody wrote another
            return found.resolve(site)

    return Late(found.name, f"{shown} || {{ {found.shell}; }}", resolve, found.at, found.needs)
