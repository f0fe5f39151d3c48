"""Registries: where an image is published, and the login for it. boto3's only door."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.secret import Secret
from deploy.site import Credentials

if TYPE_CHECKING:
    from deploy.settings import Settings

CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 15  # seconds
ATTEMPTS = 4
# What a boto3 session is told by name; AWS's own chain finds everything else.
SESSION_KEYS = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",  # noqa: S105 - the key's name
    "AWS_SESSION_TOKEN": "aws_session_token",  # noqa: S105 - the key's name
    "AWS_PROFILE": "profile_name",
}
NO_CREDS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
)
DENIED = (
    *("AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId"),
    *("InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure", "InvalidAccessKeyId"),
)
THROTTLED = ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded")


# What the document shows of a repository.
SHOWN = ("repositoryUri", "createdAt", "repositoryArn", "registryId", "repositoryName")


class Ecr:
    """A repository of Amazon's Elastic Container Registry."""

    def __init__(self, settings: Settings) -> None:
        """Remember what to ask for; AWS is first contacted by the first call."""
        self._settings = settings
        self._client: Any = None
        self._repository: Mapping[str, Any] | None = None

    # Its logins are made anew in each run: what it refuses, IAM has to allow.
    cure = ""

    def exists(self) -> bool:
        """Tell whether the repository is there."""
        return self._described() is not None

    def create(self) -> None:
        """Create the repository: tags immutable except `latest`, images scanned on push."""
        client = self._ecr()
        with aws_errors("ecr:CreateRepository"), suppress(client.exceptions.RepositoryAlreadyExistsException):
            # Somebody else may have made it since it was asked for.
            client.create_repository(
                repositoryName=self._settings.repository_name,
                imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
                imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest"}],
                imageScanningConfiguration={"scanOnPush": True},
            )

    def uri(self) -> str:
        """Give the repository's URI; `IMAGE_NOT_FOUND` where there is no such repository."""
        found = self._described()
        if found is None:
            name, region = self._settings.repository_name, self._ecr().meta.region_name
            raise Failure(
                "IMAGE_NOT_FOUND",
                f"there is no repository {name} in {region}",
                "Publish the image: invoke build publish",
            )
        return str(found["repositoryUri"])

    def shown(self) -> Mapping[str, str]:
        """Give what ECR tells of the repository."""
        found = self._described() or {}
        return {key: _text(found[key]) for key in SHOWN if key in found}

    def credentials(self, host: str) -> Credentials:
        """Give a fresh login for ours, or one that we may read: AWS's, for twelve hours, and kept for this run only."""
        with aws_errors("ecr:GetAuthorizationToken"):
            answer = self._ecr().get_authorization_token()["authorizationData"][0]
        try:
            user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Failure("AWS_FAILED", "the authorization token has no form that we know") from error
        expires = answer.get("expiresAt")
        return Credentials(user, Secret(password), host, expires.timestamp() if expires else None)

    def _described(self) -> Mapping[str, Any] | None:
        if self._repository is None:
            client = self._ecr()
            with aws_errors("ecr:DescribeRepositories"):
                try:
                    found = client.describe_repositories(repositoryNames=[self._settings.repository_name])
                except client.exceptions.RepositoryNotFoundException:
                    return None
            self._repository = found["repositories"][0]
        return self._repository

    def _ecr(self) -> Any:
        if self._client is None:
            self._client = ecr_client(self._settings)
        return self._client


class Configured:
    """A registry that REPOSITORY_URI names; the login is the one that Docker's own configuration has."""

    def __init__(self, settings: Settings) -> None:
        """Remember the repository."""
        self._uri = str(settings.repository_uri)
        self._host = ImageRef.parse(self._uri).registry

    @property
    def cure(self) -> str:
        """The next move where it refuses the login."""
        from deploy.dockerconfig import login_cure

        return login_cure(self._host)

    def exists(self) -> bool:
        """Take the repository as there: registries make it at the first push, or say why not."""
        return True

    def create(self) -> None:
        """Nothing to create."""

    def uri(self) -> str:
        """Give the repository's URI."""
        return self._uri

    def shown(self) -> Mapping[str, str]:
        """Give all that is known."""
        return {"repositoryUri": self._uri}

    def credentials(self, host: str) -> Credentials | None:
        """Give the login that `docker login` or a credential helper keeps on the operator's side."""
        from deploy.dockerconfig import configured_login

        return configured_login(host)


def _text(value: object) -> str:
    """Write what AWS tells as its command line does."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


Registry = Ecr | Configured
REGISTRIES: Mapping[bool, Callable[[Settings], Registry]] = {False: Ecr, True: Configured}


def registry_of(settings: Settings) -> Registry:
    """Give the registry that the settings mean."""
    return REGISTRIES[bool(settings.repository_uri)](settings)


def ecr_client(settings: Settings) -> Any:
    """Give boto3's client for ECR; `AWS_NO_REGION` where nobody says the region."""
    import boto3
    from botocore.config import Config

    named: dict[str, Any] = {
        SESSION_KEYS[key]: value.reveal() for key, value in settings.aws.items() if key in SESSION_KEYS
    }
    endpoint = settings.aws.get("AWS_ENDPOINT_URL_ECR") or settings.aws.get("AWS_ENDPOINT_URL")
    region = settings.region or next(
        (settings.aws[key].reveal() for key in ("AWS_REGION", "AWS_DEFAULT_REGION") if key in settings.aws),
        None,
    )
    with aws_errors("configuration"):
        return boto3.Session(region_name=region, **named).client(
            "ecr",
            endpoint_url=endpoint.reveal() if endpoint else None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            ),
        )


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Turn botocore's errors into ours; `action` is what was asked, as IAM names it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "RepositoryNotFoundException":
            raise
        raise client_failure(error.response.get("Error", {}), action) from error
    except BotoCoreError as error:
        raise core_failure(error) from error


def client_failure(error: Mapping[str, Any], action: str) -> Failure:
    """Give the failure for what AWS answered."""
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    if code in EXPIRED:
        return Failure("AWS_EXPIRED", f"AWS: {message}", "Log in again (aws sso login), or renew the keys")
    if code in DENIED:
        return Failure(
            "AWS_DENIED",
            f"AWS refused {action}: {message}",
            f"Allow {action}, or check the keys",
        )
    if code in THROTTLED:
        return Failure("AWS_THROTTLED", f"AWS: {message}, after {ATTEMPTS} attempts", "Try again in a minute")
    return Failure("AWS_FAILED", f"AWS, asked for {action}: {code} {message}")


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
