"""Settings that are right each for itself and wrong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from itertools import combinations
from typing import TYPE_CHECKING

from deploy import grammar, lists
from deploy.errors import Problem
from deploy.inventory import LOCAL
from deploy.ports import claims
from deploy.sizes import parse_size

if TYPE_CHECKING:
    from deploy.inventory import Node
    from deploy.settings import Settings

# A finding: the keys that are in it, what is wrong, and the next move.
Finding = tuple[tuple[str, ...], str, str]


def clashes(settings: Settings, wrong: frozenset[str] = frozenset()) -> Iterator[Problem]:
    """Tell what goes wrong together, each at the place of the last of its settings that was set.

    What is wrong in itself, and so has its default here, clashes with nothing.
    """
    for check in CHECKS:
        for keys, error, cure in check(settings):
            if any(key.lower() in wrong for key in keys):
                continue
            places = [settings.places[key] for key in keys if key in settings.places]
            yield Problem("CONFIG", error, cure, places[-1] if places else "")


def _ports(settings: Settings) -> Iterator[Finding]:
    for first, second in combinations(claims(settings), 2):
        if set(first.ports).isdisjoint(second.ports):
            continue
        if first.ports == second.ports:
            error = f"{first.name} and {second.name} are both {first.ports[0]}"
        else:
            error = f"{first} is among {second}"
        yield (second.key, first.key), error, "Give each a port of its own, see docs/ports.md"


def _folder(settings: Settings) -> Iterator[Finding]:
    url = settings.my_project_url
    if url and grammar.is_folder(url) and settings.my_project_source == "clone":
        error = "MY_PROJECT_URL is a folder, which no build can clone"
        yield ("MY_PROJECT_SOURCE", "MY_PROJECT_URL"), error, "Set MY_PROJECT_SOURCE=copy"


def _open_dashboard(settings: Settings) -> Iterator[Finding]:
    if settings.allow_unauthenticated and not ip_address(settings.dashboard_host).is_loopback:
        error = f"DASHBOARD_HOST={settings.dashboard_host} with ALLOW_UNAUTHENTICATED=yes lets everybody run code"
        cure = "Leave DASHBOARD_HOST out, and reach it by invoke cluster.dashboard"
        yield ("ALLOW_UNAUTHENTICATED", "DASHBOARD_HOST"), error, cure


def _memory(settings: Settings) -> Iterator[Finding]:
    if error := _too_much(settings, "SHM_SIZE", settings.shm_size):
        yield ("MEMORY", "SHM_SIZE"), error, "Lower SHM_SIZE, or raise MEMORY"


def of_workers(settings: Settings, workers: Iterable[Node]) -> Iterator[Problem]:
    """Tell what a worker's line wants that does not go with the settings, each at its line."""
    for node in workers:
        if error := _too_much(settings, "shm_size", node.options.shm_size):
            yield Problem("INVENTORY", error, "Lower shm_size=, or raise MEMORY", node.place)


def _too_much(settings: Settings, key: str, shared: str | None) -> str:
    """Say that a size of shared memory is over the limit, or nothing: what is in it counts as the container's."""
    limit = settings.memory
    if not limit or not shared or shared == "auto" or parse_size(shared) <= parse_size(limit):
        return ""
    return f"{key}={shared} is not from 64M to MEMORY={limit}, of which it is a part"


def _engine(settings: Settings) -> Iterator[Finding]:
    named = settings.docker_host
    if named and settings.head == LOCAL and not named.startswith("unix:///"):
        error = f"DOCKER_HOST={grammar.shown(named)} is not a unix socket of this machine"
        yield ("HEAD", "DOCKER_HOST"), error, "Reach another machine by HEAD=user@host"


def _socket(settings: Settings) -> Iterator[Finding]:
    scheme, _, socket = (settings.docker_host or "").partition("://")
    if settings.head != LOCAL or scheme != "unix" or not socket.startswith("/"):
        return
    for volume in settings.volumes:
        if lists.holds(volume, socket):
            error = f"VOLUMES has {grammar.shown(volume.partition(':')[0])}, and so the engine's socket, DOCKER_HOST"
            yield ("DOCKER_HOST", "VOLUMES"), error, "Leave it out: whoever has the socket is root on the node"


def _repository_name(settings: Settings) -> Iterator[Finding]:
    name = settings.repository_name
    if not settings.repository_uri and not grammar.ECR_NAME.pattern.fullmatch(name):
        error = f"{grammar.shown(name)}, which APP_TAG gives, is no name for a repository of ECR"
        cure = "Set REPOSITORY_NAME, or REPOSITORY_URI for another registry"
        yield ("REPOSITORY_URI", "REPOSITORY_NAME", "APP_TAG"), error, cure


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _ports,
    _folder,
    _open_dashboard,
    _memory,
    _engine,
    _socket,
    _repository_name,
)
