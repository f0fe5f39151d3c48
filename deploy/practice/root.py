"""A Debian root image, made on this machine, since no registry may be within reach."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from docker import DockerClient

from deploy.errors import Failure
from deploy.practice import command, engine
from deploy.practice.say import Say

SUITE = "bookworm"
IMAGE = f"raydock/debian-root:{SUITE}"
INPUTS_LABEL = "raydock.inputs"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
RELEASE = Path("/etc/os-release")
SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
# What no program reads is left out, and a throw-away root need not survive a power cut.
DPKG = ("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*", "force-unsafe-io")
APT = (
    "Acquire::http::Proxy ",
    "Acquire::https::Proxy ",
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
)
PATIENCE = 600


def ensure_root(client: DockerClient, say: Say) -> None:
    """Have the Debian root in an engine, with this machine's apt sources and certificates.

    Raises:
        Failure: mmdebstrap is absent, or failed; or the engine refused what it made.
    """
    inputs = _inputs()
    if engine.image_label(client, IMAGE, INPUTS_LABEL) == inputs:
        return
    say(f"making a Debian root, {IMAGE}, with mmdebstrap: half a minute")
    repository, tag = IMAGE.split(":")
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder, "root.tar")
        make_root(tar)
        answer = client.api.import_image_from_file(
            str(tar), repository=repository, tag=tag, changes=[f"LABEL {INPUTS_LABEL}={inputs}"]
        )
    if '"error"' in str(answer):
        raise Failure("DOCKER_FAILED", f"docker import: {answer}", engine.AGAIN, place=IMAGE)


def make_root(tar: Path) -> None:
    """Write a Debian root file system as a tar archive, some 120 MB."""
    become = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = [f"--dpkgopt={line}" for line in DPKG] + [f"--aptopt={line}" for line in apt_options()]
    bundle = [f"--customize-hook=copy-in {BUNDLE} {BUNDLE.parent}"] if BUNDLE.exists() else []
    command.run(
        *(*become, "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", *options),
        *(*bundle, SUITE, str(tar), *map(str, sources())),
        seconds=PATIENCE,
        code="APT_FAILED",
        cure="Does `apt-get update` work on this machine?",
    )


def sources() -> list[Path]:
    """Give this machine's own apt sources if it is of that suite; else mmdebstrap knows the usual ones."""
    if not RELEASE.exists() or f"VERSION_CODENAME={SUITE}\n" not in RELEASE.read_text():
        return []
    return [path for path in SOURCES if path.exists() and f" {SUITE}" in path.read_text()]


def apt_options() -> list[str]:
    """Give the settings with which this machine's apt gets to its sources."""
    dump = command.run("apt-config", "dump", seconds=30, code="APT_FAILED")
    return [line.rstrip(";") for line in dump.splitlines() if line.startswith(APT)]


def _inputs() -> str:
    """Give twelve hex digits that differ where the root would have to be made anew."""
    bundle = BUNDLE.read_bytes() if BUNDLE.exists() else b""
    rest = "\n".join([*DPKG, *apt_options(), *(path.read_text() for path in sources())])
    return hashlib.sha256(bundle + rest.encode()).hexdigest()[:12]
