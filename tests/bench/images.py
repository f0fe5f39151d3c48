"""Building, publishing and pulling an image of 600 MB, beside the docker CLI doing the same on the same engine.

The CLI is typed where Raydock is typed, through a login of its own with host keys checked: `ssh HOST docker …`. It is
told what Raydock finds out by itself: which commit to build, and the tag that an image's id makes. Both use the classic
builder, and both were logged into the registry before. What Raydock takes once it is connected stands beside the same
line over a connection that is open already: it shows what the start of a Python program and its login cost.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from deploy.practice.files import SETTINGS
from deploy.practice.layout import ACCOUNT, REGISTRY, SERVICES
from deploy.steps.building import RECIPE_LABEL
from deploy.timings import Phase
from tests.bench.measure import Bound, Command, Figure, Series, in_turn
from tests.bench.three_hosts import Warm, practice_hosts, warm
from tests.hosts.observer import INVOKE, NO_ENGINE, PracticeHost, Sandbox, command

TARGET = 1.05
UNCHANGED, CHANGED, WHOLE = "unchanged", "one small layer changed", "all of it"
VERBS = {"build": "build", "publish": "tag and push", "pull": "pull"}
NAME = "raydock-bench"
BASE = f"{NAME}-base"
REPOSITORY = f"{REGISTRY}/{NAME}"
GIT = f"/srv/git/{NAME}.git"
STORE = f"/var/lib/registry/docker/registry/v2/repositories/{NAME}"
LOGINS = f"/dev/shm/{NAME}"  # noqa: S108 - on a host, in memory: the CLI's login
# What applications are built on, in one layer that is nobody else's: who has removed it pulls all of it.
FROM = """\
FROM ray-project/deploy AS there
FROM scratch
COPY --from=there / /
ENV PATH=/opt/ray/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
# A commit of the example with a file more than it has, which is another each time.
COMMIT = f"""\
set -e
[ -e {GIT} ] || git clone --quiet --bare /srv/git/app.git {GIT}
cd {GIT}
export GIT_INDEX_FILE=$PWD/bench.index
for who in AUTHOR COMMITTER; do export GIT_${{who}}_NAME=a GIT_${{who}}_EMAIL=a; done
git read-tree main
git update-index --add --cacheinfo "100644,$(date +%s%N | git hash-object -w --stdin),now"
git update-ref refs/heads/main "$(git commit-tree -p main -m a "$(git write-tree)")"
"""
NAMES = f"--filter reference={NAME} --filter reference={REPOSITORY} --filter reference={BASE}"
FORGET = f"docker images -q --no-trunc {NAMES} | sort -u | xargs -r docker rmi -f"


@dataclass
class Bench:
    """The practice hosts; what is typed at them by Raydock, and what by the docker CLI."""

    sandbox: Sandbox
    services: PracticeHost
    warm: Warm
    folder: Path
    settings: Path

    @property
    def head(self) -> PracticeHost:
        """Where images are built and published."""
        return self.sandbox.head

    @property
    def worker(self) -> PracticeHost:
        """Where they are pulled."""
        return self.sandbox.workers[0]

    @cached_property
    def template(self) -> str:
        """The application's Dockerfile, as Raydock renders it."""
        return str(json.loads(command([INVOKE, "build.dockerfile", "--json"], self.env).out)["dockerfile"])

    @property
    def env(self) -> dict[str, str]:
        """What Raydock's operator has set."""
        return {"ENVIRONMENT": self.settings.stem, "DOCKER_CONFIG": str(self.folder), **NO_ENGINE}

    def ours(self, *words: str) -> tuple[float, Mapping[str, Any]]:
        """Type a task, and give the seconds that it took, and its report."""
        begun = time.monotonic()
        done = command([INVOKE, *words, "--json", "--timings"], self.env)
        return time.monotonic() - begun, done.report

    def cli(self, host: PracticeHost, line: str, stdin: Path = Path(os.devnull), *, warm: bool = False) -> Command:
        """The docker CLI: a line of it, over SSH."""
        # Where nobody has opened one, ssh makes a connection of its own.
        ssh = shlex.join([*(self.warm if warm else Warm(self.folder)).argv(host), line])
        return Command(["sh", "-c", f"exec {ssh} <{shlex.quote(str(stdin))}"], self.folder)

    def build(self, *, tag: str = "", warm: bool = False) -> Command:
        """What builds an image as Raydock does, of the newest commit; under a tag of its own."""
        commit = self.services.run("git", "-C", GIT, "rev-parse", "main").strip()
        file = self.folder / "Dockerfile"
        file.write_text(self.template.replace("<my-project-commit>", commit) + "\n", encoding="utf-8")
        # Ours has such a label, too.
        label = f"--label {RECIPE_LABEL}={commit[:12]}"
        line = f"DOCKER_BUILDKIT=0 docker build -t {tag or new_tag()} {label} -"
        return self.cli(self.head, line, file, warm=warm)

    def publish(self, *, warm: bool = False) -> Command:
        """What publishes the image as Raydock does: under its id, and as the latest."""
        tags = (self.head.docker("image", "inspect", "-f", "{{.Id}}", NAME)[7:19], "latest")
        lines = [f"docker tag {NAME} {REPOSITORY}:{tag}" for tag in tags]
        lines += [f"docker --config {LOGINS} push {REPOSITORY}:{tag}" for tag in tags]
        return self.cli(self.head, " && ".join(lines), warm=warm)

    def pull(self, *, warm: bool = False) -> Command:
        """What pulls the latest."""
        return self.cli(self.worker, f"docker --config {LOGINS} pull {REPOSITORY}:latest", warm=warm)

    def nothing(self) -> None:
        """Have all as it is."""

    def commit(self) -> None:
        """Have a new commit of the project; the image of the one before stays."""
        if self.head.docker("images", "-q", NAME):
            self.head.docker("tag", NAME, new_tag())
        self.services.shell(COMMIT)

    def change(self) -> None:
        """Have an image on the head of which one small layer is new."""
        self.commit()
        self.build(tag=NAME).run()

    def release(self) -> None:
        """Have such an image in the registry."""
        self.change()
        self.publish().run()

    def empty(self) -> None:
        """Have the registry without the repository: nothing of it can be mounted from elsewhere, either."""
        self.services.shell(f"rm -rf {STORE}")

    def forget(self) -> None:
        """Have the worker without any layer of the image."""
        self.worker.shell(FORGET)

    def figures(self, what: str, state: str, before: Callable[[], None], *words: str) -> Iterator[Figure]:
        """Measure a task in turn with its peers; what comes before each is not counted."""
        inside: list[float] = []
        typed = {"build": self.build, "publish": self.publish, "pull": self.pull}[what]

        def ours() -> float:
            before()
            seconds, report = self.ours(*words)
            if report["changed"] is (state == UNCHANGED):
                raise RuntimeError(f"{what}, {state}: {report}")
            inside.append(connected(report))
            return seconds

        def peer(*, warm: bool) -> float:
            before()
            return typed(warm=warm).seconds()

        things: dict[str, Callable[[], float]] = {
            "ours": ours,
            "cold": partial(peer, warm=False),
            "warm": partial(peer, warm=True),
        }
        if state == WHOLE:
            del things["warm"]  # a login is nothing in what takes so long
        taken = in_turn(things)
        name, cli = f"{what}, {state}", f"docker {VERBS[what]} {self.version}"
        yield Figure(name, TARGET, taken["ours"], taken["cold"], f"ssh HOST {cli}")
        if "warm" in taken:
            # The first is the one that does not count.
            rest = Series(tuple(inside[1:]))
            yield Figure(f"{name}: once connected", TARGET, rest, taken["warm"], f"{cli} over an open connection")

    @property
    def version(self) -> str:
        """The docker CLI's version."""
        return self.head.docker("version", "-f", "{{.Client.Version}}")

    def size(self) -> Bound:
        """Tell how large the image is."""
        size = float(self.head.docker("image", "inspect", "-f", "{{.Size}}", NAME)) / 10**6
        return Bound("the image", None, "MB", Series((size,)))

    def prepare(self) -> None:
        """Have the image to build on, the project, and both logged in."""
        self.clear()
        self.head.shell(f"printf %s {shlex.quote(FROM)} | DOCKER_BUILDKIT=0 docker build -q -t {BASE} -")
        self.commit()
        self.ours("build")
        password = self.folder / "password"
        password.write_text(f"{ACCOUNT}-auth-token", encoding="utf-8")
        line = f"mkdir -m 700 {LOGINS} && docker --config {LOGINS} login -u AWS --password-stdin {REGISTRY}"
        for host in (self.head, self.worker):
            self.cli(host, line, password).run()
        auth = base64.b64encode(b"AWS:" + password.read_bytes()).decode()
        (self.folder / "config.json").write_text(json.dumps({"auths": {REGISTRY: {"auth": auth}}}), encoding="utf-8")

    def clear(self) -> None:
        """Leave nothing of ours on the hosts."""
        for host in (self.head, self.worker):
            # Twice: the one that others are built on goes after them.
            host.shell(f"{FORGET}; {FORGET}; rm -rf {LOGINS} /var/lib/raydock/{NAME}")
        self.empty()
        self.services.shell(f"rm -rf {GIT}; docker-registry garbage-collect /srv/registry.yml")


@contextmanager
def bench(sandbox: Sandbox, connections: Warm) -> Iterator[Bench]:
    """Have a project, a base image and a repository of our own on the practice hosts for a block."""
    given = dotenv_values(SETTINGS, interpolate=False)
    kept = {key: value for key, value in given.items() if not key.startswith("AWS_")}
    values = {
        **kept,
        "APP_TAG": NAME,
        "BASE_IMAGE": BASE,
        "CLUSTER_NAME": NAME,
        "MY_PROJECT_URL": str(given["MY_PROJECT_URL"]).replace("/app.git", f"/{NAME}.git"),
        "REPOSITORY_URI": REPOSITORY,
    }
    settings = SETTINGS.with_name(f"{NAME}-{os.getpid()}.env")
    assert sandbox.head.box.client
    services = PracticeHost("services", sandbox.head.box.client.containers.get(SERVICES))
    with tempfile.TemporaryDirectory() as place:
        settings.touch(0o600)
        settings.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        made = Bench(sandbox, services, connections, Path(place), settings)
        try:
            made.prepare()
            yield made
        finally:
            made.clear()
            settings.unlink()


def figures() -> Iterator[Figure | Bound]:
    """Measure them."""
    sandbox = practice_hosts()
    with warm(sandbox) as connections, bench(sandbox, connections) as made:
        pull = ("cluster.pull", "--only", made.worker.node)
        yield made.size()
        yield from made.figures("build", UNCHANGED, made.nothing, "build")
        yield from made.figures("build", CHANGED, made.commit, "build")
        yield from made.figures("publish", WHOLE, made.empty, "publish")
        yield from made.figures("publish", UNCHANGED, made.nothing, "publish")
        yield from made.figures("publish", CHANGED, made.change, "publish")
        yield from made.figures("pull", WHOLE, made.forget, *pull)
        yield from made.figures("pull", UNCHANGED, made.nothing, *pull)
        yield from made.figures("pull", CHANGED, made.release, *pull)


def new_tag() -> str:
    """Give a tag for an image to keep."""
    return f"{NAME}:{time.time_ns()}"


def connected(report: Mapping[str, Any]) -> float:
    """Give the seconds of a report from the moment on when every connection was there."""
    spans = [span for node in report["nodes"] for span in node.get("timings", ())]
    since = max(span["end"] for span in spans if span["phase"] == Phase.CONNECT.value)
    return float(max(span["end"] for span in spans) - since)
