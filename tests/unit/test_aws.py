"""Amazon's API that is busy, slow, or refuses: a server here answers as it does, over real HTTP."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy import aws
from deploy.aws import ALLOWED_BY, Waiting
from deploy.errors import Failure
from deploy.progress import Amount, News
from deploy.registry import Ecr
from deploy.secret import Secret
from tests.faults.aws_proxy import Answer, AwsProxy, aws_proxy, broken, denied, throttled

from .fakes import TOP, settings

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/my-app"
THERE = Answer(200, body=json.dumps({"repositories": [{"repositoryUri": URI}]}).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsProxy]:
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    with aws_proxy() as proxy:
        yield proxy


class Operator:
    """Who is told of a wait, and for whom none takes long."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waited: list[float] = []
        self.halted: Failure | None = None

    def say(self, news: News) -> None:
        if not isinstance(news, Amount):
            self.told.append(str(news))

    def pause(self, seconds: float) -> None:
        if self.halted:
            raise self.halted
        if seconds:
            self.waited.append(seconds)


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    return Operator()


def ecr_of(server: AwsProxy, operator: Operator, **values: Any) -> Ecr:
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_ENDPOINT_URL": server.url}
    told = {key: Secret(value) for key, value in keys.items()}
    given = settings(**{"region": "eu-west-1", "repository_name": "my-app", "aws": told, **values})
    return Ecr(given, Waiting(operator.say, operator.pause))


def test_a_session_without_a_key_is_no_login(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    told = {"AWS_SESSION_TOKEN": Secret("of-a-login-that-is-no-more")}
    given = settings(region="eu-west-1", repository_name="my-app", aws=told)
    with pytest.raises(Failure) as caught:
        Ecr(given, Waiting(operator.say, operator.pause)).uri()
    assert caught.value.code == "AWS_NO_CREDS"


@pytest.mark.parametrize("busy", [throttled, broken], ids=["too many calls", "at fault itself"])
def test_aws_that_is_busy_is_asked_again_and_each_wait_is_told(busy: Any, server: AwsProxy, operator: Operator) -> None:
    server.answers("DescribeRepositories", busy(), busy(), THERE)
    assert ecr_of(server, operator).uri() == URI
    assert server.asked == ["DescribeRepositories"] * 3
    first, second = operator.told
    assert first.endswith("asked again (2 of 4)")
    assert second.endswith("asked again (3 of 4)")


@pytest.mark.parametrize(
    ("busy", "code"), [(throttled, "AWS_THROTTLED"), (broken, "AWS_FAILED")], ids=["too many calls", "at fault itself"]
)
def test_aws_that_stays_busy_is_told_after_four_attempts(
    busy: Any, code: str, server: AwsProxy, operator: Operator
) -> None:
    server.answers("DescribeRepositories", busy(), always=True)
    with pytest.raises(Failure, match="after 4 attempts") as caught:
        ecr_of(server, operator).exists()
    assert caught.value.code == code
    assert len(server.asked) == 4


def test_all_attempts_have_one_end(server: AwsProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "WHOLE", 0.5)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: threading.Event().wait(3))
    server.answers("DescribeRepositories", throttled(), always=True)
    with pytest.raises(Failure, match=r"no whole answer in 0\.5 s"):
        ecr_of(server, operator).exists()
    assert len(server.asked) == 1


def test_an_answer_that_comes_byte_by_byte_has_an_end(
    server: AwsProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "WHOLE", 1.0)
    server.answers("DescribeRepositories", Answer(200, body=THERE.body, drip=0.3), always=True)
    begun = time.monotonic()
    with pytest.raises(Failure, match="no whole answer in 1 s") as caught:
        ecr_of(server, operator).exists()
    assert caught.value.code == "AWS_FAILED"
    assert time.monotonic() - begun < 3


def test_a_run_that_is_halted_waits_no_longer_for_aws(server: AwsProxy, operator: Operator) -> None:
    operator.halted = Failure("INTERRUPTED", "interrupted")
    server.answers("DescribeRepositories", Answer(200, body=THERE.body, drip=0.1), always=True)
    begun = time.monotonic()
    with pytest.raises(Failure, match="interrupted"):
        ecr_of(server, operator).exists()
    assert time.monotonic() - begun < 2


def test_a_refusal_is_asked_once_and_names_the_action_and_where_its_line_stands(
    server: AwsProxy, operator: Operator
) -> None:
    server.answers("CreateRepository", denied("ecr:CreateRepository"), always=True)
    with pytest.raises(Failure) as caught:
        ecr_of(server, operator).create()
    assert caught.value.code == "AWS_DENIED"
    assert caught.value.error.startswith("AWS refused ecr:CreateRepository: User: arn:aws:iam::")
    assert caught.value.cure == "Allow ecr:CreateRepository, as the statement Push of conf/iam/push.json does"
    assert len(server.asked) == 1


@pytest.mark.parametrize("action", ALLOWED_BY)
def test_the_line_that_is_named_allows_the_action(action: str) -> None:
    name, policy = ALLOWED_BY[action]
    statements = json.loads((TOP / policy).read_text(encoding="utf-8"))["Statement"]
    (found,) = [one["Action"] for one in statements if one["Sid"] == name]
    assert action in ([found] if isinstance(found, str) else found)


@pytest.mark.parametrize(
    ("ahead", "told"), [(-61, "61 minutes ahead of AWS's"), (61, "61 minutes behind AWS's")], ids=["ahead", "behind"]
)
def test_a_clock_that_is_off_is_told_in_place_of_the_signature(
    ahead: int, told: str, server: AwsProxy, operator: Operator
) -> None:
    server.ahead = timedelta(minutes=ahead)
    with pytest.raises(Failure, match=told) as caught:
        ecr_of(server, operator).exists()
    assert caught.value.code == "CLOCK_SKEW"
    assert len(server.asked) == 1


def test_a_signature_that_is_wrong_by_its_key_is_no_clocks_fault(server: AwsProxy, operator: Operator) -> None:
    server.answers("DescribeRepositories", Answer(400, "InvalidSignatureException", "The request signature we …"))
    with pytest.raises(Failure) as caught:
        ecr_of(server, operator).exists()
    assert caught.value.code == "AWS_DENIED"
    assert caught.value.cure.startswith("Check AWS_ACCESS_KEY_ID")


def test_a_clock_is_told_by_awss_own_words_where_its_answer_has_no_date() -> None:
    said = "Signature expired: 20260101T000000Z is now earlier than 20260101T005500Z (20260101T010000Z - 5 min.)"
    found = aws.client_failure({"Error": {"Code": "InvalidSignatureException", "Message": said}}, "ecr:X")
    assert (found.code, found.error) == ("CLOCK_SKEW", f"AWS: {said}")


@pytest.mark.usefixtures("server")
def test_where_nobody_is_aws_is_asked_again(operator: Operator) -> None:
    gone = AwsProxy(url="http://127.0.0.1:9")
    with pytest.raises(Failure, match="cannot be reached") as caught:
        ecr_of(gone, operator).exists()
    assert caught.value.code == "AWS_FAILED"
    assert operator.told[-1].endswith("asked again (4 of 4)")


KEYS = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = hunter2\n"


@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o640, True), (0o600, False)])
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("named", [True, False], ids=["keys that are set", "keys in the file"])
def test_keys_that_others_can_read_are_told_where_they_are_used(
    mode: int, told: bool, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, operator = tmp_path / "keys", Operator()
    file.write_text(KEYS)
    file.chmod(mode)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    given = {"AWS_ACCESS_KEY_ID": Secret("AKIB"), "AWS_SECRET_ACCESS_KEY": Secret("hunter3")} if named else {}
    aws.ecr_client(settings(region="eu-west-1", aws=given), Waiting(operator.say))
    line = f"others can read {file}, which has your AWS keys: chmod 600 {file}"
    assert operator.told == ([line] if told and not named else [])
