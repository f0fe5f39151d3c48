"""Building, publishing and pulling an image of 600 MB, beside the docker CLI doing the same on the same engine.

The CLI is typed where Raydock is typed, with a login of its own and host keys checked: `ssh HOST docker …`. It is told
what Raydock finds out by itself: which commit to build, and the tag that an image's id makes. Both use the classic
builder, and both were logged into the registry before.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dotenv import dotenv_values

from deploy.practice.files import KEY, KNOWN_HOSTS, SETTINGS
from deploy.practice.layout import ACCOUNT, REGISTRY, SERVICES
from deploy.steps.building import RECIPE_LABEL
from tests.bench.measure import RUNS, Command, Figure, in_turn
from tests.bench.three_hosts import hosts
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, PracticeHost, Sandbox, command

TARGET = 1.05
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
SSH = (
    *("ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", str(KEY)),
    *("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={KNOWN_HOSTS}"),
)


@dataclass
class Bench:
    """The practice hosts; what is typed at them by Raydock, and what by the docker CLI."""

    sandbox: Sandbox
    services: PracticeHost
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

    def ours(self, *words: str) -> Command:
        """Raydock: a task."""
        return Command([str(INVOKE), *words], TOP, self.env)

    def cli(self, host: PracticeHost, line: str, stdin: Path = Path(os.devnull)) -> Command:
        """The docker CLI: a line of it, over SSH."""
        ssh = shlex.join([*SSH, "-p", str(host.port), "ubuntu@127.0.0.1", line])
        return Command(["sh", "-c", f"exec {ssh} <{shlex.quote(str(stdin))}"], self.folder)

    def build(self, tag: str = "") -> Command:
        """What builds an image as Raydock does, of the newest commit; under a tag of its own."""
        commit = self.services.run("git", "-C", GIT, "rev-parse", "main").strip()
        file = self.folder / "Dockerfile"
        file.write_text(self.template.replace("<my-project-commit>", commit) + "\n", encoding="utf-8")
        # Ours has such a label, too.
        label = f"--label {RECIPE_LABEL}={commit[:12]}"
        tag = tag or f"{NAME}:{time.time_ns()}"
        return self.cli(self.head, f"DOCKER_BUILDKIT=0 docker build -t {tag} {label} -", file)

    def publish(self) -> Command:
        """What publishes the image as Raydock does: under its id, and as the latest."""
        tags = (self.head.docker("image", "inspect", "-f", "{{.Id}}", NAME)[7:19], "latest")
        lines = [f"docker tag {NAME} {REPOSITORY}:{tag}" for tag in tags]
        lines += [f"docker --config {LOGINS} push {REPOSITORY}:{tag}" for tag in tags]
        return self.cli(self.head, " && ".join(lines))

    def pull(self) -> Command:
        """What pulls the latest."""
        return self.cli(self.worker, f"docker --config {LOGINS} pull {REPOSITORY}:latest")

    def nothing(self) -> None:
        """Have all as it is."""

    def commit(self) -> None:
        """Have a new commit of the project; the image of the one before stays."""
        if self.head.docker("images", "-q", NAME):
            self.head.docker("tag", NAME, f"{NAME}:{time.time_ns()}")
        self.services.shell(COMMIT)

    def change(self) -> None:
        """Have an image on the head of which one small layer is new."""
        self.commit()
        self.build(NAME).run()

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

    def figure(self, name: str, before: Callable[[], None], ours: Command, peer: Callable[[], Command]) -> Figure:
        """Measure one in turn with its peer; what comes before is not counted."""

        def counted(typed: Callable[[], Command]) -> float:
            before()
            return typed().seconds()

        taken = in_turn(RUNS, ours=lambda: counted(lambda: ours), peer=lambda: counted(peer))
        what = name.partition(",")[0]
        return Figure(name, TARGET, taken["ours"], taken["peer"], f"ssh HOST docker {what}, {self.version}")

    @property
    def version(self) -> str:
        """The docker CLI's version."""
        return self.head.docker("version", "-f", "{{.Client.Version}}")

    def prepare(self) -> None:
        """Have the image to build on, the project, and both logged in."""
        self.clear()
        self.head.shell(f"printf %s {shlex.quote(FROM)} | DOCKER_BUILDKIT=0 docker build -q -t {BASE} -")
        self.commit()
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
            host.shell(f"{FORGET}; rm -rf {LOGINS} /var/lib/raydock/{NAME}")
        self.empty()
        self.services.shell(f"rm -rf {GIT}; docker-registry garbage-collect /srv/registry.yml")


@contextmanager
def bench(sandbox: Sandbox) -> Iterator[Bench]:
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
        made = Bench(sandbox, services, Path(place), settings)
        try:
            made.prepare()
            yield made
        finally:
            made.clear()
            settings.unlink()


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure them; what shall be quick leaves them out."""
    sandbox = None if quick else hosts(quick=quick)
    if sandbox is None:
        return
    with bench(sandbox) as made:
        build, publish = made.ours("build"), made.ours("publish")
        pull = made.ours("cluster.pull", "--only", made.worker.node)
        yield made.figure("build, unchanged", made.nothing, build, made.build)
        yield made.figure("build, one small layer changed", made.commit, build, made.build)
        yield made.figure("publish, all of it", made.empty, publish, made.publish)
        yield made.figure("publish, unchanged", made.nothing, publish, made.publish)
        yield made.figure("publish, one small layer changed", made.change, publish, made.publish)
        yield made.figure("pull, all of it", made.forget, pull, made.pull)
        yield made.figure("pull, unchanged", made.nothing, pull, made.pull)
        yield made.figure("pull, one small layer changed", made.release, pull, made.pull)
