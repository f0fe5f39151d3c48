"""The plans: for each task its steps, node by node, and that a second time there is nothing to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import Failure, Mistake
from deploy.plan import Late, Plan
from deploy.plan import lates as all_lates
from deploy.plans import Planner, Scope
from deploy.plans import cluster as cluster_plans
from deploy.plans import image as image_plans
from deploy.plans import nodes as node_plans
from deploy.settings import load
from deploy.steps.building import Build, HaveBase
from deploy.steps.images import Pull

from .fakes import DIGEST, IMAGE_ID, TOP, Cluster, FakeRay, Image, Row, bash, command_failed, program, scope

URL = "https://git.test/team/app.git"
WORKERS = "one\ntwo  #: private=10.0.0.3"
COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes settle in no time."""
    monkeypatch.setattr("deploy.steps.joining.SETTLE", 0)


def steps(plan: Plan) -> list[str]:
    """Give the nodes and the classes of their steps; a stage that waits for the head begins with `then`."""
    return [
        f"{'then ' if stage.after_head else ''}{chain.node.name}: "
        + " ".join(type(step).__name__ for step in chain.steps)
        for stage in plan.stages
        for chain in stage.chains
    ]


INSTALL = "InstallDocker StartDocker JoinDockerGroup"
PULL = "Login Pull FitsEngine"
RUN = "ClearName FreePorts Create LayToken StartContainer"
PLANS: dict[str, tuple[Planner, Scope, list[str]]] = {
    "build.base": (image_plans.build_base, scope(), ["head: MakeRoot Build"]),
    "build.image": (image_plans.build_image, scope(my_project_url=URL), ["head: HaveBase Build"]),
    "publish.repository": (image_plans.publish_repository, scope(), ["head: CreateRepository ShowRepository"]),
    "publish.image": (
        image_plans.publish_image,
        scope(),
        ["head: CreateRepository ShowRepository Tag Tag CheckLogin Push PushLatest ShowPublished"],
    ),
    "publish.repository, of a registry of one's own": (
        image_plans.publish_repository,
        scope(repository_uri="registry.test/team/app"),
        ["head: ShowRepository"],
    ),
    "publish.tag": (image_plans.publish_tag, scope(), ["head: Tag Tag"]),
    "publish.login": (image_plans.publish_login, scope(), ["head: CheckLogin"]),
    "publish.push": (image_plans.publish_push, scope(), ["head: CheckLogin Push PushLatest ShowPublished"]),
    "build.containers": (image_plans.build_containers, scope(), ["head: ShowLeft"]),
    "build.commit": (lambda of: image_plans.build_commit(of, "c0ffee"), scope(), ["head: Commit"]),
    "publish.image, to a registry of one's own": (
        image_plans.publish_image,
        scope(repository_uri="registry.test/app"),
        ["head: ShowRepository Tag Tag CheckLogin Push PushLatest ShowPublished"],
    ),
    "cluster.install": (
        node_plans.install,
        scope(WORKERS),
        [f"head: {INSTALL} MakeStateFolder", f"one: {INSTALL}", f"two: {INSTALL}"],
    ),
    "cluster.pull": (
        node_plans.pull,
        scope(WORKERS),
        [f"{name}: Login Pull FitsEngine" for name in ("head", "one", "two")],
    ),
    "cluster.pull, of a public image": (
        node_plans.pull,
        scope("one", image="rayproject/ray:2.60.0"),
        ["head: Pull FitsEngine", "one: Pull FitsEngine"],
    ),
    "cluster.setup": (
        node_plans.setup,
        scope("one"),
        [f"head: {INSTALL} MakeStateFolder {PULL}", f"one: {INSTALL} {PULL}"],
    ),
    "cluster.start": (
        cluster_plans.start,
        scope(WORKERS),
        [
            f"head: {PULL} FindRay {RUN} AwaitGcs",
            f"then one: {PULL} FindAddress ReachGcs {RUN}",
            f"then two: {PULL} ReachGcs FindAddress {RUN}",
            "then head: Join Probe Settle",
        ],
    ),
    "cluster.start, on one machine": (
        cluster_plans.start,
        scope(),
        [f"head: Pull FitsEngine FindRay {RUN} AwaitGcs", "then head: Join Probe Settle"],
    ),
    "cluster.start, of one worker": (
        cluster_plans.start,
        scope(WORKERS, only="two"),
        ["head: HeadRuns", f"then two: {PULL} FitsHead ReachGcs FindAddress {RUN}", "then head: Join Probe Settle"],
    ),
    "cluster.start, of the head": (
        cluster_plans.start,
        scope(WORKERS, only="head"),
        [f"head: {PULL} FindRay {RUN} AwaitGcs", "then head: Join Probe Settle"],
    ),
    "cluster.start-head": (cluster_plans.start_head, scope(WORKERS), [f"head: {PULL} FindRay {RUN} AwaitGcs"]),
    "cluster.start-workers": (
        cluster_plans.start_workers,
        scope("one"),
        ["head: HeadRuns", f"then one: {PULL} FindAddress FitsHead ReachGcs {RUN}", "then head: Join Probe Settle"],
    ),
    "cluster.status": (
        cluster_plans.status,
        scope("one"),
        ["head: ShowContainer FindAddress", "one: ShowContainer FindAddress", "then head: ShowRay"],
    ),
    "cluster.stop": (
        cluster_plans.stop,
        scope(WORKERS),
        ["one: StopContainers", "two: StopContainers", "head: StopContainers"],
    ),
    "cluster.stop, of one worker": (cluster_plans.stop, scope(WORKERS, only="one"), ["one: StopContainers"]),
    "cluster.stop-head": (cluster_plans.stop_head, scope(WORKERS), ["head: StopContainers"]),
    "cluster.stop-workers": (cluster_plans.stop_workers, scope(WORKERS, only="head"), []),
}


@pytest.mark.parametrize(("planner", "of", "expected"), PLANS.values(), ids=PLANS)
def test_the_steps_of_a_task_are(planner: Planner, of: Scope, expected: list[str]) -> None:
    assert steps(planner(of)) == expected


@pytest.mark.parametrize(("planner", "of"), [case[:2] for case in PLANS.values()], ids=PLANS)
def test_a_plan_is_the_same_whenever_it_is_made(planner: Planner, of: Scope) -> None:
    assert planner(of) == planner(of)


@pytest.mark.parametrize(("planner", "of"), [case[:2] for case in PLANS.values()], ids=PLANS)
def test_a_variable_of_a_plan_stands_for_one_value(planner: Planner, of: Scope) -> None:
    for stage in planner(of).stages:
        for chain in stage.chains:
            found = set(all_lates(chain.steps))
            assert len({late.name for late in found}) == len(found)


# --- performed -------------------------------------------------------------------------------------------------


class Joined(FakeRay):
    """Ray's node list, in which each container that was started is a node of its own."""

    def __init__(self, of: Cluster, first: str) -> None:
        super().__init__()
        self._sites = dict(zip((first, "10.0.0.2", "10.0.0.3"), of.sites.values(), strict=False))

    def nodes(self) -> Sequence[Row]:
        starts = {
            address: sum(call[0] == "start" for call in site.docker.calls) for address, site in self._sites.items()
        }
        return [Row(address, node_id=f"{address} {count}") for address, count in starts.items() if count]


def cluster(of: Scope) -> Cluster:
    """Give a cluster of prepared machines, with an image published."""
    made = Cluster(of)
    for one, address in zip(made.sites.values(), ("10.0.0.1", "10.0.0.2", "10.0.0.3"), strict=False):
        one.answers |= {"ip -o route get": f"x src {address} uid 0", "ip -o addr show": "there", "id -un": "root"}
    made.head.ray = Joined(made, "127.0.0.2" if of.alone else "10.0.0.1")
    made.head.docker.registry = {"registry.test/my-app:latest": DIGEST, "rayproject/ray:2.60.0": DIGEST}
    made.head.docker.images["my-app"] = Image()
    made.head.answers["env GIT_TERMINAL_PROMPT=0"] = f"{COMMIT}\tHEAD\n"
    return made


def failures(made: Cluster) -> dict[str, str]:
    return {name: str(one.failure) for name, one in made.sites.items() if one.failure}


STARTED = ["create the container", "lay Ray's token in", "start the container"]
TWICE: dict[str, tuple[Planner, Scope, list[str]]] = {
    "build.image": (
        image_plans.build_image,
        scope(my_project_url=URL),
        ["head: have ray-project/deploy", "head: build my-app"],
    ),
    "build.base": (
        image_plans.build_base,
        scope(),
        ["head: have raydock/python-root", "head: build ray-project/deploy"],
    ),
    "cluster.pull": (node_plans.pull, scope("one"), ["head: pull the image", "one: pull the image"]),
    "cluster.start": (
        cluster_plans.start,
        scope(WORKERS),
        [f"{name}: {what}" for name in ("head", "one", "two") for what in ("pull the image", *STARTED)],
    ),
    "cluster.start, of a public image": (
        cluster_plans.start,
        scope("one", image="rayproject/ray:2.60.0"),
        [f"{name}: {what}" for name in ("head", "one") for what in ("pull the image", *STARTED)],
    ),
    "cluster.start, without authentication": (
        cluster_plans.start,
        scope("one", allow_unauthenticated="yes"),
        [f"{name}: {what}" for name in ("head", "one") for what in ("pull the image", *STARTED)],
    ),
}


@pytest.mark.parametrize(("planner", "of", "changed"), TWICE.values(), ids=TWICE)
def test_a_second_time_there_is_nothing_to_do(planner: Planner, of: Scope, changed: list[str]) -> None:
    made = cluster(of)
    assert made.perform(planner(of)) == changed
    assert failures(made) == {}
    assert made.perform(planner(of)) == []
    assert failures(made) == {}


def test_a_publication_is_done_once() -> None:
    of = scope()
    made = cluster(of)
    made.registry.there = False
    made.head.docker.registry.clear()
    done = ["have the repository my-app", "tag my-app", "tag my-app", "push the image", "push latest"]
    assert made.perform(image_plans.publish_image(of)) == [f"head: {what}" for what in done]
    short = IMAGE_ID.removeprefix("sha256:")[:12]
    assert [call for call in made.head.docker.calls if call[0] == "push"] == [
        ("push", "registry.test/my-app", short),
        ("push", "registry.test/my-app", "latest"),
    ]
    # As the engine notes it at a push.
    for tag in (short, "latest"):
        made.head.docker.images[f"registry.test/my-app:{tag}"] = Image(digests=[f"registry.test/my-app@{DIGEST}"])
    assert made.perform(image_plans.publish_image(of)) == []


@pytest.mark.parametrize("name", ["", "-f", "a b", "$(reboot)", "../x"])
def test_a_container_that_nobody_can_have_is_a_mistake(name: str) -> None:
    with pytest.raises(Mistake, match="is not a container's id or name"):
        image_plans.build_commit(scope(), name)


def test_all_nodes_have_the_heads_token_and_it_ends_with_the_head() -> None:
    of = scope(WORKERS)
    made = cluster(of)

    def tokens() -> set[bytes]:
        return {content for one in made.sites.values() for content in one.docker.files.values()}

    made.perform(cluster_plans.start(of))
    (first,) = tokens()
    made.perform(cluster_plans.stop(of))
    for one in made.sites.values():
        one.docker.files.clear()  # they were in the containers
    made.perform(cluster_plans.start(of))
    (second,) = tokens()
    assert first != second


def test_a_worker_of_a_former_head_is_replaced() -> None:
    of = scope("one")
    made = cluster(of)
    made.perform(cluster_plans.start(of))
    made.head.docker.held.clear()
    made.head.docker.files.clear()
    made.sites["one"].docker.files.clear()
    changed = made.perform(cluster_plans.start(of))
    assert changed == [
        *(f"head: {what}" for what in STARTED),
        *(f"one: {what}" for what in ("clear the name", *STARTED)),
    ]
    assert failures(made) == {}


def test_workers_are_left_alone_where_the_head_failed() -> None:
    of = scope(WORKERS)
    made = cluster(of)
    made.head.docker.broken["create"] = Failure("DOCKER_FAILED", "no")
    assert made.perform(cluster_plans.start(of)) == ["head: pull the image"]
    assert [one.docker.calls for name, one in made.sites.items() if name != "head"] == [[], []]


def test_a_workers_failure_is_its_own() -> None:
    of = scope(WORKERS)
    made = cluster(of)
    made.sites["one"].docker.broken["pull"] = Failure("DISK_FULL", "no space")
    assert made.perform(cluster_plans.start(of))[-1] == "two: start the container"
    assert failures(made) == {"one": "no space"}


# --- the Dockerfile --------------------------------------------------------------------------------------------

SCRIPTS = {
    "nothing": "",
    "the usual": "pip install -r requirements.txt",
    "quotes of both kinds": """echo 'it'"'"'s' "quoted" """.strip(),
    "a substitution": "echo $(id -u) `id -g` ${HOME} $HOME",
    "what sed and bash's replacing read": r"echo & \& \1 \\ / // %s %d",
    "what the template reads": "echo '<my-project-url>' '<base-image>'",
    "what the heredoc ends with": "LINES; echo LINES",
    "a comment": "true # not the end",
    "what no shell may see": "! !! * ? [a] {1,2} ~ < > | ; &",
    "the stand-in for the commit": "echo 0000",
}


@pytest.mark.parametrize("line", SCRIPTS.values(), ids=SCRIPTS)
def test_both_faces_make_the_same_dockerfile_and_recipe(line: str) -> None:
    of = scope(my_project_url=URL, my_project_installation_script=line)
    have, build = image_plans.build_image(of).stages[0].chains[0].steps
    assert isinstance(build, Build)
    assert isinstance(build.dockerfile, Late)
    made = cluster(of)
    made.perform(Plan((image_plans.build_image(of).stages[0],)))
    text = made.head.value(build.dockerfile)
    assert bash(build.dockerfile.shell, None, commit=COMMIT) == text
    assert bash(build.recipe.shell, None, dockerfile=text, base_id=IMAGE_ID) == made.head.value(build.recipe)
    (run,) = [one for one in text.splitlines() if one.startswith("RUN /bin/sh")]
    assert shlex.split(run)[1:] == ["/bin/sh", "-e", "-c", line or ":"]
    assert text.count(COMMIT) == 2
    assert isinstance(have, HaveBase)


RECIPES: dict[str, tuple[dict[str, str], str, str]] = {
    "another commit": ({}, "d" * 40, IMAGE_ID),
    "another base": ({}, COMMIT, "sha256:other"),
    "another script": ({"my_project_installation_script": "true"}, COMMIT, IMAGE_ID),
    "another url": ({"my_project_url": URL + "/"}, COMMIT, IMAGE_ID),
}


def recipe(values: dict[str, str], commit: str, base: str) -> str:
    of = scope(**{"my_project_url": URL, **values})
    made = cluster(of)
    made.head.answers["env GIT_TERMINAL_PROMPT=0"] = f"{commit}\tHEAD\n"
    made.head.docker.images["ray-project/deploy"] = Image(base)
    made.perform(image_plans.build_image(of))
    return str(made.head.docker.images["my-app"].labels["raydock.recipe"])


@pytest.mark.parametrize(("values", "commit", "base"), RECIPES.values(), ids=RECIPES)
def test_an_image_is_built_anew_for(values: dict[str, str], commit: str, base: str) -> None:
    assert re.fullmatch("[0-9a-f]{12}", recipe({}, COMMIT, IMAGE_ID))
    assert recipe(values, commit, base) != recipe({}, COMMIT, IMAGE_ID)


def test_a_build_needs_a_project() -> None:
    with pytest.raises(Mistake, match="MY_PROJECT_URL is not set"):
        image_plans.build_image(scope())


def test_the_base_has_the_version_of_ray_that_is_set() -> None:
    _, build = image_plans.build_base(scope(ray_version="2.58.0")).stages[0].chains[0].steps
    assert isinstance(build, Build)
    assert isinstance(build.dockerfile, str)
    assert '"ray[default]==2.58.0"' in build.dockerfile
    assert "<ray-version>" not in build.dockerfile


# --- the commit ------------------------------------------------------------------------------------------------

TAG, PEELED = "a" * 40, "b" * 40
REFS: dict[str, tuple[str, str, str]] = {
    "the default branch": ("", f"{COMMIT}\tHEAD\n", COMMIT),
    "a branch": ("main", f"{COMMIT}\trefs/heads/main\n", COMMIT),
    "a tag that is an object of its own": (
        "v1",
        f"{TAG}\trefs/tags/v1\n{PEELED}\trefs/tags/v1^{{}}\n",
        PEELED,
    ),
    "a commit": (COMMIT, "never asked", COMMIT),
}
AMBIGUOUS = {
    "a branch, where another one ends like it": (
        "main",
        f"{COMMIT}\trefs/heads/main\n{TAG}\trefs/heads/user/main\n",
        COMMIT,
    ),
    "the default branch of a clone": ("", f"{COMMIT}\tHEAD\n{TAG}\trefs/remotes/origin/HEAD\n", COMMIT),
}


def commit(ref: str) -> Late[Any]:
    of = scope(**{"my_project_url": URL} | ({"my_project_ref": ref} if ref else {}))
    (found,) = {late for late in all_lates(image_plans.build_image(of).stages[0].chains) if late.name == "commit"}
    return found


@pytest.mark.parametrize(
    ("ref", "lines", "expected"),
    [
        *REFS.values(),
        *AMBIGUOUS.values(),
    ],
    ids=[*REFS, *AMBIGUOUS],
)
def test_the_commit_is_that_of(ref: str, lines: str, expected: str, tmp_path: Path) -> None:
    made = cluster(scope())
    made.head.answers["env GIT_TERMINAL_PROMPT=0"] = lines
    (tmp_path / "lines").write_text(lines, encoding="utf-8")
    path = program(tmp_path / "bin", "git", f"cat {tmp_path}/lines")
    assert (made.head.value(commit(ref)), bash(commit(ref).shell, path)) == (expected, expected)


def test_git_is_asked_in_the_base_image_where_the_head_has_none() -> None:
    made = cluster(scope())
    made.head.answers["sh -c 'command -v git'"] = command_failed()
    made.head.docker.output = f"{COMMIT}\tHEAD\n"
    assert made.head.value(commit("")) == COMMIT
    assert made.head.docker.calls == [
        (
            "run_once",
            "ray-project/deploy",
            "env",
            "GIT_TERMINAL_PROMPT=0",
            "GIT_SSH_COMMAND=ssh -o BatchMode=yes",
            "git",
            "ls-remote",
            "--",
            URL,
            "HEAD",
        )
    ]


UNREACHABLE: dict[str, tuple[str | Failure, str]] = {
    "there is no such ref": (
        "",
        f"PROJECT_UNREACHABLE {URL} has none of refs/heads/nope, refs/tags/nope, refs/tags/nope^{{}}",
    ),
    "git cannot reach it": (command_failed("could not resolve"), "PROJECT_UNREACHABLE could not resolve"),
    "the link breaks": (Failure("SSH_LOST", "gone"), "SSH_LOST gone"),
}


@pytest.mark.parametrize(("answer", "said"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_project_that_cannot_be_had_is_told(answer: str | Failure, said: str) -> None:
    made = cluster(scope())
    made.head.answers["env GIT_TERMINAL_PROMPT=0"] = answer
    with pytest.raises(Failure) as caught:
        made.head.resolve(commit("nope"))
    assert f"{caught.value.code} {caught.value.error}" == said


# --- scopes ----------------------------------------------------------------------------------------------------


def test_a_cluster_has_containers_of_its_own_name() -> None:
    assert scope(cluster_name="blue").container("worker") == "raydock-blue-worker"


def test_plans_are_made_of_what_is_read_of_the_environment() -> None:
    settings = load(TOP / "conf", {"IMAGE": "rayproject/ray:2.60.0"})
    of = Scope(settings, settings.inventory(), frozenset({"head"}))
    step, _ = node_plans.pull(of).stages[0].chains[0].steps
    assert isinstance(step, Pull)
    assert step.credentials is None
