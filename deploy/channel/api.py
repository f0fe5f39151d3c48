"""The Docker SDK's client on wires, speaking the engine's own version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import docker
import requests
from docker.auth import AuthConfig
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.utils.proxy import ProxyConfig

from deploy.channel.endings import START
from deploy.channel.http import WireAdapter
from deploy.errors import Failure
from deploy.reading import Fields, Odd, described, parsed

FIRST_ANSWER = 10.0  # seconds
DOCKER_URL = "http+docker://node"
PLAIN = frozenset({"params", "data", "json", "headers", "timeout", "stream", "allow_redirects"})
JSON = "application/json"
VERSION = r"[0-9]{1,3}\.[0-9]{1,4}"


class NodeApi(docker.APIClient):
    """The Docker SDK's calls on an adapter of ours. The operator's own `config.json` is not read: it is no node's."""

    def __init__(self, adapter: WireAdapter, timeout: float) -> None:
        # Not the SDK's own: it reads the file, and wants a URL of a kind that it knows.
        requests.Session.__init__(self)
        self.trust_env = False
        self.base_url = DOCKER_URL
        self.timeout = timeout  # type: ignore[assignment]  # requests takes fractions
        self.credstore_env = None
        self._general_configs: dict[str, Any] = {}
        self._auth_configs = AuthConfig({})
        self._proxy_configs = ProxyConfig()
        self._custom_adapter = self._wires = adapter
        self._version = MINIMUM_DOCKER_API_VERSION
        # What the engine says of its versions, and of what it runs on.
        self.versions = Fields()
        self.adapters.clear()
        self.mount(DOCKER_URL, adapter)

    def request(self, method: str | bytes, url: str | bytes, **how: Any) -> requests.Response:  # type: ignore[override]
        """Send a request: one that is small and answered at once without requests' own ways, which take longer."""
        data = how.get("data")
        if how.get("stream") or not how.keys() <= PLAIN or not (data is None or isinstance(data, str | bytes)):
            return super().request(method, url, **how)
        headers = dict(how.get("headers") or {})
        if how.get("json") is not None:
            data, headers["Content-Type"] = json.dumps(how["json"]), JSON
        given = {key: value for key, value in (how.get("params") or {}).items() if value is not None}
        path = str(url).removeprefix(DOCKER_URL) + (f"?{urlencode(given, doseq=True)}" if given else "")
        body = data.encode() if isinstance(data, str) else data
        response = self._wires.ask(str(method), path, body, headers, how.get("timeout"))
        response.url = str(url)
        return response

    def warm(self, connections: int) -> None:
        """Open channels for calls to come."""
        self._wires.warm(connections)

    def release(self) -> None:
        """Close the channels that no call uses."""
        self._wires.release()

    def watch(self, alive: Callable[[], None]) -> None:
        """Have `alive` say, by what it raises, where an answer is no longer to be waited for."""
        self._wires.alive = alive

    def negotiate(self) -> None:
        """Speak the newest version that both know; `DOCKER_TIMEOUT` where the engine does not say its own in time."""
        try:
            told = self.get(f"{DOCKER_URL}/version", timeout=FIRST_ANSWER)
            told.raise_for_status()
            self.versions = Fields.read(parsed(told.content))
            oldest = self.versions.text("MinAPIVersion", "1.0") or "1.0"
            self._version = common_version(self.versions.text("ApiVersion"), oldest)
        except requests.exceptions.Timeout:
            seconds = f"{FIRST_ANSWER:g} s"
            raise Failure("DOCKER_TIMEOUT", f"the Docker engine did not answer within {seconds}", START) from None
        except (requests.exceptions.RequestException, Odd) as error:
            raise Failure("DOCKER_FAILED", f"the Docker engine does not tell its version: {error}") from error


class NodeClient(docker.DockerClient):
    """The Docker SDK's client on such calls."""

    def __init__(self, api: NodeApi) -> None:
        # Not the SDK's own: it would make its calls itself.
        self.api = api


def common_version(newest: str, oldest: str) -> str:
    """Give the API version to speak with an engine that knows those from `oldest` to `newest`."""

    def numbers(version: str) -> tuple[int, ...]:
        if not re.fullmatch(VERSION, version):
            raise Odd(f"{described(version)} where a version was due")
        return tuple(map(int, version.split(".")))

    agreed = min(newest, DEFAULT_DOCKER_API_VERSION, key=numbers)
    if numbers(agreed) < numbers(MINIMUM_DOCKER_API_VERSION):
        error = f"the Docker engine speaks API {newest}, and {MINIMUM_DOCKER_API_VERSION} is the oldest that serves"
        raise Failure("API_TOO_OLD", error, "Upgrade Docker on the node")
    if numbers(agreed) < numbers(oldest):
        error = f"the Docker engine wants API {oldest}, and {DEFAULT_DOCKER_API_VERSION} is the newest known here"
        raise Failure("API_TOO_OLD", error, "Upgrade the package docker of Raydock's .venv")
    return agreed
