"""I4, I15 to I19: AWS that has another repository than ours, is busy, refuses, or has another time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import boto3

from deploy.practice.layout import REGION
from tests.faults.aws_proxy import Answer, AwsProxy, aws_proxy, broken, denied, throttled
from tests.faults.bench import STUB_CLUSTER, Bench
from tests.faults.row import Fault, row

NAME = STUB_CLUSTER["REPOSITORY_NAME"]
LIFE = '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", '
LIFE += '"countNumber": 9}, "action": {"type": "expire"}}]}'
# No host is acted upon: the head's line tells what the operator's side was told.
ASKED: dict[str, Any] = {"running": None, "told_of": "head", "bench": "B", "task": ("publish.repository",)}
AGAIN = ("publish",)


@contextmanager
def before_aws(bench: Bench, **values: str) -> Iterator[AwsProxy]:
    """Have a proxy between the operator and the practice AWS."""
    with aws_proxy(bench.values["AWS_ENDPOINT_URL"]) as proxy, bench.settings(AWS_ENDPOINT_URL=proxy.url, **values):
        yield proxy


def ecr(bench: Bench) -> Any:
    """Give the practice AWS, as somebody else changes what is there."""
    keys: dict[str, Any] = {"aws_access_key_id": "somebody", "aws_secret_access_key": "else", "region_name": REGION}
    return boto3.client("ecr", endpoint_url=bench.values["AWS_ENDPOINT_URL"], **keys)


def kept(client: Any) -> tuple[Any, Any]:
    """Give what a repository is like, and what becomes of its images."""
    (found,) = client.describe_repositories(repositoryNames=[NAME])["repositories"]
    return found, client.get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"]


@row("I15", "the repository is there, and kept otherwise than ours are", converge=AGAIN, **ASKED)
def another_repository(bench: Bench) -> Fault:
    client = ecr(bench)
    client.put_image_tag_mutability(repositoryName=NAME, imageTagMutability="MUTABLE")
    client.put_image_scanning_configuration(repositoryName=NAME, imageScanningConfiguration={"scanOnPush": False})
    client.put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=LIFE)
    before = kept(client)
    try:
        done = yield
        assert kept(client) == before
    finally:
        client.delete_lifecycle_policy(repositoryName=NAME)
        client.put_image_scanning_configuration(repositoryName=NAME, imageScanningConfiguration={"scanOnPush": True})
        client.put_image_tag_mutability(
            repositoryName=NAME,
            imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
            imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest"}],
        )
    assert not done.report["changed"]
    assert f"the tags of {NAME} are MUTABLE; to change that: aws ecr put-image-tag-mutability" in done.err
    assert f"the images of {NAME} are not scanned on push" in done.err


@row(
    "I16",
    "AWS is at fault itself, and then wants fewer calls and goes on wanting",
    code="AWS_THROTTLED",
    exit=1,
    within=20,
    converge=AGAIN,
    **ASKED,
)
def busy_aws(bench: Bench) -> Fault:
    with before_aws(bench) as aws:
        aws.answers("DescribeRepositories", broken(), throttled())
        passed = bench.invoke("publish.repository", exit=0)
        assert "asked again (2 of 4)" in passed.err
        assert "(3 of 4)" in passed.err
        aws.asked.clear()
        aws.answers("DescribeRepositories", throttled(), always=True)
        done = yield
        assert aws.asked == ["DescribeRepositories"] * 4
    assert "(4 of 4)" in done.err


@row("I17", "IAM allows one action less", code="AWS_DENIED", exit=6, converge=AGAIN, **{**ASKED, "task": ("publish",)})
def one_action_less(bench: Bench) -> Fault:
    with before_aws(bench, REPOSITORY_NAME="raydock-denied") as aws:
        aws.answers("CreateRepository", denied("ecr:CreateRepository"), always=True)
        done = yield
        assert aws.asked.count("CreateRepository") == 1
    assert "Allow ecr:CreateRepository, as the statement Push of conf/iam/push.json does" in done.err


@row("I18", "the operator's clock is an hour late", code="CLOCK_SKEW", exit=6, converge=AGAIN, **ASKED)
def late_clock(bench: Bench) -> Fault:
    with before_aws(bench) as aws:
        aws.ahead = timedelta(hours=-1)
        early = bench.invoke("publish.repository", exit=6)
        assert "60 minutes ahead of AWS's" in early.err
        aws.ahead = timedelta(hours=1)
        done = yield
    assert "60 minutes behind AWS's" in done.err


@row("I19", "a login that is over before it is used", converge=AGAIN, **{**ASKED, "task": ("publish",)})
def over_already(bench: Bench) -> Fault:
    with before_aws(bench) as aws:
        done = yield
        assert aws.asked.count("GetAuthorizationToken") == 1
    assert done.err.count("AWS says that its login ended at 2015-01-01") == 1


@row(
    "I4",
    "a login that the registry does not take any more",
    converge=("cluster.pull",),
    **{**ASKED, "task": ("cluster.pull",), "running": False},
)
def login_has_ended(bench: Bench) -> Fault:
    ended = base64.b64encode(b"AWS:one-that-has-ended").decode()
    token = json.dumps({"authorizationData": [{"authorizationToken": ended, "proxyEndpoint": "https://registry.test"}]})
    with before_aws(bench) as aws:
        aws.answers("GetAuthorizationToken", Answer(200, body=token.encode()))
        yield
        assert aws.asked.count("GetAuthorizationToken") == 2
