"""Logins of Docker's own configuration: what stands there, and what credential helpers answer."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import dockerconfig
from deploy.aws import Waiting
from deploy.dockerconfig import configured_login
from deploy.engine.images import header
from deploy.errors import Failure
from deploy.lates import registry_password
from deploy.lates.registry import with_login
from deploy.plans.image import publish_image
from deploy.plans.nodes import pull
from deploy.registry import Configured
from deploy.script import script
from deploy.secret import Secret
from deploy.settings import Settings
from deploy.site import Credentials

from .fakes import Cluster, scope, settings

HOST = "registry.test:5000"
PASSWORD = "hunter2-of-the-registry"
AUTH = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
HELPERS = {"credHelpers": {HOST: "test"}}


@dataclass(frozen=True)
class Case:
    """A configuration, what the helper does, and the login that comes of both."""

    config: Mapping[str, Any] | str
    helper: str | None = None
    login: Credentials | None = field(default_factory=lambda: Credentials("me", Secret(PASSWORD), HOST))


def prints(user: str, secret: str) -> str:
    return f"cat >asked; echo '{json.dumps({'ServerURL': HOST, 'Username': user, 'Secret': secret})}'"


TOKEN = Credentials("<token>", Secret(PASSWORD), HOST, identity=True)
LOGINS: dict[str, Case] = {
    "docker login's": Case({"auths": {HOST: {"auth": AUTH}}}),
    "docker login's, by an address": Case({"auths": {f"https://{HOST}/v1/": {"auth": AUTH}}}),
    "an identity token": Case({"auths": {HOST: {"auth": AUTH, "identitytoken": PASSWORD}}}, login=TOKEN),
    "another registry's": Case({"auths": {"other.test": {"auth": AUTH}}}, login=None),
    "nobody's": Case({}, login=None),
    "nobody's, in an empty file": Case("", login=None),
    "a helper's": Case(HELPERS, prints("me", PASSWORD)),
    "a store's": Case({"auths": {HOST: {}}, "credsStore": "test"}, prints("me", PASSWORD)),
    "a helper's identity token": Case(HELPERS, prints("<token>", PASSWORD), TOKEN),
    "a helper's that has none": Case(HELPERS, "echo credentials not found in native keychain; exit 1", login=None),
    "a helper's that answers with an empty one": Case(HELPERS, prints("", ""), login=None),
    "docker login's, where the helper has none": Case(
        {**HELPERS, "auths": {HOST: {"auth": AUTH}}}, "echo credentials not found in native keychain; exit 1"
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration, which is the working directory and on the PATH too."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, case: Case) -> None:
    text = case.config if isinstance(case.config, str) else json.dumps(case.config)
    (folder / "config.json").write_text(text, encoding="utf-8")
    if case.helper is not None:
        (folder / "docker-credential-test").write_text(f"#!/bin/sh\n{case.helper}\n", encoding="utf-8")
        (folder / "docker-credential-test").chmod(0o755)


@pytest.mark.parametrize("case", LOGINS.values(), ids=LOGINS)
def test_the_login_is(case: Case, folder: Path) -> None:
    write(folder, case)
    assert configured_login(HOST) == case.login
    if (folder / "asked").exists():
        assert (folder / "asked").read_text(encoding="utf-8") == HOST


KEPT = {"auths": {HOST: {"auth": AUTH}}}
OPEN: dict[str, tuple[dict[str, Any], int, bool]] = {
    "kept in it, and readable": (KEPT, 0o644, True),
    "kept in it, for its owner": (KEPT, 0o600, False),
    "a helper's": (HELPERS, 0o644, False),
}


@pytest.mark.parametrize(("config", "mode", "told"), OPEN.values(), ids=OPEN)
def test_a_login_that_others_can_read_is_told_where_it_is_used(
    config: dict[str, Any], mode: int, told: bool, folder: Path
) -> None:
    write(folder, Case(config, prints("me", PASSWORD)))
    file = folder / "config.json"
    file.chmod(mode)
    said: list[object] = []
    registry = Configured(Settings.model_validate({"repository_uri": f"{HOST}/app"}), Waiting(said.append))
    assert registry.credentials(HOST)
    line = f"others can read {file}, which has logins in it: chmod 600 {file}"
    assert said == ([line] if told else [])


def test_dockers_own_hub_has_a_name_of_its_own_for_helpers(folder: Path) -> None:
    write(folder, Case({"credsStore": "test"}, prints("me", PASSWORD)))
    assert configured_login("docker.io")
    assert (folder / "asked").read_text(encoding="utf-8") == "https://index.docker.io/v1/"


REFUSALS: dict[str, tuple[Case, str]] = {
    "a helper that is not there": (Case(HELPERS), "docker-credential-test cannot be run: No such file or directory"),
    "a helper that fails": (
        Case(HELPERS, "echo it is locked; exit 3"),
        "docker-credential-test ended with 3: it is locked",
    ),
    "a helper that fails without a word": (
        Case(HELPERS, f"echo {PASSWORD} >&2; exit 3"),
        "docker-credential-test ended with 3: it says nothing",
    ),
    "a helper that fails after its answer": (
        Case(HELPERS, f"{prints('me', PASSWORD)}; exit 1"),
        "docker-credential-test ended with 1: what it says may be a login, and is not repeated",
    ),
    "a helper that fails after a line and its answer": (
        Case(HELPERS, f"echo it is old; {prints('me', PASSWORD)}; exit 1"),
        "docker-credential-test ended with 1: what it says may be a login, and is not repeated",
    ),
    "a helper that fails with more than a line": (
        Case(HELPERS, f"printf 'it is locked\\n{PASSWORD}\\n'; exit 3"),
        "docker-credential-test ended with 3: it is locked",
    ),
    "a helper that does not end": (
        Case(HELPERS, "exec sleep 60"),
        "docker-credential-test did not answer within 0.3 s",
    ),
    "a helper that talks otherwise": (
        Case(HELPERS, f"echo {PASSWORD}"),
        "docker-credential-test gave no login that Docker knows",
    ),
    "a helper that says half of it": (
        Case(HELPERS, 'echo \'{"Username": "me"}\''),
        "docker-credential-test gave no login that Docker knows",
    ),
    "a login that is none": (
        Case({"auths": {HOST: {"auth": "%%%"}}}),
        "Docker's own configuration cannot be read",
    ),
    **{
        f"a configuration of another shape, {text}": (Case(text), "Docker's own configuration cannot be read")
        for text in ('{"auths": {', "[]", "null", '{"auths": ["x"]}', '{"credHelpers": ["x"]}')
    },
}


@pytest.mark.parametrize(("case", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_login_that_cannot_be_had_is_told(
    case: Case, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerconfig, "HELPER_DEADLINE", 0.3)
    write(folder, case)
    with pytest.raises(Failure) as caught:
        configured_login(HOST)
    assert (caught.value.code, caught.value.error) == ("REGISTRY_AUTH", said)
    assert caught.value.cure == f"Log in: docker login {HOST}"


def sent(login: Credentials) -> object:
    """Give what the header of a request says."""
    return json.loads(base64.urlsafe_b64decode(header(f"{login.registry}/app:1", login)["X-Registry-Auth"]))


def test_a_login_goes_to_no_other_registry() -> None:
    assert json.loads(base64.urlsafe_b64decode(header("rayproject/ray:1", TOKEN)["X-Registry-Auth"])) == {}


def test_a_token_goes_to_the_engine_as_one() -> None:
    assert sent(TOKEN) == {"identitytoken": PASSWORD, "serveraddress": HOST}
    assert sent(Credentials("me", Secret(PASSWORD), HOST)) == {
        "username": "me",
        "password": PASSWORD,
        "serveraddress": HOST,
    }


@pytest.mark.parametrize(
    ("code", "known", "cure"),
    [
        ("REGISTRY_AUTH", "Log in: docker login r", "Log in: docker login r"),
        ("REGISTRY_AUTH", "", "The engine's"),
        ("REGISTRY_TLS", "Log in: docker login r", "The engine's"),
    ],
    ids=["a refusal", "a refusal by a registry that knows no better", "something else"],
)
def test_the_registry_knows_the_next_move(code: str, known: str, cure: str) -> None:
    one = Cluster(scope()).sites["head"]
    one.registry.cure = known
    login = registry_password(settings(repository_uri=f"{HOST}/app"))

    def use(_: Credentials | None) -> None:
        raise Failure(code, "denied", "The engine's")

    with pytest.raises(Failure) as caught:
        with_login(one, login, use)
    assert caught.value.cure == cure
    with pytest.raises(Failure, match="The engine's"):
        with_login(one, None, use)


def called(text: str) -> list[str]:
    """Give the lines that call the AWS CLI, or ask for it."""
    return [line for line in text.splitlines() if "aws " in f"{line} ".replace(";", " ") and not line.startswith("#")]


@pytest.mark.parametrize("host", [HOST, "1.dkr.ecr.eu-west-1.amazonaws.com", "docker.io"])
def test_the_script_says_where_to_log_in_and_asks_no_aws(host: str) -> None:
    given = scope(repository_uri="me/app" if host == "docker.io" else f"{host}/team/app")
    text = script("publish", given, publish_image(given))
    said = text.index(f"\n# log in there first: docker login {host}\n")
    assert said < text.index(" push -q ")
    assert called(text) == []


def test_a_pull_says_so_too_before_the_head_and_each_node_pull() -> None:
    given = scope("one", repository_uri=f"{HOST}/team/app")
    text = script("cluster.pull", given, pull(given))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert text.count(f"# log in there first: docker login {HOST}\n") == 1 + len(given.inventory.nodes)
    assert called(text) == []
