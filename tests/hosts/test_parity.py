"""Every step by both its faces, as the run does it and as bash does its line, each on a host of its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from deploy import lates
from deploy.group import HostGroup
from deploy.inventory import Inventory
from deploy.plan import Late, Place, Step
from deploy.plans import Scope
from deploy.plans.scope import on_head
from deploy.ports import listening
from deploy.probes import PROBED_PATH
from deploy.ray import Container, NodeValues, ray_container
from deploy.run import Run
from deploy.script import script
from deploy.settings import read
from deploy.show import Screen
from deploy.steps import absence, building, clearing, containers, history, images, joining, manual, publishing, setup
from deploy.steps import cluster as joins
from tests.hosts.observer import NO_ENGINE, TOP, PracticeHost, Sandbox, command
from tests.hosts.typist import aws_keys

NAME, CLUSTER = "raydock-parity-head", "parity"
TOKEN = "70" * 32
PORTS = absence.Ports(head=6379, worker=8076)
UNDO = containers.StopContainers("nobody", "worker", grace=0)
# What a host shows beside its containers: who may speak to its engine, what is installed, what lies there.
FILES = "; ".join(
    (
        "getent group docker",
        "stat -c '%n %a %U %G' /var/lib/raydock/*",
        "dpkg-query -W -f '${Status}\\n' docker.io",
        "ls /dev/shm",
    )
)

pytestmark = pytest.mark.timeout(180)


def fixed(name: str, value: str, at: Place = Place.HEAD) -> Late[str]:
    """Give a late value that both faces find out to be the same."""
    return Late(name, f"echo {shlex.quote(value)}", lambda _: value, at)


@dataclass
class Face:
    """One side: a host that is a cluster by itself, and how steps are done there."""

    name: str
    host: PracticeHost
    scope: Scope
    perform: Callable[[Scope, tuple[Step, ...]], None]
    digest: str

    def __call__(self, *steps: Step) -> None:
        """Do the steps."""
        self.perform(self.scope, steps)

    @property
    def container(self) -> Container:
        """Ray's container, all of it known."""
        found = NodeValues(
            image=fixed("image", self.digest),
            version=fixed("ray_version", "2.60.0"),
            address="127.0.0.2",
            head="127.0.0.2:6379",
            run="0123456789ab",
            sizes={
                "shm_size": lates.shm_size(self.scope.settings),
                "num_workers": lates.NUM_WORKERS,
                "gpus": lates.GPUS,
            },
        )
        return ray_container(self.scope.settings, self.scope.inventory.head, found)

    @property
    def alone(self) -> tuple[tuple[Any, str], ...]:
        """The nodes of its cluster, with their addresses."""
        return ((self.scope.inventory.head, "127.0.0.2"),)

    @property
    def repository(self) -> str:
        """A repository of its own."""
        return f"raydock-parity-{self.name}"

    def uri(self) -> str:
        """What the registry calls it."""
        return f"{self.digest.partition('/')[0]}/{self.repository}"


def as_the_run(scope: Scope, steps: tuple[Step, ...]) -> None:
    run = Run(scope, Screen().lines())
    HostGroup(run).perform(on_head(scope, *steps))
    problem = run.outcomes[scope.inventory.head].problem
    assert problem is None, problem


def as_bash(path: str, folder: Path) -> Callable[[Scope, tuple[Step, ...]], None]:
    def perform(scope: Scope, steps: tuple[Step, ...]) -> None:
        lines = folder / "steps.sh"
        lines.write_text(script("parity", scope, on_head(scope, *steps)))
        command(["bash", lines], {**NO_ENGINE, **aws_keys(), "PATH": path}, folder=folder, timeout=120)

    return perform


@pytest.fixture(scope="module")
def faces(
    sandbox: Sandbox, invoke: Callable[..., Any], path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Face, Face]]:
    """The two sides. Each host has the application's image, and no container."""
    digest = invoke("cluster.pull", "--json").report["image"]
    sandbox.clear()
    made = []
    performers = (as_the_run, as_bash(path, tmp_path_factory.mktemp("bash")))
    for name, host, perform in zip(("run", "bash"), sandbox.workers, performers, strict=True):
        environ = {
            "ENVIRONMENT": "sandbox",
            "HEAD": f"ubuntu@{host.node}",
            "CLUSTER_NAME": CLUSTER,
            "HEAD_ADDRESS": host.address,
            "REPOSITORY_NAME": f"raydock-parity-{name}",
            "MEMORY": "4G",
            "PIDS_LIMIT": "4096",
        }
        settings = read(TOP, environ).settings
        inventory = Inventory(settings.head_node())
        made.append(Face(name, host, Scope(settings, inventory, inventory.select(None)), perform, digest))
    yield made[0], made[1]
    for face in made:
        as_the_run(face.scope, (setup.StartDocker(),))
    for face in made:
        if registry_has(face):
            ecr(face).delete_repository(repositoryName=face.repository, force=True)
    for host in sandbox:
        host.shell(
            "docker images -q --filter reference='*parity*' | xargs -r docker rmi --force; "
            "rm -rf /var/lib/raydock/parity /usr/local/bin/mmdebstrap"
        )


# ---- what is compared


def plain(shown: Any) -> Any:
    """Give what an engine shows without what it leaves empty: an absent list, an empty one and null are the same."""
    if isinstance(shown, Mapping):
        return {key: kept for key, value in shown.items() if (kept := plain(value)) not in (None, [], {}, "", 0, False)}
    if isinstance(shown, list):
        return [plain(value) for value in shown]
    return shown


OWN = (
    "Id",
    "Created",
    "Hostname",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "GraphDriver",
    "NetworkSettings",
)
RUNNING = ("StartedAt", "FinishedAt", "Pid")


def container_of(shown: dict[str, Any]) -> Any:
    """Give a container without what only this one has."""
    kept = {key: value for key, value in shown.items() if key not in OWN}
    kept["Config"] = {key: value for key, value in shown["Config"].items() if key not in OWN}
    # The engine gives them in the order of a map.
    kept["Config"]["Env"] = sorted(kept["Config"]["Env"] or ())
    kept["State"] = {key: value for key, value in shown["State"].items() if key not in RUNNING}
    return plain(kept)


def image_of(shown: dict[str, Any]) -> Any:
    """Give an image without when it was made, and its id where that depends on it."""
    # Of the layer before it the classic builder keeps an image with a moment in it.
    config = {key: value for key, value in shown["Config"].items() if key not in ("Hostname", "Image")}
    labels = {key: value for key, value in (config.get("Labels") or {}).items() if key not in VARYING}
    digests = [digest.replace("-bash@", "-run@") for digest in shown["RepoDigests"]]
    return plain(
        {"config": {**config, "Labels": labels}, "digests": sorted(digests), "layers": len(shown["RootFS"]["Layers"])}
    )


VARYING = ("org.opencontainers.image.created", "raydock.container")


def seen(face: Face) -> dict[str, Any]:
    """Give all that a step may have changed on a host."""
    host = face.host
    running = host.look("docker", "version", "-f", "{{.Server.Os}}")
    names = ("*parity*", face.uri()) if running.code == 0 else ()
    tags = [tag for name in names for tag in tags_of(host, name)]
    shown = json.loads(host.docker("image", "inspect", *tags)) if tags else []
    pulled = host.look("docker", "image", "inspect", face.digest).code
    found = host.containers() if running.code == 0 else {}
    token = host.look("bash", "-c", f"docker cp {NAME}:/run/ray-token - | tar -tv --numeric-owner").out.split()[:3]
    return {
        "engine": running.out,
        "containers": {name: container_of(one) for name, one in found.items()},
        "images": {tag.replace("-bash:", "-run:"): image_of(one) for tag, one in zip(tags, shown, strict=True)},
        "the application's image": pulled,
        "files": host.look("bash", "-c", f"({FILES}) 2>/dev/null || true").out,
        "token": token,
        "probed": host.look("docker", "exec", NAME, "test", "-e", PROBED_PATH).code,
        "published": registry_has(face),
        "latest": has_latest(face),
    }


def has_latest(face: Face) -> bool:
    """Tell whether the registry itself has the tag."""
    assert face.host.box.client
    services = face.host.box.client.containers.get("raydock-sandbox-services")
    place = f"/var/lib/registry/docker/registry/v2/repositories/{face.repository}/_manifests/tags/latest"
    return bool(services.exec_run(["test", "-e", place]).exit_code == 0)


def tags_of(host: PracticeHost, name: str) -> list[str]:
    """Give the images of a host whose names are like this."""
    line = ("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={name}")
    return host.docker(*line).split()


def ecr(face: Face) -> Any:
    """Give the sandbox's ECR, past Raydock."""
    settings = face.scope.settings
    keys = {f"aws_{key}": settings.aws[f"AWS_{key.upper()}"].reveal() for key in ("access_key_id", "secret_access_key")}
    endpoint = settings.aws["AWS_ENDPOINT_URL"].reveal()
    return boto3.client("ecr", region_name=settings.region, endpoint_url=endpoint, **keys)


def registry_has(face: Face) -> Any:
    """Give the repository as ECR tells of it."""
    client = ecr(face)
    try:
        (found,) = client.describe_repositories(repositoryNames=[face.repository])["repositories"]
    except client.exceptions.RepositoryNotFoundException:
        return None
    return {key: value for key, value in found.items() if key.startswith("image")}


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Say where two of what was seen differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{place}/{key}")
    elif one != other:
        yield f"{place}: {one!r}, by bash {other!r}"


# ---- the steps


@dataclass(frozen=True)
class Case:
    """A step, and the start from which both faces do it."""

    step: Callable[[Face], Step]
    given: Callable[[Face], object] = field(default=lambda _: None)
    # That what it has to bring about is so at the start.
    done: bool = False
    # What has to come before it in a script.
    after: Callable[[Face], tuple[Step, ...]] = field(default=lambda _: ())


def small_image(face: Face) -> None:
    """Have a small image, the same on both hosts."""
    face.host.shell(f"echo {SMALL} | base64 -d | docker load -q; docker tag raydock-parity-small raydock-parity-app")


def archive_of_an_image() -> str:
    """Give an image of one empty layer, as `docker load` takes it."""
    layer = tar({})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["raydock-parity-small:latest"], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    return base64.b64encode(tar(files)).decode()


def tar(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as written:
        with tarfile.open(fileobj=written, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return written.getvalue()


SMALL = archive_of_an_image()
DOCKERFILE = "FROM raydock-parity-small\nLABEL made=here"


def created(face: Face) -> None:
    """Have Ray's container, never started."""
    as_the_run(face.scope, (containers.Create(face.container),))


def with_token(face: Face) -> None:
    """Have it with the token in."""
    as_the_run(face.scope, (containers.Create(face.container), containers.LayToken(NAME, fixed("token", TOKEN))))


def started(face: Face) -> None:
    """Have it run."""
    steps = (
        containers.Create(face.container),
        containers.LayToken(NAME, fixed("token", TOKEN)),
        containers.StartContainer(NAME),
    )
    as_the_run(face.scope, steps)


def fits_head(face: Face) -> images.FitsHead:
    heads = lates.heads_versions(NAME, image_late(face))
    return images.FitsHead(image_late(face), lates.versions(image_late(face), heads), heads)


def alive(face: Face) -> None:
    """Have a Ray that has its node alive."""
    started(face)
    as_the_run(face.scope, (joins.AwaitGcs(NAME, "127.0.0.2", 6379), joining.Join(NAME, "", face.alone, PORTS, UNDO)))


def stale(face: Face) -> None:
    """Have a container of ours of a former start, that ended."""
    labels = f"--label raydock.cluster={CLUSTER} --label raydock.role=head --label raydock.spec=v1:0"
    face.host.docker(*shlex.split(f"create --name {NAME} {labels} raydock-parity-small x"))


def shell_left(face: Face) -> None:
    """Have a container that somebody left, of the same name on both hosts."""
    face.host.shell(
        f"docker run --name raydock-parity-left --network none --label raydock.manual={CLUSTER} {face.digest} "
        "bash -c 'mkdir /app2; echo hello >/app2/file; rm /etc/motd; touch \"/x y\"'"
    )


def without_pull(face: Face) -> None:
    """Have the application's layers, and not its name: a pull of it takes a moment."""
    face.host.shell(f"docker tag {face.digest} raydock-parity-layers && docker rmi {face.digest} || true")


def login(face: Face) -> publishing.CheckLogin:
    return publishing.CheckLogin(face.uri(), lates.registry_password(face.scope.settings))


def no_root(face: Face) -> None:
    """Have no registry that gives the root, and a mmdebstrap that makes an empty one."""
    face.host.shell(
        "cd /usr/local/bin; printf '#!/bin/sh\\ntar c --files-from /dev/null\\n' >mmdebstrap; chmod +x mmdebstrap"
    )


def uninstalled(face: Face) -> None:
    face.host.shell(
        "service docker stop; DEBIAN_FRONTEND=noninteractive apt-get remove -y docker.io; rm -f /var/run/docker.pid"
    )


def image_late(face: Face) -> Late[str]:
    return fixed("image", face.digest)


CASES: dict[type[Step], Case] = {
    # Before any login: a registry that has nothing of ours tells no host.
    publishing.CreateRepository: Case(
        lambda face: publishing.CreateRepository(face.repository, face.scope.settings.region)
    ),
    setup.JoinDockerGroup: Case(
        lambda _: setup.JoinDockerGroup(), lambda face: face.host.run("gpasswd", "-d", "ubuntu", "docker")
    ),
    setup.MakeStateFolder: Case(lambda _: setup.MakeStateFolder(CLUSTER)),
    building.MakeRoot: Case(lambda _: building.MakeRoot("raydock-parity-root", "raydock.invalid/root"), no_root),
    building.HaveBase: Case(lambda _: building.HaveBase("raydock-parity-small"), small_image, done=True),
    building.Build: Case(
        lambda _: building.Build("raydock-parity-built", fixed("dockerfile", DOCKERFILE), fixed("recipe", "abc")),
        small_image,
    ),
    images.Login: Case(
        lambda face: images.Login(image_late(face), lates.registry_password(face.scope.settings)), without_pull
    ),
    images.Pull: Case(
        lambda face: images.Pull(image_late(face), lates.registry_password(face.scope.settings)),
        without_pull,
        after=lambda face: (images.Login(image_late(face), lates.registry_password(face.scope.settings)),),
    ),
    images.FitsEngine: Case(lambda face: images.FitsEngine(image_late(face))),
    # What runs says it: without a head each would run the image.
    # Where the head runs another image both are asked what they have, each in a container of its own.
    images.FitsHead: Case(fits_head, started),
    images.FindRay: Case(
        lambda face: images.FindRay(lates.ray_version(face.scope.settings, image_late(face))), started
    ),
    publishing.ShowRepository: Case(
        lambda face: publishing.ShowRepository(face.repository, face.scope.settings.region)
    ),
    publishing.Tag: Case(lambda face: publishing.Tag("raydock-parity-app", face.uri(), "one"), small_image),
    publishing.CheckLogin: Case(login),
    publishing.Push: Case(
        lambda face: publishing.Push(face.uri(), "one", lates.registry_password(face.scope.settings)),
        lambda face: (small_image(face), face.host.docker("tag", "raydock-parity-app", f"{face.uri()}:one")),
        after=lambda face: (login(face),),
    ),
    publishing.PushLatest: Case(
        lambda face: publishing.PushLatest(face.uri(), "latest", lates.registry_password(face.scope.settings), "one"),
        lambda face: (small_image(face), face.host.docker("tag", "raydock-parity-app", f"{face.uri()}:latest")),
        after=lambda face: (login(face),),
    ),
    publishing.ShowPublished: Case(
        lambda face: publishing.ShowPublished(face.uri(), "one"),
        lambda face: (small_image(face), face.host.docker("tag", "raydock-parity-app", f"{face.uri()}:one")),
    ),
    history.ShowHistory: Case(lambda _: history.ShowHistory(f"/var/lib/raydock/{CLUSTER}", 5)),
    manual.ShowLeft: Case(lambda _: manual.ShowLeft(CLUSTER), shell_left),
    manual.Commit: Case(
        lambda _: manual.Commit("raydock-parity-left", CLUSTER, "raydock-parity-manual", lates.BY, lates.NOW),
        shell_left,
    ),
    joins.FindAddress: Case(lambda face: joins.FindAddress(lates.head_address(face.scope.settings, alone=True))),
    joins.FreePorts: Case(lambda face: joins.FreePorts(NAME, listening(face.scope.settings, "head"))),
    clearing.ClearName: Case(
        lambda face: clearing.ClearName(face.container), lambda face: (small_image(face), stale(face))
    ),
    clearing.Compare: Case(lambda face: clearing.Compare(face.container), created),
    containers.Create: Case(lambda face: containers.Create(face.container)),
    containers.LayToken: Case(lambda _: containers.LayToken(NAME, fixed("token", TOKEN)), created),
    containers.StartContainer: Case(lambda _: containers.StartContainer(NAME), with_token),
    containers.ShowContainer: Case(lambda _: containers.ShowContainer(NAME), started),
    # A Ray that has just begun heeds no signal yet.
    containers.StopContainers: Case(lambda _: containers.StopContainers(CLUSTER, "head", grace=2), started),
    joins.HeadRuns: Case(lambda _: joins.HeadRuns(NAME), started),
    joins.AwaitGcs: Case(lambda _: joins.AwaitGcs(NAME, "127.0.0.2", 6379), started),
    joins.ReachGcs: Case(lambda _: joins.ReachGcs("127.0.0.2", 22)),
    joining.Join: Case(
        lambda face: joining.Join(NAME, "", face.alone, PORTS, UNDO),
        started,
        after=lambda _: (joins.AwaitGcs(NAME, "127.0.0.2", 6379),),
    ),
    joining.Probe: Case(lambda face: joining.Probe(NAME, "", face.alone, PORTS), alive),
    joining.Settle: Case(lambda face: joining.Settle(NAME, "", face.alone, PORTS), alive),
    joining.ShowRay: Case(lambda face: joining.ShowRay(NAME, face.alone, PORTS), alive),
    # These last: with the engine all that runs on it ends, and one that was removed stays down.
    setup.StartDocker: Case(lambda _: setup.StartDocker(), lambda face: face.host.run("service", "docker", "stop")),
    setup.InstallDocker: Case(lambda _: setup.InstallDocker(), uninstalled),
}


def every_step(of: type[Step] = Step) -> Iterator[type[Step]]:
    """Give every class of step that there is."""
    for one in of.__subclasses__():
        yield one
        yield from every_step(one)


def test_no_step_is_without_a_case() -> None:
    ours = {one for one in every_step() if one.__module__.startswith("deploy.")}
    assert {one.__name__ for one in ours - set(CASES)} == set()


@pytest.mark.parametrize("case", CASES.values(), ids=[one.__name__ for one in CASES])
def test_both_faces_of_a_step_do_the_same(case: Case, faces: tuple[Face, Face]) -> None:
    def both(do: Callable[[Face], Any]) -> list[Any]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(do, faces))

    def begin(face: Face) -> dict[str, Any]:
        face.host.shell("docker ps -aq | xargs -r docker rm -f")
        case.given(face)
        return seen(face)

    def once(face: Face) -> dict[str, Any]:
        face(*case.after(face), case.step(face))
        return seen(face)

    def again(face: Face) -> set[str]:
        since = time.time_ns()
        face(*case.after(face), case.step(face))
        # The engine of a package that was just installed may not run yet.
        return face.host.actions(since) if face.host.attempt("docker", "version").code == 0 else set()

    start = both(begin)
    assert list(differences(*start)) == []
    ended = both(once)
    assert list(differences(*ended)) == []
    step = case.step(faces[0])
    if step.changes and not case.done:
        assert ended[0] != start[0], "the step changed nothing that is compared"
    # A question may be one to Ray, in the head's container.
    assert [actions - {"exec_create", "exec_start", "exec_die"} for actions in both(again)] == [set(), set()]
