"""The document from its first line to its last: each line's task is run, and its effect seen past Raydock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pexpect
import pytest

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, PracticeHost, Sandbox, operator
from tests.manual import Row, rows

Invoke = Callable[..., Done]
APP = "raydock-manual"
HEAD, WORKER = "raydock-sandbox-head", "raydock-sandbox-worker"
REGISTRY = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
URI = f"{REGISTRY}/{APP}"
PROMPT = r"[#$] "

pytestmark = pytest.mark.timeout(300)


@dataclass
class Walk:
    """An operator on their way through the manual."""

    hosts: Sandbox
    invoke: Invoke
    env: dict[str, str | None]
    container: str = ""
    done: Done = field(default_factory=lambda: Done(0, "", ""))

    def task(self, *words: str) -> Done:
        """Do a task."""
        self.done = self.invoke(*words, env=self.env)
        return self.done

    @property
    def head(self) -> PracticeHost:
        """The head."""
        return self.hosts.head

    def typed(self, task: str, line: str) -> str:
        """Do a task at a terminal: type a line into its shell, and leave; give what was on the screen."""
        environ = {**operator({"ENVIRONMENT": "sandbox", **NO_ENGINE, **self.env}), "TERM": "xterm"}
        typed = pexpect.spawn(str(INVOKE), [task], cwd=str(TOP), env=environ, timeout=60, encoding="utf-8")
        typed.expect(PROMPT)
        typed.sendline(line)
        typed.expect(PROMPT)
        shown = str(typed.before)
        typed.sendline("exit")
        shown += str(typed.read())
        typed.close()
        assert typed.exitstatus == 0, shown
        return shown


# ---- what each line has to bring about


def build(walk: Walk) -> None:
    walk.task("build")
    assert len(label(walk, "org.opencontainers.image.revision")) == 40


def build_shell(walk: Walk) -> None:
    shown = walk.typed("build.shell", "echo by hand >/made-by-hand; stty size")
    assert "24 80" in shown
    walk.container = shown.rpartition("invoke build.commit ")[2].split()[0]
    state = walk.head.docker(
        "inspect", "-f", '{{.State.Status}} {{index .Config.Labels "raydock.manual"}}', walk.container
    )
    assert state == "exited sandbox"


def build_containers(walk: Walk) -> None:
    assert walk.task("build.containers").out.splitlines()[1].startswith(walk.container)


def build_commit(walk: Walk) -> None:
    assert walk.task("build.commit", walk.container, "--json").report["changed"]
    assert walk.head.docker("run", "--rm", "--network", "none", APP, "cat", "/made-by-hand") == "by hand"
    base = walk.head.docker("image", "inspect", "-f", "{{.Id}}", "ray-project/deploy")
    assert label(walk, "org.opencontainers.image.base.digest") == base
    assert "made-by-hand" in label(walk, "raydock.diff")
    assert label(walk, "org.opencontainers.image.authors").count("@") == 1
    assert label(walk, "org.opencontainers.image.created").endswith("Z")
    assert not walk.task("build.commit", walk.container, "--json").report["changed"]


def repository_made(walk: Walk) -> None:
    assert walk.task("publish.repository", "--json").report["changed"]


def repository_shown(walk: Walk) -> None:
    shown = json.loads(walk.task("publish.repository").out)["repository"]
    assert (shown["repositoryUri"], shown["repositoryName"], shown["registryId"]) == (URI, APP, "123456789012")
    assert shown["repositoryArn"].endswith(f":repository/{APP}")
    assert shown["createdAt"]


def publish_tag(walk: Walk) -> None:
    walk.task("publish.tag")
    image = walk.head.docker("image", "inspect", "-f", "{{.Id}}", APP)
    for tag in ("latest", image.removeprefix("sha256:")[:12]):
        assert walk.head.docker("image", "inspect", "-f", "{{.Id}}", f"{URI}:{tag}") == image


def publish_login(walk: Walk) -> None:
    # The practice AWS says of each login that it ended long ago.
    said = walk.task("publish.login").err
    assert f"{REGISTRY} accepts AWS\n" in said
    assert said.count("AWS says that its login ended at 2015-01-01") == 1
    assert walk.head.attempt("ls", "/root/.docker", "/home/ubuntu/.docker").out == ""


def publish_push(walk: Walk) -> None:
    done = walk.task("publish.push", "--json").report
    assert done["changed"]
    assert done["uri"].startswith(f"{URI}:")
    assert f"{URI}@{done['digest']}" in walk.head.docker("image", "inspect", "-f", "{{.RepoDigests}}", APP)


def installed(walk: Walk) -> None:
    walk.hosts.workers[0].shell("service docker stop; DEBIAN_FRONTEND=noninteractive apt-get remove -y docker.io")
    walk.task("cluster.install")
    for host in walk.hosts:
        assert "ok installed" in host.run("dpkg-query", "-W", "-f", "${Status}", "docker.io")


def service_started(walk: Walk) -> None:
    worker = walk.hosts.workers[0]
    worker.run("service", "docker", "stop")
    walk.task("cluster.install")
    worker.docker("version")


def group_joined(walk: Walk) -> None:
    worker = walk.hosts.workers[1]
    worker.run("gpasswd", "-d", "ubuntu", "docker")
    walk.task("cluster.install")
    assert "docker" in worker.run("id", "-nG", "ubuntu").split()


def new_session(walk: Walk) -> None:
    """Have a login that gets its group, and uses it at once."""
    walk.hosts.workers[1].run("gpasswd", "-d", "ubuntu", "docker")
    walk.task("cluster.setup")


def nothing_stored(walk: Walk) -> None:
    """Have a pull that needed a login leave none."""
    walk.task("cluster.pull")
    for host in walk.hosts:
        assert host.attempt("ls", "/root/.docker", "/home/ubuntu/.docker").out == ""


def pulled(walk: Walk) -> None:
    digest = walk.task("cluster.pull", "--json").report["image"]
    walk.hosts.workers[0].docker("rmi", digest)
    walk.task("cluster.pull")
    for host in walk.hosts:
        assert digest in host.docker("image", "inspect", "-f", "{{.RepoDigests}}", digest)


def head_set_up(walk: Walk) -> None:
    walk.head.run("gpasswd", "-d", "ubuntu", "docker")
    walk.hosts.workers[0].run("gpasswd", "-d", "ubuntu", "docker")
    walk.task("cluster.setup", "--only", "head")
    assert ["docker" in host.run("id", "-nG", "ubuntu").split() for host in walk.hosts] == [True, False, True]


def all_set_up(walk: Walk) -> None:
    digest = walk.task("cluster.setup", "--json").report["image"]
    for host in walk.hosts:
        assert "docker" in host.run("id", "-nG", "ubuntu").split()
        host.docker("image", "inspect", digest)


def head_started(walk: Walk) -> None:
    walk.task("cluster.start-head")
    runs(walk.head, HEAD)


def head_runs(walk: Walk) -> None:
    """Have it run as before: its task was done for the line above."""
    runs(walk.head, HEAD)


def workers_started(walk: Walk) -> None:
    walk.task("cluster.start-workers")
    workers_run(walk)


def workers_run(walk: Walk) -> None:
    """Have them run; of three lines the task is one."""
    for host in walk.hosts.workers:
        runs(host, WORKER)


def status(walk: Walk) -> None:
    shown = walk.task("cluster.status").err
    for host in walk.hosts:
        assert host.docker("ps", "-q") in shown


def shell(walk: Walk) -> None:
    assert "by hand" in walk.typed("cluster.shell", "cat /made-by-hand")


def workers_stopped(walk: Walk) -> None:
    walk.task("cluster.stop-workers")
    assert [host.containers() for host in walk.hosts.workers] == [{}, {}]
    runs(walk.head, HEAD)


def head_stopped(walk: Walk) -> None:
    walk.task("cluster.stop-head")
    assert HEAD not in walk.head.containers()


def label(walk: Walk, name: str) -> str:
    """Give a label of the application's image."""
    return walk.head.docker("image", "inspect", "-f", f'{{{{index .Config.Labels "{name}"}}}}', APP)


def runs(host: PracticeHost, name: str) -> None:
    """See that a container runs, of the image made by hand."""
    shown = host.containers(running=True)[name]
    assert shown["Config"]["Image"].startswith(f"{URI}@sha256:")


EFFECTS: dict[tuple[str, str], Callable[[Walk], None]] = {
    ("docker build", "build"): build,
    ("docker run -t", "build.shell"): build_shell,
    ("docker ps -a", "build.containers"): build_containers,
    ("docker commit", "build.commit"): build_commit,
    ("sudo apt-get install -y awscli", "publish.repository"): repository_made,
    ("aws ecr create-repository", "publish.repository"): repository_shown,
    ("docker tag", "publish.tag"): publish_tag,
    ("eval", "publish.login"): publish_login,
    ("docker push", "publish.push"): publish_push,
    ("sudo apt-get install -y docker.io", "cluster.install"): installed,
    ("sudo service docker start", "cluster.install"): service_started,
    ("sudo usermod", "cluster.install"): group_joined,
    ("exec sudo su", "cluster.install"): new_session,
    ("eval", "cluster.pull"): nothing_stored,
    ("docker pull", "cluster.pull"): pulled,
    ("bash setup-docker.sh", "cluster.setup --only head"): head_set_up,
    ("parallel-ssh", "cluster.setup"): all_set_up,
    ("eval", "cluster.start-head"): head_started,
    ("docker run -d", "cluster.start-head"): head_runs,
    ("eval", "cluster.start-workers"): workers_started,
    ("docker run -d", "cluster.start-workers"): workers_run,
    ("parallel-ssh", "cluster.start-workers"): workers_run,
    ("docker ps", "cluster.status"): status,
    ("docker exec", "cluster.shell"): shell,
    ("parallel-ssh", "cluster.stop-workers"): workers_stopped,
    ("docker kill", "cluster.stop-head"): head_stopped,
}


def effect_of(row: Row) -> Callable[[Walk], None]:
    """Give what a line has to bring about."""
    fitting = [begin for begin, task in EFFECTS if task == row.task and row.line.startswith(begin)]
    assert fitting, f"nobody looks at the effect of {row.line}"
    return EFFECTS[max(fitting, key=len), row.task]


def test_every_line_of_the_manual_does_what_it_says(
    stopped: Sandbox, invoke: Invoke, environment: Callable[..., str]
) -> None:
    walk = Walk(stopped, invoke, {"ENVIRONMENT": environment(APP_TAG=APP, REPOSITORY_NAME=APP)})
    for row in rows():
        effect_of(row)(walk)
    stopped.head.docker(
        "rmi", "--force", *stopped.head.docker("images", "-q", "--filter", f"reference=*{APP}*").split()
    )


# ---- printed


TASKS = sorted({row.task for row in rows()})


@pytest.fixture(scope="module")
def elsewhere(sandbox: Sandbox) -> dict[str, str]:
    """What `--dry` prints where there is no network, no name is known and no program is found."""
    assert sandbox
    alone = (str(shutil.which("unshare")), "--net", "--map-root-user")
    return {task: dry(task, *alone, path="/nowhere") for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_a_plan_is_the_same_without_a_network(task: str, elsewhere: dict[str, str]) -> None:
    assert elsewhere[task] == dry(task)
    assert elsewhere[task].startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n"], input=elsewhere[task], text=True, check=True)


def dry(task: str, *before: str, path: str = os.environ["PATH"]) -> str:
    """Print a task's plan."""
    words = [*task.split(), *(["c0ffee"] if task == "build.commit" else [])]
    done = subprocess.run(
        [*before, sys.executable, "-m", "invoke", "--dry", *words],
        cwd=TOP,
        env={**operator({"ENVIRONMENT": "sandbox", **NO_ENGINE}), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_plan_names_the_line_that_it_stands_for(elsewhere: dict[str, str]) -> None:
    """Have the document's words above the lines of the script."""
    printed = {row.line: elsewhere[row.task] for row in rows()}
    own = {
        line: text for line, text in printed.items() if not line.startswith(("parallel-ssh", "bash ", "exec ", "eval"))
    }
    missing = [line for line, text in own.items() if f"# {' '.join(line.split()[:2])}" not in text]
    assert missing == ["sudo apt-get install -y awscli"]
