"""The images of a sandbox, built when what they are built from has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from docker import DockerClient

from deploy.at_once import at_once
from deploy.practice import engine, root
from deploy.practice.files import CONF
from deploy.practice.say import Say

HOST = "raydock/sandbox-host"
SERVICES = "raydock/sandbox-services"
# What a build needs of this machine to get to the network.
PASSED_ON = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL"),
    *("http_proxy", "https_proxy", "no_proxy"),
)


def ensure(client: DockerClient, *, prepared: bool, say: Say) -> tuple[str, str]:
    """Have the image of the hosts and that of the services; give their ids."""
    root.ensure_root(client, say)
    target = "prepared" if prepared else "bare"
    wanted = ((f"{HOST}:{target}", "host", target), (f"{SERVICES}:latest", "services", ""))
    at_once(lambda one: _ensure_image(client, *one, say), wanted)
    host, services = (engine.image_id(client, tag) for tag, _, _ in wanted)
    return host, services


def _ensure_image(client: DockerClient, tag: str, folder: str, target: str, say: Say) -> None:
    """Have an image that was built from what its folder and its root are now."""
    path = CONF / folder
    inputs = _inputs(path, engine.image_id(client, root.IMAGE))
    if engine.image_label(client, tag, root.INPUTS_LABEL) == inputs:
        return
    say(f"building {tag}")
    passed = {key: value for key in PASSED_ON if (value := os.environ.get(key))}
    engine.build(client, path, tag=tag, target=target, labels={root.INPUTS_LABEL: inputs}, arguments=passed)


def _inputs(folder: Path, root_id: str) -> str:
    digest = hashlib.sha256(root_id.encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_mode & 0o111:o}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def prune(client: DockerClient) -> None:
    """Remove the images of ours that newer ones have replaced."""
    client.images.prune(filters={"dangling": True, "label": root.INPUTS_LABEL})
