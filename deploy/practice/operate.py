"""A sandbox's `up` and `down`, each of which may be said again at any time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import IPv4Network

from docker import DockerClient

from deploy.at_once import at_once
from deploy.errors import Failure, Mistake
from deploy.practice import containers, engine, files, images, layout, ready, repository
from deploy.practice.ready import ANEW
from deploy.practice.say import Say


def up(*, workers: str, prepared: bool, say: Say) -> bool:
    """Have the practice hosts and what stands beside them; tell whether anything had to be done.

    Raises:
        RaydockError: the engine, a build or a host is not as it must be.
    """
    number = _count(workers)
    client = engine.connect()
    with engine.typed(), files.alone():
        public_key = files.ensure_key()
        host_image, services_image = images.ensure(client, prepared=prepared, say=say)
        subnet = engine.ensure_network(client)
        engine.ensure_authority(client)
        services = layout.services(services_image, subnet)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        hosts = layout.hosts(host_image, subnet, workers=number, public_key=public_key, memory=memory)
        changed = _reconcile(client, (services, *hosts), say)
        ready.wait(client, (services, *hosts))
        if changed:
            images.prune(client)
        changed |= _serve_example(client, say)
        return _write(client, hosts, subnet) or changed


def _count(workers: str) -> int:
    """Read a number of workers, which Invoke would refuse with a traceback."""
    if not workers.isdecimal() or int(workers) > layout.MOST_WORKERS:
        wrong = f"--workers {workers} is no number from 0 to {layout.MOST_WORKERS}"
        raise Mistake.of("USAGE", wrong, "Say for example: invoke sandbox.up --workers 2")
    return int(workers)


def down(*, say: Say) -> bool:
    """Remove the practice hosts, what came with them and every generated file; tell whether there was any."""
    client = engine.connect()
    with engine.typed(), files.alone():
        names = [one.name for one in containers.found(client)]
        _tell(say, "removing", names)
        at_once(lambda name: containers.remove(client, name), names)
        gone = engine.clear(client)
        return files.clear() or bool(names) or gone


def _reconcile(client: DockerClient, wanted: tuple[layout.Container, ...], say: Say) -> bool:
    """Have exactly the wanted containers, all running."""
    todo = layout.changes(wanted, containers.found(client))
    _tell(say, "removing", todo.remove)
    at_once(lambda name: containers.remove(client, name), todo.remove)
    _tell(say, "creating", (one.name for one in todo.create))
    at_once(lambda one: containers.create(client, one), todo.create)
    _tell(say, "starting", (one.name for one in todo.start))
    at_once(lambda one: containers.start(client, one), todo.start)
    return bool(todo.remove or todo.create or todo.start)


def _tell(say: Say, doing: str, names: Iterable[str]) -> None:
    if listed := ", ".join(names):
        say(f"{doing} {listed}")


def _serve_example(client: DockerClient, say: Say) -> bool:
    """Have the git server serve what `examples/app` is now."""
    wanted = repository.example()
    tip = containers.read(client, layout.SERVICES, f"/srv/git/{repository.NAME}/{repository.TIP}")
    if tip.get(repository.BRANCH, b"").decode().strip() == wanted.commit:
        return False
    say(f"serving examples/app as commit {wanted.commit[:12]}")
    containers.write(client, layout.SERVICES, "/srv/git", wanted.archive)
    return True


def _write(client: DockerClient, hosts: tuple[layout.Container, ...], subnet: IPv4Network) -> bool:
    head, *workers = (_reached(client, host) for host in hosts)
    return files.write(
        head,
        tuple(workers),
        ecr_port=containers.published(client, layout.SERVICES),
        services=layout.services_address(subnet),
        authority=containers.read(client, layout.SERVICES, "/srv/ca/ca.crt")["ca.crt"],
    )


def _reached(client: DockerClient, host: layout.Container) -> files.Reached:
    found = containers.read(client, host.name, "/etc/ssh")
    keys = tuple(
        " ".join(body.decode().split()[:2])
        for name, body in sorted(found.items())
        if name.startswith("ssh_host_") and name.endswith(".pub")
    )
    if not keys:
        raise Failure("COMMAND_FAILED", "has no SSH host keys", ANEW, place=host.name)
    return files.Reached(containers.published(client, host.name), host.address, keys)
