"""The project's commit, and how it comes into the image: cloned by the build, or copied from the operator's side."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.observer import NO_ENGINE, Done, PracticeHost, Sandbox, command
from tests.project import TOKEN, Project, saved

Invoke = Callable[..., Done]

TAG, BASE, SERVED = "raydock-git-test", "raydock-git-test-base", "raydock-git-test.git"
SERVICES = "raydock-sandbox-services"
REVISION, SOURCE = "org.opencontainers.image.revision", "org.opencontainers.image.source"
CANARY, IN_SCRIPT = "canary-in-a-file-7f3a", "canary-in-the-history-20e4"


def push(project: Project) -> None:
    """Push to the practice hosts' git server, past the server's own door, which only reads."""
    there = f"ext::docker exec -i {SERVICES} %S /srv/git/{SERVED}"
    project.git("-c", "protocol.ext.allow=always", "push", "--quiet", there, "main")


@pytest.fixture
def served(practice_hosts: Sandbox) -> Iterator[str]:  # noqa: ARG001 - with whom the git server is up
    """The URL under which the practice hosts' git server has what is pushed."""
    git = ("docker", "exec", SERVICES)
    subprocess.run((*git, "git", "init", "--quiet", "--bare", f"/srv/git/{SERVED}"), check=True)
    subprocess.run((*git, "git", "-C", f"/srv/git/{SERVED}", "symbolic-ref", "HEAD", "refs/heads/main"), check=True)
    settings = (Path(__file__).parents[2] / "conf/sandbox.env").read_text()
    (url,) = [line.partition("=")[2] for line in settings.splitlines() if line.startswith("MY_PROJECT_URL=")]
    yield url.replace("app.git", SERVED)
    subprocess.run((*git, "rm", "-rf", f"/srv/git/{SERVED}"), check=True)


@pytest.fixture
def head(sandbox: Sandbox) -> Iterator[PracticeHost]:
    """The head, from which what was built here is removed."""
    yield sandbox.head
    sandbox.head.attempt("docker", "image", "rm", "--force", TAG, BASE)


def setting(url: str, **more: str) -> dict[str, str]:
    return {"APP_TAG": TAG, "MY_PROJECT_URL": url, "MY_PROJECT_INSTALLATION_SCRIPT": "true", **more}


def content(head: PracticeHost, path: str = "file") -> str:
    return head.docker("run", "--rm", TAG, "cat", path)


def label(head: PracticeHost, name: str) -> str:
    return head.docker("image", "inspect", "-f", f'{{{{index .Config.Labels "{name}"}}}}', TAG)


def test_a_commit_is_built_once_and_one_that_was_pushed_comes_into_the_image(
    invoke: Invoke, sandbox: Sandbox, head: PracticeHost, project: Project, served: str
) -> None:
    env = setting(served)
    first = project.commit(file="first")
    push(project)
    assert invoke("build", "--json", env=env).report["revision"] == first
    assert (content(head), label(head, REVISION), label(head, SOURCE)) == ("first", first, served)

    since = time.time_ns()
    again = invoke("build", "--json", env=env).report
    assert (again["changed"], again["revision"]) == (False, first)
    assert sandbox.actions(since) == {}

    second = project.commit(file="second")
    push(project)
    built = invoke("build", "--json", env=env).report
    assert (built["changed"], built["revision"]) == (True, second)
    assert (content(head), label(head, REVISION)) == ("second", second)


def test_a_folder_is_copied_as_it_was_committed_and_belongs_to_the_images_user(
    invoke: Invoke, sandbox: Sandbox, head: PracticeHost, project: Project
) -> None:
    base = "FROM ray-project/deploy\\nRUN useradd app && mkdir /app && chown app /app\\nUSER app\\n"
    head.shell(f"printf '{base}' | docker build -q -t {BASE} -")
    env = setting(str(project.folder), MY_PROJECT_SOURCE="copy", BASE_IMAGE=BASE)
    env["MY_PROJECT_INSTALLATION_SCRIPT"] = "echo installed >>file && touch new"
    commit = project.commit(file="committed\n")
    (project.folder / "file").write_text("uncommitted")
    (project.folder / "beside").write_text("uncommitted")

    built = invoke("build", "--json", env=env)
    assert built.err.count("has uncommitted changes, which are not in the image; files: 2") == 1
    assert (built.report["changed"], built.report["revision"]) == (True, commit)
    assert content(head) == "committed\ninstalled"
    assert head.docker("run", "--rm", TAG, "ls").split() == ["file", "new"]
    assert (label(head, REVISION), label(head, SOURCE)) == (commit, "")

    since = time.time_ns()
    assert not invoke("build", "--json", env=env).report["changed"]
    assert sandbox.actions(since) == {}


def test_a_private_project_is_copied_and_its_token_is_nowhere_in_the_image(
    invoke: Invoke, head: PracticeHost, project: Project, private: str, tmp_path: Path
) -> None:
    commit = project.commit(file=CANARY)
    config = tmp_path / "gitconfig"
    config.write_text(f'[credential]\n\thelper = "!echo username=operator; echo password={TOKEN}; :"\n')
    # A small base without git, for the build needs none.
    env = setting(private, MY_PROJECT_SOURCE="copy", BASE_IMAGE="raydock/python-root")
    env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "MY_PROJECT_INSTALLATION_SCRIPT": f": {IN_SCRIPT}"}
    refused = invoke("build", "--json", env=env, exit=1)
    assert refused.node("head")["code"] == "PROJECT_UNREACHABLE"

    built = invoke("build", "--json", "-v", env={**env, "GIT_CONFIG_GLOBAL": str(config)})
    assert built.report["revision"] == commit
    assert (content(head), label(head, SOURCE)) == (CANARY, private)
    hits = dict.fromkeys((CANARY, IN_SCRIPT, TOKEN), 0)
    for _, part in saved(head, TAG, tmp_path):
        for word in hits:
            hits[word] += part.count(word.encode())
    assert hits[CANARY]
    assert hits[IN_SCRIPT]
    assert hits[TOKEN] == 0
    assert TOKEN not in built.out + built.err + refused.out + refused.err


def test_the_script_copies_the_project_as_the_run_does(
    invoke: Invoke, sandbox: Sandbox, head: PracticeHost, project: Project, tmp_path: Path
) -> None:
    env = setting(str(project.folder), MY_PROJECT_SOURCE="copy")

    def typed() -> Done:
        script = tmp_path / "build.sh"
        script.write_text(invoke("--dry", "build", env=env).out)
        return command(["bash", script], {**NO_ENGINE, "TMPDIR": str(tmp_path)}, folder=tmp_path)

    commit = project.commit(file="by the script")
    (project.folder / "beside").write_text("uncommitted")
    assert "which are not in the image; files: 1" in typed().err
    assert (content(head), label(head, REVISION)) == ("by the script", commit)
    assert head.docker("run", "--rm", TAG, "ls") == "file"
    since = time.time_ns()
    assert not invoke("build", "--json", env=env).report["changed"]
    assert sandbox.actions(since) == {}

    second = project.commit(file="by the run")
    assert invoke("build", "--json", env=env).report["revision"] == second
    since = time.time_ns()
    typed()
    assert sandbox.actions(since) == {}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tmp.")] == []
    assert head.shell("ls /dev/shm") == ""
