"""Six secrets that are planted for the whole of the flow, and looked for wherever one could show."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.oracles import processes
from tests.hosts.observer import TOP, Done, PracticeHost, Sandbox
from tests.planted import PLANTED, planted
from tests.project import Project, saved

Invoke = Callable[..., Done]
Environment = Callable[..., str]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
APP = "raydock-secrets"
CANARY = "canary-that-every-search-finds-5d1e"
# Where a node keeps things; what the engine has is asked of the engine.
DISK = ("/home", "/root", "/tmp", "/var/lib/raydock", "/var/log", "/etc/docker", "/dev/shm", "/run/user")  # noqa: S108

pytestmark = pytest.mark.timeout(300)


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
    secrets, places = dict(PLANTED), list[tuple[str, str]]()
    with planted(tmp_path / "planted", stopped) as having:
        name = environment(
            APP_TAG=APP, REPOSITORY_NAME=APP, MY_PROJECT_URL=private, MY_PROJECT_SOURCE="copy",
            MY_PROJECT_INSTALLATION_SCRIPT="true", **having.settings,
        )  # fmt: skip
        (TOP / "conf" / f"{name}.env").chmod(0o600)
        env = {"ENVIRONMENT": name, **having.env}
        with processes() as seen:
            places += flow(invoke, env)
        secrets["Ray's token"] = stopped.head.docker("exec", HEAD, "cat", "/run/ray-token")
        assert len(secrets["Ray's token"]) == 64
        places += [("argv", "\n".join(seen.argv)), ("an environment", "\n".join(seen.environ))]
        places += [*left(stopped, secrets, tmp_path)]
        invoke("cluster.stop", env=env)
    hits = [f"{what} shows in {where}" for where, text in places for what, secret in secrets.items() if secret in text]
    assert hits == []
    assert len(places) > 20
