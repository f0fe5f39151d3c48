"""A registry that is not ECR's, with the logins of Docker's own configuration; AWS cannot be had."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.observer import Done, Sandbox

Invoke = Callable[..., Done]
HOST = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
PASSWORD = "123456789012-auth-token"  # the one that this registry takes
APP = "raydock-registries"
NO_AWS = {
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")),
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "REPOSITORY_NAME": None,
}


@dataclass
class Operator:
    """An operator with a Docker configuration of their own, and a repository REPOSITORY_URI."""

    folder: Path
    invoke: Invoke
    write: Callable[..., str]
    said: str = ""

    def has(self, *, auth: str | None = None, helper: str | None = None) -> None:
        """Have a login by its password: in the configuration, or by a helper; there is none that would have nothing."""
        config: dict[str, object] = {}
        if auth is not None:
            config["auths"] = {HOST: {"auth": base64.b64encode(f"AWS:{auth}".encode()).decode()}}
        if helper is not None:
            config["credHelpers"] = {HOST: "raydocktest"}
        if helper:
            program = self.folder / "docker-credential-raydocktest"
            answer = json.dumps({"Username": "AWS", "Secret": helper})
            program.write_text(f"#!/bin/sh\n[ \"$1 $(cat)\" = 'get {HOST}' ] && echo '{answer}'\n", encoding="utf-8")
            program.chmod(0o755)
        (self.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def task(self, *words: str, repository: str, exit: int = 0) -> Done:
        """Do a task; what it says is kept."""
        name = self.write(REPOSITORY_URI=f"{HOST}/team/{repository}", APP_TAG=APP, CLUSTER_NAME=APP, **NO_AWS)
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        env = {"ENVIRONMENT": name, "DOCKER_CONFIG": str(self.folder), "PATH": path}
        done = self.invoke(*words, "--json", env=env, exit=exit)
        self.said += done.out + done.err
        return done


@pytest.fixture
def someone(sandbox: Sandbox, tmp_path: Path, invoke: Invoke, environment: Callable[..., str]) -> Iterator[Operator]:
    """An operator whose head has a small application."""
    sandbox.head.shell(f"tar c -T /dev/null | docker import -c 'LABEL of={tmp_path.name}' - {APP}")
    yield Operator(tmp_path, invoke, environment)
    for host in (sandbox.head, sandbox.workers[0]):
        host.shell(
            f"docker images -q --filter reference={APP} --filter reference='{HOST}/team/*' | sort -u"
            " | xargs -r docker rmi -f"
        )


@pytest.mark.parametrize("kept", ["auth", "helper"])
def test_it_is_published_to_and_pulled_from(sandbox: Sandbox, someone: Operator, kept: str) -> None:
    someone.has(**{kept: PASSWORD})
    worker = sandbox.workers[0]

    published = someone.task("publish", repository=kept).report
    assert published["changed"]
    assert (published["login"]["registry"], published["login"]["user"]) == (HOST, "AWS")
    assert not someone.task("publish", repository=kept).report["changed"]

    pulled = someone.task("cluster.pull", "--only", worker.node, repository=kept).report
    assert pulled["changed"]
    image = f"{HOST}/team/{kept}@{published['digest']}"
    assert pulled["image"] == image
    assert image in worker.docker("image", "inspect", "-f", "{{.RepoDigests}}", image)
    assert not someone.task("cluster.pull", "--only", worker.node, repository=kept).report["changed"]

    assert PASSWORD not in someone.said
    assert sandbox.head.attempt("ls", "/root/.docker", "/home/ubuntu/.docker").out == ""


REFUSED: dict[str, dict[str, str]] = {
    "the password is wrong": {"auth": "planted-password"},
    "the helper is absent": {"helper": ""},
    "nobody is logged in": {},
}


@pytest.mark.parametrize("login", REFUSED.values(), ids=REFUSED)
def test_a_login_is_asked_for_where(someone: Operator, login: dict[str, str]) -> None:
    someone.has(**login)
    refused = someone.task("publish", repository="refused", exit=6)
    assert refused.node("head")["code"] == "REGISTRY_AUTH"
    assert f"Log in: docker login {HOST}" in refused.err
    assert "planted" not in someone.said
