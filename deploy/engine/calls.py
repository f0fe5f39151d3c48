"""Calls of the engine's HTTP API that the Docker SDK makes in a way of its own, or without a deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import requests
import urllib3
from docker.errors import APIError, NotFound
from requests import RequestException

from deploy.channel.http import pieces, wire_of
from deploy.engine.failures import timed_out, told
from deploy.engine.streams import records
from deploy.errors import Failure
from deploy.reading import Fields, Odd, listed, parsed

if TYPE_CHECKING:
    from docker import DockerClient


T = TypeVar("T")

QUIET = 60.0  # seconds of silence after which a stream has the engine asked whether it lives
FIRST_LINE = 180.0  # seconds until a stream begins
ASKED = 60.0  # seconds for a registry to answer the engine
PING = 10.0  # seconds; not more than a look of deploy.channel.http, which asks by it
REFUSED = 10.0  # seconds for the words of a refusal
WORDS = 8  # pieces of them


class Calls:
    """The engine behind a client."""

    def __init__(self, client: DockerClient) -> None:
        self.api = client.api
        # What stays as it is: images by their digests, and what the engine says of its machine.
        self._images: dict[str, Fields] = {}
        self._facts: Mapping[str, Any] | None = None
        self.api.watch(self.alive)  # type: ignore[attr-defined]  # of ours

    def close(self) -> None:
        """End the connections to the engine."""
        self.api.close()

    def release(self) -> None:
        """Close the connections that no call uses."""
        self.api.release()  # type: ignore[attr-defined]  # of ours

    def warm(self, connections: int) -> None:
        """Open so many connections for calls that may not wait for one; fewer where sshd allows no more."""
        try:
            self.api.warm(connections)  # type: ignore[attr-defined]  # of ours
        except Failure as failure:
            if failure.code != "SSH_NO_CHANNEL":
                raise

    def alive(self) -> None:
        """Have the engine answer, as `ping`; that sshd has no channel left to ask it on says that the node lives."""
        try:
            self.ping()
        except Failure as failure:
            if failure.code != "SSH_NO_CHANNEL":
                raise

    def ping(self) -> None:
        """Have the engine answer, or fail with `DOCKER_TIMEOUT` or `DOCKER_DOWN`."""
        with told("ask the engine"):
            checked(self.api.get(f"{self.api.base_url}/_ping", timeout=PING))

    @contextmanager
    def asking(self, registry: str, action: str) -> Iterator[None]:
        """Have a time-out in the block, in which the engine asks a registry, be told of the one that is silent."""
        try:
            yield
        except (RequestException, urllib3.exceptions.HTTPError, TimeoutError) as error:
            if not timed_out(error):
                raise
            self.alive()
            said = f"{action}: {registry} did not answer the node's engine within {ASKED:g} s"
            raise Failure("REGISTRY_UNREACHABLE", said, "Check that the node reaches the registry") from error

    def url(self, *path: str) -> str:
        """Give the URL of a path, of which every part but slashes and colons is quoted."""
        parts = "/".join(quote(part, safe="/:@") for part in path)
        return f"{self.api.base_url}/v{self.api.api_version}/{parts}"

    def post(self, *path: str, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        """Post, and raise an error of the SDK's where it is refused."""
        return checked(self.api.post(self.url(*path), timeout=timeout, **kwargs))

    def put(self, *path: str, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        """Put, and raise what the SDK raises where it is refused."""
        return checked(self.api.put(self.url(*path), timeout=timeout, **kwargs))

    def get(self, *path: str, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        """Get, and raise an error of the SDK's where it is refused."""
        return checked(self.api.get(self.url(*path), timeout=timeout, **kwargs))

    def head(self, *path: str, **kwargs: Any) -> requests.Response:
        """Ask for the headers alone, and raise an error of the SDK's where that is refused."""
        return checked(self.api.head(self.url(*path), **kwargs))

    def delete(self, *path: str, **kwargs: Any) -> requests.Response:
        """Delete, and raise an error of the SDK's where it is refused."""
        return checked(self.api.delete(self.url(*path), **kwargs))

    def answer(self, *path: str, **kwargs: Any) -> Fields:
        """Get, and give the object that is the answer."""
        return Fields.read(parsed(self.get(*path, **kwargs).content))

    def answers(self, *path: str, **kwargs: Any) -> list[Fields]:
        """Get, and give the objects of the list that is the answer."""
        return listed(parsed(self.get(*path, **kwargs).content))

    def made(self, *path: str, **kwargs: Any) -> str:
        """Post, and give the id of what was made."""
        return Fields.read(parsed(self.post(*path, **kwargs).content)).text("Id")

    def _image(self, image: str, read: Callable[[Fields], T]) -> T | None:
        """Give what is read of an image; None where it is absent."""
        with told(f"inspect {image}"):
            found = self._shown(image)
            return read(found) if found else None

    def _shown(self, image: str) -> Fields | None:
        if image in self._images:
            return self._images[image]
        try:
            found = self.answer("images", image, "json")
        except NotFound:
            return None
        if "@" in image:
            self._images[image] = found
        return found

    @contextmanager
    def stream(
        self,
        *path: str,
        timeout: float = FIRST_LINE,
        on_silence: Callable[[], None] | None = None,
        quiet: float | None = None,
        **kwargs: Any,
    ) -> Iterator[requests.Response]:
        """Post, and give the response before its body has come.

        Silence in it is borne while the engine answers, or as long as `on_silence` raises nothing; that is seen to each
        time that nothing came for `quiet` seconds.
        """
        with closing(self.post(*path, timeout=timeout, stream=True, **kwargs)) as response:
            wire = wire_of(response)
            wire.settimeout(QUIET if quiet is None else quiet)
            wire.on_silence = on_silence or self.alive
            yield response

    def lines(
        self,
        *path: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        body: IO[bytes] | None = None,
        timeout: float = FIRST_LINE,
        on_silence: Callable[[], None] | None = None,
        quiet: float | None = None,
    ) -> Iterator[Fields]:
        """Post, and give every JSON record of the answer as it comes."""
        how: dict[str, Any] = {"params": params, "headers": headers, "data": body, "timeout": timeout}
        with self.stream(*path, on_silence=on_silence, quiet=quiet, **how) as response:
            yield from records(response)

    @contextmanager
    def until(self, seconds: float, *path: str, body: Mapping[str, Any]) -> Iterator[requests.Response]:
        """Post, and give the response, of which all has come within `seconds` or a `TimeoutError` is raised."""
        ends = time.monotonic() + seconds
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body)
        with closing(self.post(*path, timeout=seconds, stream=True, data=data, headers=headers)) as response:
            wire_of(response).deadline = ends
            yield response


def checked(response: requests.Response) -> requests.Response:
    """Give the response, or raise the SDK's error of its kind."""
    if response.status_code < requests.codes.bad_request:
        return response
    with closing(response):
        said = words_in(response)
    kind = NotFound if response.status_code == requests.codes.not_found else APIError
    raise kind(f"HTTP {response.status_code}", response=response, explanation=said)


def words_in(response: requests.Response) -> str:
    """Give what a refusal says, which may be any text, of any length."""
    if getattr(response.raw, "connection", None) is None:  # all of it has come, as far as it may
        content = response.content
    else:
        wire_of(response).deadline = time.monotonic() + REFUSED
        content = b"".join(islice(pieces(response), WORDS))
    try:
        return Fields.read(parsed(content)).text("message")
    except Odd:
        return content.decode(errors="replace")
