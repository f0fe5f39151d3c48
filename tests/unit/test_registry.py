"""Registries: ECR as moto plays it, and what AWS's refusals become."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import botocore.exceptions as aws
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from deploy import registry as registries
from deploy.aws import Waiting, core_failure, ecr_client
from deploy.errors import Failure
from deploy.registry import Configured, Ecr, registry_of
from deploy.secret import Secret
from deploy.settings import Settings
from deploy.site import Credentials

from .fakes import settings

KEYS = {"AWS_ACCESS_KEY_ID": Secret("AKIA-TEST"), "AWS_SECRET_ACCESS_KEY": Secret("hunter2-of-aws")}


@pytest.fixture(autouse=True, scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have a machine on which nobody has told AWS's tools anything."""
    with pytest.MonkeyPatch.context() as patched:
        for key in [key for key in os.environ if key.startswith("AWS_")]:
            patched.delenv(key)
        folder = tmp_path_factory.mktemp("aws")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patched.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        patched.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Give one client for all, which takes its time to make; nothing of it leaves the machine."""
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield ecr_client(of())


def of(**values: Any) -> Settings:
    return settings(**{"region": "eu-west-1", "repository_name": "team/my-app", "aws": KEYS, **values})


def code(error: Exception) -> str:
    assert isinstance(error, Failure)
    return error.code


# --- as moto plays it ------------------------------------------------------------------------------------------


@pytest.fixture
def ecr(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ecr]:
    monkeypatch.setattr(registries, "ecr_client", lambda *_: client)
    yield Ecr(of())
    for repository in client.describe_repositories()["repositories"]:
        client.delete_repository(repositoryName=repository["repositoryName"], force=True)


def test_a_repository_as_it_is_made_differs_in_nothing(ecr: Ecr) -> None:
    ecr.create()
    assert list(ecr.differences()) == []


LATEST = [{"filterType": "WILDCARD", "filter": "latest"}]
DIFFERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "its tags move": (
        {"imageTagMutability": "MUTABLE", "imageScanningConfiguration": {"scanOnPush": True}},
        ["the tags of team/my-app are MUTABLE; to change that: aws ecr put-image-tag-mutability --region eu-west-1"],
    ),
    "none moves, latest neither": (
        {"imageTagMutability": "IMMUTABLE", "imageScanningConfiguration": {"scanOnPush": True}},
        ["the tags of team/my-app are IMMUTABLE; to change that: "],
    ),
    "others move as well": (
        {
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [*LATEST, {"filterType": "WILDCARD", "filter": "dev-*"}],
            "imageScanningConfiguration": {"scanOnPush": True},
        },
        ["the tags of team/my-app are IMMUTABLE_WITH_EXCLUSION but for latest, dev-*; "],
    ),
    "nothing is scanned": (
        {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": LATEST},
        ["the images of team/my-app are not scanned on push; to change that: aws ecr put-image-scanning-configuration"],
    ),
    "nothing was said": ({}, ["the tags of team/my-app are MUTABLE; ", "the images of team/my-app are not scanned"]),
}


@pytest.mark.parametrize(("made", "told"), DIFFERS.values(), ids=DIFFERS)
def test_what_differs_in_a_repository_that_is_there_is_told_with_what_would_change_it(
    made: dict[str, Any], told: list[str], ecr: Ecr, client: Any
) -> None:
    client.create_repository(repositoryName="team/my-app", **made)
    found = list(ecr.differences())
    assert [line.startswith(words) for line, words in zip(found, told, strict=True)] == [True] * len(told), found


def test_a_login_that_is_over_before_it_is_used_has_no_end_and_is_told_once(client: Any) -> None:
    said: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registries, "ecr_client", lambda *_: client)
        ecr = Ecr(of(), Waiting(said.append))
        # As moto plays it, each ended in 2015.
        assert [ecr.credentials(ECR_HOST).expires for _ in range(3)] == [None] * 3
    assert said == ["AWS says that its login ended at 2015-01-01T00:00:00+00:00: it is used all the same"]


URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/my-app"
ECR_HOST = URI.partition("/")[0]


def test_a_repository_is_there_after_it_was_created(ecr: Ecr) -> None:
    assert not ecr.exists()
    ecr.create()
    assert ecr.exists()
    assert Ecr(of()).exists()
    assert ecr.uri() == Ecr(of()).uri() == URI


def test_a_new_repository_keeps_its_tags_but_latest_and_is_scanned(ecr: Ecr, client: Any) -> None:
    ecr.create()
    (made,) = client.describe_repositories()["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    assert made["imageTagMutabilityExclusionFilters"] == [{"filterType": "WILDCARD", "filter": "latest"}]
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}


def test_a_repository_that_is_not_there_has_no_uri(ecr: Ecr) -> None:
    with pytest.raises(Failure, match="there is no repository team/my-app in eu-west-1") as caught:
        ecr.uri()
    assert (caught.value.code, caught.value.cure) == ("IMAGE_NOT_FOUND", "Publish the image: invoke build publish")


def test_a_login_is_for_the_registry_and_does_not_show_its_password(ecr: Ecr) -> None:
    login = ecr.credentials(ECR_HOST)
    assert (login.user, login.registry) == ("AWS", ECR_HOST)
    assert login.password.reveal()
    assert login.password.reveal() not in repr(login)
    assert "[secret]" in repr(login)


def test_aws_is_first_contacted_by_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def contacted(*_: object) -> None:
        raise AssertionError("contacted")

    monkeypatch.setattr(registries, "ecr_client", contacted)
    Ecr(of())


# --- as AWS may answer -----------------------------------------------------------------------------------------


@pytest.fixture
def stubber(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Have the client answer as the test says."""
    monkeypatch.setattr(registries, "ecr_client", lambda *_: client)
    with Stubber(client) as stubber:
        yield stubber


ANSWERS: dict[str, tuple[str, str]] = {
    "ExpiredTokenException": ("AWS_EXPIRED", "AWS: said"),
    "ExpiredToken": ("AWS_EXPIRED", "AWS: said"),
    "AccessDeniedException": ("AWS_DENIED", "AWS refused ecr:DescribeRepositories: said"),
    "UnrecognizedClientException": (
        "AWS_DENIED",
        "AWS does not take these keys, asked for ecr:DescribeRepositories: said",
    ),
    "InvalidSignatureException": (
        "AWS_DENIED",
        "AWS does not take these keys, asked for ecr:DescribeRepositories: said",
    ),
    "ServerException": ("AWS_FAILED", "AWS, asked for ecr:DescribeRepositories: ServerException said"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_refusal_of_aws_is_told_by_its_code(answer: str, stubber: Stubber) -> None:
    ecr = Ecr(of())
    stubber.add_client_error("describe_repositories", answer, "said")
    with pytest.raises(Failure) as caught:
        ecr.exists()
    assert (caught.value.code, caught.value.error) == ANSWERS[answer]


def test_a_token_of_no_known_form_is_told(stubber: Stubber) -> None:
    ecr = Ecr(of())
    stubber.add_response("get_authorization_token", {"authorizationData": [{"authorizationToken": "abc"}]})
    with pytest.raises(Failure) as caught:
        ecr.credentials(ECR_HOST)
    assert code(caught.value) == "AWS_FAILED"


def test_a_password_may_have_colons(stubber: Stubber) -> None:
    ecr = Ecr(of())
    token = base64.b64encode(b"AWS:a:b:c").decode()
    stubber.add_response("get_authorization_token", {"authorizationData": [{"authorizationToken": token}]})
    assert ecr.credentials(ECR_HOST).password == Secret("a:b:c")


def test_a_repository_is_described_once(stubber: Stubber) -> None:
    ecr = Ecr(of())
    stubber.add_response("describe_repositories", {"repositories": [{"repositoryUri": URI}]})
    assert [ecr.exists(), ecr.uri(), ecr.uri()] == [True, URI, URI]
    stubber.assert_no_pending_responses()


CORE: dict[str, tuple[Exception, str]] = {
    "no credentials": (aws.NoCredentialsError(), "AWS_NO_CREDS"),
    "half of them": (aws.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "AWS_NO_CREDS"),
    "a profile that there is not": (aws.ProfileNotFound(profile="nope"), "AWS_NO_CREDS"),
    "a login that cannot be renewed": (aws.TokenRetrievalError(provider="sso", error_msg="no"), "AWS_NO_CREDS"),
    "a login that has ended": (aws.SSOTokenLoadError(error_msg="gone"), "AWS_EXPIRED"),
    "a login that is not taken": (aws.UnauthorizedSSOTokenError(), "AWS_EXPIRED"),
    "no region": (aws.NoRegionError(), "AWS_NO_REGION"),
    "no answer": (aws.EndpointConnectionError(endpoint_url="https://ecr.test"), "AWS_FAILED"),
    "an answer that takes too long": (aws.ReadTimeoutError(endpoint_url="https://ecr.test"), "AWS_FAILED"),
}


@pytest.mark.parametrize(("error", "expected"), CORE.values(), ids=CORE)
def test_what_botocore_finds_itself_is_told_by_its_code(error: Exception, expected: str) -> None:
    assert core_failure(error).code == expected


# --- settings --------------------------------------------------------------------------------------------------


def test_without_credentials_nothing_is_asked() -> None:
    with pytest.raises(Failure) as caught:
        Ecr(of(aws={})).exists()
    assert code(caught.value) == "AWS_NO_CREDS"


def test_without_a_region_nothing_is_asked() -> None:
    with pytest.raises(Failure) as caught:
        Ecr(of(region=None)).exists()
    assert (caught.value.code, caught.value.cure) == ("AWS_NO_REGION", "Set REGION in .env")


def test_a_profile_that_there_is_not_is_told() -> None:
    with pytest.raises(Failure) as caught:
        Ecr(of(aws={"AWS_PROFILE": Secret("nope")})).exists()
    assert code(caught.value) == "AWS_NO_CREDS"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what boto3 is told."""
    said: dict[str, Any] = {}

    class Session:
        def __init__(self, **session: Any) -> None:
            said.update(session)

        def client(self, service: str, *, config: Any, **client: Any) -> Mock:
            said.update(client, service=service, timeouts=(config.connect_timeout, config.read_timeout))
            return Mock()

    monkeypatch.setattr("boto3.Session", Session)
    return said


SAID: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, str | None]]] = {
    "the region of REGION": ({}, {}, {"region_name": "eu-west-1"}),
    "REGION before AWS's own": ({}, {"AWS_REGION": "us-east-1"}, {"region_name": "eu-west-1"}),
    "AWS_REGION": ({"region": None}, {"AWS_REGION": "us-east-1"}, {"region_name": "us-east-1"}),
    "AWS_DEFAULT_REGION": ({"region": None}, {"AWS_DEFAULT_REGION": "us-east-2"}, {"region_name": "us-east-2"}),
    "no region, for AWS's own chain": ({"region": None}, {}, {"region_name": None}),
    "AWS's own endpoint": ({}, {}, {"endpoint_url": None}),
    "AWS_ENDPOINT_URL": ({}, {"AWS_ENDPOINT_URL": "http://all.test:1"}, {"endpoint_url": "http://all.test:1"}),
    "AWS_ENDPOINT_URL_ECR before it": (
        {},
        {"AWS_ENDPOINT_URL": "http://all.test:1", "AWS_ENDPOINT_URL_ECR": "http://ecr.test:2"},
        {"endpoint_url": "http://ecr.test:2"},
    ),
    "a profile": ({}, {"AWS_PROFILE": "work"}, {"profile_name": "work"}),
    "keys": (
        {},
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
        {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_session_token": "c"},
    ),
}


@pytest.mark.parametrize(("values", "keys", "expected"), SAID.values(), ids=SAID)
def test_boto3_is_told(
    values: dict[str, Any], keys: dict[str, str], expected: dict[str, str | None], told: dict[str, Any]
) -> None:
    ecr_client(of(aws={key: Secret(value) for key, value in keys.items()}, **values))
    assert {key: told[key] for key in expected} == expected
    assert (told["service"], told["timeouts"]) == ("ecr", (5, 15))


def test_a_registry_of_ones_own_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "deploy.dockerconfig.configured_login", lambda host: Credentials("me", Secret(f"hunter2-{host}"), host)
    )
    own = registry_of(of(repository_uri="registry.test:5000/team/app"))
    assert isinstance(own, Configured)
    assert own.exists()
    assert own.uri() == "registry.test:5000/team/app"
    login = own.credentials("registry.test:5000")
    assert login
    assert (login.user, login.password, login.registry) == (
        "me",
        Secret("hunter2-registry.test:5000"),
        "registry.test:5000",
    )
    assert "hunter2" not in repr(login)
    assert own.cure == "Log in: docker login registry.test:5000"


def test_a_registry_of_ones_own_may_need_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.dockerconfig.configured_login", lambda _: None)
    assert registry_of(of(repository_uri="registry.test/app")).credentials("registry.test") is None


def test_without_one_it_is_ecr() -> None:
    assert isinstance(registry_of(of()), Ecr)
