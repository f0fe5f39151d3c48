"""Secrets that are planted for a run, each where an operator has such a one; they must show nowhere else."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.practice.layout import ACCOUNT
from tests.hosts.observer import PracticeHost
from tests.project import TOKEN

# Of the practice registry, to whoever may log in.
REGISTRY_TOKEN = f"{ACCOUNT}-auth-token"
AWS_KEY, AWS_SESSION = "the AWS key", "the AWS session"
PASSPHRASE = "the key's passphrase"  # noqa: S105 - what it is, for who reads of it
PLANTED = {
    AWS_KEY: "canary-of-the-aws-key-0b77",
    AWS_SESSION: "canary-of-the-aws-session-3c10",
    "the registry's token": REGISTRY_TOKEN,
    "git's token": TOKEN,
    PASSPHRASE: "canary of a passphrase 91aa",
}


def forms(secret: str) -> tuple[str, ...]:
    """Give how a secret may be written: as it is, and as base64 has it behind whatever else it encodes."""
    text = secret.encode()
    found = [secret]
    for before in range(3):
        written = base64.b64encode(bytes(before) + text).decode()
        # A letter holds six bits: the first may have some of what is before the secret, the last of what is behind it.
        own = written[-(-before * 8 // 6) : (before + len(text)) * 8 // 6]
        found += [own, own.replace("+", "-").replace("/", "_")]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Planted:
    """The settings and the environment of an operator who has them all."""

    settings: Mapping[str, str]
    env: Mapping[str, str]


def script(path: Path, line: str) -> Path:
    """Write a program of one line."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return path


@contextmanager
def agent(folder: Path, hosts: Iterable[PracticeHost]) -> Iterator[tuple[Path, Path]]:
    """Have an SSH agent with a key that has a passphrase, and that the hosts know; give its socket, and the key."""
    key, place, secret = folder / "key", folder / "agent", folder / "passphrase"
    # ssh-keygen takes a passphrase from its command line alone, and this is before anybody looks.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PLANTED[PASSPHRASE], "-f", key], check=True)
    secret.write_text(PLANTED[PASSPHRASE] + "\n")
    ask = script(folder / "ask", f"cat {secret}")
    # A host writes its first file of keys anew at each start.
    public, known = key.with_suffix(".pub").read_text().strip(), "/home/ubuntu/.ssh/authorized_keys2"
    with ExitStack() as end:
        for host in hosts:
            host.shell(f"echo '{public}' >{known}")
            end.callback(host.run, "rm", known)
        running = end.enter_context(subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL))
        end.callback(running.terminate)
        while not place.exists():
            time.sleep(0.05)
        env = os.environ | {"SSH_AUTH_SOCK": str(place), "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", key], env=env, check=True, stdin=subprocess.DEVNULL)
        yield place, key


@contextmanager
def planted(folder: Path, hosts: Iterable[PracticeHost]) -> Iterator[Planted]:
    """Have all of them, in a folder of their own."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(TOKEN)
    # A helper of git's whose command line has nothing to tell.
    helper = script(folder / "helper", f'echo username=operator; echo "password=$(cat {folder}/token)"')
    config = folder / "gitconfig"
    config.write_text(f"[credential]\n\thelper = {helper}\n")
    with agent(folder, hosts) as (socket, key):
        yield Planted(
            {
                "SSH_KEY": str(key),
                "AWS_SECRET_ACCESS_KEY": PLANTED[AWS_KEY],
                "AWS_SESSION_TOKEN": PLANTED[AWS_SESSION],
            },
            {"SSH_AUTH_SOCK": str(socket), "GIT_CONFIG_GLOBAL": str(config)},
        )
