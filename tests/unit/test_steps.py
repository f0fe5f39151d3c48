"""The steps, each by its question and its action, and what each refuses."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import Failure
from deploy.inventory import Node
from deploy.lates import RegistryLogin, former
from deploy.plan import Late, Place, Step, Word
from deploy.ports import listening
from deploy.probes import PROBED_PATH, all_probed_path
from deploy.ray import TOKEN_PATH, Container
from deploy.site import Weight
from deploy.steps.absence import Ports
from deploy.steps.building import CA_BUNDLE, REVISION_LABEL, Build, HaveBase, MakeRoot
from deploy.steps.clearing import ClearName
from deploy.steps.cluster import AwaitGcs, FindAddress, FreePorts, HeadRuns, ReachGcs, asked_ports, ports_shut
from deploy.steps.containers import Create, LayToken, ShowContainer, StartContainer, StopContainers
from deploy.steps.images import FindRay, FitsEngine, FitsHead, Login, Pull
from deploy.steps.joining import Join, Probe, Settle, ShowRay
from deploy.steps.manual import Commit, ShowLeft
from deploy.steps.publishing import (
    CheckLogin,
    CreateRepository,
    Push,
    PushLatest,
    ShowPublished,
    ShowRepository,
    Tag,
    moment,
)
from deploy.steps.setup import InstallDocker, JoinDockerGroup, MakeStateFolder, StartDocker
from deploy.systems import APT_HOLDER
from deploy.systems import ENGINE as HAS_ENGINE

from .fakes import DIGEST, LOGIN, Cluster, FakeSite, Image, Row, bash, command_failed, containers, program, scope

Given = Callable[[FakeSite], object]

WORKERS = "one  #: private=10.0.0.2\ntwo  #: private=10.0.0.3"
SCOPE = scope(WORKERS)
HEAD, ONE, TWO = SCOPE.inventory.nodes
CREDENTIALS = RegistryLogin(
    "registry_password", "aws", lambda _: LOGIN, Place.OPERATOR, host=Late("repository_uri", "", lambda _: URI)
)
IMAGE = f"registry.test/my-app@{DIGEST}"
KNOWN = {"image": IMAGE, "head_address": "10.0.0.1", "token": "hunter2", "run": "r1", "ray_version": "2.60.0"}


def cluster(of: Any = SCOPE) -> Cluster:
    """Give a cluster whose late values are known."""
    made = Cluster(of)
    made.head.know(**KNOWN)
    for name, address in (("head", "10.0.0.1"), ("one", "10.0.0.2"), ("two", "10.0.0.3")):
        made.sites[name].know(address=address, shm_size="1", num_workers="1", gpus="")
    return made


def site(name: str = "head") -> FakeSite:
    return cluster().sites[name]


def nothing(_: FakeSite) -> None:
    """Leave a node as it is."""


def answer(**lines: str | Failure) -> Given:
    """Have commands answer; `id_un` is `id -un`."""
    return lambda one: one.answers.update({key.replace("_", " "): line for key, line in lines.items()})


def images(**named: Image) -> Given:
    return lambda one: one.docker.images.update({name.replace("_", "-"): image for name, image in named.items()})


def failed(step: Step, one: FakeSite) -> str:
    """Give the code and the error of a step that refuses."""
    with pytest.raises(Failure) as caught:
        step.apply(one)
    return f"{caught.value.code} {caught.value.error}"


FREE = FreePorts("raydock-ray-head", listening(SCOPE.settings, "head"))


TAKEN = "LISTEN 0 4096 0.0.0.0:6379 0.0.0.0:*\nLISTEN 0 128 [fe80::1]%eth0:52365 [::]:*"


def taken(one: FakeSite) -> None:
    """Have others listen on a node."""
    one.answers["ss"] = TAKEN


def another_cluster(one: FakeSite) -> None:
    """Have another cluster's head there."""
    taken(one)
    one.docker.hold("raydock-b-head", raydock_cluster="b", raydock_asked=ASKED)


LISTENING = 'LISTEN 0 511 0.0.0.0:6379 0.0.0.0:* users:(("redis-server",pid=77,fd=6))\n'
ASKED = '{"redis_port": 6379, "role": "head"}'


LABELS: dict[str, tuple[dict[str, str], set[int]]] = {
    "ours": ({"raydock.asked": '{"redis_port": 1, "dashboard_port": 2, "role": "head"}'}, {1, 2}),
    "none": ({}, set()),
    "no JSON": ({"raydock.asked": "{"}, set()),
    "another shape": ({"raydock.asked": "[1]"}, set()),
    "ports of another shape": ({"raydock.asked": '{"redis_port": [1], "dashboard_port": 2}'}, {2}),
}


@pytest.mark.parametrize(("labels", "ports"), LABELS.values(), ids=LABELS)
def test_the_label_of_a_container_may_be_anybodys(labels: dict[str, str], ports: set[int]) -> None:
    assert asked_ports(labels) == ports


def fits(mine: str, heads: str) -> FitsHead:
    """Give the comparison of a worker's image with the head's, by what each tells."""
    return FitsHead(
        "registry.test/a", Late("versions", "", lambda _: mine), Late("heads_versions", "", lambda _: heads)
    )


def itself(one: FakeSite) -> None:
    """Have the cluster's own container listen."""
    one.docker.hold("raydock-ray-head")
    taken(one)


# --- questions and actions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A step, a node on which it is to do, and what its action does there."""

    step: Step
    given: Given
    calls: Sequence[tuple[str, ...] | str]


OS_RELEASE = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'
APT = "sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -y"
URI = "registry.test/my-app"
BUILD = Build("my-app", "FROM base", Late("recipe", "", lambda _: "abc123", Place.OPERATOR))

# What is asked of the engine, in order; of what is asked of the shell, the lines.
ENGINE: dict[str, Case] = {
    "pull": Case(Pull(IMAGE), nothing, [("pull", IMAGE)]),
    "have the base": Case(HaveBase("base"), nothing, [("pull", "base")]),
    "have a root that can be pulled": Case(
        MakeRoot("raydock/root", "python:3"),
        nothing,
        [("pull", "python:3"), ("tag", "python:3", "raydock/root", "latest")],
    ),
    "build": Case(BUILD, nothing, [("build", "my-app")]),
    "build what was built of something else": Case(
        BUILD, images(my_app=Image(labels={"raydock.recipe": "other"})), [("build", "my-app")]
    ),
    "tag": Case(Tag("my-app", URI, "latest"), images(my_app=Image()), [("tag", "my-app", URI, "latest")]),
    "tag what bore another image": Case(
        Tag("my-app", URI, "latest"),
        lambda one: one.docker.images.update({"my-app": Image("sha256:new"), f"{URI}:latest": Image("sha256:old")}),
        [("tag", "my-app", URI, "latest")],
    ),
    "create": Case(Create(containers(SCOPE)["one"]), nothing, [("create", "raydock-ray-worker")]),
    "lay the token": Case(
        LayToken("raydock-ray-head", Late("token", "", lambda _: "", Place.HEAD)),
        lambda one: one.docker.hold("raydock-ray-head", "created"),
        [("put_file", "raydock-ray-head", "/run/ray-token", "1000")],
    ),
    "start": Case(
        StartContainer("raydock-ray-head"),
        lambda one: one.docker.hold("raydock-ray-head", "created"),
        [("start", "raydock-ray-head")],
    ),
    "stop": Case(
        StopContainers("ray", "head"),
        lambda one: one.docker.hold("raydock-ray-head", raydock_cluster="ray", raydock_role="head"),
        [("stop", "raydock-ray-head", "45"), ("remove", "raydock-ray-head")],
    ),
    "remove what has ended": Case(
        StopContainers("ray", "worker"),
        lambda one: one.docker.hold("old", "exited", raydock_cluster="ray", raydock_role="worker"),
        [("remove", "old")],
    ),
}


@pytest.mark.parametrize("case", ENGINE.values(), ids=ENGINE)
def test_after_its_action_a_step_is_done(case: Case) -> None:
    one = site()
    case.given(one)
    assert not case.step.done(one)
    assert one.docker.calls == []
    case.step.apply(one)
    assert one.docker.calls == case.calls
    assert case.step.done(one)


def without_docker(one: FakeSite) -> object:
    one.docker.broken["platform"] = Failure("DOCKER_ABSENT", "no engine")
    one.answers |= {
        shlex.join(("sh", "-c", HAS_ENGINE)): command_failed(),
        "cat /etc/os-release": OS_RELEASE,
    }
    return one


def without_engine(why: str, **lines: str | Failure) -> Given:
    """Have no engine that answers the login user; `lines` answer as in `answer`."""

    def given(one: FakeSite) -> None:
        one.docker.broken["platform"] = Failure(why, "no engine")
        answer(**lines)(one)

    return given


SHELL: dict[str, Case] = {
    "install Docker": Case(
        InstallDocker(),
        without_docker,
        [
            "cat /etc/os-release",
            "sudo true",
            shlex.join(("sudo", "sh", "-c", APT_HOLDER)),
            f"{APT} install docker.io",
            "sudo sh -c 'command -v docker'",
        ],
    ),
    "start Docker": Case(
        StartDocker(),
        without_engine("DOCKER_DOWN", docker=command_failed(), test=command_failed()),
        [
            "test -d /run/systemd/system",
            "sudo service docker start",
            "sudo sh -c 'for _ in $(seq 60); do docker version >/dev/null 2>&1 && exit; sleep 0.5; done; "
            "docker version'",
        ],
    ),
    "start Docker, where systemd runs": Case(
        StartDocker(),
        without_engine("DOCKER_ABSENT", docker=command_failed()),
        [
            "test -d /run/systemd/system",
            "sudo systemctl enable --now docker",
            "sudo sh -c 'for _ in $(seq 60); do docker version >/dev/null 2>&1 && exit; sleep 0.5; done; "
            "docker version'",
        ],
    ),
    "join the group": Case(JoinDockerGroup(), answer(id="ubuntu\n"), ["id -un", "sudo usermod -a -G docker ubuntu"]),
    "make the folder": Case(
        MakeStateFolder("blue"),
        answer(sh=command_failed()),
        ["sudo install -d -m 2770 -g docker /var/lib/raydock/blue"],
    ),
}


@pytest.mark.parametrize("case", SHELL.values(), ids=SHELL)
def test_the_action_runs(case: Case) -> None:
    one = site()
    case.given(one)
    assert not case.step.done(one)
    one.commands.clear()
    case.step.apply(one)
    assert one.commands == case.calls


def test_an_engine_that_hangs_is_not_started_but_told() -> None:
    one = site()
    without_engine("DOCKER_TIMEOUT")(one)
    with pytest.raises(Failure, match="no engine"):
        StartDocker().done(one)
    assert one.commands == []


def test_who_has_the_lock_is_told_before_it_is_waited_for() -> None:
    one = site()
    without_docker(one)
    one.answers[shlex.join(("sh", "-c", APT_HOLDER))] = "77 (unattended-upgr)\n"
    InstallDocker().apply(one)
    assert one.said == ["waiting for the package manager's lock, held by pid 77 (unattended-upgr)"]


def test_old_package_lists_are_fetched_before_a_second_try() -> None:
    one = site()
    without_docker(one)
    one.answers |= {f"{APT[5:]} install": command_failed("Unable to locate package docker.io")}
    assert failed(InstallDocker(), one) == "APT_FAILED Unable to locate package docker.io"
    assert one.commands[-3:] == [f"{APT} install docker.io", f"{APT} update", f"{APT} install docker.io"]


DONE: dict[str, tuple[Step, Given]] = {
    "Docker is installed": (InstallDocker(), nothing),
    "Docker is installed, and does not run": (InstallDocker(), without_engine("DOCKER_DOWN")),
    "Docker runs": (StartDocker(), nothing),
    "Docker runs, and answers root alone": (StartDocker(), without_engine("DOCKER_PERMISSION")),
    "the user is in the group": (
        JoinDockerGroup(),
        lambda one: one.answers.update({"sh -c 'id -nG": "ubuntu sudo docker\n"}),
    ),
    "the user is root": (JoinDockerGroup(), lambda one: setattr(one, "is_root", True)),
    "the folder is there": (MakeStateFolder("ray"), nothing),
    "the image is there": (Pull(IMAGE), lambda one: one.docker.images.update({IMAGE: Image()})),
    "a login is made with each pull": (Login(Late("image", "", lambda _: IMAGE), CREDENTIALS), nothing),
    "the base is there": (HaveBase("base"), images(base=Image())),
    "the root is there": (MakeRoot("root", "python:3"), images(root=Image())),
    "it was built of the same": (BUILD, images(my_app=Image(labels={"raydock.recipe": "abc123"}))),
    "the repository is there": (CreateRepository("my-app", None), nothing),
    "the tag is this image's": (
        Tag("my-app", URI, "latest"),
        lambda one: one.docker.images.update({"my-app": Image(), f"{URI}:latest": Image()}),
    ),
    "the container is there": (
        Create(containers(SCOPE)["one"]),
        lambda one: one.docker.hold("raydock-ray-worker", "created", raydock_cluster="ray"),
    ),
    "the container has a token": (
        LayToken("raydock-ray-head", Late("token", "", lambda _: "new", Place.HEAD)),
        lambda one: one.docker.files.update({("raydock-ray-head", TOKEN_PATH): b"kept"}),
    ),
    "the container runs": (StartContainer("a"), lambda one: one.docker.hold("a")),
    "nothing of ours is there": (StopContainers("ray", "head"), nothing),
    "the head's port is open": (AwaitGcs("raydock-ray-head", "10.0.0.1", 6379), nothing),
    "the head can be reached": (ReachGcs("10.0.0.1", 6379), nothing),
    "nobody listens": (FREE, nothing),
    "it listens itself": (FREE, itself),
    "the image is for this machine": (
        FitsEngine(IMAGE),
        lambda one: one.docker.images.update({IMAGE: Image(platform="linux/amd64")}),
    ),
    "Ray's version is known": (FindRay(Late("ray_version", "", lambda _: "never asked", Place.HEAD)), nothing),
    "the head runs": (HeadRuns("raydock-ray-head"), lambda one: one.docker.hold("raydock-ray-head")),
    "the head was started with the same image": (fits("never asked", ""), nothing),
}


@pytest.mark.parametrize(("step", "given"), DONE.values(), ids=DONE)
def test_nothing_is_to_do_where(step: Step, given: Given) -> None:
    one = site()
    given(one)
    assert step.done(one)
    assert (one.docker.calls, one.registry.calls) == ([], [])


REFUSALS: dict[str, tuple[Step, Given, str]] = {
    "Docker, on another system": (
        InstallDocker(),
        lambda one: one.answers.update({"cat /etc/os-release": 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n'}),
        "OS_UNSUPPORTED no Docker among the packages of Alpine Linux v3.20",
    ),
    "Docker, where sudo asks": (
        InstallDocker(),
        lambda one: (without_docker(one), one.answers.update({"true": command_failed()})),
        "SUDO_PASSWORD_NEEDED sudo asks for a password",
    ),
    "Docker, where apt is locked": (
        InstallDocker(),
        lambda one: (
            without_docker(one),
            one.answers.update({"env": command_failed("E: Could not get lock /var/lib/dpkg")}),
        ),
        "APT_LOCKED E: Could not get lock /var/lib/dpkg",
    ),
    "Docker, where the link breaks": (
        InstallDocker(),
        lambda one: (without_docker(one), one.answers.update({"env": Failure("SSH_LOST", "gone")})),
        "SSH_LOST gone",
    ),
    "an engine that does not answer": (
        StartDocker(),
        answer(sh=command_failed("Cannot connect")),
        "DOCKER_DOWN Cannot connect",
    ),
    "an engine, where the link breaks": (StartDocker(), answer(sh=Failure("SSH_LOST", "gone")), "SSH_LOST gone"),
    "a base image that nobody has": (
        HaveBase("base"),
        lambda one: one.docker.broken.update(pull=Failure("IMAGE_NOT_FOUND", "no")),
        "BASE_IMAGE_ABSENT base is not on the head, and no registry has it",
    ),
    "an image that cannot be pulled": (
        Pull(IMAGE),
        lambda one: one.docker.broken.update(pull=Failure("REGISTRY_AUTH", "denied")),
        "REGISTRY_AUTH denied",
    ),
    "an image for another architecture": (
        FitsEngine(IMAGE),
        lambda one: one.docker.images.update({IMAGE: Image(platform="linux/arm64")}),
        f"IMAGE_WRONG_ARCH {IMAGE} is for linux/arm64, and this node's engine runs linux/amd64",
    ),
    "a head that cannot be reached": (
        ReachGcs("10.0.0.1", 6379),
        nothing,
        "GCS_UNREACHABLE the head's 10.0.0.1:6379 cannot be reached from this node",
    ),
    "ports that somebody has": (
        FREE,
        taken,
        "PORT_IN_USE something else listens on REDIS_PORT=6379, --dashboard-agent-listen-port=52365",
    ),
    "a port that a program has, as root sees": (
        FREE,
        lambda one: one.answers.update({"ss": TAKEN, "ss -Hltnp": LISTENING}),
        "PORT_IN_USE redis-server (pid 77) listens on REDIS_PORT=6379, --dashboard-agent-listen-port=52365",
    ),
    "ports of another cluster": (
        FREE,
        another_cluster,
        "FOREIGN_CLUSTER raydock-b-head of the cluster b listens on "
        "REDIS_PORT=6379, --dashboard-agent-listen-port=52365",
    ),
    "another Ray than the head's": (
        fits("2.60.1 3.12.3", "2.60.0 3.12.3"),
        nothing,
        "VERSION_MISMATCH registry.test/a has Ray 2.60.1 on Python 3.12.3, "
        "and the head runs Ray 2.60.0 on Python 3.12.3",
    ),
    "another Python than the head's": (
        fits("2.60.0 3.12.3", "2.60.0 3.12.4"),
        nothing,
        "VERSION_MISMATCH registry.test/a has Ray 2.60.0 on Python 3.12.3, "
        "and the head runs Ray 2.60.0 on Python 3.12.4",
    ),
    "a head that is not there": (
        HeadRuns("raydock-ray-head"),
        nothing,
        "HEAD_NOT_RUNNING no running container raydock-ray-head",
    ),
    "a container that is not there": (ShowContainer("a"), nothing, "NOT_RUNNING no container a"),
    "a container that ended": (
        ShowContainer("a"),
        lambda one: (one.docker.hold("a", "exited"), one.docker.tails.update(a=["first", "Killed"])),
        "RAY_EXITED a ended with 3: Killed",
    ),
    "a container that ended without a word": (
        ShowContainer("a"),
        lambda one: one.docker.hold("a", "exited"),
        "RAY_EXITED a ended with 3: it wrote nothing",
    ),
}


@pytest.mark.parametrize(("step", "given", "said"), REFUSALS.values(), ids=REFUSALS)
def test_it_is_told_with_its_code(step: Step, given: Given, said: str) -> None:
    one = site()
    given(one)
    assert failed(step, one) == said


@pytest.mark.parametrize("reached", [True, False, None])
def test_no_program_looks_at_a_port_where_sshd_says_what_is_there(reached: bool | None) -> None:
    one = site()
    one.reached = {} if reached is None else {("10.0.0.1", 6379): reached}
    one.answers["timeout"] = ""
    assert ReachGcs("10.0.0.1", 6379).done(one) is (reached is not False)
    assert len(one.commands) == (reached is None)


def test_an_engine_that_answers_is_installed_whoever_may_look_for_it() -> None:
    one = site()
    assert InstallDocker().done(one)
    assert one.commands == []


def test_ports_are_not_looked_at_where_the_container_has_them() -> None:
    one = site()
    itself(one)
    assert FREE.done(one)
    assert one.commands == []


def test_a_new_session_has_the_group() -> None:
    one = site()
    assert JoinDockerGroup.ends_session
    JoinDockerGroup().apply(one)
    assert one.sessions == 2


# --- images ----------------------------------------------------------------------------------------------------


def test_a_pull_brings_its_own_login() -> None:
    one = site()
    Pull(IMAGE, CREDENTIALS).apply(one)
    Pull("rayproject/ray").apply(one)
    assert one.docker.secrets == [LOGIN, None]


DF = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/my disk 9000000 100000 {free} 80% /var\n"
GROUND, OTHER_GROUND = (DIGEST,), (f"sha256:{'9' * 64}",)


def pull_of(size: int, free: int, *there: Weight) -> tuple[Pull, FakeSite]:
    """Give a pull of an image of so many MB, and a node with so many MB free that has other images."""
    one = cluster().sites["one"]
    one.docker.info["DockerRootDir"] = "/var/lib/docker"
    one.docker.weights.update({f"there:{number}": weight for number, weight in enumerate(there)})
    one.answers["df -Pk /var/lib/docker"] = DF.format(free=free * 1000)
    weight = Late("weight", "", lambda _: Weight(size * 1_024_000, GROUND), Place.HEAD)
    return Pull(IMAGE, weight=weight), one


def test_a_lock_of_another_package_manager_is_waited_for_once() -> None:
    one = site()
    without_docker(one)
    one.answers["env"] = command_failed("E: Could not get lock /var/lib/dpkg")
    assert failed(InstallDocker(), one).startswith("APT_LOCKED")
    assert one.commands[-1] == f"{APT} install docker.io"
    assert len([line for line in one.commands if line.startswith(APT)]) == 1


SHARED: dict[str, tuple[Weight, Weight, int]] = {
    "all of it": (Weight(9, ("a", "b"), (4, 5)), Weight(9, ("a", "b")), 9),
    "its lower part": (Weight(9, ("a", "b"), (4, 5)), Weight(70, ("a", "c")), 4),
    "nothing": (Weight(9, ("a", "b"), (4, 5)), Weight(9, ("b", "a")), 0),
    "nobody knows how much": (Weight(9, ("a", "b")), Weight(70, ("a", "c")), 70),
    "nothing, whatever its layers weigh": (Weight(9, ("a", "b")), Weight(70, ("c",)), 0),
}


@pytest.mark.parametrize(("mine", "other", "shared"), SHARED.values(), ids=SHARED)
def test_of_two_images_is_shared(mine: Weight, other: Weight, shared: int) -> None:
    assert mine.shared_with(other) == shared


def test_an_image_that_cannot_fit_is_not_pulled() -> None:
    step, one = pull_of(3000, 1000)
    assert failed(step, one) == "DISK_FULL the image needs 3.1 GB in /var/lib/docker, and 1.0 GB are free"
    assert one.docker.calls == []


ROOM: dict[str, tuple[int, tuple[Weight, ...], str]] = {
    "there is plenty": (8000, (), ""),
    "it may not do": (4000, (), "the image needs 3.1 GB in /var/lib/docker, and 4.1 GB are free: that may not do"),
    "the ground of it is there": (2000, (Weight(2500 * 1_024_000, GROUND),), ""),
    "all of it may be there": (1, (Weight(3000 * 1_024_000, GROUND),), ""),
    "what is there stands on another ground": (4000, (Weight(2500 * 1_024_000, OTHER_GROUND),), "that may not do"),
}


@pytest.mark.parametrize(("free", "there", "said"), ROOM.values(), ids=ROOM)
def test_an_image_is_pulled_where(free: int, there: tuple[Weight, ...], said: str) -> None:
    step, one = pull_of(3000, free, *there)
    step.apply(one)
    assert one.docker.calls == [("pull", IMAGE)]
    told = [news for news in one.said if "free" in str(news)]
    assert [said in str(news) for news in told] == ([True] if said else [])


NO_ROOM_TOLD = {"nothing": "", "a failure": Failure("COMMAND_FAILED", "df: no such folder")}


@pytest.mark.parametrize("answer", NO_ROOM_TOLD.values(), ids=NO_ROOM_TOLD)
def test_a_node_that_does_not_tell_its_room_pulls_all_the_same(answer: str | Failure) -> None:
    step, one = pull_of(3000, 1)
    one.answers["df -Pk /var/lib/docker"] = answer
    step.apply(one)
    assert one.docker.calls == [("pull", IMAGE)]


def test_the_lines_of_a_pull_are_told() -> None:
    one = site()
    Pull(IMAGE).apply(one)
    assert one.said == [f"pulled {IMAGE}"]


def test_a_root_that_cannot_be_pulled_is_made_on_the_node_and_told() -> None:
    one = site()
    one.docker.broken["pull"] = Failure("REGISTRY_UNREACHABLE", "no route")
    step = MakeRoot("raydock/root", "python:3")
    step.apply(one)
    assert one.said == ["python:3 cannot be pulled (REGISTRY_UNREACHABLE): making a Debian bookworm root instead"]
    (line,) = one.commands
    assert line.startswith("bash -ec 'set -o pipefail\nas_root() { ")
    assert "mmdebstrap --quiet" in line


def test_a_build_takes_the_machines_certificates_where_it_is_asked_to() -> None:
    one = site()
    one.answers[f"cat {CA_BUNDLE}"] = "-----BEGIN"
    replace(BUILD, with_ca_bundle=True).apply(one)
    assert one.docker.contexts == [{"Dockerfile": b"FROM base", "ca-certificates.crt": b"-----BEGIN"}]
    assert one.docker.images["my-app"].labels == {"raydock.recipe": "abc123"}


def test_a_repository_is_created_once() -> None:
    one = site()
    one.registry.there = False
    step = CreateRepository("my-app", None)
    assert not step.done(one)
    step.apply(one)
    assert step.done(one)
    assert one.registry.calls == ["create"]


def test_a_repository_that_is_there_and_differs_is_told_and_stays() -> None:
    one = site()
    one.registry.differs = ("its tags are MUTABLE",)
    assert CreateRepository("my-app", None).done(one)
    assert one.said == ["its tags are MUTABLE"]
    assert one.registry.calls == []


PUSH = Push(URI, "latest", CREDENTIALS)
PUSHED: dict[str, tuple[str | None, tuple[str, ...], bool]] = {
    "this image is there": (DIGEST, (f"{URI}@{DIGEST}",), True),
    "another image is there": ("sha256:other", (f"{URI}@{DIGEST}",), False),
    "this image is there, known from another repository": (DIGEST, (f"mirror.test/a@{DIGEST}",), False),
    "nothing is there": (None, (), False),
}


@pytest.mark.parametrize(("there", "digests", "done"), PUSHED.values(), ids=PUSHED)
def test_the_registry_is_asked_before_a_push(there: str | None, digests: tuple[str, ...], done: bool) -> None:
    one = site()
    one.docker.images[f"{URI}:latest"] = Image(digests=digests)
    if there:
        one.docker.registry[f"{URI}:latest"] = there
    assert PUSH.done(one) is done
    assert one.docker.secrets == [LOGIN]


GROUPS = {"me docker": "", "docker": "", "me docker-users": "usermod -a -G docker me"}


@pytest.mark.parametrize(("groups", "done"), GROUPS.items(), ids=GROUPS)
def test_bash_joins_the_group_unless_the_user_is_in_it(groups: str, done: str, tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "id", f'case "$1" in -u) echo 1000 ;; -un) echo me ;; *) echo {groups} ;; esac')
    assert bash(f'as_root() {{ echo "$@"; }}; {JoinDockerGroup().shell}', path) == done


def test_what_is_on_dockers_own_hub_is_known_by_its_short_name() -> None:
    one = site()
    one.docker.images["docker.io/team/app:abc"] = Image(digests=(f"team/app@{DIGEST}",))
    one.docker.registry["docker.io/team/app:abc"] = DIGEST
    assert Push("docker.io/team/app", "abc", CREDENTIALS).done(one)
    assert ShowPublished("docker.io/team/app", "abc").done(one)
    assert (one.products["digest"], one.products["uri"]) == (DIGEST, "docker.io/team/app:abc")


def test_a_push_goes_to_the_registry_with_its_login() -> None:
    one = site()
    one.docker.images[f"{URI}:latest"] = Image()
    PUSH.apply(one)
    assert one.docker.calls == [("push", URI, "latest")]
    assert one.docker.secrets == [LOGIN]


def test_an_image_without_the_tag_is_not_pushed() -> None:
    assert failed(PUSH, site()) == f"IMAGE_NOT_FOUND the head's engine has no {URI}:latest"


def test_a_login_is_checked_by_the_engine_and_told() -> None:
    one = site()
    assert CheckLogin(URI, CREDENTIALS).done(one)
    assert one.docker.secrets == [LOGIN]
    assert one.products == {"login": {"registry": "registry.test", "user": "AWS", "expires": None}}


def test_a_login_that_nobody_has_is_not_checked() -> None:
    one = site()
    assert CheckLogin(URI, RegistryLogin("registry_password", "", lambda _: None, Place.OPERATOR)).done(one)
    assert (one.docker.secrets, one.products) == ([], {"login": None})


@pytest.mark.parametrize(("seconds", "written"), [(None, None), (0, "1970-01-01T00:00:00Z")], ids=["never", "once"])
def test_the_end_of_a_login_is_told_in_utc(seconds: float | None, written: str | None) -> None:
    assert moment(seconds) == written


# --- the image made by hand ------------------------------------------------------------------------------------

BY: Late[str] = Late("by", "echo me@here", lambda _: "me@here", Place.OPERATOR)
NOW: Late[str] = Late("now", "date", lambda _: "2026-01-01T00:00:00Z", Place.OPERATOR)
COMMIT = Commit("left", "ray", "my-app", BY, NOW)


def left(state: str = "exited", cluster: str = "ray") -> FakeSite:
    """Give a head on which a shell was left."""
    one = site()
    one.docker.hold("left", state, raydock_manual=cluster, raydock_by="you@there")
    found = one.docker.held["left"]
    one.docker.held["left"] = replace(
        found, image_id="ray-project/deploy", finished="F1", created="2026-01-01T00:00:00.5Z"
    )
    one.docker.images["ray-project/deploy"] = Image(digests=(f"ray-project/deploy@{DIGEST}",))
    one.docker.differs = ("C /opt", "A /opt/ray/x", "A /app", 'A /e"vil', "D /tmp/gone")
    return one


def test_the_image_of_a_container_says_what_it_was_made_of_by_whom_when_and_how_much_changed() -> None:
    one = left()
    assert not COMMIT.done(one)
    COMMIT.apply(one)
    ((_, name, image, command, _),) = one.docker.calls
    assert (name, image, command) == ("left", "my-app", 'CMD ["bash"]')
    assert one.docker.images["my-app"].labels == {
        "raydock.container": f"{one.docker.held['left'].id}@F1",
        "org.opencontainers.image.base.digest": DIGEST,
        "org.opencontainers.image.authors": "me@here",
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
        "raydock.diff": "3 A,1 C,1 D in app opt tmp",
        "raydock.manual": "",
    }
    assert COMMIT.done(one)


def test_a_container_that_was_used_again_is_committed_again() -> None:
    one = left()
    COMMIT.apply(one)
    one.docker.held["left"] = replace(one.docker.held["left"], finished="F2")
    assert not COMMIT.done(one)


NOT_LEFT: dict[str, tuple[FakeSite, str]] = {
    "none": (site(), "CONTAINER_NOT_FOUND no shell was left in a container left"),
    "another cluster's": (left(cluster="blue"), "CONTAINER_NOT_FOUND no shell was left in a container left"),
    "somebody is in": (left("running"), "CONTAINER_RUNS a shell is open in left"),
}


@pytest.mark.parametrize(("one", "said"), NOT_LEFT.values(), ids=NOT_LEFT)
def test_no_image_is_made_of_a_container_that_is(one: FakeSite, said: str) -> None:
    assert failed(COMMIT, one) == said
    assert one.docker.calls == []


def test_containers_that_were_left_are_listed_the_newest_first() -> None:
    one = left()
    found = one.docker.held["left"]
    # An engine writes no fraction where there is none.
    one.docker.held["newer"] = replace(found, id="d00d" * 16, name="newer", created="2026-01-02T00:00:00Z")
    one.docker.hold("head", "running", raydock_cluster="ray")
    assert ShowLeft("ray").done(one)
    assert [each["container"] for each in one.products["containers"]] == ["d00dd00dd00d", found.id[:12]]
    assert one.products["containers"][0]["created"] == "2026-01-02T00:00:00Z"
    assert one.products["containers"][1] == {
        "container": found.id[:12],
        "created": "2026-01-01T00:00:00Z",
        "state": "exited",
        "image": found.image,
        "by": "you@there",
    }


def test_what_is_published_is_told_with_its_digest_its_tags_and_its_revision() -> None:
    one = site()
    digests = (f"mirror.test/a@sha256:{'9' * 64}", f"{URI}@{DIGEST}")
    one.docker.images[f"{URI}:abc"] = Image(digests=digests, labels={REVISION_LABEL: "c0ffee"})
    assert ShowPublished(URI, "abc").done(one)
    assert one.products == {
        "image": f"{URI}@{DIGEST}",
        "digest": DIGEST,
        "uri": f"{URI}:abc",
        "revision": "c0ffee",
    }


PUSH_LATEST = PushLatest(URI, "latest", CREDENTIALS, "abc")


def test_where_latest_may_move_the_image_has_both_tags() -> None:
    one = site()
    one.docker.images[f"{URI}:latest"] = Image(digests=(f"{URI}@{DIGEST}",))
    assert not PUSH_LATEST.done(one)
    PUSH_LATEST.apply(one)
    assert PUSH_LATEST.done(one)
    assert one.products["tags"] == ["abc", "latest"]


def test_where_latest_may_not_move_it_is_told_how_to_run_the_image() -> None:
    one = site()
    one.docker.images[f"{URI}:latest"] = Image()
    one.docker.broken["push"] = Failure("TAG_IMMUTABLE", "the tag is immutable")
    assert PUSH_LATEST.apply(one) is False
    assert one.products["tags"] == ["abc"]
    assert f"IMAGE={URI}:abc" in str(one.said)


def test_another_refusal_of_latest_is_a_failure() -> None:
    one = site()
    one.docker.images[f"{URI}:latest"] = Image()
    one.docker.broken["push"] = Failure("PUSH_FAILED", "no")
    assert failed(PUSH_LATEST, one) == "PUSH_FAILED no"


# --- containers ------------------------------------------------------------------------------------------------

ROLES = {"head": ("head", "raydock-ray-head"), "one": ("worker", "raydock-ray-worker")}


def labels(container: Container, **other: str) -> dict[str, str]:
    """Give the labels of a running container that is the wanted one, but for some."""
    wanted = {
        "raydock_cluster": "ray",
        "raydock_spec": container.spec,
        "raydock_asked": container.asked,
        "raydock_image": IMAGE,
        "raydock_head": "10.0.0.1:6379",
        "raydock_run": "r1",
    }
    return wanted | other


def clearing(node: str = "one", of: Any = SCOPE) -> tuple[ClearName, FakeSite, str]:
    """Give the step, its node, and the name."""
    container = containers(of)[node]
    return ClearName(container), cluster(of).sites[node], container.name


@pytest.mark.parametrize(
    ("state", "cluster_name", "told"),
    [("running", "", "running"), ("exited", "", "exited"), ("running", "another", "absent")],
)
def test_of_a_node_that_failed_the_clusters_own_container_is_told(state: str, cluster_name: str, told: str) -> None:
    step, site, name = clearing()
    step.note_state(site)
    assert site.facts["container"] == "absent"
    site.docker.hold(name, state, raydock_cluster=cluster_name or step.container.cluster)
    step.note_state(site)
    assert site.facts["container"] == told


def other_spec(**values: Any) -> dict[str, str]:
    before = containers(scope(WORKERS, **values))["one"]
    return {"raydock_spec": before.spec, "raydock_asked": before.asked}


@pytest.mark.parametrize("node", ROLES)
def test_a_free_name_is_clear(node: str) -> None:
    step, one, _ = clearing(node)
    assert step.done(one)
    step.apply(one)
    assert one.docker.calls == []


@pytest.mark.parametrize("node", ROLES)
def test_the_wanted_container_keeps_its_name(node: str) -> None:
    step, one, name = clearing(node)
    one.docker.hold(name, **labels(step.container))
    assert step.done(one)


# The state of a container, how its labels differ, and what is done with it.
STALE: dict[str, tuple[str, dict[str, str], list[tuple[str, ...]]]] = {
    "the wanted one that ended": ("exited", {}, [("remove", "raydock-ray-worker")]),
    "the wanted one that was only created": ("created", {}, [("remove", "raydock-ray-worker")]),
    "one of ours that is dead": ("dead", other_spec(num_workers="3"), [("remove", "raydock-ray-worker")]),
    "a running worker of a former head": (
        "running",
        {"raydock_run": "r0"},
        [("stop", "raydock-ray-worker", "45"), ("remove", "raydock-ray-worker")],
    ),
    "a running worker of a head at another address": (
        "running",
        {"raydock_head": "10.0.0.9:6379"},
        [("stop", "raydock-ray-worker", "45"), ("remove", "raydock-ray-worker")],
    ),
}


@pytest.mark.parametrize(("state", "other", "calls"), STALE.values(), ids=STALE)
def test_what_is_stale_goes_and_is_told(state: str, other: dict[str, str], calls: list[tuple[str, ...]]) -> None:
    step, one, name = clearing()
    one.docker.hold(name, state, **labels(step.container, **other))
    assert not step.done(one)
    step.apply(one)
    assert one.docker.calls == calls
    assert one.said == [f"removing the stale container c0ffeec0ffee ({state})"]
    assert step.done(one)


def test_a_container_that_ended_since_it_was_seen_to_run_is_started() -> None:
    step, one, name = clearing()
    one.docker.hold(name, **labels(step.container))
    assert step.done(one)
    one.docker.hold(name, "exited", **labels(step.container))
    start = StartContainer(name)
    assert not start.done(one)
    assert one.facts["container"] == "exited"


FOREIGN = {"another cluster's": {"raydock_cluster": "blue"}, "nobody's": {}}


@pytest.mark.parametrize("state", ["running", "exited"])
@pytest.mark.parametrize("given", FOREIGN.values(), ids=FOREIGN)
def test_a_container_that_is_not_ours_is_not_touched(given: dict[str, str], state: str) -> None:
    step, one, name = clearing()
    one.docker.hold(name, state, **given)
    assert not step.done(one)
    assert failed(step, one) == f"NAME_CONFLICT the container {name} is not one of ours"
    assert one.docker.calls == []


@pytest.mark.parametrize("given", FOREIGN.values(), ids=FOREIGN)
def test_a_container_that_took_the_name_since_it_was_cleared_is_not_taken_for_ours(given: dict[str, str]) -> None:
    step, one, name = clearing()
    assert step.done(one)
    theirs = one.docker.hold(name, "created", **given)
    create = Create(step.container)
    assert not create.done(one)  # it was seen that nobody has the name
    with pytest.raises(Failure) as told:
        create.apply(one)
    assert (told.value.code, one.docker.held) == ("NAME_CONFLICT", {name: theirs})
    with pytest.raises(Failure) as told:
        create.done(one)
    assert told.value.code == "NAME_CONFLICT"
    assert f"= {step.container.cluster} ] || docker create --name {name} " in Create(step.container).shell


CHANGED: dict[str, tuple[str, dict[str, str], str]] = {
    "one key": ("one", other_spec(num_workers="3"), "NUM_WORKERS"),
    "two keys": ("one", other_spec(shm_size="1G", gpus="all"), "GPUS, SHM_SIZE"),
    "the image": ("one", {"raydock_image": "other@sha256:1"}, "the image"),
    "a key and the image": (
        "one",
        {**other_spec(num_workers="3"), "raydock_image": "other@sha256:1"},
        "NUM_WORKERS, the image",
    ),
    "the head's own address": ("head", {"raydock_head": "10.0.0.9:6379"}, "the head's address"),
    "a spec that nobody can read": ("one", {"raydock_spec": "v0:1", "raydock_asked": ""}, "spec"),
}


@pytest.mark.parametrize(("node", "other", "named"), CHANGED.values(), ids=CHANGED)
def test_a_running_container_of_ours_is_never_replaced(node: str, other: dict[str, str], named: str) -> None:
    step, one, name = clearing(node)
    one.docker.hold(name, **labels(step.container, **other))
    assert not step.done(one)
    assert failed(step, one) == f"SPEC_CHANGED {name} runs with another {named}; it was left as it is"
    assert one.docker.calls == []
    assert (one.facts["container"], one.facts["container_id"]) == ("running", "c0ffeec0ffee")


def test_a_created_container_has_its_labels_and_late_values() -> None:
    one = site("one")
    Create(containers(SCOPE)["one"]).apply(one)
    found = one.docker.held["raydock-ray-worker"]
    assert found.image == IMAGE
    assert found.labels["raydock.head"] == "10.0.0.1:6379"
    assert found.labels["raydock.run"] == "r1"
    assert found.labels["raydock.asked"] == containers(SCOPE)["one"].asked


def test_a_token_is_laid_for_the_images_user() -> None:
    one = site()
    one.docker.hold("raydock-ray-head", "created")
    LayToken("raydock-ray-head", Late("token", "", lambda _: "", Place.HEAD)).apply(one)
    assert one.docker.files == {("raydock-ray-head", "/run/ray-token"): b"hunter2"}
    assert one.docker.calls == [("put_file", "raydock-ray-head", "/run/ray-token", "1000")]


def test_what_a_new_container_has_of_its_image_is_not_taken_for_the_token() -> None:
    one = site()
    name = containers(SCOPE)["one"].name
    one.docker.files[name, "/run/ray-token"] = b"an old one, in the image"
    Create(containers(SCOPE)["one"]).apply(one)
    lay = LayToken(name, Late("token", "", lambda _: "", Place.HEAD))
    assert not lay.done(one)
    lay.apply(one)
    assert lay.done(one)


def test_what_is_stopped_is_what_the_question_was_answered_with() -> None:
    one = site()
    one.docker.hold("a", raydock_cluster="ray", raydock_role="worker")
    step = StopContainers("ray", "worker")
    assert not step.done(one)
    one.docker.hold("b", raydock_cluster="ray", raydock_role="worker")  # by somebody else, after that
    step.apply(one)
    assert [call[1] for call in one.docker.calls] == ["a", "a"]


NOTED: dict[str, tuple[Step, str | None, dict[str, Any]]] = {
    "a running one": (
        StartContainer("a"),
        "running",
        {"container": "running", "container_id": "c0ffeec0ffee", "spec": "v1:1", "digest": DIGEST},
    ),
    "one that ended": (
        StartContainer("a"),
        "exited",
        {"container": "exited", "container_id": "c0ffeec0ffee", "spec": "v1:1", "digest": DIGEST},
    ),
    "none": (StartContainer("a"), None, {"container": "absent", "container_id": None, "spec": None, "digest": None}),
    "none to stop": (
        StopContainers("ray", "head"),
        None,
        {"container": "absent", "container_id": None, "spec": None, "digest": None},
    ),
}


@pytest.mark.parametrize(("step", "state", "facts"), NOTED.values(), ids=NOTED)
def test_a_container_is_noted_for_the_report(step: Step, state: str | None, facts: dict[str, Any]) -> None:
    one = site()
    if state:
        one.docker.hold("a", state, raydock_spec="v1:1", raydock_image=IMAGE)
    step.done(one)
    assert one.facts == facts


NOT_OURS: dict[str, dict[str, str]] = {
    "without labels": {},
    "of another cluster": {"raydock_cluster": "blue", "raydock_role": "worker"},
    "of another role": {"raydock_cluster": "ray", "raydock_role": "head"},
}


@pytest.mark.parametrize("given", NOT_OURS.values(), ids=NOT_OURS)
def test_a_stop_touches_only_what_bears_both_labels(given: dict[str, str]) -> None:
    one = site()
    one.docker.hold("precious", **given)
    step = StopContainers("ray", "worker")
    assert step.done(one)
    step.apply(one)
    assert one.docker.calls == []


def test_the_last_lines_of_a_container_that_ended_are_kept() -> None:
    one = site()
    one.docker.hold("a", "exited")
    one.docker.tails["a"] = [str(number) for number in range(30)]
    failed(ShowContainer("a"), one)
    assert one.facts["log_tail"] == [str(number) for number in range(10, 30)]
    assert (one.facts["container"], one.facts["ray"]) == ("exited", "absent")


# --- the cluster -----------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only while somebody sleeps; `then` happens at its second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.then: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, happens in [one for one in self.then if self.now >= 1000 + one[0]]:
            self.then.remove((at, happens))
            happens()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("cluster", "joining"):
        monkeypatch.setattr(f"deploy.steps.{module}.time", made)
    monkeypatch.setattr(FakeSite, "pause", lambda _, seconds: made.sleep(seconds))
    return made


AWAIT = AwaitGcs("raydock-ray-head", "10.0.0.1", 6379)


def test_the_heads_port_is_waited_for(clock: Clock) -> None:
    one = site()
    one.docker.hold("raydock-ray-head")
    one.answers["timeout 3 bash"] = command_failed("refused")
    clock.then.append((7, one.answers.clear))
    AWAIT.apply(one)
    assert 1007 <= clock.now < 1008


AWAITED: dict[str, tuple[Given, str, float]] = {
    "a head whose container ends": (
        lambda one: one.docker.hold("raydock-ray-head", "exited"),
        "RAY_EXITED raydock-ray-head ended with 3: it wrote nothing",
        0,
    ),
    "a head whose container is gone": (nothing, "HEAD_FAILED raydock-ray-head is gone", 0),
    "a head that does not open its port": (
        lambda one: one.docker.hold("raydock-ray-head"),
        "HEAD_FAILED port 6379 is not open after 30 s",
        30,
    ),
}


@pytest.mark.parametrize(("given", "said", "seconds"), AWAITED.values(), ids=AWAITED)
def test_the_wait_for_the_port_ends_with(given: Given, said: str, seconds: float, clock: Clock) -> None:
    one = site()
    given(one)
    one.answers["timeout 3 bash"] = command_failed("refused")
    assert failed(AWAIT, one) == said
    assert clock.now == pytest.approx(1000 + seconds, abs=0.5)


ADDRESS: Late[str] = Late("address", "", lambda _: "never asked")
NODES: tuple[tuple[Node, Word], ...] = ((HEAD, ADDRESS), (ONE, ADDRESS), (TWO, ADDRESS))
PORTS = Ports(head=6379, worker=8076)
FORMER = former("raydock-ray-head")
UNDO = StopContainers("ray", "worker", grace=0)
JOIN = Join("raydock-ray-head", "raydock-ray-worker", NODES, PORTS, UNDO)
PROBE = Probe("raydock-ray-head", "raydock-ray-worker", NODES, PORTS)
SETTLE = Settle("raydock-ray-head", "raydock-ray-worker", NODES, PORTS)
SHOW = ShowRay("raydock-ray-head", NODES, PORTS, "raydock-ray-worker")
ALL = (Row("10.0.0.1", node_id="a"), Row("10.0.0.2", node_id="b"), Row("10.0.0.3", node_id="c"))


def running(*rows: Row) -> Cluster:
    """Give a cluster whose containers run, and what Ray's list has."""
    made = cluster()
    made.head.ray.lists = [rows]
    for name, one in made.sites.items():
        one.docker.hold("raydock-ray-head" if name == "head" else "raydock-ray-worker")
    return made


def failures(of: Cluster) -> dict[str, str]:
    return {name: one.failure.code for name, one in of.sites.items() if one.failure}


def test_all_nodes_are_alive_and_noted_with_rays_address() -> None:
    made = running(*ALL)
    assert JOIN.done(made.head)
    assert [one.facts for one in made.sites.values()] == [
        {"ray": "alive", "address": address} for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    ]


def test_a_node_that_ray_has_dead_is_not_alive() -> None:
    assert not JOIN.done(running(*ALL[:2], Row("10.0.0.3", alive=False)).head)


def test_a_worker_that_was_started_again_is_not_alive_by_its_former_life(clock: Clock) -> None:
    made = running(*ALL)
    two = made.sites["two"]
    StartContainer("raydock-ray-worker", FORMER).apply(two)
    two.docker.hold("raydock-ray-worker", "running")
    join = Join("raydock-ray-head", "raydock-ray-worker", NODES, PORTS, UNDO, FORMER)
    assert not join.done(made.head)
    clock.then.append((9, lambda: setattr(made.head.ray, "lists", [(*ALL, Row("10.0.0.3", node_id="d"))])))
    join.apply(made.head)
    assert failures(made) == {}
    assert 1009 <= clock.now < 1010


def test_a_head_that_was_started_in_this_run_is_not_asked_whom_it_knew() -> None:
    made = running(*ALL)
    made.head.note(started=1.0)
    assert made.sites["two"].resolve(FORMER) == frozenset()


def test_nodes_that_failed_before_are_not_waited_for() -> None:
    made = running(*ALL[:2])
    made.sites["two"].fail(Failure("PULL_FAILED", "no"))
    assert JOIN.done(made.head)


def test_a_node_that_comes_late_is_waited_for(clock: Clock) -> None:
    made = running(*ALL[:2])
    clock.then.append((20, lambda: setattr(made.head.ray, "lists", [ALL])))
    JOIN.apply(made.head)
    assert failures(made) == {}
    assert 1020 <= clock.now < 1021


def test_a_node_whose_container_ends_fails_alone_and_at_once(clock: Clock) -> None:
    made = running(*ALL[:2])
    made.sites["two"].docker.hold("raydock-ray-worker", "exited")
    JOIN.apply(made.head)
    assert failures(made) == {"two": "RAY_EXITED"}
    assert clock.now < 1003


ABSENT: dict[str, tuple[Given, str, float]] = {
    "its container is gone": (lambda one: one.docker.held.clear(), "NOT_RUNNING", 3),
    "its container ended": (lambda one: one.docker.hold("raydock-ray-worker", "exited"), "RAY_EXITED", 3),
    "it cannot be reached any more": (
        lambda one: one.docker.broken.update(find=Failure("SSH_LOST", "gone")),
        "SSH_LOST",
        3,
    ),
    "it runs and does not join": (nothing, "RAY_NOT_JOINED", 95),
}


@pytest.mark.parametrize(("given", "code", "seconds"), ABSENT.values(), ids=ABSENT)
def test_a_node_that_is_not_there_fails_with_its_own_cause(
    given: Given, code: str, seconds: float, clock: Clock
) -> None:
    made = running(*ALL[:2])
    given(made.sites["two"])
    JOIN.apply(made.head)
    assert failures(made) == {"two": code}
    assert clock.now < 1000 + seconds
    if code == "NOT_RUNNING":
        assert made.sites["two"].facts["container"] == "absent"


RESTARTED: dict[str, tuple[str | Failure, bool, str]] = {
    "began long after its container": ("2000\n", True, "NODE_RESTARTED"),
    "began as soon as its container was there": ("2950\n", True, "NODE_RESTARTED"),
    "began just before its container": ("3001\n", True, "RAY_EXITED"),
    "ran all the while": ("400000\n", True, "RAY_EXITED"),
    "restarted before this run": ("2000\n", False, "RAY_EXITED"),
    "says what is no age": ("-5\n", True, "RAY_EXITED"),
    "cannot say": ("sh: cannot open /proc/1/stat\n", True, "RAY_EXITED"),
    "cannot be asked": (Failure("SSH_LOST", "gone"), True, "RAY_EXITED"),
}


@pytest.mark.parametrize(("age", "started", "code"), RESTARTED.values(), ids=RESTARTED)
@pytest.mark.usefixtures("clock")
def test_a_node_that_restarted_under_its_container_is_told(age: str | Failure, started: bool, code: str) -> None:
    made = running(*ALL[:2])
    two = made.sites["two"]
    two.docker.hold("raydock-ray-worker", "exited")
    two.answers["sh -c"] = age
    if started:
        two.note(started=time.monotonic() - 30)
    JOIN.apply(made.head)
    assert failures(made) == {"two": code}


def test_a_head_that_is_not_there_is_looked_for_by_its_own_name(clock: Clock) -> None:
    made = running(*ALL[1:])
    JOIN.apply(made.head)
    assert failures(made) == {"head": "RAY_NOT_JOINED"}
    assert made.head.failure
    assert "docker logs raydock-ray-head" in made.head.failure.cure
    assert clock.now > 1090


PROBED: dict[str, tuple[bytes | None, bool]] = {
    "no task ran yet": (None, False),
    "a task ran on each": (b"a\nb\nc", True),
    "a task ran on each, and on some that are gone": (b"a\nb\nc\nx", True),
    "one is new": (b"a\nb", False),
    "the record is unreadable": (b"\xff\xfe", False),
}


@pytest.mark.parametrize(("record", "done"), PROBED.values(), ids=PROBED)
def test_a_node_is_probed_once_in_its_life(record: bytes | None, done: bool) -> None:
    made = running(*ALL)
    if record is not None:
        made.head.docker.files["raydock-ray-head", PROBED_PATH] = record
    assert PROBE.done(made.head) is done


def test_the_record_is_not_read_where_a_task_ran_on_just_those() -> None:
    made = running(*ALL)
    made.head.docker.files["raydock-ray-head", PROBED_PATH] = b"unreadable"
    made.head.docker.files["raydock-ray-head", all_probed_path(("a", "b"))] = b""
    assert not PROBE.done(made.head)
    made.head.docker.files["raydock-ray-head", all_probed_path(("c", "a", "b"))] = b""
    assert PROBE.done(made.head)


def test_dead_nodes_are_not_probed() -> None:
    made = running(ALL[0], Row("10.0.0.2", alive=False, node_id="b"))
    made.head.docker.files["raydock-ray-head", PROBED_PATH] = b"a"
    assert PROBE.done(made.head)


SILENT: dict[str, tuple[list[str], dict[str, str]]] = {
    "nobody": ([], {}),
    "one worker": (["10.0.0.3"], {"two": "NODE_NOT_SCHEDULABLE"}),
    "the head": (["10.0.0.1"], {"head": "NODE_NOT_SCHEDULABLE"}),
    "a node that nobody asked about": (["10.0.0.99"], {}),
}


@pytest.mark.parametrize(("addresses", "failing"), SILENT.values(), ids=SILENT)
def test_a_node_that_runs_no_task_fails_alone(addresses: list[str], failing: dict[str, str]) -> None:
    made = running(*ALL)
    made.head.docker.answer = (0, f"a warning of Ray's\n{json.dumps(addresses)}\nand (2) one more [of them]\n")
    PROBE.apply(made.head)
    assert failures(made) == failing
    assert made.head.docker.calls == [("exec", "raydock-ray-head", "python")]


def test_a_node_whose_container_ended_before_its_task_came_back_fails_with_its_end() -> None:
    made = running(*ALL)
    made.sites["two"].docker.hold("raydock-ray-worker", "exited")
    made.head.docker.answer = (0, '["10.0.0.3"]')
    PROBE.apply(made.head)
    assert failures(made) == {"two": "RAY_EXITED"}


def never(_: Any) -> str:
    raise AssertionError("a node that failed was asked")


def test_a_node_that_failed_before_is_not_asked_and_keeps_its_failure() -> None:
    made = running(*ALL)
    made.sites["two"].fail(Failure("PULL_FAILED", "no"))
    made.head.docker.answer = (0, '["10.0.0.3"]')
    nodes = (*NODES[:2], (TWO, Late("unknown", "", never)))
    Probe("raydock-ray-head", "raydock-ray-worker", nodes, PORTS).apply(made.head)
    assert failures(made) == {"two": "PULL_FAILED"}


def settled(*rows: Row, silent: str = "") -> Cluster:
    """Give a cluster of which each node was started just now, and that the time to settle is over for."""
    made = running(*rows)
    for one in made.sites.values():
        one.note(started=time.monotonic())
    made.head.answers["bash -c"] = silent
    return made


def test_a_node_that_stays_has_settled(clock: Clock) -> None:
    made = settled(*ALL)
    assert not SETTLE.done(made.head)
    SETTLE.apply(made.head)
    assert failures(made) == {}
    assert clock.now == pytest.approx(1003)


def test_nothing_has_to_settle_where_nothing_was_started() -> None:
    assert SETTLE.done(running(*ALL).head)


def test_a_node_that_ray_lost_again_is_unstable(clock: Clock) -> None:
    made = settled(*ALL[:2])
    SETTLE.apply(made.head)
    assert failures(made) == {"two": "NODE_UNSTABLE"}
    assert clock.now > 1000


def test_a_node_that_ended_while_ray_still_counts_it_is_unstable(clock: Clock) -> None:
    made = settled(*ALL, silent="10.0.0.3\n")
    made.sites["two"].docker.hold("raydock-ray-worker", "exited")
    SETTLE.apply(made.head)
    assert failures(made) == {"two": "NODE_UNSTABLE"}
    failure = made.sites["two"].failure
    assert failure
    assert "3" in failure.error
    assert clock.now > 1000


def test_a_node_whose_port_is_shut_to_the_head_alone_has_settled(clock: Clock) -> None:
    made = settled(*ALL, silent="10.0.0.3\n")
    SETTLE.apply(made.head)
    assert failures(made) == {}
    assert clock.now > 1000


def test_a_port_answers_or_is_closed_or_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    head = site()
    monkeypatch.setattr(head, "run", lambda *argv: subprocess.check_output(argv, text=True, stderr=subprocess.STDOUT))
    with ExitStack() as stack:
        opened, full = (stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0)) for _ in range(2))
        for _ in range(4):
            stuffing = stack.enter_context(socket.socket())
            stuffing.setblocking(False)
            stuffing.connect_ex(full.getsockname())
        port, silent = opened.getsockname()[1], full.getsockname()[1]
        places = [("127.0.0.1", port), ("127.0.0.2", 1), ("127.0.0.3", 1), ("localhost", silent)]
        assert ports_shut(head, places) == {"127.0.0.2", "127.0.0.3", "localhost"}


SPLICED = (
    "x/1;touch${{IFS}}{};#",
    "$(touch${{IFS}}{})",
    "`touch${{IFS}}{}`",
    '";touch${{IFS}}{};"',
    "'$(touch${{IFS}}{})'",
)


@pytest.mark.parametrize("said", SPLICED)
def test_what_a_node_says_of_its_address_is_no_command_on_the_head(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = tmp_path / "owned"
    head = site()
    monkeypatch.setattr(head, "run", lambda *argv: subprocess.check_output(argv, text=True))
    assert ports_shut(head, [(said.format(owned), 1)]) == {said.format(owned)}
    assert not owned.exists()


def test_a_probe_that_breaks_is_the_heads_failure() -> None:
    made = running(*ALL)
    made.head.docker.answer = (1, "Traceback …\nConnectionError")
    assert failed(PROBE, made.head) == "HEAD_FAILED the probe task ended with 1: Traceback …\nConnectionError"


@pytest.mark.parametrize("said", ["", "no list", "7", "[1, 2]", '{"10.0.0.3": true}'])
def test_a_probe_that_answers_with_no_list_of_addresses_is_the_heads_failure(said: str) -> None:
    made = running(*ALL)
    made.head.docker.answer = (0, said)
    assert failed(PROBE, made.head) == f"HEAD_FAILED the probe task ended with 0: {said}"


def test_a_cluster_of_which_ray_has_nobody_alive_has_not_run_its_task() -> None:
    made = running(*(Row(row.address, alive=False, node_id=row.node_id) for row in ALL))
    made.head.docker.files["raydock-ray-head", PROBED_PATH] = b"a\nb\nc"
    assert not PROBE.done(made.head)


LISTED: dict[str, tuple[tuple[Row, ...], str, str]] = {
    "dead": (
        (*ALL[:2], Row("10.0.0.3", alive=False, why="health check failed")),
        "dead",
        "its container runs, and Ray has it dead: health check failed",
    ),
    "dead, and nobody says why": (
        (*ALL[:2], Row("10.0.0.3", alive=False)),
        "dead",
        "its container runs, and Ray has it dead: it wrote nothing",
    ),
    "unknown": (ALL[:2], "absent", "its container runs, and Ray does not know it: it wrote nothing"),
}


@pytest.mark.parametrize(("rows", "word", "said"), LISTED.values(), ids=LISTED)
def test_a_status_tells_what_ray_has_of_a_node(rows: tuple[Row, ...], word: str, said: str) -> None:
    made = running(*rows)
    assert not SHOW.done(made.head)
    SHOW.apply(made.head)
    two = made.sites["two"]
    assert two.failure
    assert (two.failure.code, two.failure.error) == ("RAY_NOT_JOINED", said)
    assert (two.facts["ray"], two.facts["address"]) == (word, "10.0.0.3")
    assert failures(made) == {"two": "RAY_NOT_JOINED"}


def another_token(made: Cluster) -> None:
    made.head.docker.files["raydock-ray-head", TOKEN_PATH] = b"one"
    made.sites["two"].docker.files["raydock-ray-worker", TOKEN_PATH] = b"another"


def another_version(made: Cluster) -> None:
    made.head.docker.hold("raydock-ray-head", raydock_ray="2.60.0")
    made.sites["two"].docker.hold("raydock-ray-worker", raydock_ray="2.60.1")


def head_out_of_reach(made: Cluster) -> None:
    made.sites["two"].docker.hold("raydock-ray-worker", raydock_head="10.0.0.1:6379")
    made.sites["two"].answers["timeout 3 bash"] = command_failed("no")


def out_of_the_heads_reach(made: Cluster) -> None:
    made.head.answers["bash -c"] = "10.0.0.3\n"


def under_another_address(made: Cluster) -> None:
    made.head.ray.lists = [(*ALL[:2], Row("172.17.0.1", node_id="x"))]
    made.sites["two"].answers["hostname -I"] = "10.0.0.3 172.17.0.1\n"


CAUSES: dict[str, tuple[Callable[[Cluster], None], str, str, bool]] = {
    "another token": (another_token, "TOKEN_MISMATCH", "another than the head's", True),
    "another version": (another_version, "VERSION_MISMATCH", "it runs Ray 2.60.1, and the head 2.60.0", True),
    "no way to the head": (head_out_of_reach, "GCS_UNREACHABLE", "10.0.0.1:6379 cannot be reached", False),
    "no way from the head": (out_of_the_heads_reach, "RAY_NOT_JOINED", "the head cannot reach 10.0.0.3:8076", False),
    "another address": (under_another_address, "ADDRESS_MISMATCH", "Ray has it as 172.17.0.1", False),
}


@pytest.mark.parametrize(("given", "code", "said", "lasting"), CAUSES.values(), ids=CAUSES)
def test_a_node_that_is_not_there_has_one_cause(
    given: Callable[[Cluster], None], code: str, said: str, lasting: bool, clock: Clock
) -> None:
    made = running(*ALL[:2])
    given(made)
    SHOW.apply(made.head)
    assert failures(made) == {"two": code}
    assert said in str(made.sites["two"].failure)

    made = running(*ALL[:2])
    given(made)
    JOIN.apply(made.head)
    assert failures(made) == {"two": code}
    assert clock.now < (1012 if lasting else 1095), "what time does not mend is not waited for"


def test_no_token_is_told() -> None:
    made = running(*ALL[:2])
    another_token(made)
    SHOW.apply(made.head)
    assert 'another"' not in repr(made.sites["two"].failure)
    assert "one" not in str(made.sites["two"].failure).split()


def test_two_names_of_one_machine_are_told_and_the_first_one_stays() -> None:
    made = cluster()
    for name in ("one", "two"):
        made.sites[name].perform([FindAddress("10.0.0.2")])
    assert failures(made) == {"two": "SAME_MACHINE"}
    assert made.sites["two"].failure
    assert made.sites["two"].failure.error == "one and it lead to one machine: 10.0.0.2 is the address of both"


@pytest.mark.usefixtures("clock")
def test_with_the_head_goes_what_this_run_started() -> None:
    made = running()
    one, two = made.sites["one"], made.sites["two"]
    one.note(started=time.monotonic())
    one.docker.hold("raydock-ray-worker", raydock_cluster="ray", raydock_role="worker")
    one.docker.hold("raydock-other-worker", raydock_cluster="other", raydock_role="worker")
    made.head.docker.hold("raydock-ray-head", "exited")
    JOIN.apply(made.head)
    assert {name: code for name, code in failures(made).items() if name != "two"} == {
        "head": "RAY_EXITED", "one": "HEAD_LOST",
    }  # fmt: skip
    assert (list(one.docker.held), list(two.docker.held)) == (["raydock-other-worker"], ["raydock-ray-worker"])
    assert one.facts["container"] == "absent"


def old(version: str = "0.7.7") -> Cluster:
    """Give a cluster whose Ray tells nothing of its nodes; who asks it all the same fails."""
    made = running()
    made.head.docker.hold("raydock-ray-head", raydock_ray=version)

    def asked() -> Sequence[Row]:
        raise Failure("RAY_API_FAILED", "HTTP 404")

    made.head.ray.nodes = asked  # type: ignore[method-assign]
    return made


EVERYBODY = ShowRay("raydock-ray-head", NODES, PORTS, "raydock-ray-worker", everybody=True)
STRANGER = Row("10.0.0.9", node_id="z")


def test_who_is_in_no_list_and_alive_is_told_with_the_address() -> None:
    made = running(*ALL, STRANGER, Row("10.0.0.8", alive=False, node_id="y"))
    assert EVERYBODY.done(made.head)
    assert made.head.products == {"orphans": ["10.0.0.9"]}
    (said,) = made.head.said
    assert str(said).startswith("ORPHAN 10.0.0.9: ")
    assert "docker stop --time 45 raydock-ray-worker" in str(said)


@pytest.mark.parametrize("step", [SHOW, EVERYBODY], ids=["some were not asked", "one could not be asked"])
def test_nobody_is_an_orphan_who_may_be_one_of_the_list(step: ShowRay) -> None:
    made = running(*ALL[:2], STRANGER)
    made.sites["two"].fail(Failure("SSH_TIMEOUT", "no"))
    step.done(made.head)
    assert made.head.products == {}


@pytest.mark.parametrize("step", [JOIN, SHOW], ids=["start", "status"])
def test_a_node_of_an_old_ray_is_alive_where_its_container_runs_and_its_port_is_open(step: Step) -> None:
    made = old()
    assert step.done(made.head)
    assert {name: one.facts for name, one in made.sites.items()} == {
        name: {"ray": "alive", "address": address}
        for name, address in (("head", "10.0.0.1"), ("one", "10.0.0.2"), ("two", "10.0.0.3"))
    }
    asked = {name: [line.split()[-2:] for line in one.commands] for name, one in made.sites.items()}
    assert asked == {"head": [["10.0.0.1", "6379"]], "one": [["10.0.0.2", "8076"]], "two": [["10.0.0.3", "8076"]]}
    assert made.head.said == [
        "Ray 0.7.7 tells nothing of its nodes: alive is whose container runs, with its port open",
    ]


def test_a_node_of_an_old_ray_is_waited_for(clock: Clock) -> None:
    made = old()
    two = made.sites["two"]
    two.answers["timeout 3 bash"] = command_failed("refused")
    clock.then.append((7, two.answers.clear))
    assert not JOIN.done(made.head)
    JOIN.apply(made.head)
    assert failures(made) == {}
    assert 1007 <= clock.now < 1008


CLOSED: dict[str, tuple[Given, str, float]] = {
    "its container ended": (lambda one: one.docker.hold("raydock-ray-worker", "exited"), "RAY_EXITED", 3),
    "its port stays closed": (nothing, "RAY_NOT_JOINED", 95),
}


@pytest.mark.parametrize(("given", "code", "seconds"), CLOSED.values(), ids=CLOSED)
def test_a_node_of_an_old_ray_that_does_not_come_fails_alone(
    given: Given, code: str, seconds: float, clock: Clock
) -> None:
    made = old()
    made.sites["two"].answers["timeout 3 bash"] = command_failed("refused")
    given(made.sites["two"])
    if not JOIN.done(made.head):
        JOIN.apply(made.head)
    assert failures(made) == {"two": code}
    assert clock.now < 1000 + seconds


def test_a_status_tells_whose_port_is_closed() -> None:
    made = old("1.13.0")
    made.sites["two"].answers["timeout 3 bash"] = command_failed("refused")
    assert SHOW.done(made.head)
    two = made.sites["two"]
    assert two.failure
    assert (two.failure.code, two.failure.error) == (
        "RAY_NOT_JOINED",
        "its container runs, and its port 8076 is not open",
    )
    assert (two.facts["ray"], failures(made)) == ("absent", {"two": "RAY_NOT_JOINED"})


def test_an_old_ray_runs_no_probe_and_had_no_former_nodes() -> None:
    made = old()
    assert PROBE.done(made.head)
    assert made.sites["one"].resolve(FORMER) == frozenset()


def test_an_old_ray_is_started_with_its_own_flags() -> None:
    made = cluster()
    made.head.know(ray_version="0.5.3")
    one = made.sites["one"]
    Create(containers(SCOPE)["one"]).apply(one)
    assert one.docker.held["raydock-ray-worker"].labels["raydock.ray"] == "0.5.3"
    assert one.docker.commands["raydock-ray-worker"] == [
        *("ray", "start", "--block", "--redis-address=10.0.0.1:6379", "--object-manager-port=8076"),
        *("--node-ip-address=10.0.0.2", "--num-workers=1"),
    ]


@pytest.mark.parametrize("step", [JOIN, SHOW], ids=["start", "status"])
def test_a_node_whose_address_cannot_be_found_fails_alone(step: Step, clock: Clock) -> None:
    def lost(_: Any) -> str:
        raise Failure("SSH_LOST", "gone")

    assert clock
    made = running(*ALL)
    step = replace(step, nodes=((HEAD, ADDRESS), (ONE, Late("elsewhere", "", lost)), (TWO, ADDRESS)))  # type: ignore[type-var]
    assert step.done(made.head)
    assert failures(made) == {"one": "SSH_LOST"}


# --- the lines -------------------------------------------------------------------------------------------------

ASKING: Late[str] = Late("image", "", lambda _: "")
MUTE = (
    '[[ "$(docker inspect -f \'{{.State.Running}} {{index .Config.Labels "raydock.ray"}}\' raydock-ray-head)" '
    "== true\\ [01].* ]]"
)
LINES: dict[str, tuple[Step, str]] = {
    "pull": (
        Pull(ASKING),
        'docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image"',
    ),
    "login": (
        Login(ASKING, CREDENTIALS),
        'docker image inspect "$image" >/dev/null 2>&1 || printf \'%s\\n\' "$registry_password" | '
        'docker --config "$memory" login --username AWS --password-stdin "${repository_uri%%/*}" >/dev/null',
    ),
    "start Docker": (
        StartDocker(),
        "as_root docker version >/dev/null 2>&1 || { if [ -d /run/systemd/system ]; "
        "then as_root systemctl enable --now docker; else as_root service docker start; fi; "
        "for _ in {1..60}; do as_root docker version >/dev/null 2>&1 && break; sleep 0.5; done; "
        "as_root docker version >/dev/null; }",
    ),
    "join the group": (
        JoinDockerGroup(),
        '[ "$(id -u)" = 0 ] || [[ " $(id -nG "$(id -un)") " = *" docker "* ]] || '
        'as_root usermod -a -G docker "$(id -un)"',
    ),
    "make the folder": (
        MakeStateFolder("blue"),
        '[ "$(stat -c %G /var/lib/raydock/blue 2>/dev/null)" = docker ] || '
        "as_root install -d -m 2770 -g docker /var/lib/raydock/blue",
    ),
    "create the repository": (
        CreateRepository("team/app", "eu-west-1"),
        "aws ecr describe-repositories --region eu-west-1 --repository-names team/app >/dev/null 2>&1 || "
        "aws ecr create-repository --region eu-west-1 --repository-name team/app "
        "--image-tag-mutability IMMUTABLE_WITH_EXCLUSION "
        "--image-tag-mutability-exclusion-filters filterType=WILDCARD,filter=latest "
        "--image-scanning-configuration scanOnPush=true",
    ),
    "show the repository": (
        ShowRepository("team/app", None),
        "aws ecr describe-repositories --repository-names team/app --query '{repository: repositories[0]}'",
    ),
    "show a repository that is not of ECR": (
        ShowRepository("", None, "registry.test/a"),
        "echo registry.test/a",
    ),
    "start the container": (
        StartContainer("a"),
        "[ \"$(docker inspect -f '{{.State.Running}}' a)\" = true ] || docker start a >/dev/null",
    ),
    "find the head": (
        HeadRuns("a"),
        "[ -n \"$(docker ps -q --filter name=^/a$)\" ] || { echo 'the head does not run' >&2; exit 1; }",
    ),
    "reach the head": (
        ReachGcs("10.0.0.1", 6379),
        'timeout 3 bash -c \'</dev/tcp/"$0"/"$1"\' 10.0.0.1 6379 2>/dev/null || '
        "{ echo 'the head cannot be reached from here' >&2; exit 1; }",
    ),
    "find the ports free": (
        FreePorts("a", listening(SCOPE.settings, "worker")),
        "[ \"$(docker inspect -f '{{.State.Running}}' a 2>/dev/null)\" = true ] || "
        '[ -z "$(ss -Hltn \'sport = :8076 or sport = :52365\')" ] || { echo "a port of Ray\'s is taken" >&2; exit 1; }',
    ),
    "show the container": (ShowContainer("a"), "docker ps -a --filter name=^/a$"),
    "show Ray": (SHOW, f"{MUTE} || docker exec raydock-ray-head ray status"),
    "compare the architecture": (
        FitsEngine(ASKING),
        '[ "$(docker image inspect -f \'{{.Os}}/{{.Architecture}}\' "$image")" = '
        "\"$(docker version -f '{{.Server.Os}}/{{.Server.Arch}}')\" ] || "
        "{ echo 'the image is for another architecture' >&2; exit 1; }",
    ),
    "fit the head": (
        fits("", ""),
        '[ "$heads_versions" = "$versions" ] || { echo \'the head runs another Ray or Python\' >&2; exit 1; }',
    ),
}


@pytest.mark.parametrize(("step", "line"), LINES.values(), ids=LINES)
def test_the_line_of_a_step_is(step: Step, line: str) -> None:
    assert step.shell == line


STEPS = [*(step for step, _ in DONE.values()), JOIN, PROBE, SETTLE, SHOW, ShowContainer("a"), PUSH]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_says_what_it_does(step: Step) -> None:
    assert step.title
    assert step.title[0].islower()
    assert step.shell


# A version of Ray, and whether it may run where the operator has not said that it is open to all, and what is told.
RAYS = {
    "0.5.3": (False, True),
    "1.13.0": (False, True),
    "2.9.3": (False, True),
    "2.49.1": (False, True),
    "2.51.2": (False, True),
    "2.52.0": (True, True),
    "2.53.0rc1": (True, True),
    "2.54.0": (True, False),
    "2.60.0": (True, False),
    "2.100.0": (True, False),
    "3.0.0.dev0": (True, False),
}


@pytest.mark.parametrize(("version", "may", "holes"), [(version, *row) for version, row in RAYS.items()], ids=RAYS)
def test_a_ray_without_a_token_wants_leave_and_holes_are_told(version: str, may: bool, holes: bool) -> None:
    late = Late("ray_version", "", lambda _: version, Place.HEAD)
    one = site()
    one.know(ray_version=version)
    assert FindRay(late).done(one) is may
    if not may:
        assert failed(FindRay(late), one).startswith("RAY_OPEN")
    allowed = site()
    allowed.know(ray_version=version)
    assert FindRay(late, open_to_all=True).done(allowed)
    assert ["CVE-2023-48022" in str(news) for news in allowed.said] == ([True] if holes else [])
    for step, runs in ((FindRay(late), may), (FindRay(late, open_to_all=True), True)):
        said = subprocess.run(["bash", "-ec", f"ray_version={version}\n{step.shell}"], capture_output=True, text=True)
        assert (said.returncode == 0, said.stdout) == (runs, f"Ray {version}\n")
        assert ("CVE" in said.stderr or "token" in said.stderr) is holes


LOOKING = {Login, FitsEngine, FindRay, AwaitGcs, ReachGcs, FreePorts, HeadRuns, Join, Probe, Settle, ShowRay}
LOOKING |= {ShowContainer, FitsHead}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_that_only_looks_is_no_change(step: Step) -> None:
    assert step.changes is (type(step) not in LOOKING)
