"""The plans: for each task its steps, as the manual lists them."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import lates
from deploy.errors import Failure, Mistake
from deploy.image import render
from deploy.plan import Chain, Late, Place, Plan, Stage, Step, Word, phrase
from deploy.ray import NodeValues, container_name, ray_container
from deploy.steps.cluster import AwaitGcs, HeadRuns, Join, Probe, ReachGcs, ShowRay
from deploy.steps.containers import ClearName, Create, LayToken, ShowContainer, StartContainer, StopContainers
from deploy.steps.images import Build, CreateRepository, HaveBase, Login, MakeRoot, Pull, Push, Tag
from deploy.steps.setup import InstallDocker, JoinDockerGroup, MakeStateFolder, StartDocker

if TYPE_CHECKING:
    from deploy.inventory import Inventory, Node
    from deploy.settings import Settings
    from deploy.site import Site

ROOT_IMAGE = "raydock/python-root"
PYTHON_IMAGE = "python:3.11-slim-bookworm"
NO_COMMIT = "0" * 40  # stands in the Dockerfile until the commit is known


@dataclass(frozen=True)
class Scope:
    """What a plan is made of: the settings, the nodes, and which of them may be changed."""

    settings: Settings
    inventory: Inventory
    selected: frozenset[str]

    @property
    def alone(self) -> bool:
        """Whether the head is all there is."""
        return not self.inventory.workers

    @property
    def workers(self) -> tuple[Node, ...]:
        """The workers that may be changed."""
        return tuple(node for node in self.inventory.workers if node.name in self.selected)

    @property
    def head(self) -> tuple[Node, ...]:
        """The head, where it may be changed."""
        return (self.inventory.head,) if self.inventory.head.name in self.selected else ()

    def container(self, role: str) -> str:
        """Give the name of this cluster's container on a head or a worker."""
        return container_name(self.settings.cluster_name, role)


Planner = Callable[[Scope], Plan]


def on_all(scope: Scope, steps: Callable[[Node], tuple[Step, ...]]) -> Plan:
    """Have each selected node do its steps, all at once."""
    return Plan((Stage(tuple(Chain(node, steps(node)) for node in scope.head + scope.workers)),))


def on_head(scope: Scope, *steps: Step) -> Plan:
    """Have the head do the steps."""
    return Plan((Stage((Chain(scope.inventory.head, steps),)),))


# --- the image -------------------------------------------------------------------------------------------------


def recipe(name: str, *parts: Word) -> Late[str]:
    """Give the fingerprint of what an image is built of."""
    needs = tuple(part for part in parts if isinstance(part, Late))
    shell = "".join(f'"${part.name}"' if isinstance(part, Late) else shlex.quote(str(part)) for part in parts)

    def resolve(site: Site) -> str:
        return hashlib.sha256("".join(site.value(part) for part in parts).encode()).hexdigest()[:12]

    return Late(name, f"printf %s {shell} | sha256sum | cut -c1-12", resolve, Place.OPERATOR, needs=needs)


def image_id(name: str, image: str) -> Late[str]:
    """Give the id of an image that is in the head's engine."""
    shell = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(image)}"
    return Late(name, shell, lambda site: site.docker.image_id(image) or "", Place.HEAD)


def project_commit(settings: Settings, image: str) -> Late[str]:
    """Give the commit that the project's ref stands for now, as git in the base image sees it."""
    url, ref = str(settings.my_project_url), settings.my_project_ref or "HEAD"
    if len(ref) == len(NO_COMMIT) and set(ref) <= set("0123456789abcdef"):
        return Late("commit", f"echo {ref}", lambda _: ref, Place.HEAD)
    ask = ("env", "GIT_TERMINAL_PROMPT=0", "git", "ls-remote", "--", url, ref, f"{ref}^{{}}")

    def resolve(site: Site) -> str:
        try:
            lines = site.docker.run_once(image, ask).split("\n")
        except Failure as failure:
            if failure.code != "COMMAND_FAILED":
                raise
            raise Failure(
                "PROJECT_UNREACHABLE", failure.error, "Check MY_PROJECT_URL as seen from the head"
            ) from failure
        # A tag that is an object of its own has a second line, with the commit that it stands for.
        commits = [line.split()[0] for line in lines if line.strip()]
        if not commits:
            raise Failure("PROJECT_UNREACHABLE", f"{url} has no ref {ref}", "Correct MY_PROJECT_REF")
        return commits[-1]

    shell = f"docker run --rm --network host {shlex.quote(image)} {shlex.join(ask)} | tail -n 1 | cut -f 1 | grep ."
    return Late("commit", shell, resolve, Place.HEAD)


def dockerfile(scope: Scope) -> tuple[str, Late[str]]:
    """Give the application's Dockerfile without its commit, and with it."""
    settings = scope.settings
    template = (settings.root / "Dockerfile.template").read_text(encoding="utf-8")
    text = render(
        template,
        {
            "base-image": settings.base_image,
            "my-project-url": required(settings.my_project_url, "MY_PROJECT_URL"),
            "my-project-installation-script": settings.my_project_installation_script or "",
            "my-project-commit": NO_COMMIT,
        },
    ).rstrip("\n")
    commit = project_commit(settings, settings.base_image)
    late = Late(
        "dockerfile",
        f'text={shlex.quote(text)}; printf %s "${{text//{NO_COMMIT}/${commit.name}}}"',
        lambda site: text.replace(NO_COMMIT, site.value(commit)),
        Place.OPERATOR,
        needs=(commit,),
    )
    return text, late


def required(value: str | None, key: str) -> str:
    """Give a setting that this task cannot do without."""
    if not value:
        raise Mistake.of("CONFIG", f"{key} is not set", f"Write {key}=… into .env (see .env.example)")
    return value


def build_image(scope: Scope) -> Plan:
    """Build the application's image on the head's engine."""
    settings = scope.settings
    _, text = dockerfile(scope)
    base_id = image_id("base_id", settings.base_image)
    return on_head(
        scope,
        HaveBase(settings.base_image),
        Build(settings.app_tag, text, recipe("recipe", text, base_id)),
    )


def build_base(scope: Scope) -> Plan:
    """Make `ray-project/deploy` on the head's engine."""
    settings = scope.settings
    path: Path = settings.root / "conf" / "base" / "Dockerfile"
    text = path.read_text(encoding="utf-8").replace("<ray-version>", settings.ray_version).rstrip("\n")
    return on_head(
        scope,
        MakeRoot(ROOT_IMAGE, PYTHON_IMAGE),
        Build(
            settings.base_image,
            text,
            recipe("recipe", text, image_id("root_id", ROOT_IMAGE)),
            with_ca_bundle=True,
        ),
    )


def publish_repository(scope: Scope) -> Plan:
    """Have the repository."""
    if scope.settings.repository_uri:
        return on_head(scope)
    return on_head(scope, CreateRepository(scope.settings.repository_name, scope.settings.region))


def publish_image(scope: Scope) -> Plan:
    """Create the repository, tag the image and push it, and then move `latest`."""
    settings = scope.settings
    uri = lates.repository_uri(settings)
    short = lates.image_tag(settings.app_tag)
    login = lates.registry_password(settings)
    return publish_repository(scope).along(
        on_head(
            scope,
            Tag(settings.app_tag, uri, short),
            Push(uri, short, login),
            Tag(settings.app_tag, uri, "latest"),
            Push(uri, "latest", login),
        )
    )


# --- the cluster -----------------------------------------------------------------------------------------------


def install(scope: Scope) -> Plan:
    """Install Docker, start it, and let the login user speak to it."""

    def steps(node: Node) -> tuple[Step, ...]:
        docker = (InstallDocker(), StartDocker(), JoinDockerGroup())
        return (*docker, MakeStateFolder(scope.settings.cluster_name)) if node.role == "head" else docker

    return on_all(scope, steps)


def have_image(scope: Scope) -> tuple[Step, ...]:
    """Give the steps by which a node has the wanted image."""
    image = lates.wanted_image(scope.settings, alone=scope.alone)
    login = next((late for late in image.needs if late.name == "registry_password"), None)
    return (Login(image, login), Pull(image, login)) if login else (Pull(image),)


def pull(scope: Scope) -> Plan:
    """Have the wanted image on every node, by its digest."""
    return on_all(scope, lambda _: have_image(scope))


def setup(scope: Scope) -> Plan:
    """Install Docker and pull the image, everywhere at once."""
    return install(scope).along(pull(scope))


def node_values(scope: Scope, node: Node) -> NodeValues:
    """Give the late values of a node's container."""
    settings = scope.settings
    head = lates.head_address(settings, alone=scope.alone)
    return NodeValues(
        image=lates.wanted_image(settings, alone=scope.alone),
        address=head if node.role == "head" else lates.node_address(node, head),
        head=phrase(head, f":{settings.redis_port}"),
        run=lates.run_id(lates.token(settings)),
        sizes={"shm_size": lates.SHM_SIZE, "num_workers": lates.NUM_WORKERS, "gpus": lates.GPUS},
    )


def run_container(scope: Scope, node: Node) -> tuple[Step, ...]:
    """Give the steps of the document's `docker run`."""
    container = ray_container(scope.settings, node, node_values(scope, node))
    lay = () if scope.settings.allow_unauthenticated else (LayToken(container.name, lates.token(scope.settings)),)
    return (ClearName(container), Create(container), *lay, StartContainer(container.name))


def start_head(scope: Scope) -> Plan:
    """Start Ray on the head; where the head is not selected, only see that it runs."""
    head, name = scope.inventory.head, scope.container("head")
    if not scope.head:
        return on_head(scope, HeadRuns(name))
    address = lates.head_address(scope.settings, alone=scope.alone)
    steps = (*have_image(scope), *run_container(scope, head))
    return on_head(scope, *steps, AwaitGcs(name, address, scope.settings.redis_port))


def start_on_workers(scope: Scope) -> Plan:
    """Start Ray on the workers, and watch until every node is there and ran a task."""
    settings = scope.settings
    head = lates.head_address(settings, alone=scope.alone)
    chains = tuple(
        Chain(
            node,
            (*have_image(scope), ReachGcs(head, settings.redis_port), *run_container(scope, node)),
        )
        for node in scope.workers
    )
    return Plan((Stage(chains, after_head=True), Stage((Chain(scope.inventory.head, watch(scope)),), after_head=True)))


def addresses(scope: Scope, nodes: tuple[Node, ...]) -> tuple[tuple[Node, Word], ...]:
    """Give each node with its address for Ray."""
    return tuple((node, node_values(scope, node).address) for node in nodes)


def watch(scope: Scope) -> tuple[Step, ...]:
    """Give the steps that wait for the started nodes to be alive, and run a task on each."""
    nodes = addresses(scope, (scope.inventory.head, *scope.workers))
    head = scope.container("head")
    return (Join(head, scope.container("worker"), nodes), Probe(head, nodes))


def start_workers(scope: Scope) -> Plan:
    """See that the head runs, and start Ray on the workers."""
    return on_head(scope, HeadRuns(scope.container("head"))).then(start_on_workers(scope))


def start(scope: Scope) -> Plan:
    """Start Ray on the head, then on the workers."""
    return start_head(scope).then(start_on_workers(scope))


def status(scope: Scope) -> Plan:
    """Look at each node's container, and then at Ray's node list."""
    look = on_all(scope, lambda node: (ShowContainer(scope.container(node.role)),))
    nodes = addresses(scope, scope.head + scope.workers)
    ask = Stage((Chain(scope.inventory.head, (ShowRay(scope.container("head"), nodes),)),), after_head=True)
    return Plan((*look.stages, ask))


def stop_workers(scope: Scope) -> Plan:
    """Stop the containers of this cluster on the workers."""
    steps = (StopContainers(scope.settings.cluster_name, "worker"),)
    return Plan((Stage(tuple(Chain(node, steps) for node in scope.workers)),))


def stop_head(scope: Scope) -> Plan:
    """Stop the container of this cluster on the head."""
    steps = (StopContainers(scope.settings.cluster_name, "head"),)
    return Plan((Stage(tuple(Chain(node, steps) for node in scope.head)),))


def stop(scope: Scope) -> Plan:
    """Stop the workers, then the head."""
    return stop_workers(scope).then(stop_head(scope))
