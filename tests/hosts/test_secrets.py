"""Six secrets that are planted for the whole of the flow, and looked for wherever one could show."""

from __future__ import annotations

import base64
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.oracles import Seen, processes
from tests.hosts.observer import TOP, Done, PracticeHost, Sandbox
from tests.planted import PLANTED, forms, planted
from tests.project import Project

Invoke = Callable[..., Done]
Environment = Callable[..., str]
# Gives which of some words show at a place.
Search = Callable[[Sequence[str]], set[str]]
HEAD = "raydock-sandbox-head"
APP = "raydock-secrets"
CANARY = "canary-that-every-search-finds-5d1e"
# As it is, and as a login keeps a password.
WRITTEN = f"{CANARY} {base64.b64encode(f'AWS:{CANARY}'.encode()).decode()}"
# Where a node keeps things; what the engine has is asked of the engine.
DISK = ("/home", "/root", "/tmp", "/var/lib/raydock", "/var/log", "/etc/docker", "/dev/shm", "/run/user")  # noqa: S108
AUDIT = "/var/lib/raydock/sandbox/audit"
OFTEN = 50  # looks a second at what runs, of which fewer would prove nothing

pytestmark = pytest.mark.timeout(300)


def words_of(text: str) -> Search:
    """Search a text."""
    return lambda words: {word for word in words if word in text}


def engine_of(host: PracticeHost) -> Search:
    """Search all that an engine shows of its containers and images."""

    def search(words: Sequence[str]) -> set[str]:
        containers, images = host.docker("ps", "-aq").split(), sorted(set(host.docker("images", "-aq").split()))
        shown = [host.docker("inspect", *things) for things in (containers, images) if things]
        history = [host.docker("history", "--no-trunc", image) for image in images]
        return words_of("\n".join([*shown, *history]))(words)

    return search


def logs_of(host: PracticeHost) -> Search:
    """Search what containers wrote."""
    return lambda words: words_of("".join(host.docker("logs", one) for one in host.docker("ps", "-aq").split()))(words)


def disk_of(host: PracticeHost) -> Search:
    """Search the files of a host."""
    return lambda words: set(host.look("grep", "-raohF", *patterns(words), *DISK).out.splitlines())


def image_on(host: PracticeHost) -> Search:
    """Search all that `docker save` writes of the application's image: layers, history and configuration."""

    def search(words: Sequence[str]) -> set[str]:
        save = f"docker exec {host.box.name} docker save {APP}"
        line = f"{save} | grep -aoF {shlex.join(patterns(words))} | sort -u"
        ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        return set(ran.stdout.splitlines())

    return search


def patterns(words: Iterable[str]) -> list[str]:
    """Give words as grep is told them."""
    return [argument for word in words for argument in ("-e", word)]


def kept(sandbox: Sandbox) -> dict[str, Search]:
    """Give a search for each place where nodes, the image and the audit keep something."""
    places = {"the image": image_on(sandbox.head), "the audit": lambda w: words_of(sandbox.head.run("cat", AUDIT))(w)}
    for host in sandbox:
        places[f"the engine of {host.name}"] = engine_of(host)
        places[f"the logs of {host.name}"] = logs_of(host)
        places[f"the disk of {host.name}"] = disk_of(host)
    return places


def watched(seen: Seen) -> dict[str, Search]:
    """Give a search for what processes showed."""
    return {"argv": words_of("\n".join(seen.argv)), "an environment": words_of("\n".join(seen.environ))}


@contextmanager
def canaries(sandbox: Sandbox, image: str) -> Iterator[None]:
    """Have a canary at each place where something is kept; the nodes have the image."""
    build = f"docker build -q -t {APP} - <<'E'\nFROM raydock/python-root\nRUN echo '{WRITTEN}' >/x\nE\n"
    with ExitStack() as end:
        for host in sandbox:
            files = [f"{place}/canary" for place in DISK]
            end.callback(host.run, "rm", *files)
            host.shell("".join(f"mkdir -p {Path(file).parent}; echo '{WRITTEN}' >{file}; " for file in files))
            label = ("--label", f"planted={WRITTEN}", "--entrypoint", "echo")
            end.callback(host.docker, "rm", "-f", "canary")
            host.docker("run", "--name", "canary", *label, image, WRITTEN)
        sandbox.head.shell(f"cd $(mktemp -d) && {build}")
        end.callback(sandbox.head.docker, "rmi", "--force", APP)
        sandbox.head.shell(f"cp -p {AUDIT} {AUDIT}.was && echo '{WRITTEN}' >>{AUDIT}")
        end.callback(sandbox.head.run, "mv", f"{AUDIT}.was", AUDIT)
        yield


def every_search_finds_its_canary(sandbox: Sandbox, image: str) -> None:
    """Plant a canary at each place that is searched, and see that it is found there in both of its forms."""
    words = forms(CANARY)
    wanted = {word for word in words if word in WRITTEN}
    assert len(wanted) == 2
    with processes() as seen:
        for host in sandbox:
            line = ["sh", "-c", f": {WRITTEN}; sleep 0.5"]
            assert host.box.exec_run(line, environment={"PLANTED": WRITTEN}).exit_code == 0
    with canaries(sandbox, image):
        places = {**watched(seen), **kept(sandbox)}
        assert {place: search(words) for place, search in places.items()} == dict.fromkeys(places, wanted)


def flow(invoke: Invoke, env: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Do all that the document does; give what was said."""
    for task in ("build", "publish", "cluster.setup", "cluster.start"):
        done = invoke(task, "--json", "-v", env=env, timeout=280)
        yield f"the output of {task}", done.out + done.err
    for words in (("cluster.status",), ("job.run", "examples/where.py"), ("cluster.history",)):
        done = invoke(*words, "--json", env=env)
        yield f"the output of {words[0]}", done.out + done.err


def test_no_secret_shows_anywhere_in_the_whole_of_the_flow(
    invoke: Invoke,
    stopped: Sandbox,
    environment: Environment,
    project: Project,
    private: str,
    tmp_path: Path,
) -> None:
    every_search_finds_its_canary(stopped, invoke("cluster.pull", "--json").report["image"])
    project.commit(file="content")
    secrets = dict(PLANTED)
    with planted(tmp_path / "planted", stopped) as having:
        name = environment(
            APP_TAG=APP, REPOSITORY_NAME=APP, MY_PROJECT_URL=private, MY_PROJECT_SOURCE="copy",
            # What it prints shows in the build's output, and itself in the history.
            MY_PROJECT_INSTALLATION_SCRIPT=f"echo '{WRITTEN}'", **having.settings,
        )  # fmt: skip
        (TOP / "conf" / f"{name}.env").chmod(0o600)
        env = {"ENVIRONMENT": name, **having.env}
        with processes() as seen:
            said = dict(flow(invoke, env))
        secrets["Ray's token"] = stopped.head.docker("exec", HEAD, "cat", "/run/ray-token")
        assert len(secrets["Ray's token"]) == 64
        assert CANARY in said["the output of build"]
        places = {**watched(seen), **{place: words_of(text) for place, text in said.items()}, **kept(stopped)}
        words = [form for secret in secrets.values() for form in forms(secret)]
        found = {place: hits for place, search in places.items() if (hits := search(words))}
        invoke("cluster.stop", env=env)
    assert found == {}
    assert seen.rate >= OFTEN, f"looked {seen.rate:.0f} times a second at what runs"
