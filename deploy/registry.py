"""Registries: where an image is published, and the login for it."""

from __future__ import annotations

import base64
import binascii
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.aws import Waiting, asked, ecr_client
from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.secret import Secret
from deploy.site import Credentials

if TYPE_CHECKING:
    from deploy.settings import Settings

# What the document shows of a repository.
SHOWN = ("repositoryUri", "createdAt", "repositoryArn", "registryId", "repositoryName")
# How a repository is made: no tag moves but `latest`.
MUTABILITY, MOVABLE = "IMMUTABLE_WITH_EXCLUSION", "latest"


class Ecr:
    """A repository of Amazon's Elastic Container Registry."""

    def __init__(self, settings: Settings, waiting: Waiting = Waiting()) -> None:  # noqa: B008 - it is frozen
        """Remember what to ask for; AWS is first contacted by the first call."""
        self._settings, self._waiting = settings, waiting
        self._client: Any = None
        self._repository: Mapping[str, Any] | None = None
        self._warned = False

    # Its logins are made anew in each run: what it refuses, IAM has to allow.
    cure = ""

    def exists(self) -> bool:
        """Tell whether the repository is there."""
        return self._described() is not None

    def create(self) -> None:
        """Create the repository: tags immutable except `latest`, images scanned on push."""
        client = self._ecr()

        def create() -> None:
            # Somebody else may have made it since it was asked for.
            with suppress(client.exceptions.RepositoryAlreadyExistsException):
                client.create_repository(
                    repositoryName=self._settings.repository_name,
                    imageTagMutability=MUTABILITY,
                    imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": MOVABLE}],
                    imageScanningConfiguration={"scanOnPush": True},
                )

        self._ask("ecr:CreateRepository", create)

    def differences(self) -> Iterator[str]:
        """Tell where the repository that is there is not as `create` makes one, each with what would change it."""
        found = self._described() or {}
        region, name = self._ecr().meta.region_name, shlex.quote(self._settings.repository_name)
        if (mutability := mutability_of(found)) != f"{MUTABILITY} but for {MOVABLE}":
            yield (
                f"the tags of {name} are {mutability}; to change that: aws ecr put-image-tag-mutability "
                f"--region {region} --repository-name {name} --image-tag-mutability {MUTABILITY} "
                f"--image-tag-mutability-exclusion-filters filterType=WILDCARD,filter={MOVABLE}"
            )
        if not found.get("imageScanningConfiguration", {}).get("scanOnPush"):
            yield (
                f"the images of {name} are not scanned on push; to change that: "
                f"aws ecr put-image-scanning-configuration --region {region} --repository-name {name} "
                "--image-scanning-configuration scanOnPush=true"
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
        client = self._ecr()
        answer = self._ask("ecr:GetAuthorizationToken", client.get_authorization_token)["authorizationData"][0]
        try:
            user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Failure("AWS_FAILED", "the authorization token has no form that we know") from error
        return Credentials(user, Secret(password), host, self._end(answer.get("expiresAt")))

    def _end(self, expires: datetime | None) -> float | None:
        """Give when a login ends; None where nobody tells, or it would be over before it was used."""
        if expires is None:
            return None
        if expires.timestamp() > time.time():
            return expires.timestamp()
        if not self._warned:
            self._waiting.say(f"AWS says that its login ended at {expires.isoformat()}: it is used all the same")
        self._warned = True
        return None

    def _described(self) -> Mapping[str, Any] | None:
        if self._repository is None:
            client, name = self._ecr(), self._settings.repository_name

            def describe() -> Any:
                with suppress(client.exceptions.RepositoryNotFoundException):
                    return client.describe_repositories(repositoryNames=[name])["repositories"][0]
                return None

            self._repository = self._ask("ecr:DescribeRepositories", describe)
        return self._repository

    def _ask(self, action: str, ask: Callable[[], Any]) -> Any:
        return asked(action, ask, self._waiting)

    def _ecr(self) -> Any:
        if self._client is None:
            self._client = ecr_client(self._settings, self._waiting)
        return self._client


class Configured:
    """A registry that REPOSITORY_URI names; the login is the one that Docker's own configuration has."""

    def __init__(self, settings: Settings, waiting: Waiting = Waiting()) -> None:  # noqa: B008 - it is frozen
        """Remember the repository."""
        self._waiting = waiting
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

    def differences(self) -> Iterator[str]:
        """Take it as it is."""
        yield from ()

    def uri(self) -> str:
        """Give the repository's URI."""
        return self._uri

    def shown(self) -> Mapping[str, str]:
        """Give all that is known."""
        return {"repositoryUri": self._uri}

    def credentials(self, host: str) -> Credentials | None:
        """Give the login that `docker login` or a credential helper keeps on the operator's side."""
        from deploy.dockerconfig import configured_login, openings_of_logins

        login = configured_login(host)
        for opening in openings_of_logins() if login else ():
            self._waiting.say(opening)
        return login


def mutability_of(repository: Mapping[str, Any]) -> str:
    """Tell in words whether a repository's tags may be moved, as ECR describes it."""
    excluded = ", ".join(one["filter"] for one in repository.get("imageTagMutabilityExclusionFilters", ()))
    return str(repository.get("imageTagMutability")) + (f" but for {excluded}" if excluded else "")


def _text(value: object) -> str:
    """Write what AWS tells as its command line does."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


Registry = Ecr | Configured
REGISTRIES: Mapping[bool, Callable[[Settings, Waiting], Registry]] = {False: Ecr, True: Configured}


def registry_of(settings: Settings, waiting: Waiting = Waiting()) -> Registry:  # noqa: B008 - it is frozen
    """Give the registry that the settings mean."""
    return REGISTRIES[bool(settings.repository_uri)](settings, waiting)
