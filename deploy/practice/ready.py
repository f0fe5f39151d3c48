"""When a sandbox is ready: every host shows its SSH banner, and the services' last one answers."""

from __future__ import annotations

import http.client
import socket
import time

from docker import DockerClient

from deploy.at_once import at_once
from deploy.errors import Failure
from deploy.practice import containers
from deploy.practice.layout import Container

PATIENCE = 90
ANEW = "Begin anew: invoke sandbox.down sandbox.up"


def wait(client: DockerClient, wanted: tuple[Container, ...]) -> None:
    """Wait until the services and every host answer."""
    deadline = time.monotonic() + PATIENCE
    at_once(lambda one: _await_one(client, one, deadline), wanted)


def _await_one(client: DockerClient, wanted: Container, deadline: float) -> None:
    port = containers.published(client, wanted.name)
    answers = _shows_banner if wanted.is_host else _answers_http
    while not answers(port):
        if time.monotonic() > deadline:
            end = containers.last_lines(client, wanted.name)
            cause = f"not ready after {PATIENCE} s:\n{end}"
            raise Failure("COMMAND_FAILED", cause, ANEW, place=wanted.name)
        time.sleep(0.1)


def _shows_banner(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _answers_http(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
