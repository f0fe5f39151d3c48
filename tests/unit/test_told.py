"""Failures that need no node, each brought about by a task as an operator types it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.aws_proxy import Answer, AwsProxy, aws_proxy
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, command

AWS = "AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=x\n"
Prepare = Callable[[Path, AwsProxy], object]


def nothing(_: Path, __: AwsProxy) -> None:
    """Have it as it is."""


def odd_template(checkout: Path, _: AwsProxy) -> None:
    (checkout / "Dockerfile.template").write_text("FROM <base-image>\nRUN git clone <my-project-ulr>\n")


def over(_: Path, aws: AwsProxy) -> None:
    aws.answers("DescribeRepositories", Answer(400, "ExpiredTokenException", "The security token is expired"))


def odd(_: Path, aws: AwsProxy) -> None:
    aws.answers("DescribeRepositories", Answer(400, "InvalidParameterException", "Something else"))


TOLD: dict[str, tuple[tuple[str, ...], str, Prepare, int]] = {
    "TEMPLATE": (("build.dockerfile",), "MY_PROJECT_URL=https://git.test/a\n", odd_template, 2),
    "USAGE": (("cluster.start", "--wait", "soon"), "", nothing, 2),
    "AWS_NO_REGION": (("publish.repository",), AWS, nothing, 1),
    "AWS_EXPIRED": (("publish.repository",), f"{AWS}REGION=eu-west-1\n", over, 6),
    "AWS_FAILED": (("publish.repository",), f"{AWS}REGION=eu-west-1\n", odd, 1),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what tasks are made of, without anybody's settings."""
    shutil.copytree(TOP / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks.py", "Dockerfile.template"):
        shutil.copy(TOP / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", TOLD)
def test_a_task_tells(code: str, checkout: Path) -> None:
    words, text, prepare, expected = TOLD[code]
    with aws_proxy() as aws:
        prepare(checkout, aws)
        (checkout / ".env").write_text(f"{text}AWS_ENDPOINT_URL={aws.url}\n")
        (checkout / ".env").chmod(0o600)
        nobody = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
        done = command([INVOKE, *words, "--json"], {**NO_ENGINE, **nobody}, exit=expected, folder=checkout)
    assert code in {error["code"] for error in done.report["errors"]}
    assert f"{code}" in done.err
    assert "  → " in done.err
    assert json.loads(done.out)["exit"] == expected
