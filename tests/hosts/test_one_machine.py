"""One machine: the engine here is the head's, and there is no worker, no registry and no AWS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
INVOKE = Path(sys.executable).with_name("invoke")
NAME = "raydock-one-machine-test"

USER_IMAGE = "raydock-one-machine-user-test"
UID = "1234"

Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the example application as a repository, where this machine and its containers reach it."""
    folder = tmp_path_factory.mktemp("git")
    work = folder / "work"
    shutil.copytree(TOP / "examples" / "app", work, ignore=shutil.ignore_patterns("__pycache__"))
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("commit", "-qm", "first"),
        ("clone", "-q", "--bare", ".", "../app.git"),
    ):
        subprocess.run((*git, *command), cwd=work, check=True)
    shown = subprocess.run(("ip", "-o", "-4", "addr", "show", "docker0"), capture_output=True, text=True, check=True)
    address = shown.stdout.split()[3].partition("/")[0]
    daemon = subprocess.Popen(
        ("git", "daemon", "--export-all", f"--base-path={folder}", f"--listen={address}", "--reuseaddr"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"git://{address}/app.git"
    daemon.terminate()
    daemon.wait(10)


@pytest.fixture
def type_(project: str) -> Iterator[Typed]:
    """Type a task with settings from the environment alone, and leave nothing running."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ENVIRONMENT"))}
    environ |= {
        "MY_PROJECT_URL": project,
        "MY_PROJECT_INSTALLATION_SCRIPT": "./install.sh",
        "CLUSTER_NAME": "one-machine",
        "APP_TAG": NAME,
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def typed(*words: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
        given = {key: value for key, value in (environ | settings).items() if value is not None}
        return subprocess.run(
            (str(INVOKE), *words), cwd=TOP, env=given, capture_output=True, text=True, timeout=400, check=False
        )

    yield typed
    typed("cluster.stop")
    subprocess.run(("docker", "image", "rm", NAME), capture_output=True, check=False)


@pytest.mark.timeout(600)
def test_on_one_machine_the_head_alone_is_built_started_used_and_stopped(type_: Typed) -> None:
    for words in (("build.base",), ("build",), ("cluster.start",)):
        done = type_(*words)
        assert done.returncode == 0, done.stderr
    again = type_("cluster.start", "--json")
    assert json.loads(again.stdout)["changed"] is False, again.stderr
    assert json.loads(again.stdout)["nodes"][0]["ray"] == "alive"
    ran = type_("job.run", "examples/where.py")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1].startswith("hosts: ")
    inside = type_("cluster.exec", "--", "sh", "-c", "test -f /run/ray-token && exit 7")
    assert (inside.returncode, inside.stdout, inside.stderr) == (7, "", "")
    assert type_("cluster.stop").returncode == 0
    assert type_("cluster.status").returncode == 1


@pytest.mark.timeout(600)
def test_an_image_that_the_machine_has_needs_no_project(type_: Typed) -> None:
    assert type_("build.base").returncode == 0
    unset = {"MY_PROJECT_URL": None, "MY_PROJECT_INSTALLATION_SCRIPT": None, "IMAGE": "ray-project/deploy"}
    for words in (("cluster.start",), ("job.run", "examples/where.py")):
        done = type_(*words, **unset)
        assert done.returncode == 0, done.stderr
    assert json.loads(type_("cluster.start", "--json", **unset).stdout)["changed"] is False


@pytest.fixture
def user_image(type_: Typed) -> Iterator[str]:
    """An image whose programs are those of a user of its own."""
    assert type_("build.base").returncode == 0
    lines = f"FROM ray-project/deploy\nUSER root\nRUN useradd --create-home --uid {UID} somebody\nUSER somebody\n"
    subprocess.run(
        ("docker", "build", "-q", "-t", USER_IMAGE, "-"), input=lines.encode(), capture_output=True, check=True
    )
    yield USER_IMAGE
    type_("cluster.stop")
    subprocess.run(("docker", "image", "rm", "--force", USER_IMAGE), capture_output=True, check=False)


@pytest.mark.timeout(600)
def test_an_image_with_a_user_of_its_own_runs_as_that_user_who_alone_can_read_the_token(
    type_: Typed, user_image: str
) -> None:
    env = {"MY_PROJECT_URL": None, "MY_PROJECT_INSTALLATION_SCRIPT": None, "IMAGE": user_image}
    for words in (("cluster.start",), ("job.run", "examples/where.py")):
        done = type_(*words, **env)
        assert done.returncode == 0, done.stderr
    seen = type_("cluster.exec", "--", "sh", "-c", "id -u; stat -c '%u %a' /run/ray-token", **env)
    assert seen.stdout.splitlines() == [UID, f"{UID} 600"], seen.stderr
