"""Late values: what the script's line prints is what the run finds out."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import lates
from deploy.errors import Failure
from deploy.lates.project import heads_commit, last_commit
from deploy.lates.ray import ASK, ask_shell
from deploy.lates.registry import RegistryLogin, with_login
from deploy.plan import Late, Place, quoted
from deploy.plan import lates as all_lates
from deploy.secret import Secret
from deploy.site import Credentials, Weight

from .fakes import DIGEST, LOGIN, TOP, Cluster, FakeSite, Image, bash, command_failed, program, scope, settings, site_of

GIB = 2**30
WORKER = "one  #: private=10.0.0.2\ntwo"
ROUTE = "192.0.2.1 via 10.0.0.254 dev eth0 src 10.0.0.1 uid 0 \\    cache "
HEAD_ADDRESS = lates.head_address(settings(), alone=False)
TOKEN = lates.token(settings())
SHM_SIZE = lates.shm_size(settings())


def facts(**info: Any) -> Callable[[FakeSite], object]:
    return lambda site: site.docker.info.update(info)


def answers(**lines: str | Failure) -> Callable[[FakeSite], object]:
    """Have a command answer; `ip_o_route` is the beginning of `ip -o route`."""
    return lambda site: site.answers.update(
        {key.replace("_o_", " -o ").replace("_", " "): line for key, line in lines.items()}
    )


def image(name: str, **values: Any) -> Callable[[FakeSite], object]:
    return lambda site: site.docker.images.update({name: Image(**values)})


@dataclass(frozen=True)
class Case:
    """A late value, the program that answers the script, what answers the run, and what both find out."""

    late: Late[Any]
    program: str
    says: str
    site: Callable[[FakeSite], object]
    value: str
    node: str = "head"
    variables: dict[str, str] = field(default_factory=dict)


# What `docker pull` says.
PULLED = f"""2.60.0: Pulling from rayproject/ray
5f70bf18a086: Pull complete
Digest: {DIGEST}
Status: Downloaded newer image for rayproject/ray:2.60.0
docker.io/rayproject/ray:2.60.0"""

BOTH: dict[str, Case] = {
    "a third of the memory is shared": Case(
        SHM_SIZE, "docker", str(8 * GIB), facts(MemTotal=8 * GIB), str(8 * GIB * 33 // 100)
    ),
    "what does not divide is rounded down": Case(SHM_SIZE, "docker", "101", facts(MemTotal=101), "33"),
    "no more than 200 GB of memory is shared": Case(
        SHM_SIZE, "docker", str(2048 * GIB), facts(MemTotal=2048 * GIB), "200000000000"
    ),
    "where MEMORY is less than the memory, a third of it is shared": Case(
        lates.shm_size(settings(memory="24G")),
        "docker",
        str(512 * GIB),
        facts(MemTotal=512 * GIB),
        str(24 * GIB * 33 // 100),
    ),
    "where MEMORY is more than there is, a third of what there is": Case(
        lates.shm_size(settings(memory="24G")),
        "docker",
        str(8 * GIB),
        facts(MemTotal=8 * GIB),
        str(8 * GIB * 33 // 100),
    ),
    "of a large MEMORY no more than 200 GB": Case(
        lates.shm_size(settings(memory="1T")), "docker", str(2048 * GIB), facts(MemTotal=2048 * GIB), "200000000000"
    ),
    "a worker for each core": Case(lates.NUM_WORKERS, "docker", "48", facts(NCPU=48), "48"),
    "all GPUs where the engine can give them": Case(
        lates.GPUS,
        "docker",
        "all",
        facts(Runtimes={"nvidia": {}, "runc": {}}),
        "all",
    ),
    "no GPUs where it cannot": Case(lates.GPUS, "docker", "", facts(Runtimes={"runc": {}}), ""),
    "the head's address is the source of its default route": Case(
        HEAD_ADDRESS, "ip", ROUTE, answers(ip_o_route_get_192=ROUTE), "10.0.0.1"
    ),
    "of a route with nothing behind its source too": Case(
        HEAD_ADDRESS,
        "ip",
        "192.0.2.1 dev eth0 src 10.0.0.1",
        answers(ip_o_route="192.0.2.1 dev eth0 src 10.0.0.1\n"),
        "10.0.0.1",
    ),
    "the head's address as it was set": Case(
        lates.head_address(settings(head_address="10.9.9.9"), alone=False),
        "ip",
        "2: eth0    inet 10.9.9.9/24",
        answers(ip_o_addr_show_to_10="2: eth0    inet 10.9.9.9/24"),
        "10.9.9.9",
    ),
    # Ray puts another address in the place of 127.0.0.1.
    "loopback for a head alone": Case(
        lates.head_address(settings(), alone=True), "ip", "never asked", lambda _: None, "127.0.0.2"
    ),
    "a running head's address is what it was started with": Case(
        lates.started_with("box", HEAD_ADDRESS),
        "docker",
        "10.0.0.7",
        lambda site: site.docker.hold("box", raydock_address="10.0.0.7"),
        "10.0.0.7",
    ),
    "a worker's address is private=": Case(
        lates.node_address(scope(WORKER).inventory.workers[0], HEAD_ADDRESS),
        "ip",
        "2: eth0    inet 10.0.0.2/24",
        answers(ip_o_addr_show_to_10="2: eth0    inet 10.0.0.2/24"),
        "10.0.0.2",
        "one",
    ),
    "else the source of its route to the head": Case(
        lates.node_address(scope(WORKER).inventory.workers[1], HEAD_ADDRESS),
        "ip",
        "10.0.0.1 dev eth0 src 10.0.0.3 uid 0",
        answers(ip_o_route_get_10="10.0.0.1 dev eth0 src 10.0.0.3 uid 0"),
        "10.0.0.3",
        "two",
        {"head_address": "10.0.0.1"},
    ),
    "an image is published under the first 12 digits of its id": Case(
        lates.image_tag("my-app"),
        "docker",
        f"sha256:{'0123456789ab' * 5}cdef",
        image("my-app", id=f"sha256:{'0123456789ab' * 5}cdef"),
        "0123456789ab",
    ),
    "the image that was built here, by its id": Case(
        lates.wanted_image(settings(app_tag="team/app:1"), alone=True),
        "docker",
        "sha256:1d",
        image("team/app:1", id="sha256:1d"),
        "sha256:1d",
    ),
    "an image that is asked for by its digest": Case(
        lates.wanted_image(settings(image=f"registry.test/a@{DIGEST}"), alone=False),
        "docker",
        "never asked",
        lambda _: None,
        f"registry.test/a@{DIGEST}",
    ),
    "an image that is asked for by its tag": Case(
        lates.wanted_image(settings(image="rayproject/ray:2.60.0"), alone=False),
        "docker",
        PULLED,
        lambda site: site.docker.registry.update({"rayproject/ray:2.60.0": DIGEST}),
        f"rayproject/ray@{DIGEST}",
    ),
    "an image of Docker's own hub, by its whole name": Case(
        lates.wanted_image(settings(image="docker.io/rayproject/ray:2.60.0"), alone=False),
        "docker",
        PULLED,
        lambda site: site.docker.registry.update({"docker.io/rayproject/ray:2.60.0": DIGEST}),
        f"docker.io/rayproject/ray@{DIGEST}",
    ),
    "an image that is asked for, of a machine alone that has it": Case(
        lates.wanted_image(settings(image="mine:1"), alone=True),
        "docker",
        "sha256:1d",
        image("mine:1", id="sha256:1d"),
        "sha256:1d",
    ),
    "a token's fingerprint": Case(
        lates.run_id(settings(), TOKEN),
        "docker",
        "never asked",
        lambda site: site.know(token="hunter2"),
        hashlib.sha256(b"hunter2").hexdigest()[:12],
        variables={"token": "hunter2"},
    ),
}


@pytest.mark.parametrize("case", BOTH.values(), ids=BOTH)
def test_both_faces_find_the_same(case: Case, tmp_path: Path) -> None:
    (tmp_path / "says").write_text(case.says + "\n", encoding="utf-8")
    path = program(tmp_path / "bin", case.program, f"cat {tmp_path}/says")
    cluster = Cluster(scope(WORKER))
    site = cluster.sites[case.node]
    cluster.head.know(**{name: value for name, value in case.variables.items() if name == "head_address"})
    case.site(site)
    assert bash(case.late.shell, path, **case.variables) == case.value
    assert site.value(case.late) == case.value


RUN_OF_HUNTER2 = hashlib.sha256(b"hunter2").hexdigest()[:12]


@pytest.mark.parametrize(
    ("state", "label", "run"),
    [
        ("running", "0123456789ab", "0123456789ab"),
        ("exited", "0123456789ab", RUN_OF_HUNTER2),
        ("running", "", RUN_OF_HUNTER2),
        ("running", "0123456789ab\n", RUN_OF_HUNTER2),
    ],
)
def test_a_running_head_bears_its_tokens_fingerprint(state: str, label: str, run: str) -> None:
    site = site_of()
    site.docker.hold("raydock-ray-head", state, raydock_run=label)
    site.know(token="hunter2")
    assert site.value(lates.run_id(settings(), TOKEN)) == run


@pytest.mark.parametrize("label", [None, "", "10.0.0.1; reboot", "0.0.0.0"])  # noqa: S104 - nobody binds it
def test_an_address_that_a_container_does_not_bear_is_looked_for(label: str | None, tmp_path: Path) -> None:
    site = site_of()
    site.docker.hold("box", **({} if label is None else {"raydock_address": label}))
    site.answers["ip -o route get 192"] = ROUTE
    late = lates.started_with("box", HEAD_ADDRESS)
    assert site.value(late) == "10.0.0.1"
    path = program(tmp_path / "bin", "docker", "echo")
    program(tmp_path / "bin", "ip", f"echo {ROUTE!r}")
    assert bash(late.shell, path) == "10.0.0.1"


def test_of_a_container_that_is_not_there_too() -> None:
    site = site_of()
    site.answers["ip -o route get 192"] = ROUTE
    assert site.value(lates.started_with("box", HEAD_ADDRESS)) == "10.0.0.1"


def test_a_runtime_that_only_mentions_nvidia_gives_no_gpus() -> None:
    site = site_of()
    site.docker.info["Runtimes"] = {"runc": {"path": "/opt/nvidia/runc"}}
    assert site.value(lates.GPUS) == ""
    assert lates.GPUS.shell == (
        """docker info -f '{{range $name, $_ := .Runtimes}}{{if eq $name "nvidia"}}all{{end}}{{end}}'"""
    )


REFUSED: dict[str, tuple[Late[Any], Callable[[FakeSite], object], str, str]] = {
    "no route": (HEAD_ADDRESS, answers(ip_o_route="unreachable"), "head", "ADDRESS_MISMATCH no route to 192.0.2.1"),
    "no address behind src": (
        HEAD_ADDRESS,
        answers(ip_o_route="192.0.2.1 src"),
        "head",
        "ADDRESS_MISMATCH no route to 192.0.2.1",
    ),
    "a word behind src that is no address": (
        HEAD_ADDRESS,
        answers(ip_o_route="192.0.2.1 dev eth0 src x/1;touch${IFS}/owned;# uid 0"),
        "head",
        "ADDRESS_MISMATCH its route to 192.0.2.1 has the source 'x/1;touch${IFS}/owned;#', which is not an IP address",
    ),
    "a source that no interface can have": (
        HEAD_ADDRESS,
        answers(ip_o_route="192.0.2.1 dev eth0 src 0.0.0.0 uid 0"),
        "head",
        "ADDRESS_MISMATCH its route to 192.0.2.1 has the source '0.0.0.0', which is not the address of one interface",
    ),
    "ip fails": (HEAD_ADDRESS, answers(ip_o_route=command_failed("no ip")), "head", "COMMAND_FAILED no ip"),
    "HEAD_ADDRESS is another machine's": (
        lates.head_address(settings(head_address="10.9.9.9"), alone=False),
        answers(ip=""),
        "head",
        "ADDRESS_MISMATCH 10.9.9.9 is not an address of this node",
    ),
    "private= is another machine's": (
        lates.node_address(scope(WORKER).inventory.workers[0], HEAD_ADDRESS),
        answers(ip=""),
        "one",
        "ADDRESS_MISMATCH 10.0.0.2 is not an address of this node",
    ),
    "no such image on the head": (
        lates.wanted_image(settings(), alone=True),
        lambda _: None,
        "head",
        "IMAGE_NOT_FOUND the head's engine has no image my-app",
    ),
    "no such tag in the registry": (
        lates.wanted_image(settings(image="rayproject/ray:9"), alone=False),
        lambda _: None,
        "head",
        "IMAGE_NOT_FOUND the registry has no rayproject/ray:9",
    ),
    "nothing published": (
        lates.wanted_image(settings(), alone=False),
        lambda _: None,
        "head",
        "IMAGE_NOT_FOUND the registry has no registry.test/my-app:latest",
    ),
}


@pytest.mark.parametrize(("late", "given", "node", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_found_is_told(
    late: Late[Any], given: Callable[[FakeSite], object], node: str, said: str
) -> None:
    site = site_of(scope(WORKER), node)
    given(site)
    with pytest.raises(Failure) as caught:
        site.resolve(late)
    assert f"{caught.value.code} {caught.value.error}" == said


CURES = {"HEAD_ADDRESS": ("head", "Correct HEAD_ADDRESS"), "private=": ("one", "Correct private= at workers.txt:1")}


@pytest.mark.parametrize(("node", "cure"), CURES.values(), ids=CURES)
def test_a_foreign_address_is_corrected_where_it_was_written(node: str, cure: str) -> None:
    of = scope(WORKER, head_address="10.9.9.9")
    head = lates.head_address(of.settings, alone=False)
    late = head if node == "head" else lates.node_address(of.inventory.workers[0], head)
    with pytest.raises(Failure) as caught:
        site_of(of, node).resolve(late)
    assert caught.value.cure == cure


@pytest.mark.parametrize("answer", ["exit 2", "echo unreachable"], ids=["ip fails", "a route without a source"])
def test_the_script_ends_where_there_is_no_route(answer: str, tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "ip", answer)
    assert bash(f'if address=$({HEAD_ADDRESS.shell}); then echo "went on with <$address>"; fi', path) == ""


class TestTheWantedImage:
    """What the running head has, else what was published last."""

    PUBLISHED = lates.wanted_image(settings(), alone=False)
    DOCKER = """
case "$*" in
  inspect*) printf '%s' "${running-}"; [ -n "${running-}" ] ;;
  *login*) cat >/dev/null ;;  # or who writes the password fails, now and then
  *pull*) [ "$*" = "--config /nowhere pull registry.test/my-app:latest" ] && printf '%s\\n' "$pulled" ;;
esac"""

    def test_a_running_head_decides_in_the_run(self) -> None:
        site = site_of(scope("one"))
        site.docker.hold("raydock-ray-head", raydock_image="registry.test/my-app@sha256:1")
        assert site.value(self.PUBLISHED) == "registry.test/my-app@sha256:1"
        assert site.registry.calls == []

    def test_a_head_that_ended_decides_nothing(self) -> None:
        site = site_of(scope("one"))
        site.docker.hold("raydock-ray-head", "exited", raydock_image="registry.test/my-app@sha256:1")
        site.docker.registry["registry.test/my-app:latest"] = DIGEST
        assert site.value(self.PUBLISHED) == f"registry.test/my-app@{DIGEST}"
        assert site.docker.secrets == [LOGIN]

    FACES = {
        "the running head's": (
            {"running": "registry.test/my-app@sha256:1", "pulled": "never asked"},
            "registry.test/my-app@sha256:1",
        ),
        "the published one": ({"pulled": PULLED}, f"registry.test/my-app@{DIGEST}"),
    }

    @pytest.mark.parametrize(("variables", "value"), FACES.values(), ids=FACES)
    def test_the_script_takes(self, variables: dict[str, str], value: str, tmp_path: Path) -> None:
        path = program(tmp_path / "bin", "docker", self.DOCKER)
        found = bash(
            self.PUBLISHED.shell,
            path,
            memory="/nowhere",
            registry_password="x",
            repository_uri="registry.test/my-app",
            **variables,
        )
        assert found == value

    def test_the_script_ends_where_the_engine_tells_no_digest(self, tmp_path: Path) -> None:
        path = program(tmp_path / "bin", "docker", "echo Status: Downloaded newer image")
        late = lates.wanted_image(settings(image="rayproject/ray:2.60.0"), alone=False)
        assert bash(f'if image=$({late.shell}); then echo "went on with <$image>"; fi', path) == ""

    NEEDS: dict[str, tuple[dict[str, str], bool, list[str]]] = {
        "what ECR has": ({}, False, ["repository_uri", "registry_password"]),
        "what a repository of one's own has": ({"repository_uri": "registry.test/app"}, False, ["registry_password"]),
        "the same with nobody but the head": ({"repository_uri": "registry.test/app"}, True, ["registry_password"]),
        "what the head built for itself": ({}, True, []),
        "an image of somebody else's registry": ({"image": "rayproject/ray:2.60.0"}, False, []),
        "an image of ECR": ({"image": "1.dkr.ecr.eu-west-1.amazonaws.com/a:1"}, False, ["registry_password"]),
        "an image of ECR in China": (
            {"image": "1.dkr.ecr.cn-north-1.amazonaws.com.cn/a:1"},
            False,
            ["registry_password"],
        ),
        "an image of ECR by its endpoint for FIPS": (
            {"image": "1.dkr.ecr-fips.us-east-1.amazonaws.com/a:1"},
            False,
            ["registry_password"],
        ),
        "an image of somebody who is called like ECR": (
            {"image": "1.dkr.ecr.eu-west-1.amazonaws.com.example.org/a:1"},
            False,
            [],
        ),
        "an image of ECR, where our registry is another": (
            {"image": "1.dkr.ecr.eu-west-1.amazonaws.com/a:1", "repository_uri": "r.test/b"},
            False,
            [],
        ),
        "an image of our registry": (
            {"image": "r.test/a:1", "repository_uri": "r.test/b"},
            False,
            ["registry_password"],
        ),
    }

    @pytest.mark.parametrize(("values", "alone", "needed"), NEEDS.values(), ids=NEEDS)
    def test_it_needs(self, values: dict[str, str], alone: bool, needed: list[str]) -> None:
        late = lates.wanted_image(settings(**values), alone=alone)
        assert [one.name for one in all_lates(late.needs)] == needed
        assert late.at is Place.HEAD


IMAGE: Late[str] = Late("image", "", lambda _: "registry.test/a", Place.HEAD)
VERSION = lates.ray_version(settings(), IMAGE)


class TestTheVersionOfRay:
    """The running head's, else what the image tells; the plan does not depend on it."""

    TELLS: dict[str, tuple[str, str]] = {
        "a release": ("2.60.0", "2.60.0"),
        "an old one": ("0.5.3", "0.5.3"),
        "a build of a branch": ("0.8.0.dev6", "0.8.0.dev6"),
        "a nightly one": ("3.0.0.dev0", "3.0.0.dev0"),
        "a candidate": ("2.60.0rc1", "2.60.0rc1"),
        "one with a local part": ("2.60.0+cu12.1", "2.60.0+cu12.1"),
        "one whose Ray says something first": ("a warning 1.2.3\n1.2.3", "1.2.3"),
    }

    @pytest.mark.parametrize(("says", "version"), TELLS.values(), ids=TELLS)
    def test_both_faces_take_what_the_image_tells(self, says: str, version: str, tmp_path: Path) -> None:
        (tmp_path / "says").write_text(says + "\n", encoding="utf-8")
        path = program(tmp_path / "bin", "docker", f'[ "$1" = run ] && cat {tmp_path}/says')
        site = site_of()
        site.docker.output = says + "\n"
        assert (bash(VERSION.shell, path, image="a"), site.value(VERSION)) == (version, version)
        assert [call[:2] for call in site.docker.calls] == [("run_once", "registry.test/a")]

    @pytest.mark.parametrize("says", ["nightly", "", "None", "2", "2.60.0; rm -rf", "2.60.0 x", "2.x*"])
    def test_what_is_no_version_is_refused_by_both(self, says: str, tmp_path: Path) -> None:
        (tmp_path / "says").write_text(says + "\n", encoding="utf-8")
        path = program(tmp_path / "bin", "docker", f'[ "$1" = run ] && cat {tmp_path}/says')
        site = site_of()
        site.docker.output = says + "\n"
        with pytest.raises(Failure) as caught:
            site.value(VERSION)
        assert (caught.value.code, caught.value.error) == (
            "IMAGE_NO_RAY",
            f"registry.test/a tells no version of Ray: {says!r}",
        )
        said = bash(f"if version=$({VERSION.shell}); then echo $version; fi 2>&1", path, image="a")
        assert said == "a tells no version of Ray"

    BROKEN: dict[str, tuple[Failure, str]] = {
        "it has no ray": (
            command_failed("sh in a ended with 1: no ray on its PATH"),
            "IMAGE_NO_RAY registry.test/a tells no version of Ray: sh in a ended with 1: no ray on its PATH",
        ),
        "its ray is broken": (
            command_failed("sh in a ended with 1: Traceback\n…\nImportError: libcuda"),
            "IMAGE_NO_RAY registry.test/a tells no version of Ray: ImportError: libcuda",
        ),
        "it has no shell": (
            Failure("DOCKER_FAILED", 'run sh: exec: "sh": executable file not found in $PATH'),
            "IMAGE_NO_RAY registry.test/a tells no version of Ray: "
            'run sh: exec: "sh": executable file not found in $PATH',
        ),
        "the engine is gone": (Failure("DOCKER_DOWN", "gone"), "DOCKER_DOWN gone"),
        "there is no room": (Failure("DISK_FULL", "no space"), "DISK_FULL no space"),
    }

    @pytest.mark.parametrize(("failure", "said"), BROKEN.values(), ids=BROKEN)
    def test_an_image_that_does_not_tell_is_refused(self, failure: Failure, said: str) -> None:
        site = site_of()
        site.docker.broken["run_once"] = failure
        with pytest.raises(Failure) as caught:
            site.value(VERSION)
        assert f"{caught.value.code} {caught.value.error}" == said

    def test_a_running_head_spares_the_question(self, tmp_path: Path) -> None:
        site = site_of()
        site.docker.hold("raydock-ray-head", raydock_ray="0.7.7")
        assert (site.value(VERSION), site.docker.calls) == ("0.7.7", [])
        path = program(tmp_path / "bin", "docker", '[ "$1 ${!#}" = "inspect raydock-ray-head" ] && echo 0.7.7')
        assert bash(VERSION.shell, path, image="a") == "0.7.7"

    ANEW: dict[str, tuple[Late[str], str, dict[str, str]]] = {
        "a head that ended": (VERSION, "exited", {"raydock_ray": "0.7.7"}),
        "a head of before there was the label": (VERSION, "running", {}),
        "a head that is to be replaced": (
            lates.ray_version(settings(), IMAGE, anew=True),
            "running",
            {"raydock_ray": "0.7.7"},
        ),
    }

    @pytest.mark.parametrize(("late", "state", "labels"), ANEW.values(), ids=ANEW)
    def test_the_image_is_asked_beside(self, late: Late[str], state: str, labels: dict[str, str]) -> None:
        site = site_of()
        site.docker.hold("raydock-ray-head", state, **labels)
        assert site.value(late) == "2.60.0"

    HEADS: dict[str, tuple[str, str]] = {"the same image": ("a", ""), "another": ("b", "2.60.0 3.12.3")}

    @pytest.mark.parametrize(("runs", "told"), HEADS.values(), ids=HEADS)
    def test_the_heads_versions_are_asked_for_where_it_runs_another_image(
        self, runs: str, told: str, tmp_path: Path
    ) -> None:
        image = Late("image", "echo a", lambda _: "a")
        heads = lates.heads_versions("raydock-ray-head", image)
        mine = lates.versions(image, heads)
        site = site_of()
        site.docker.output = "2.60.0 3.12.3\n"
        site.docker.hold("raydock-ray-head", raydock_image=runs)
        assert (site.value(heads), site.value(mine)) == (told, told)
        assert len(site.docker.calls) == (2 if told else 0)
        path = program(tmp_path / "bin", "docker", f'[ "$1" = run ] && echo 2.60.0 3.12.3 || echo {runs}')
        assert bash(heads.shell, path, image="a") == told
        assert bash(mine.shell, path, image="a", heads_versions=told) == told

    INSTALLED: dict[str, tuple[dict[str, str], str]] = {
        "by pip": (
            {"bin/ray": "#!{python}\n", "ray-2.60.0.dist-info/METADATA": "Name: ray\nVersion: 2.60.0\n"},
            "2.60.0",
        ),
        "by a Python that does not know what is installed": (
            {"bin/ray": "#!{python}\n", "ray.py": "__version__ = '0.5.3'\n"},
            "0.5.3",
        ),
        "with the Python of its PATH": (
            {"bin/ray": "#! /usr/bin/env python3\n", "ray-0.7.7.dist-info/METADATA": "Version: 0.7.7\n"},
            "0.7.7",
        ),
        "in a folder with a long name": (
            {
                "bin/ray": "#!/bin/sh\n'''exec' /a/very/long/name/python \"$0\" \"$@\"\n",
                "bin/python": '#!/bin/sh\nexec {python} "$@"\n',
                "ray-1.13.0.dist-info/METADATA": "Version: 1.13.0\n",
            },
            "1.13.0",
        ),
        "nowhere": ({"bin/other": "#!/bin/sh\n"}, "no ray on its PATH"),
        "with nothing behind it": ({"bin/ray": "#!{python}\n"}, "ModuleNotFoundError: No module named 'ray'"),
    }

    @pytest.mark.parametrize(("files", "said"), INSTALLED.values(), ids=INSTALLED)
    def test_the_question_is_answered_where_ray_is_installed(
        self, files: dict[str, str], said: str, tmp_path: Path
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.replace("{python}", sys.executable), encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            ["/bin/sh", "-c", ASK], env=environment, cwd=TOP, capture_output=True, text=True, check=False
        )
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        assert re.fullmatch(rf"{re.escape(said)}( 3[.]\d+[.]\d+)?", last)
        assert (last == said) == bool(done.returncode), "with it comes the version of Python"


class TestTheToken:
    """Ray's token is the running head's, else a new one."""

    def test_a_new_one_is_64_hexadecimal_digits_and_never_the_same(self, tmp_path: Path) -> None:
        path = program(tmp_path / "bin", "docker", "exit 1")
        made = [bash(TOKEN.shell, path), bash(TOKEN.shell, path), site_of().value(TOKEN), site_of().value(TOKEN)]
        assert [bool(re.fullmatch("[0-9a-f]{64}", token)) for token in made] == [True] * 4
        assert len(set(made)) == 4

    def test_the_running_heads_is_kept_in_the_run(self) -> None:
        site = site_of()
        site.docker.hold("raydock-ray-head")
        site.docker.files["raydock-ray-head", "/run/ray-token"] = b"kept"
        assert site.value(TOKEN) == "kept"

    def test_the_running_heads_is_kept_in_the_script(self, tmp_path: Path) -> None:
        (tmp_path / "ray-token").write_text("kept", encoding="utf-8")
        path = program(
            tmp_path / "bin",
            "docker",
            f"""case "$*" in
  inspect*raydock-ray-head) echo true ;;
  "cp raydock-ray-head:/run/ray-token -") tar -C {tmp_path} -cf - ray-token ;;
esac""",
        )
        assert bash(TOKEN.shell, path) == "kept"

    @pytest.mark.parametrize("state", ["exited", "created"])
    def test_it_ends_with_the_head(self, state: str) -> None:
        site = site_of()
        site.docker.hold("raydock-ray-head", state)
        site.docker.files["raydock-ray-head", "/run/ray-token"] = b"old"
        assert site.value(TOKEN) != "old"


class TestTheRegistry:
    """What is asked of AWS, and what a repository of one's own spares us."""

    def test_the_uri_is_the_configured_one(self) -> None:
        assert lates.repository_uri(settings(repository_uri="registry.test:5000/app")) == "registry.test:5000/app"

    def test_else_ecr_is_asked_for_it(self) -> None:
        late = lates.repository_uri(settings(repository_name="team/app", region="eu-west-1"))
        assert quoted(late) == '"$repository_uri"'
        assert isinstance(late, Late)
        assert (late.shell, late.at) == (
            "aws ecr describe-repositories --region eu-west-1 --repository-names team/app "
            "--query 'repositories[0].repositoryUri' --output text",
            Place.OPERATOR,
        )
        assert site_of().value(late) == "registry.test/my-app"

    def test_a_login_is_asked_for_on_the_operators_side(self) -> None:
        late = lates.registry_password(settings())
        assert (late.shell, late.at) == ("aws ecr get-login-password", Place.OPERATOR)
        assert site_of().resolve(late) is LOGIN

    REFUSED: dict[str, tuple[list[str], int, str | None]] = {
        "the first one": (["one"], 2, None),
        "each": (["one", "two"], 2, "REGISTRY_AUTH"),
        "none": ([], 1, None),
    }

    @pytest.mark.parametrize(("refused", "asked", "code"), REFUSED.values(), ids=REFUSED)
    def test_a_login_that_is_refused_is_asked_for_anew_once(
        self, refused: list[str], asked: int, code: str | None
    ) -> None:
        logins = iter(("one", "two"))
        made: list[str] = []

        def login(_: Any) -> Credentials:
            made.append(next(logins))
            return Credentials("AWS", Secret(made[-1]), "registry.test")

        def use(held: Credentials | None) -> None:
            assert held
            if held.password.reveal() in refused:
                raise Failure("REGISTRY_AUTH", "denied")

        late = RegistryLogin("registry_password", "aws", login, Place.OPERATOR, host="registry.test")
        told = None
        try:
            with_login(site_of(), late, use)
        except Failure as failure:
            told = failure.code
        assert (len(made), told) == (asked, code)

    def test_a_login_that_ends_within_minutes_is_not_used(self) -> None:
        ends = iter((time.time() + 300, time.time() + 36_000))
        used: list[Credentials | None] = []
        late = RegistryLogin(
            "registry_password", "aws", lambda _: Credentials("AWS", Secret("x"), "r.test", next(ends)), Place.OPERATOR
        )
        with_login(site_of(), late, used.append)
        assert [one.expires for one in used if one and one.expires and one.expires > time.time() + 600] != []
        assert len(used) == 1


def test_who_acts_is_told_by_name() -> None:
    assert site_of().value(lates.BY) == bash(lates.BY.shell)


def test_who_acts_is_told_by_number_where_there_is_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    path = program(tmp_path / "bin", "id", "[ $1 = -u ] && echo 54321")
    assert site_of().value(lates.BY) == bash(lates.BY.shell, path)
    assert site_of().value(lates.BY).startswith("54321@")


HARD = "docker run --rm --cap-drop ALL --security-opt no-new-privileges --network"


def test_in_the_script_too_what_runs_once_has_no_capability_and_a_network_only_for_git() -> None:
    assert ask_shell("x").startswith(f"{HARD} none --entrypoint sh x ")
    assert f"else {HARD} host base env " in heads_commit("https://r.test/a.git", "HEAD", "base").shell


def test_what_git_tells_in_place_of_a_commit_is_none() -> None:
    with pytest.raises(Failure, match="has none of HEAD"):
        last_commit("--upload-pack=x HEAD\n" + "a" * 39 + " HEAD\n", ("HEAD",), "https://r.test/a.git")
    assert last_commit("a" * 40 + " HEAD\n", ("HEAD",), "https://r.test/a.git") == "a" * 40


def test_what_an_image_weighs_is_not_worth_a_session_that_the_heads_sshd_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, image = site_of(), Late("image", "", lambda _: "registry.test/a", Place.HEAD)
    code = "SSH_NO_CHANNEL"

    def refuses(_image: str) -> Weight:
        raise Failure(code, "refused")

    monkeypatch.setattr(site.docker, "image_weight", refuses)
    assert lates.weight_on_head(image).resolve(site) == Weight()
    code = "DOCKER_DOWN"
    with pytest.raises(Failure, match="refused"):
        lates.weight_on_head(image).resolve(site)
