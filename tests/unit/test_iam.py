"""The policies: enough for what boto3 asks, and no action more; what Docker asks is as the docs say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from deploy.errors import Failure
from deploy.registry import Ecr
from deploy.secret import Secret

from .fakes import TOP, settings

REGION, NAME = "eu-west-1", "team/my-app"


def policy(name: str) -> Any:
    """Give a policy of ours."""
    return json.loads((TOP / f"conf/iam/{name}.json").read_text(encoding="utf-8"))


def actions(document: Any) -> list[str]:
    """Name the actions of a policy."""
    listed = [statement["Action"] for statement in document["Statement"]]
    return [action for one in listed for action in ([one] if isinstance(one, str) else one)]


@contextmanager
def operator(names: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Ecr]]:
    """Have AWS allow an operator these actions and no other; moto knows no resource but all."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": names, "Resource": "*"}]}
    with mock_aws():
        iam = boto3.client("iam", region_name=REGION, aws_access_key_id="root", aws_secret_access_key="root")
        iam.create_user(UserName="operator")
        key = iam.create_access_key(UserName="operator")["AccessKey"]
        iam.put_user_policy(UserName="operator", PolicyName="p", PolicyDocument=json.dumps(document))
        keys = {
            "AWS_ACCESS_KEY_ID": Secret(key["AccessKeyId"]),
            "AWS_SECRET_ACCESS_KEY": Secret(key["SecretAccessKey"]),
        }
        yield lambda: Ecr(settings(region=REGION, repository_name=NAME, aws=keys))


def pulls(ecr: Ecr) -> None:
    """Ask boto3 what a pull needs."""
    assert ecr.credentials(ecr.uri().partition("/")[0]).password.reveal()


def publishes(ecr: Ecr) -> None:
    """Ask boto3 what `publish` needs."""
    if not ecr.exists():
        ecr.create()
    pulls(ecr)


ASKED: dict[str, tuple[Callable[[Ecr], None], list[str]]] = {
    "push": (publishes, ["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:GetAuthorizationToken"]),
    "pull": (pulls, ["ecr:DescribeRepositories", "ecr:GetAuthorizationToken"]),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_policy_is_enough_and_lacks_nothing_that_boto3_asks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act, asked = ASKED[name]
    for missing in (None, *asked):
        names = [action for action in actions(policy(name)) if action != missing]
        with operator(names, monkeypatch) as ecr:
            if name == "pull":
                ecr().create()
            set_initial_no_auth_action_count(0)(refused)(act, ecr(), missing)


def refused(act: Callable[[Ecr], None], ecr: Ecr, missing: str | None) -> None:
    """See that AWS refuses just what is missing."""
    if missing is None:
        act(ecr)
        return
    # Which code it has is for test_registry.py: moto refuses in a form that ECR does not have.
    with pytest.raises(Failure, match=rf"{missing}\b.*\b403\b"):
        act(ecr)


def test_the_page_has_each_action_of_both_policies() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \| (\w+) \| (\w+) \| (\w+) \|", (TOP / "docs/iam.md").read_text(encoding="utf-8"), re.M
    )
    for column, name in enumerate(("push", "pull"), start=2):
        assert sorted(row[0] for row in rows if row[column] == "yes") == sorted(actions(policy(name)))
    for name, (_, asked) in ASKED.items():
        assert asked == sorted(row[0] for row in rows if row[1] == "boto3" and row[0] in actions(policy(name)))


def test_only_the_login_is_for_more_than_the_repository() -> None:
    for name in ASKED:
        for statement in policy(name)["Statement"]:
            for_all = statement["Resource"] == "*"
            assert for_all == (actions({"Statement": [statement]}) == ["ecr:GetAuthorizationToken"])
            assert for_all or statement["Resource"].endswith(":repository/<repository-name>")
