"""Six secrets that are planted for the whole of the flow, and looked for wherever one could show."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.practice.layout import ACCOUNT
from tests.faults.oracles import Seen, processes
from tests.hosts.observer import TOP, Done, PracticeHost, Sandbox
from tests.project import TOKEN, Project, saved

Invoke = Callable[..., Done]
Environment = Callable[..., str]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
APP = "raydock-secrets"
CANARY = "canary-that-every-search-finds-5d1e"
# Of the practice registry, to whoever may log in.
REGISTRY_TOKEN = f"{ACCOUNT}-auth-token"
PLANTED = {
    "the AWS key": "canary-of-the-aws-key-0b77",
    "the AWS session": "canary-of-the-aws-session-3c10",
    "the registry's token": REGISTRY_TOKEN,
    "git's token": TOKEN,
    "the key's passphrase": "canary of a passphrase 91aa",
}
# Where a node keeps things; what the engine has is asked of the engine.
DISK = ("/home", "/root", "/tmp", "/var/lib/raydock", "/var/log", "/etc/docker", "/dev/shm", "/run/user")  # noqa: S108

pytestmark = pytest.mark.timeout(300)


@contextmanager
def agent(folder: Path, sandbox: Sandbox) -> Iterator[str]:
    """Have an SSH agent with a key that has a passphrase, and that the hosts know; give its socket."""
    key, place = folder / "key", folder / "agent"
    secret = PLANTED["the key's passphrase"]
    # ssh-keygen takes a passphrase from its command line alone, and this is before anybody looks.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", secret, "-f", key], check=True)
    (folder / "secret").write_text(secret + "\n")
    ask = folder / "ask"
    ask.write_text(f"#!/bin/sh\ncat {folder}/secret\n")
    ask.chmod(0o700)
    public, known = key.with_suffix(".pub").read_text().strip(), "/home/ubuntu/.ssh/authorized_keys"
    for host in sandbox:
        host.shell(f"cp -a {known} /root/known && echo '{public}' >>{known}")
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL) as running:
        try:
            while not place.exists():
                time.sleep(0.05)
            env = os.environ | {"SSH_AUTH_SOCK": str(place), "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(["ssh-add", "-q", key], env=env, check=True, stdin=subprocess.DEVNULL)
            yield str(place)
        finally:
            running.terminate()
            for host in sandbox:
                host.shell(f"cp -a /root/known {known} && rm /root/known")


def on_disk(host: PracticeHost, secret: str) -> list[str]:
    """Give the files of a host that have a text in them."""
    return host.look("grep", "-rlF", "-e", secret, *DISK).out.split()


def in_engine(host: PracticeHost) -> str:
    """Give all that an engine shows of its containers and images."""
    containers, images = host.docker("ps", "-aq").split(), host.docker("images", "-aq").split()
    shown = [host.docker("inspect", *things) for things in (containers, sorted(set(images))) if things]
    history = [host.docker("history", "--no-trunc", image) for image in sorted(set(images))]
    return "\n".join([*shown, *history])


def planted_everywhere(sandbox: Sandbox, folder: Path) -> None:
    """Plant a canary at each place that is searched, and see that it is found; then take it away."""
    host = sandbox.workers[0]
    with processes() as seen:
        for where in (host.box.name, sandbox.head.box.name):
            line = ["docker", "exec", "-e", f"PLANTED=e-{CANARY}", str(where), "sh", "-c", f": a-{CANARY}; sleep 0.5"]
            subprocess.run(line, check=True)
    assert any(f"a-{CANARY}" in line for line in seen.argv)
    assert any(f"e-{CANARY}" in line for line in seen.environ)
    for place in DISK:
        host.shell(f"mkdir -p {place} && echo {CANARY} >{place}/canary")
    assert sorted(on_disk(host, CANARY)) == sorted(f"{place}/canary" for place in DISK)
    host.shell(" ".join(["rm", *(f"{place}/canary" for place in DISK)]))
    file = base64.b64encode(
        f"FROM raydock/python-root\nRUN echo in-{CANARY} >/x\nLABEL l=l-{CANARY}\n".encode()
    ).decode()
    sandbox.head.shell(f"cd $(mktemp -d) && echo {file} | base64 -d | docker build -q -t raydock-canary -")
    assert f"l-{CANARY}" in in_engine(sandbox.head)
    assert any(f"in-{CANARY}".encode() in part for _, part in saved(sandbox.head, "raydock-canary", folder))
    sandbox.head.docker("rmi", "--force", "raydock-canary")


def flow(invoke: Invoke, env: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Do all that the document does; give what was said."""
    for task in ("build", "publish", "cluster.setup", "cluster.start"):
        done = invoke(task, "--json", "-v", env=env, timeout=280)
        yield f"the output of {task}", done.out + done.err
    for words in (("cluster.status",), ("job.run", "examples/where.py"), ("cluster.history",)):
        done = invoke(*words, "--json", env=env)
        yield f"the output of {words[0]}", done.out + done.err


def left(sandbox: Sandbox, secrets: Mapping[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """Give what the nodes, the image and the audit have, by where it stands."""
    for host in sandbox:
        yield f"the engine of {host.name}", in_engine(host)
        yield f"the log of {host.name}", host.docker("logs", HEAD if host.name == "head" else WORKER)
        for what, secret in secrets.items():
            if found := on_disk(host, secret):
                yield f"{found} of {host.name} ({what})", secret
    for name, part in saved(sandbox.head, APP, folder):
        yield f"the image's {name}", part.decode(errors="replace")
    yield "the audit", sandbox.head.run("cat", "/var/lib/raydock/sandbox/audit")


def test_no_secret_shows_anywhere_in_the_whole_of_the_flow(
    invoke: Invoke,
    stopped: Sandbox,
    environment: Environment,
    project: Project,
    private: str,
    tmp_path: Path,
) -> None:
    planted_everywhere(stopped, tmp_path)
    project.commit(file="content")
    config = tmp_path / "gitconfig"
    config.write_text(f'[credential]\n\thelper = "!echo username=operator; echo password={TOKEN}; :"\n')
    name = environment(
        APP_TAG=APP, REPOSITORY_NAME=APP, MY_PROJECT_URL=private, MY_PROJECT_SOURCE="copy", SSH_KEY=None,
        MY_PROJECT_INSTALLATION_SCRIPT="true", AWS_SECRET_ACCESS_KEY=PLANTED["the AWS key"],
        AWS_SESSION_TOKEN=PLANTED["the AWS session"],
    )  # fmt: skip
    (TOP / "conf" / f"{name}.env").chmod(0o600)
    secrets, places = dict(PLANTED), list[tuple[str, str]]()
    with agent(tmp_path, stopped) as socket:
        env = {"ENVIRONMENT": name, "GIT_CONFIG_GLOBAL": str(config), "SSH_AUTH_SOCK": socket}
        with processes() as seen:
            places += flow(invoke, env)
        secrets["Ray's token"] = stopped.head.docker("exec", HEAD, "cat", "/run/ray-token")
        assert len(secrets["Ray's token"]) == 64
        places += [*gathered(seen), *left(stopped, secrets, tmp_path)]
        invoke("cluster.stop", env=env)
    hits = [f"{what} shows in {where}" for where, text in places for what, secret in secrets.items() if secret in text]
    assert hits == []
    assert len(places) > 20


def gathered(seen: Seen) -> list[tuple[str, str]]:
    """Give what processes showed; git's own helper is the operator's, and has its token on its command line."""
    argv = [line for line in seen.argv if "echo username=operator" not in line]
    return [("argv", "\n".join(argv)), ("an environment", "\n".join(seen.environ))]
