"""The printed plan, run by bash with nothing of Raydock's on the PATH: the same cluster, as Raydock finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.hosts.observer import NO_ENGINE, TOP, Done, Sandbox, command

Invoke = Callable[..., Done]
Typed = Callable[..., Done]

pytestmark = pytest.mark.timeout(180)

# Stands in for the AWS CLI on a machine that has none: the three calls that the scripts make, through boto3.
AWS = """\
#!{python}
import argparse, base64, boto3
parser = argparse.ArgumentParser()
parser.add_argument("service", choices=["ecr"])
parser.add_argument("call", choices=["describe-repositories", "create-repository", "get-login-password"])
parser.add_argument("--region")
parser.add_argument("--repository-names")
parser.add_argument("--repository-name")
parser.add_argument("--query")
parser.add_argument("--output")
parser.add_argument("--image-tag-mutability")
parser.add_argument("--image-tag-mutability-exclusion-filters")
parser.add_argument("--image-scanning-configuration")
asked = parser.parse_args()
ecr = boto3.client("ecr", region_name=asked.region)
if asked.call == "get-login-password":
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    print(base64.b64decode(token).decode().partition(":")[2])
elif asked.call == "create-repository":
    name, value = (pair.partition("=")[2] for pair in asked.image_tag_mutability_exclusion_filters.split(","))
    ecr.create_repository(
        repositoryName=asked.repository_name,
        imageTagMutability=asked.image_tag_mutability,
        imageTagMutabilityExclusionFilters=[{{"filterType": name, "filter": value}}],
        imageScanningConfiguration={{"scanOnPush": asked.image_scanning_configuration == "scanOnPush=true"}},
    )
else:
    print(ecr.describe_repositories(repositoryNames=[asked.repository_names])["repositories"][0]["repositoryUri"])
"""


def has_aws(path: str) -> bool:
    """Tell whether there is an AWS CLI that works; a version manager's may be there and not work."""
    found = shutil.which("aws", path=path)
    return found is not None and subprocess.run([found, "--version"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without anything of Raydock's."""
    ours = Path(sys.executable).parent
    plain = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if Path(one) != ours)
    if has_aws(plain):
        return plain
    folder = tmp_path_factory.mktemp("aws")
    (folder / "aws").write_text(AWS.format(python=sys.executable))
    (folder / "aws").chmod(0o755)
    return f"{folder}{os.pathsep}{plain}"


@pytest.fixture
def typed(path: str, tmp_path: Path, invoke: Invoke) -> Typed:
    """Have bash run what `--dry` prints for a task; the credentials are the operator's."""
    settings = dotenv_values(TOP / "conf/sandbox.env", interpolate=False)
    aws = {key: value for key, value in settings.items() if key.startswith("AWS_") and key != "AWS_ENDPOINT_URL"}

    def run(task: str, env: dict[str, str] | None = None, **how: object) -> Done:
        script = tmp_path / f"{task}.sh"
        script.write_text(invoke("--dry", task, env=env).out)
        return command(["bash", script], {**NO_ENGINE, **aws, "PATH": path}, folder=tmp_path, **how)

    return run


def left_behind(sandbox: Sandbox) -> list[str]:
    """Name what a script left on the hosts where it kept its secrets, and any login that it saved."""
    return [name for host in sandbox for name in host.shell("ls /dev/shm; ls -d ~ubuntu/.docker || true").split()]


TASKS = ["build.base", "build", "publish", "cluster.setup", "cluster.start", "cluster.status", "cluster.stop"]


def logins(sandbox: Sandbox) -> list[int]:
    """Count what each sshd let in; the end of an earlier connection may be told late, its beginning not."""
    return [host.box.logs().count(b"Accepted publickey") for host in sandbox]


@pytest.mark.parametrize("task", TASKS)
def test_a_plan_is_printed_without_a_word_to_any_host(invoke: Invoke, sandbox: Sandbox, task: str) -> None:
    before = logins(sandbox)
    planted = {"AWS_SECRET_ACCESS_KEY": "planted-key", "AWS_SESSION_TOKEN": "planted-token"}
    script = invoke("--dry", task, env=planted).out
    assert logins(sandbox) == before
    assert script.startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "planted" not in script


def test_the_script_brings_up_the_cluster(invoke: Invoke, stopped: Sandbox, typed: Typed) -> None:
    said = typed("cluster.start")
    since = time.time_ns()
    assert not invoke("cluster.start", "--json").report["changed"]
    assert stopped.actions(since) == {}
    assert invoke("cluster.status", "--json").report["ok"]
    token = stopped.head.docker("exec", "raydock-sandbox-head", "cat", "/run/ray-token")
    assert token not in said.out + said.err
    assert left_behind(stopped) == []


def test_the_script_finds_nothing_to_do_where_the_cluster_runs(running: Sandbox, typed: Typed) -> None:
    since = time.time_ns()
    typed("cluster.start")
    # It counts the nodes and runs the probe in the head's container.
    assert running.actions(since, but=("exec_create", "exec_start", "exec_die")) == {}


def test_the_script_stops_where_the_cluster_runs_otherwise(running: Sandbox, typed: Typed) -> None:
    since = time.time_ns()
    refused = typed("cluster.start", env={"NUM_WORKERS": "1"}, exit=1)
    assert running.actions(since) == {}
    assert "raydock-sandbox-head runs with another spec" in refused.err


def test_the_script_replaces_what_ended(invoke: Invoke, running: Sandbox, typed: Typed) -> None:
    running.workers[0].docker("stop", "raydock-sandbox-worker")
    typed("cluster.start")
    assert not invoke("cluster.start", "--json").report["changed"]
    assert invoke("cluster.status", "--json").report["ok"]


def test_the_script_stops_the_cluster(running: Sandbox, typed: Typed) -> None:
    for _ in range(2):
        typed("cluster.stop")
        assert [host.containers() for host in running] == [{}, {}, {}]


def test_the_scripts_build_and_publish_the_image(
    invoke: Invoke, stopped: Sandbox, typed: Typed, environment: Callable[..., str]
) -> None:
    head, env = stopped.head, {"ENVIRONMENT": environment(APP_TAG="raydock-script", REPOSITORY_NAME="raydock-script")}
    typed("build", env)
    assert "raydock-script:latest" in head.docker("image", "inspect", "-f", "{{.RepoTags}}", "raydock-script")
    assert not invoke("build", "--json", env=env).report["changed"]
    typed("publish", env)
    published = invoke("publish", "--json", env=env).report
    assert not published["changed"]
    assert published["digest"]
    since = time.time_ns()
    typed("build", env)
    typed("publish", env)
    assert stopped.actions(since, but=("push",)) == {}
    assert invoke("publish", "--json", env=env).report["digest"] == published["digest"]
    assert left_behind(stopped) == []
    head.docker("rmi", *head.docker("images", "-q", "--filter", "reference=raydock-script").split(), "--force")


def test_the_script_pulls_the_image_where_it_is_absent(invoke: Invoke, stopped: Sandbox, typed: Typed) -> None:
    digest = invoke("cluster.setup", "--json").report["image"]
    worker = stopped.workers[1]
    # The layers stay, so that the pull takes a moment only.
    worker.docker("tag", digest, "raydock-test-keeps-the-layers")
    worker.docker("rmi", digest)
    typed("cluster.setup")
    assert worker.docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", digest) == digest
    worker.docker("rmi", "raydock-test-keeps-the-layers")
    since = time.time_ns()
    assert not invoke("cluster.setup", "--json").report["changed"]
    typed("cluster.setup")
    # By a pull the script finds out what the tag stands for.
    assert stopped.actions(since, but=("pull",)) == {}
    assert left_behind(stopped) == []
