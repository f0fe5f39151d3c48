"""Amazon's API: the client, a call with its attempts and its end, what its errors become. boto3's only door."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deploy.errors import Failure
from deploy.files import openings
from deploy.progress import Amount

if TYPE_CHECKING:
    from deploy.progress import Say
    from deploy.settings import Settings

T = TypeVar("T")

CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 15  # seconds between two bytes of an answer
ATTEMPTS = 4
WHOLE = 45.0  # seconds for one question, with all its attempts and the waits between them
QUIET = 3.0  # seconds of waiting that are not told
LOOK = 0.2  # seconds between two looks at whether the run is halted
SKEW = 240.0  # seconds; AWS takes a signature of the last five minutes
# What a boto3 session is told by name; AWS's own chain finds everything else.
SESSION_KEYS = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",  # noqa: S105 - the key's name
    "AWS_SESSION_TOKEN": "aws_session_token",  # noqa: S105 - the key's name
    "AWS_PROFILE": "profile_name",
}
# How botocore calls the files that keys stand in: the way in which it found them, and the setting that names the file.
FILES = {"shared-credentials-file": "credentials_file", "config-file": "config_file"}
NO_CREDS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
)
DENIED = ("AccessDenied", "AccessDeniedException")
# The keys themselves, or what was signed with them.
UNKNOWN = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure")
SIGNATURE = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired")
UNTIMELY = ("Signature expired", "Signature not yet current")
THROTTLED = ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded")
# Which statement of which policy allows an action.
ALLOWED_BY: Mapping[str, tuple[str, str]] = {
    "ecr:GetAuthorizationToken": ("Login", "conf/iam/pull.json"),
    "ecr:DescribeRepositories": ("Pull", "conf/iam/pull.json"),
    "ecr:CreateRepository": ("Push", "conf/iam/push.json"),
}


@dataclass(frozen=True)
class Waiting:
    """How the operator is told of a wait, and how it passes: a run that is halted ends it with a `Failure`."""

    say: Say = lambda _: None
    pause: Callable[[float], None] = time.sleep


def ecr_client(settings: Settings, waiting: Waiting = Waiting()) -> Any:  # noqa: B008 - it is frozen
    """Give boto3's client for ECR, which tells of each attempt; `AWS_NO_REGION` where nobody says the region."""
    import boto3
    from botocore.config import Config
    from botocore.session import get_session

    named: dict[str, Any] = {
        SESSION_KEYS[key]: value.reveal() for key, value in settings.aws.items() if key in SESSION_KEYS
    }
    if not named.keys() & {"aws_access_key_id", "aws_secret_access_key"}:
        # Of a login that is no more; boto3 would sign with it, and without a key.
        named.pop("aws_session_token", None)
    endpoint = settings.aws.get("AWS_ENDPOINT_URL_ECR") or settings.aws.get("AWS_ENDPOINT_URL")
    region = settings.region or next(
        (settings.aws[key].reveal() for key in ("AWS_REGION", "AWS_DEFAULT_REGION") if key in settings.aws),
        None,
    )
    with aws_errors("configuration"):
        core = get_session()
        client = boto3.Session(region_name=region, botocore_session=core, **named).client(
            "ecr",
            endpoint_url=endpoint.reveal() if endpoint else None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            ),
        )
        tell_openings(core, waiting)
    tell_attempts(client, waiting)
    return client


def tell_openings(core: Any, waiting: Waiting) -> None:
    """Tell who else can read or change the file that the keys came out of, where they came out of one."""
    found = core.get_credentials()
    if found and found.method in FILES:
        file = Path(str(core.get_config_variable(FILES[found.method]))).expanduser()
        for opening in openings(file, str(file), "your AWS keys"):
            waiting.say(opening)


def tell_attempts(client: Any, waiting: Waiting) -> None:
    """Have each further attempt of botocore's told, with what the one before came to."""
    came_to = ["no answer"]

    def received(parsed_response: Mapping[str, Any] | None, exception: Exception | None, **_: Any) -> None:
        error = (parsed_response or {}).get("Error", {})
        came_to[0] = str(error.get("Code") or exception or "no answer")

    def created(request: Any, **_: Any) -> None:
        attempt = request.context.get("retries", {}).get("attempt", 1)
        if attempt > 1:
            waiting.say(f"AWS: {came_to[0]}; asked again ({attempt} of {ATTEMPTS})")

    client.meta.events.register("response-received.ecr", received)
    client.meta.events.register("request-created.ecr", created)


def asked(action: str, ask: Callable[[], T], waiting: Waiting) -> T:
    """Give AWS's answer. botocore asks again where that may help, and waits between; all of it has one end.

    Args:
        action: what is asked, as IAM names it.
        ask: asks it.
        waiting: how a wait is told, and passes.
    """
    with aws_errors(action):
        return in_time(action, ask, time.monotonic() + WHOLE, waiting)


def in_time(action: str, ask: Callable[[], T], end: float, waiting: Waiting) -> T:
    """Give an answer that is there before `end`: botocore's time-outs are for two bytes, and not for the whole."""
    answers: list[T] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        finally:
            over.set()

    begun = time.monotonic()
    # A daemon: who answers without an end cannot keep the process from ending.
    threading.Thread(target=work, daemon=True).start()
    while not over.wait(LOOK):
        waiting.pause(0)
        if time.monotonic() > end:
            raise Failure("AWS_FAILED", f"AWS, asked for {action}: no whole answer in {WHOLE:g} s", "Try again later")
        if time.monotonic() > begun + QUIET:
            waiting.say(Amount("waits for AWS's answer"))
    if errors:
        raise errors[0]
    return answers[0]


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Turn botocore's errors into ours; `action` is what was asked, as IAM names it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise client_failure(error.response, action) from error
    except BotoCoreError as error:
        raise core_failure(error) from error


def client_failure(response: Mapping[str, Any], action: str) -> Failure:
    """Give the failure for what AWS answered."""
    error = response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    again = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
    attempts = f", after {again + 1} attempts" if again else ""
    if code in SIGNATURE and (skew := skew_failure(response, message)):
        return skew
    if code in EXPIRED:
        return Failure("AWS_EXPIRED", f"AWS: {message}", "Log in again (aws sso login), or renew the keys")
    if code in DENIED:
        return Failure("AWS_DENIED", f"AWS refused {action}: {message}", allow(action))
    if code in (*UNKNOWN, *SIGNATURE):
        return Failure(
            "AWS_DENIED",
            f"AWS does not take these keys, asked for {action}: {message}",
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    if code in THROTTLED:
        return Failure("AWS_THROTTLED", f"AWS wants fewer calls: {message}{attempts}", "Try again in a minute")
    return Failure(
        "AWS_FAILED",
        f"AWS, asked for {action}: {code} {message}{attempts}",
        "Mend what AWS names, or try again later",
    )


def allow(action: str) -> str:
    """Say where the line of a policy stands that allows an action."""
    if action not in ALLOWED_BY:
        return f"Allow {action}"
    statement, policy = ALLOWED_BY[action]
    return f"Allow {action}, as the statement {statement} of {policy} does"


def skew_failure(response: Mapping[str, Any], message: str) -> Failure | None:
    """Give the failure of a signature that is good but for its time; None where the time is right."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    error = f"AWS: {message}"
    if ahead := seconds_ahead(date):
        where = "ahead of" if ahead > 0 else "behind"
        error = f"this machine's clock is {abs(ahead) / 60:.0f} minutes {where} AWS's, which has {date}"
    elif not message.startswith(UNTIMELY):
        return None
    return Failure("CLOCK_SKEW", error, "Set this machine's clock: sudo timedatectl set-ntp true")


def seconds_ahead(date: str) -> float:
    """Give by how much our clock is ahead of an answer's `Date`; 0 where that is little, or nobody knows."""
    try:
        ahead = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0
    return ahead if abs(ahead) > SKEW else 0


def core_failure(error: Exception) -> Failure:
    """Give the failure for what botocore found before or beside AWS's answer."""
    name = type(error).__name__
    if name in NO_CREDS:
        return Failure(
            "AWS_NO_CREDS",
            f"no AWS credentials: {error}",
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run aws configure",
        )
    if name in EXPIRED:
        return Failure("AWS_EXPIRED", f"AWS: {error}", "Log in again: aws sso login")
    if name == "NoRegionError":
        return Failure("AWS_NO_REGION", "nobody says which AWS region", "Set REGION in .env")
    return Failure("AWS_FAILED", f"AWS cannot be reached: {error}", "Check the network, REGION and AWS_ENDPOINT_URL")
