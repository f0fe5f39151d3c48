"""Rays of other times, played by a program that knows their flags alone; and images that cannot run Ray here."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts.observer import NO_ENGINE, Done, PracticeHost, Sandbox, command

Invoke = Callable[..., Done]
Environment = Callable[..., str]
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
ROOT = "raydock/python-root"
ALONE = {"WORKERS_FILE": None, "REPOSITORY_URI": None}
OLD = {"ALLOW_UNAUTHENTICATED": "yes"}  # no token was known then

pytestmark = pytest.mark.timeout(180)

# `ray start` as that version has it: a flag that it does not know ends it.
PLAYED = """\
#!/usr/bin/env python3
import argparse, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
start = argparse.ArgumentParser(allow_abbrev=False)
start.add_argument("start", choices=["start"])
for flag in ("--head", "--block"):
    start.add_argument(flag, action="store_true")
for flag in {flags}:
    start.add_argument(flag)
given = vars(start.parse_args())
ports = [int(value) for flag, value in given.items() if flag.endswith("port") and value]
listening = [socket.create_server(("", port)) for port in ports]
print("started", flush=True)
while given["block"]:
    time.sleep(1)
"""
USUAL = ("--node-ip-address", "--object-manager-port", "--resources", "--redis-port", "--redis-address", "--num-cpus")
FLAGS = {"0.5.3": (*USUAL, "--num-workers"), "0.7.7": (*USUAL, "--address", "--webui-host")}
# The Pythons of 0.5 do not know what is installed: they have to import it.
TOLD_BY = {
    "0.5.3": ("ray/__init__.py", '__version__ = "0.5.3"\n'),
    "0.7.7": ("ray-0.7.7.dist-info/METADATA", "Metadata-Version: 2.1\nName: ray\nVersion: 0.7.7\n"),
}


@pytest.fixture
def played(stopped: Sandbox) -> Iterator[Callable[[str], str]]:
    """Have an image on the head that plays an old Ray: `played(VERSION)` gives its name. Nothing runs anywhere."""

    def play(version: str) -> str:
        path, content = TOLD_BY[version]
        files = {
            "Dockerfile": f"FROM {ROOT}\nENV PYTHONPATH=/opt/ray\nCOPY ray /usr/bin/ray\nCOPY told /opt/ray/{path}\n",
            "ray": PLAYED.replace("{flags}", repr(FLAGS[version])),
            "told": content,
        }
        image = f"raydock-played:{version}"
        write = "".join(f"printf %s {shlex.quote(text)} >{name}\n" for name, text in files.items())
        stopped.head.shell(f"cd $(mktemp -d)\n{write}chmod 755 ray\ndocker build -q -t {image} .")
        return image

    yield play
    stopped.clear()
    for host in stopped:
        names = (f"--filter=reference={name}" for name in ("raydock-played", "*/raydock-played"))
        if images := host.docker("images", "-q", *names).split():
            host.docker("rmi", "--force", *dict.fromkeys(images))


def commands(sandbox: Sandbox) -> dict[str, str]:
    """Give what each container of the cluster runs."""
    names = {host: HEAD if host.name == "head" else WORKER for host in sandbox}
    return {host.name: " ".join(host.containers()[name]["Config"]["Cmd"]) for host, name in names.items()}


def told(done: Done) -> list[tuple[Any, ...]]:
    """Give how each node that was asked is, and whether Ray has it."""
    nodes = done.report["nodes"]
    return [(node["outcome"], node["ray"], node["code"]) for node in nodes if node["outcome"] != "skipped"]


def test_a_ray_of_the_documents_time_is_started_with_the_documents_flags(
    invoke: Invoke, stopped: Sandbox, played: Callable[[str], str], environment: Environment
) -> None:
    env = {"ENVIRONMENT": environment(APP_TAG=played("0.5.3"), REPOSITORY_NAME="raydock-played", **OLD)}
    invoke("publish", env=env)
    started = invoke("cluster.start", "--json", env=env)
    assert told(started) == [("ok", "alive", None)] * 3
    assert "Ray 0.5.3 tells nothing of its nodes" in started.err
    head, *workers = stopped
    cores = head.run("nproc").strip()
    where = f"--redis-address={head.address}:6379 --object-manager-port=8076 --node-ip-address"
    mine = f"--redis-port=6379 --object-manager-port=8076 --node-ip-address={head.address}"
    assert commands(stopped) == {
        "head": f"ray start --head --block {mine} --num-workers={cores}",
        **{host.name: f"ray start --block {where}={host.address} --num-workers={cores}" for host in workers},
    }
    labels = stopped.workers[0].containers()[WORKER]["Config"]["Labels"]
    assert labels["raydock.ray"] == "0.5.3"
    assert told(invoke("cluster.status", "--json", env=env)) == [("ok", "alive", None)] * 3
    assert not invoke("cluster.start", "--json", env=env).report["changed"]
    refused = invoke("job.run", "examples/where.py", "--json", env=env, exit=125).report
    assert [error["code"] for error in refused["errors"]] == ["DIALECT_TOO_OLD"]

    stopped.workers[0].docker("kill", WORKER)
    assert [code for _, _, code in told(invoke("cluster.status", "--json", env=env, exit=3))] == [
        None,
        "RAY_EXITED",
        None,
    ]
    invoke("cluster.stop", env=env)
    assert [host.containers() for host in stopped] == [{}, {}, {}]


def test_the_script_tells_an_old_ray_its_own_flags_too(
    invoke: Invoke, stopped: Sandbox, played: Callable[[str], str], environment: Environment
) -> None:
    env = {"ENVIRONMENT": environment(IMAGE=played("0.7.7"), **ALONE, **OLD)}
    script = invoke("--dry", "cluster.start", env=env).out
    command(["bash", "-c", script], NO_ENGINE)
    (shown,) = stopped.head.containers(running=True).values()
    cores = stopped.head.run("nproc").strip()
    assert " ".join(shown["Config"]["Cmd"]) == (
        "ray start --head --block --redis-port=6379 --object-manager-port=8076 "
        f"--node-ip-address={stopped.head.address} --num-cpus={cores}"
    )
    since = time.time_ns()
    again = invoke("cluster.start", "--json", env=env)
    assert (again.report["changed"], told(again)) == (False, [("ok", "alive", None)])
    command(["bash", "-c", script], NO_ENGINE)
    command(["bash", "-c", invoke("--dry", "cluster.status", env=env).out], NO_ENGINE)
    # What runs says which Ray it is: the image is not asked again.
    assert stopped.actions(since) == {}


def test_a_ray_that_knows_no_token_is_not_started_unless_the_operator_says_so(
    invoke: Invoke, stopped: Sandbox, played: Callable[[str], str], environment: Environment
) -> None:
    env = {"ENVIRONMENT": environment(IMAGE=played("0.7.7"), **ALONE)}
    refused = invoke("cluster.start", "--json", env=env, exit=1)
    assert told(refused) == [("failed", "unknown", "RAY_OPEN")]
    assert "ALLOW_UNAUTHENTICATED=yes" in refused.err
    said = command(["bash", "-c", invoke("--dry", "cluster.start", env=env).out], NO_ENGINE, exit=1).err
    assert "ALLOW_UNAUTHENTICATED=yes" in said
    assert [host.containers() for host in stopped] == [{}, {}, {}]


def foreign(host: PracticeHost) -> str:
    """Make an image that says it is for another machine."""
    other = {"x86_64": "arm64", "aarch64": "amd64"}[host.run("uname", "-m").strip()]
    edit = shlex.quote(f's/"architecture":"[^"]*"/"architecture":"{other}"/')
    host.shell(
        "cd $(mktemp -d)\ntar -cT /dev/null | docker import - raydock-foreign:1\n"
        f"docker save raydock-foreign:1 | tar -x\nsed -Ei {edit} *.json\n"
        "docker rmi raydock-foreign:1\ntar -c * | docker load"
    )
    return "raydock-foreign:1"


UNFIT: dict[str, tuple[Callable[[PracticeHost], str], str]] = {
    "without Ray": (lambda _: f"{ROOT}:latest", "IMAGE_NO_RAY"),
    "for another architecture": (foreign, "IMAGE_WRONG_ARCH"),
}


@pytest.mark.parametrize(("image", "code"), UNFIT.values(), ids=UNFIT)
def test_an_image_that_cannot_run_ray_here_is_told_before_anything_is_created(
    invoke: Invoke, stopped: Sandbox, environment: Environment, image: Callable[[PracticeHost], str], code: str
) -> None:
    env = {"ENVIRONMENT": environment(IMAGE=image(stopped.head), **ALONE)}
    refused = invoke("cluster.start", "--json", env=env, exit=1)
    assert [(outcome, told_code) for outcome, _, told_code in told(refused)] == [("failed", code)]
    said = command(["bash", "-c", invoke("--dry", "cluster.start", env=env).out], NO_ENGINE, exit=1).err
    assert {"IMAGE_NO_RAY": "tells no version of Ray", "IMAGE_WRONG_ARCH": "for another architecture"}[code] in said
    assert [host.containers() for host in stopped] == [{}, {}, {}]
