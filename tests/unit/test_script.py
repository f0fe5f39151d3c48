"""The plan as a bash script: it is one, it works, and it holds no secret."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.plans import Planner, Scope
from deploy.plans import cluster as cluster_plans
from deploy.plans import image as image_plans
from deploy.plans import nodes as node_plans
from deploy.script import PRELUDE, file_of_option, script, terminal_script
from deploy.secret import Secret

from .fakes import DIGEST, IMAGE_ID, TOP, Cluster, FakeSite, Image, containers, program, scope

PLANNERS: dict[str, Planner] = {
    "build.base": image_plans.build_base,
    "build.image": image_plans.build_image,
    "publish.repository": image_plans.publish_repository,
    "publish.image": image_plans.publish_image,
    "cluster.install": node_plans.install,
    "cluster.pull": node_plans.pull,
    "cluster.setup": node_plans.setup,
    "cluster.start": cluster_plans.start,
    "cluster.start-head": cluster_plans.start_head,
    "cluster.start-workers": cluster_plans.start_workers,
    "cluster.status": cluster_plans.status,
    "cluster.stop-workers": cluster_plans.stop_workers,
    "cluster.stop-head": cluster_plans.stop_head,
    "cluster.stop": cluster_plans.stop,
}

PLANTED = "hunter2-of-aws"
PASSWORD = "hunter2-of-the-registry"
HOSTILE = (
    r"""echo 'it'"'"'s' "$HOME $(touch /tmp/never) `touch /tmp/never`" \\ > "<my-project-url>"; exit 0 # ${x} & \1"""
)
WORKERS = "ubuntu@10.0.0.7:2222  #: resources='{\"ssd\": 1}'\n10.0.0.8  #: private=10.1.0.8 num_workers=2"
ALWAYS: dict[str, Any] = {
    "my_project_url": "https://git.test/team/app.git",
    "my_project_installation_script": HOSTILE,
    "aws": {"AWS_SECRET_ACCESS_KEY": Secret(PLANTED), "AWS_ENDPOINT_URL": Secret("http://ecr.test:4566/?a=1&b='2'")},
    "container_env": """GREETING='$(touch /tmp/never) `touch /tmp/never` "quoted"'""",
}
CLUSTERS: dict[str, Scope] = {
    "behind SSH, with ECR": scope(WORKERS, head="ubuntu@10.0.0.1", region="eu-west-1", **ALWAYS),
    "this machine and workers": scope(WORKERS, ssh_known_hosts="/etc/known hosts", **ALWAYS),
    "this machine alone": scope(**ALWAYS),
    "an image of a public registry": scope(WORKERS, image="rayproject/ray:2.60.0", **ALWAYS),
    "a registry of one's own": scope(WORKERS, repository_uri="registry.test:5000/team/app", **ALWAYS),
    "a project that is copied": scope(WORKERS, head="ubuntu@10.0.0.1", my_project_source="copy", **ALWAYS),
    "a part of it": scope(WORKERS, only="10.0.0.8", **ALWAYS),
}


HEAD, ONE, TWO = "ubuntu@10.0.0.1", "ubuntu@10.0.0.7", "10.0.0.8"
SSH = CLUSTERS["behind SSH, with ECR"]
LOCAL = CLUSTERS["this machine and workers"]
PUBLIC = CLUSTERS["an image of a public registry"]
OWN = CLUSTERS["a registry of one's own"]


def written(task: str, of: Scope) -> str:
    return script(task, of, PLANNERS[task](of))


# --- what it says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_plan_is_a_bash_script_without_a_secret(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("something was opened while the script was made")

    with monkeypatch.context() as patched:
        for place, name in ((socket, "socket"), (socket, "create_connection"), (subprocess, "Popen"), (os, "system")):
            patched.setattr(place, name, opened)
        text = "\n".join(written(task, CLUSTERS[cluster]) for task in PLANNERS)
    checked = subprocess.run(["/bin/bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert PLANTED not in text


@pytest.mark.parametrize("name", ["/etc/my hosts", "/a%h", "/it's", '/"x"', "/a\\b", "/a#b", "/plain"])
def test_ssh_itself_reads_a_files_name_as_it_is(name: str) -> None:
    line = ["ssh", "-G", "-F", "/dev/null", "-o", f"UserKnownHostsFile={file_of_option(Path(name))}", "host"]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert f"\nuserknownhostsfile {name}\n" in said


def test_a_script_reads_as_the_manual() -> None:
    text = written("cluster.stop", scope("u@10.0.0.7:2222", head="10.0.0.1", cluster_name="blue"))
    before, _, after = text.partition("# plain WORD…")
    after = after.partition("# to HOST [NAME…]")[2]
    assert before.splitlines() == [
        "#!/usr/bin/env bash",
        "# cluster.stop: what Raydock does, typed by hand. It holds no secret.",
        "set -euo pipefail",
        "",
        "for tool in bash ssh; do",
        '  command -v "$tool" >/dev/null || { echo "$tool is not installed here" >&2; exit 1; }',
        "done",
        "",
    ]
    assert after.partition("\n}\n")[2].splitlines() == [
        "",
        "on_1() { ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -p 2222 u@10.0.0.7 bash -s; }  # 10.0.0.7:2222",
        "on_0() { ssh -o BatchMode=yes -o StrictHostKeyChecking=yes 10.0.0.1 bash -s; }  # head",
        "",
        "# --- 10.0.0.7:2222",
        "to on_1 <<'LINES'",
        "# docker kill $(docker ps -q)",
        '[ -z "$(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=worker)" ] || '
        "{ docker stop -t 45 $(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=worker) "
        "&& docker rm $(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=worker); } "
        ">/dev/null",
        "LINES",
        "",
        "# --- head",
        "to on_0 <<'LINES'",
        "# docker kill $(docker ps -q)",
        '[ -z "$(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=head)" ] || '
        "{ docker stop -t 45 $(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=head) "
        "&& docker rm $(docker ps -aq --filter label=raydock.cluster=blue --filter label=raydock.role=head); } "
        ">/dev/null",
        "LINES",
    ]


REACHED: dict[str, tuple[dict[str, Any], str, str]] = {
    "this machine": ({}, "0", "bash -s"),
    "a node, as ssh_config says": (
        {},
        "2",
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes 10.0.0.8 bash -s",
    ),
    "with the user and the port of workers.txt": (
        {"ssh_user": "admin", "ssh_port": "22"},
        "1",
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -p 2222 ubuntu@10.0.0.7 bash -s",
    ),
    "with the user and the port of the settings": (
        {"ssh_user": "admin", "ssh_port": "2022"},
        "2",
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -p 2022 admin@10.0.0.8 bash -s",
    ),
    "with a key and known hosts of one's own": (
        {"ssh_key": TOP / "tasks.py", "ssh_known_hosts": Path("/etc/my hosts")},
        "2",
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"/etc/my hosts\"' "
        f"-i {TOP}/tasks.py -o IdentitiesOnly=yes 10.0.0.8 bash -s",
    ),
}


@pytest.mark.parametrize(("values", "number", "line"), REACHED.values(), ids=REACHED)
def test_a_host_is_reached_by_one_function(values: dict[str, Any], number: str, line: str) -> None:
    text = written("cluster.start", scope(WORKERS, **values))
    assert [line for line in text.splitlines() if line.startswith(f"on_{number}()")] == [
        f"on_{number}() {{ {line}; }}  # {('head', '10.0.0.7:2222', '10.0.0.8')[int(number)]}"
    ]


@pytest.mark.parametrize("task", PLANNERS)
def test_nothing_but_the_hosts_functions_connects(task: str) -> None:
    of = CLUSTERS["behind SSH, with ECR"]
    text = written(task, of)
    functions = [line for line in text.splitlines() if line.startswith("on_")]
    assert len(functions) == len({line.split("(")[0] for line in functions}) <= len(of.inventory.nodes)
    assert text.count("ssh -o BatchMode=yes -o") == len(functions)


def test_hosts_come_one_after_the_other_and_the_head_first() -> None:
    marks = [
        line
        for line in written("cluster.start", CLUSTERS["this machine and workers"]).splitlines()
        if line.startswith("# ---")
    ]
    assert marks == ["# --- head", "# --- 10.0.0.7:2222", "# --- 10.0.0.8", "# --- head"]


@pytest.mark.parametrize(
    "name", ["image", "ray_version", "head_address", "token", "run", "repository_uri", "registry_password"]
)
def test_what_all_nodes_share_is_found_out_once(name: str) -> None:
    lines = written("cluster.start", SSH).splitlines()
    assert len([line for line in lines if line.startswith(f"{name}=$(")]) == 1


def test_a_new_session_follows_where_the_user_joins_a_group() -> None:
    lines = written("cluster.setup", SSH).splitlines()
    joins = [at for at, line in enumerate(lines) if "usermod -a -G docker" in line and not line.startswith("#")]
    assert [lines[at + 1] for at in joins] == ["LINES"] * 3


TOOLS = {
    "cluster.stop": ("this machine alone", "bash"),
    "cluster.install": ("behind SSH, with ECR", "bash ssh"),
    "cluster.start": ("behind SSH, with ECR", "bash ssh aws"),
    "publish.image": ("this machine alone", "bash aws"),
    "build.image": ("behind SSH, with ECR", "bash ssh"),
    "build.base": ("this machine alone", "bash"),
}


@pytest.mark.parametrize("task", TOOLS)
def test_what_the_operators_side_calls_is_looked_for_first(task: str) -> None:
    cluster, tools = TOOLS[task]
    assert f"for tool in {tools}; do" in written(task, CLUSTERS[cluster])


def test_what_only_a_comment_names_is_not_looked_for() -> None:
    text = written("publish.image", OWN)
    assert "# eval $(aws ecr get-login" in text
    assert "for tool in bash; do" in text


def test_a_shell_behind_ssh_looks_for_it() -> None:
    text = terminal_script("cluster.shell", SSH, SSH.inventory.head, "docker exec", "docker exec -t -i x bash")
    assert "for tool in bash ssh; do" in text


def test_the_operators_git_is_looked_for_where_it_copies() -> None:
    assert "for tool in bash ssh git; do" in written("build.image", CLUSTERS["a project that is copied"])


def test_an_endpoint_of_ones_own_is_told_to_aws() -> None:
    text = written("publish.image", CLUSTERS["this machine alone"])
    assert """export AWS_ENDPOINT_URL='http://ecr.test:4566/?a=1&b='"'"'2'"'"''""" in text.splitlines()


EVIL = ("--volume=/:/mnt", "10.0.0.1 --head", "*", "a;b", "$(id)", "a\nb", "a\t-x", "x -")
GOOD = (
    "",
    "10.0.0.1",
    "fd00::1",
    "[fd00::1]:5000/a",
    "registry.test:5000/team/my-app@sha256:0a",
    "2.60.0 3.12.3",
    "2.0.0.dev0+x-y",
)


@pytest.mark.parametrize("word", [*EVIL, *GOOD])
def test_what_the_head_says_is_an_option_or_a_line_nowhere(word: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f'{PRELUDE}\nplain fine "$1"; echo on', "bash", word],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (("on\n", 0) if word in GOOD else ("", 1))


def test_what_the_head_says_is_looked_at_before_a_worker_is_told() -> None:
    lines = written("cluster.start", SSH).splitlines()
    told = next(at for at, line in enumerate(lines) if line.startswith("to on_1 ") and "head_address" in line)
    (looked,) = [at for at, line in enumerate(lines) if line.startswith("plain ") and '"$head_address"' in line]
    assert looked < told


# --- what it does ----------------------------------------------------------------------------------------------

# Programs of a machine that a script may call, as they are. What is not here or below cannot be found.
REAL = ("bash", "cat", "cut", "env", "grep", "head", "mkdir", "mktemp", "rm", "sh", "sha256sum", "tail", "tar")
# Programs that change a machine, or ask what only a real one knows.
STUBS = {
    "apt-get service usermod install mmdebstrap dockerd sleep cp timeout ss": "exit 0",
    "sudo": 'shift; exec "$@"',
    "ssh": "NODE=${*: -3:1} exec bash -s",
    "id": 'case "$1" in -u) echo 1000 ;; -un) echo ubuntu ;; *) echo ubuntu docker ;; esac',
    "ip": 'echo "192.0.2.1 dev eth0 src 10.0.0.1 uid 0"',
    "git": f"echo '{'c' * 40}\tHEAD'",
    "aws": """case "$*" in
  *get-login-password*) echo "$(<"$STATE/password")" ;;
  *--query*) echo registry.test/my-app ;;
  *describe-repositories*) [ -e "$STATE/repository" ] ;;
  *create-repository*) : >"$STATE/repository" ;;
  *) exit 64 ;;
esac""",
    "docker": r"""here=$STATE/${NODE:-local}
config=$here
[ "$1" = --config ] && config=$2 && shift 2
last=${!#}
image=$here/image.${last//\//%}
box=$here/box.$last
case "$*" in
  'image inspect -f {{.Id}} '*) [ -e "$image" ] && echo "sha256:$ID" ;;
  'image inspect -f {{.Os}}'*) [ -e "$image" ] && echo linux/arm64 ;;
  'version -f '*) echo linux/arm64 ;;
  'run --rm --cap-drop ALL --security-opt no-new-privileges --network none --entrypoint sh '*)
    echo a word of its own; echo "$RAY" ;;
  'image inspect -f {{index'*) [ -e "$image" ] && echo "$(<"$image")" ;;
  'image inspect '*) [ -e "$image" ] ;;
  'pull '*registry.test/*) [ -e "$config/login" ] && : >"$image" && : >"${image%:*}@$DIGEST" &&
    echo "Digest: $DIGEST" ;;
  'pull '*) : >"$image" && echo "Digest: $DIGEST" ;;
  'tag '*) : >"$image" ;;
  'push '*registry.test/*) [ -e "$config/login" ] && echo "sha256:$ID" >"$here/pushed.${last//\//%}" ;;
  'manifest inspect '*) echo "$(<"$here/pushed.${last//\//%}")" ;;
  'login '*) IFS= read -r it && printf %s "$it" >"$config/login" && printf %s "$it" >"$here/login.$last" ;;
  'push '*) ;;
  'import '*) cat >/dev/null; : >"$image" ;;
  'build -t '*) echo "$(<"$last/Dockerfile")" >"$here/Dockerfile"; echo "${5#*=}" >"$here/image.${3//\//%}" ;;
  'info -f {{.MemTotal}}') echo 8589934592 ;;
  'info -f {{.NCPU}}') echo 4 ;;
  'info '*) echo ;;
  version) ;;
  'ps '*name=*)
    line=$*
    name=${line#*name=^/} name=${name%%\$*}
    [ -e "$here/box.$name" ] || exit 0
    state=$(<"$here/box.$name")
    case "$*" in 'ps -q '*) wanted=true ;; *status=*) wanted=false ;; *) wanted=$state ;; esac
    [ "$state" != "$wanted" ] || echo "id-of-$name" ;;
  'ps '*role=*) for one in "$here"/box.*"${last##*=}"; do [ ! -e "$one" ] || echo "${one##*/box.}"; done ;;
  'inspect -f {{.Config.User}} '*) echo ray ;;
  'inspect -f {{if '*raydock.image*) [ -e "$box" ] && echo "$(<"$box.raydock.image")" ;;
  'inspect -f {{if '*raydock.ray*) [ -e "$box" ] && echo "$(<"$box.raydock.ray")" ;;
  'inspect -f {{index '*raydock.cluster*) [ -e "$box" ] && echo "$(<"$box.raydock.cluster")" ;;
  'inspect -f '*)
    [ -e "$box" ] || exit 1
    said=$(<"$box") rest=$3
    while [[ $rest =~ \"(raydock\.[a-z]+)\"(.*) ]]; do
      said+=" $(<"$box.${BASH_REMATCH[1]}")" rest=${BASH_REMATCH[2]}
    done
    echo "$said" ;;
  'inspect '*) [ -e "$box" ] ;;
  'create --name '*)
    name=$3 all=("$@")
    echo false >"$here/box.$name"
    for at in "${!all[@]}"; do
      label=${all[at + 1]-}
      [ "${all[at]}" != --label ] || echo "${label#*=}" >"$here/box.$name.${label%%=*}"
    done ;;
  'start '*) echo true >"$box" ;;
  'stop '*) echo false >"$box" ;;
  'rm '*) for name in "${@:2}"; do rm "$here/box.${name#id-of-}"; done ;;
  'cp '*':/etc/passwd -') tar -C "$STATE" -cf - passwd ;;
  'cp - '*) cat >"$here/token.tar" ;;
  'diff '*) [ ! -e "$here/token.tar" ] || echo 'C /run
A /run/ray-token' ;;
  'cp '*':/run/ray-token -') [ -e "$here/token.tar" ] && cat "$here/token.tar" ;;
  *'print(len('*) echo 3 ;;
  *'print(json.dumps('*) echo '[]' ;;
  'exec '*' ray status') ;;
  *) echo "docker $*: not expected" >&2; exit 64 ;;
esac""",
}
RECORD = """printf -v line '%s\\x1f' "${NODE:-local}" "${0##*/}" "$@"
printf '%s\\x1e' "$line" >>"$STATE/calls"
"""


@dataclass
class Machines:
    """Machines of files: programs that record how they are called, and do little else."""

    folder: Path
    ray: str = "2.60.0"

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a script, and give what came of it."""
        (self.folder / "calls").write_text("", encoding="utf-8")
        environment = {
            "PATH": str(self.folder / "bin"),
            "STATE": str(self.folder),
            "HOME": str(self.folder),
            "ID": IMAGE_ID.removeprefix("sha256:"),
            "DIGEST": DIGEST,
            "RAY": self.ray,
        }
        return subprocess.run(
            ["/bin/bash", "-s"],
            input=text,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> Sequence[tuple[str, ...]]:
        """Give each call: the machine, and the words."""
        text = (self.folder / "calls").read_text(encoding="utf-8")
        return [tuple(call.split("\x1f")[:-1]) for call in text.split("\x1e")[:-1]]

    def where(self, *words: str) -> list[str]:
        """Give the machines where a command line that begins with these words was run, in order."""
        return [node for node, *line in self.calls if tuple(line[: len(words)]) == words]

    def argv(self, node: str, *words: str) -> list[str]:
        """Give the one command line on a machine that begins with these words."""
        (line,) = [line for one, *line in self.calls if one == node and tuple(line[: len(words)]) == words]
        return line

    def have(self, *images: str, node: str = "ubuntu@10.0.0.1") -> None:
        """Put images into an engine."""
        for image in images:
            (self.folder / node / f"image.{image.replace('/', '%')}").touch()

    @property
    def running(self) -> set[str]:
        """Give the machines that have a running container."""
        return {box.parent.name for box in self.folder.glob("*/box.*") if box.read_text() == "true\n"}

    @property
    def token(self) -> str:
        """Give Ray's token, as it was laid into the head's container."""
        with tarfile.open(next(iter(self.folder.glob("*/token.tar")))) as tar:
            (member,) = tar.getmembers()
            assert (member.name, member.mode & 0o777, member.uid) == ("ray-token", 0o600, 1000)
            file = tar.extractfile(member)
            assert file
            return file.read().decode()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give two folders of programs: in `watched` also those record their calls that are as they are."""
    folder = tmp_path_factory.mktemp("machines")
    for bin_ in (folder / "bin", folder / "watched"):
        for names, body in STUBS.items():
            for name in names.split():
                program(bin_, name, RECORD + body)
    for name in REAL:
        (folder / "bin" / name).symlink_to(f"/usr/bin/{name}")
        program(folder / "watched", name, f'{RECORD}exec /usr/bin/{name} "$@"')
    return folder


def machines_in(folder: Path, programs: Path) -> Machines:
    """Give machines on which nothing runs, under the folder."""
    (folder / "bin").symlink_to(programs)
    (folder / "calls").touch()
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    (folder / "passwd").write_text("root:x:0:0::/:\nray:x:1000:100::/:\n", encoding="utf-8")
    for node in ("local", HEAD, ONE, TWO):
        (folder / node).mkdir()
    return Machines(folder)


@pytest.fixture
def machines(programs: Path, tmp_path: Path) -> Iterator[Machines]:
    yield machines_in(tmp_path, programs / "bin")
    assert not Path("/tmp/never").exists()  # noqa: S108 - what a hostile value would make


@pytest.fixture(scope="module")
def started(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """Give machines after the script of `cluster.start`; tests read what it did."""
    machines = machines_in(tmp_path_factory.mktemp("started"), programs / "watched")
    ends_well(machines, written("cluster.start", SSH))
    return machines


def ends_well(machines: Machines, text: str) -> None:
    """Run a script, and check what holds of each."""
    done = machines.run(text)
    for complaint in ("unbound variable", "command not found", "No such file", "not expected"):
        assert complaint not in done.stderr
    assert done.returncode == 0, done.stderr
    words = " ".join(word for call in machines.calls for word in call)
    assert [secret for secret in (PLANTED, PASSWORD) if secret in words] == []


RUNS: dict[str, Any] = {
    "build.base, with a root image": ("build.base", SSH, ["raydock/python-root"]),
    "build.image, with a base image": ("build.image", SSH, ["ray-project/deploy"]),
    "publish.repository": ("publish.repository", SSH, []),
    "cluster.setup": ("cluster.setup", SSH, []),
    "cluster.stop": ("cluster.stop", SSH, []),
    "cluster.start, on this machine": ("cluster.start", CLUSTERS["this machine alone"], ["my-app"]),
    "cluster.pull, on one worker": ("cluster.pull", CLUSTERS["a part of it"], []),
}
UNABLE: dict[str, Any] = {
    "build.base": ("build.base", SSH, []),
    "build.image": ("build.image", SSH, []),
    "cluster.pull, of a registry of one's own": ("cluster.pull", OWN, []),
    "cluster.pull, of another repository of ECR": (
        "cluster.pull",
        scope("10.0.0.8", image="1.dkr.ecr.eu-west-1.amazonaws.com/a:1"),
        [],
    ),
}


@pytest.mark.parametrize(("task", "of", "images"), [*RUNS.values(), *UNABLE.values()], ids=[*RUNS, *UNABLE])
def test_a_script_works(task: str, of: Scope, images: list[str], machines: Machines) -> None:
    machines.have(*images, node="local" if of.inventory.head.local else HEAD)
    ends_well(machines, written(task, of))


NOT_ASKED: dict[str, Any] = {
    "cluster.start-head, of a public image": ("cluster.start-head", PUBLIC, []),
    "publish.image, to a registry of one's own": ("publish.image", OWN, ["my-app"]),
}


@pytest.mark.parametrize(("task", "of", "images"), NOT_ASKED.values(), ids=NOT_ASKED)
def test_aws_is_not_asked_for_what_is_not_its(task: str, of: Scope, images: list[str], machines: Machines) -> None:
    machines.have(*images, node="local")
    ends_well(machines, written(task, of))
    assert [call for call in machines.calls if "aws" in call] == []


def test_each_node_has_one_container_after_a_start_and_the_head_has_it_first(started: Machines) -> None:
    assert started.where("docker", "create") == started.where("docker", "start") == [HEAD, ONE, TWO]


def test_the_token_is_laid_into_each_container_and_in_no_command_line(started: Machines) -> None:
    token = started.token
    assert len(token) == 64
    assert started.where("docker", "cp", "-") == [HEAD, ONE, TWO]
    assert [call for call in started.calls if any(token in word for word in call)] == []


def test_the_registrys_password_arrives_by_the_standard_input(started: Machines) -> None:
    logins = [(started.folder / node / "login.registry.test").read_text() for node in (HEAD, ONE, TWO)]
    assert logins == [PASSWORD] * 3


def test_docker_is_told_of_a_worker_what_the_run_tells_it(started: Machines) -> None:
    labels = {path.name.split(".")[-1]: path.read_text() for path in (started.folder / TWO).glob("box.*.raydock.*")}
    asked = containers(SSH)[TWO]
    assert labels == {
        "address": "10.1.0.8\n",
        "asked": f"{asked.asked}\n",
        "cluster": "ray\n",
        "head": "10.0.0.1:6379\n",
        "image": f"registry.test/my-app@{DIGEST}\n",
        "ray": "2.60.0\n",
        "role": "worker\n",
        "run": f"{hashlib.sha256(started.token.encode()).hexdigest()[:12]}\n",
        "spec": f"{asked.spec}\n",
    }
    argv = started.argv(TWO, "docker", "create")
    assert argv[argv.index("--network") :] == [
        *("--network", "host", "--shm-size", "2834678415", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--env", "RAY_AUTH_MODE=token", "--env", "RAY_AUTH_TOKEN_PATH=/run/ray-token"),
        *("--env", "RAY_USAGE_STATS_ENABLED=0"),
        *("--env", 'GREETING=$(touch /tmp/never) `touch /tmp/never` "quoted"'),
        *(f"registry.test/my-app@{DIGEST}", "ray", "start", "--block", "--address=10.0.0.1:6379"),
        *("--object-manager-port=8076", "--node-ip-address=10.1.0.8", "--num-cpus=2"),
    ]


def test_an_old_ray_is_told_its_own_flags_and_asked_nothing(machines: Machines) -> None:
    machines.ray = "0.5.3"
    open_to_all = replace(SSH, settings=SSH.settings.model_copy(update={"allow_unauthenticated": True}))
    for task in ("cluster.start", "cluster.start", "cluster.status"):
        ends_well(machines, written(task, open_to_all))
        if task == "cluster.start" and machines.where("docker", "create"):
            assert machines.argv(TWO, "docker", "create")[-5:] == [
                *("--block", "--redis-address=10.0.0.1:6379", "--object-manager-port=8076"),
                *("--node-ip-address=10.1.0.8", "--num-workers=2"),
            ]
        assert machines.where("docker", "exec") == []
    assert machines.running == {HEAD, ONE, TWO}


AGAIN: dict[str, tuple[str, Scope, int, list[str]]] = {
    "cluster.start does nothing more": ("cluster.start", SSH, 0, []),
    "cluster.status looks": ("cluster.status", SSH, 0, []),
    "cluster.start with another spec touches nothing": (
        "cluster.start",
        scope(WORKERS, head=HEAD, num_workers="3", **ALWAYS),
        1,
        [],
    ),
    "cluster.stop stops the workers and then the head": ("cluster.stop", SSH, 0, [ONE, TWO, HEAD]),
}


@pytest.mark.parametrize(("task", "of", "code", "stopped"), AGAIN.values(), ids=AGAIN)
def test_where_a_cluster_runs(
    task: str, of: Scope, code: int, stopped: list[str], started: Machines, programs: Path, tmp_path: Path
) -> None:
    shutil.copytree(started.folder, tmp_path / "copy", symlinks=True)
    machines = Machines(tmp_path / "copy")
    (machines.folder / "bin").unlink()
    (machines.folder / "bin").symlink_to(programs / "bin")
    done = machines.run(written(task, of))
    assert (done.returncode, "unbound variable" in done.stderr) == (code, False), done.stderr
    assert not code or "raydock-ray-head runs with another spec or is not ours: nothing was touched" in done.stderr
    assert [machines.where("docker", verb) for verb in ("create", "start", "pull")] == [[], [], []]
    assert machines.where("docker", "stop") == stopped
    assert machines.running == {HEAD, ONE, TWO} - set(stopped)
    assert [call for call in machines.calls if any(started.token in word for word in call)] == []


def test_an_image_is_published_once_by_its_script(machines: Machines) -> None:
    machines.have("my-app")
    ends_well(machines, written("publish.image", SSH))
    assert machines.where("docker", "tag") == [HEAD, HEAD]
    assert machines.argv("local", "aws", "ecr", "create-repository") == [
        *("aws", "ecr", "create-repository", "--region", "eu-west-1", "--repository-name", "my-app"),
        *("--image-tag-mutability", "IMMUTABLE_WITH_EXCLUSION"),
        *("--image-tag-mutability-exclusion-filters", "filterType=WILDCARD,filter=latest"),
        *("--image-scanning-configuration", "scanOnPush=true"),
    ]
    pushed = [path.name for path in (machines.folder / HEAD).glob("pushed.*")]
    assert sorted(pushed) == ["pushed.registry.test%my-app:1d1d1d1d1d1d", "pushed.registry.test%my-app:latest"]
    ends_well(machines, written("publish.image", SSH))
    assert [words for words in machines.calls if {"create-repository", "tag", "push"} & set(words)] == []


@pytest.mark.parametrize("of", [SSH, LOCAL], ids=["behind SSH", "on this machine"])
def test_a_hostile_installation_script_reaches_the_build_as_it_is(of: Scope, machines: Machines) -> None:
    node = "local" if of.inventory.head.local else HEAD
    machines.have("ray-project/deploy", node=node)
    ends_well(machines, written("build.image", of))
    built = (machines.folder / node / "Dockerfile").read_text(encoding="utf-8")
    (line,) = [line for line in built.splitlines() if line.startswith("RUN /bin/sh")]
    assert shlex.split(line) == ["RUN", "/bin/sh", "-e", "-c", HOSTILE]

    site = built_by_the_run(of)
    assert site.docker.contexts == [{"Dockerfile": built.rstrip("\n").encode()}]
    label = f"raydock.recipe={site.docker.images['my-app'].labels['raydock.recipe']}"
    assert machines.argv(node, "docker", "build")[:5] == ["docker", "build", "-t", "my-app", "--label"]
    assert machines.argv(node, "docker", "build")[5] == label

    ends_well(machines, written("build.image", of))
    assert machines.where("docker", "build") == []


def built_by_the_run(of: Scope) -> FakeSite:
    """Give the head after the run built the image."""
    site = Cluster(of).head
    site.docker.images["ray-project/deploy"] = Image()
    site.answers["env GIT_TERMINAL_PROMPT=0"] = f"{'c' * 40}\tHEAD\n"
    (stage,) = image_plans.build_image(of).stages
    for step in stage.chains[0].steps:
        if not step.done(site):
            step.apply(site)
    return site
