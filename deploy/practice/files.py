"""What a sandbox leaves in the checkout: settings, inventory, key and known hosts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Failure
from deploy.practice import command
from deploy.practice.layout import ACCOUNT, PREFIX, REGION

TOP = Path(__file__).resolve().parents[2]
CONF = TOP / "conf" / "sandbox"
RUN = CONF / "run"
SETTINGS = TOP / "conf" / "sandbox.env"
KEY = RUN / "id_ed25519"
KNOWN_HOSTS = RUN / "known_hosts"
WORKERS = RUN / "workers.txt"
AUTHORITY = RUN / "ca.crt"
PATIENCE = 300


@dataclass(frozen=True)
class Reached:
    """A running practice host: where its SSH answers, its own address, and its public host keys."""

    port: int
    address: str
    keys: tuple[str, ...]

    @property
    def login(self) -> str:
        """The host as an inventory names it."""
        return f"ubuntu@127.0.0.1:{self.port}"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold this checkout's sandbox for one `up` or `down` at a time."""
    descriptor = os.open(CONF, os.O_RDONLY)
    try:
        _lock(descriptor, time.monotonic() + PATIENCE)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                cause = f"another sandbox task of this checkout has not ended in {PATIENCE} s"
                raise Failure("COMMAND_FAILED", cause, "Wait for it, or end it") from error
        time.sleep(0.2)


def ensure_key() -> str:
    """Have a key of this sandbox, and give its public half."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    public = KEY.with_suffix(".pub")
    if not (KEY.exists() and public.exists()):
        KEY.unlink(missing_ok=True)
        command.run(*f"ssh-keygen -q -t ed25519 -C {PREFIX} -f".split(), str(KEY), "-N", "", seconds=30)
    return public.read_text().strip()


def write(head: Reached, workers: tuple[Reached, ...], *, ecr_port: int, services: str, authority: bytes) -> bool:
    """Write all files that differ from what they should be; tell whether one did."""
    contents = {
        KNOWN_HOSTS: known_hosts((head, *workers)),
        WORKERS: inventory(workers),
        SETTINGS: settings(head, with_workers=bool(workers), ecr_port=ecr_port, services=services),
        AUTHORITY: authority.decode(),
    }
    written = [_put(path, text) for path, text in contents.items()]
    return any(written)


def known_hosts(hosts: tuple[Reached, ...]) -> str:
    """Give the known_hosts file of hosts that are reached on loopback."""
    return "".join(f"[127.0.0.1]:{host.port} {key}\n" for host in hosts for key in host.keys)


def inventory(workers: tuple[Reached, ...]) -> str:
    """Give the workers.txt of the practice hosts."""
    return "".join(f"{host.login}  #: private={host.address}\n" for host in workers)


def settings(head: Reached, *, with_workers: bool, ecr_port: int, services: str) -> str:
    """Give the settings file that `ENVIRONMENT=sandbox` selects."""
    values: Mapping[str, str] = {
        "CLUSTER_NAME": "sandbox",
        "HEAD": head.login,
        "HEAD_ADDRESS": head.address,
        **({"WORKERS_FILE": str(WORKERS.relative_to(TOP))} if with_workers else {}),
        "SSH_KEY": str(KEY.relative_to(TOP)),
        "SSH_KNOWN_HOSTS": str(KNOWN_HOSTS.relative_to(TOP)),
        "MY_PROJECT_URL": f"git://{services}/app.git",
        "MY_PROJECT_INSTALLATION_SCRIPT": "./install.sh",
        "APP_TAG": "raydock-example",
        "REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ecr_port}",
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "sandbox",
    }
    origin = "# The running sandbox: written by `invoke sandbox.up`, removed by `invoke sandbox.down`.\n"
    return origin + "".join(f"{key}={value}\n" for key, value in values.items())


def _put(path: Path, text: str) -> bool:
    """Have a private file with that text, whole at every moment; tell whether it had to be written."""
    if path.exists() and path.read_text() == text:
        return False
    descriptor, name = tempfile.mkstemp(dir=RUN)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
    return True


def clear() -> bool:
    """Remove every generated file; tell whether there was one."""
    there = RUN.exists() or SETTINGS.exists()
    shutil.rmtree(RUN, ignore_errors=True)
    SETTINGS.unlink(missing_ok=True)
    return there
