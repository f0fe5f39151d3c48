"""The tasks: what the prompt offers, how little it loads, and what a dry run prints."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from invoke.program import Program
from invoke.tasks import Task

import tasks
from deploy import build, cluster, desk, publish
from deploy.errors import Failure
from deploy.hints import AFTER
from deploy.plans import PLANNERS, planner_of
from tests.schema import checked

from .fakes import TOP

NAMES = sorted(tasks.namespace.task_names)
HEAVY = ("pydantic", "dotenv", "docker", "boto3", "botocore", "fabric", "paramiko", "rich", "requests")


def task(name: str) -> Task[Callable[..., object]]:
    found = tasks.namespace[name]
    assert isinstance(found, Task)
    return found


# --- what the prompt offers ------------------------------------------------------------------------------------


def test_every_task_of_the_contract_that_there_is_has_its_name() -> None:
    assert [name for name in NAMES if "_" in name] == []
    for name in (
        *("build.base", "build.dockerfile", "build.image", "publish.image", "publish.repository"),
        *("cluster.install", "cluster.pull", "cluster.setup", "cluster.trust", "cluster.status", "job.run"),
        *("cluster.shell", "cluster.exec", "job.list", "job.logs", "job.stop"),
        *("cluster.start", "cluster.start-head", "cluster.start-workers"),
        *("cluster.stop", "cluster.stop-head", "cluster.stop-workers", "sandbox.up", "sandbox.down"),
    ):
        assert name in NAMES


def test_build_and_publish_need_no_second_word() -> None:
    assert (tasks.namespace["build"], tasks.namespace["publish"]) == (task("build.image"), task("publish.image"))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_in_one_imperative_line_what_the_operator_gets(name: str) -> None:
    text = (task(name).__doc__ or "").strip().partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][a-z]+ [^\n]+\.", text), text
    assert not text.split()[0].endswith("s"), "an order, not a description"


@pytest.mark.parametrize("name", NAMES)
def test_a_task_has_help_for_each_of_its_flags(name: str) -> None:
    missing = [argument.names for argument in task(name).get_arguments() if not argument.help]
    assert missing == []


EVERY_DAY = [name for name in NAMES if name.partition(".")[0] in ("build", "publish", "cluster", "job")]


@pytest.mark.parametrize("name", [name for name in EVERY_DAY if name != "build.dockerfile"])
def test_a_program_can_read_what_came_of_a_task(name: str) -> None:
    assert "json" in {argument.name for argument in task(name).get_arguments()}


# What the head alone is asked for.
OF_THE_HEAD = {"cluster.history", "cluster.dashboard"}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("cluster.") and name not in OF_THE_HEAD])
def test_a_task_of_the_cluster_can_be_for_some_nodes_only(name: str) -> None:
    assert "only" in {argument.name for argument in task(name).get_arguments()}


@pytest.mark.parametrize("name", sorted(AFTER))
def test_the_next_move_of_a_task_is_one_that_there_is(name: str) -> None:
    assert name in NAMES
    assert AFTER[name].split()[0] in {*NAMES, "build", "publish"}


def test_each_task_that_acts_on_nodes_has_a_next_move() -> None:
    asking = {"build.dockerfile", "build.shell", "build.containers", "cluster.shell", "cluster.exec"} | OF_THE_HEAD
    assert {name for name in EVERY_DAY if not name.startswith("job.")} - set(AFTER) == asking


# --- how little it loads ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of what Raydock is made of, without anybody's settings."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("tasks.py", "Dockerfile.template"):
        shutil.copy(TOP / name, folder)
    for name in ("deploy", "conf/base"):
        shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


LOADED = f"""\
import sys
from invoke.program import Program
for words in (["--list"], ["--help", "cluster.start"], ["--help", "build"]):
    Program().run(["invoke", *words], exit=False)
print("loaded:", sorted({set(HEAVY) | {"deploy.plans"}!r} & set(sys.modules)))
"""
PLANS = {"deploy.plans.cluster", "deploy.plans.image", "deploy.plans.nodes"}
# What a plan is printed without: whatever contacts anybody.
LOADED_DRY = f"""\
import sys
from invoke.program import Program
Program().run(["invoke", "--dry", *sys.argv[1:]], exit=False)
print("loaded:", sorted({set(HEAVY) | PLANS!r} & set(sys.modules)))
"""

# What is registered first is called last: it sees what the process leaves to Python's own end.
LEFT = """\
import atexit
import gc
atexit.register(lambda: print("looked at again:", not gc.get_freeze_count()))
from invoke.program import Program
Program().run(["invoke", "--list"], exit=False)
"""

# Of a local head: nothing is contacted but an engine that is not there.
TIDY = """\
import gc
from deploy import interruption
from invoke.program import Program
heard, seen = interruption.heard, []
interruption.heard = lambda *told: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)) or heard(*told)
Program().run(["invoke", "cluster.status"], exit=False)
print("looked for garbage:", seen)
"""


def test_the_list_and_the_help_load_nothing_heavy_and_no_settings(copy: Path, tmp_path: Path) -> None:
    for name in ("tasks.py", "deploy"):
        (tmp_path / name).symlink_to(copy / name)
    (tmp_path / ".env").write_bytes(b"NOT A SETTING\n=\xff\n'")
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("loaded: []\n")
    assert "cluster.start-workers" in done.stdout
    assert "--image" in done.stdout


@pytest.mark.parametrize(
    ("task", "plans"),
    [("cluster.start", "'deploy.plans.cluster', 'deploy.plans.nodes'"), ("cluster.setup", "'deploy.plans.nodes'")],
)
def test_a_dry_run_loads_the_settings_and_nothing_else_that_is_heavy(copy: Path, task: str, plans: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_DRY, task],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"loaded: [{plans}, 'dotenv', 'pydantic']"


# A package that is installed beside Raydock, and asks pydantic for a part in whatever is validated.
PLUGIN = {
    "listens.py": "print('a plugin listens')\nplugin = None\n",
    "listens-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: listens\nVersion: 1\n",
    "listens-1.dist-info/entry_points.txt": "[pydantic]\nlistens = listens:plugin\n",
}


def test_no_package_that_is_installed_too_takes_part_in_reading_settings(copy: Path, tmp_path: Path) -> None:
    for name, text in PLUGIN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LOADED_DRY, "cluster.start"],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a plugin listens" not in done.stdout
    assert "docker create" in done.stdout


def test_at_the_end_python_does_not_look_for_garbage_once_more(copy: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], cwd=copy, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "looked at again: False"


def test_python_looks_for_garbage_once_nodes_are_at_work(copy: Path, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = subprocess.run([sys.executable, "-c", TIDY], cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "looked for garbage: [(True, True)]"


@pytest.mark.parametrize("module", [build, cluster, publish], ids=lambda module: module.__name__)
def test_a_task_performs_the_plan_that_has_its_name(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    calls = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func) == "perform"]
    named = [ast.literal_eval(call.args[1]) for call in calls if "planner" not in {word.arg for word in call.keywords}]
    assert named
    assert set(named) <= set(PLANNERS) & set(NAMES)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("task", PLANNERS)
def test_each_task_has_what_makes_its_plan(task: str) -> None:
    assert callable(planner_of(task))


# --- dry runs --------------------------------------------------------------------------------------------------

SETTINGS = {
    "MY_PROJECT_URL": "https://git.test/team/app.git",
    "HEAD": "ubuntu@10.0.0.1",
    "WORKERS_FILE": "hosts.txt",
    "REGION": "eu-west-1",
    "AWS_SECRET_ACCESS_KEY": "hunter2-of-aws",
}


def test_a_dry_run_prints_scripts_and_contacts_nobody(copy: Path) -> None:
    (copy / "hosts.txt").write_text("ubuntu@10.0.0.7\n10.0.0.8\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "--dry", "build", "publish", "cluster.start", "cluster.stop"],
        cwd=copy,
        env={"PATH": "/nowhere", **SETTINGS},  # nobody's ssh, docker or aws is found
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    parts = done.stdout.split("#!/usr/bin/env bash\n")
    names = [part.partition(":")[0] for part in parts[1:]]
    assert (parts[0], names) == ("", ["# build.image", "# publish.image", "# cluster.start", "# cluster.stop"])
    assert "hunter2" not in done.stdout
    checked = subprocess.run(["/bin/bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def invoke(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give `invoke WORD…` in this process, in a folder of its own; it gives the exit code."""
    (tmp_path / "Dockerfile.template").symlink_to(copy / "Dockerfile.template")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "base").symlink_to(copy / "conf" / "base")
    monkeypatch.setattr(desk, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **settings: str) -> int:
        with monkeypatch.context() as patched:
            patched.setattr("os.environ", {"PATH": "/nowhere", "HOME": str(tmp_path), **settings})
            try:
                Program(namespace=tasks.namespace).run(["invoke", *words])
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    return run


Screen = pytest.CaptureFixture[str]

DRY: dict[str, tuple[tuple[str, ...], dict[str, str], list[str]]] = {
    "the head is this machine unless something else is said": (
        ("cluster.start",),
        {},
        ["on_0() { bash -s; }  # head", "--label raydock.role=head", "echo --head --block --port=6379"],
    ),
    "the image of the command line": (
        ("cluster.pull", "--image", "rayproject/ray:2.58.0"),
        {"IMAGE": "rayproject/ray:2.60.0"},
        ["docker pull rayproject/ray:2.58.0"],
    ),
    "the image of the settings": (
        ("cluster.pull",),
        {"IMAGE": "rayproject/ray:2.60.0"},
        ["docker pull rayproject/ray:2.60.0"],
    ),
    "the base": (("build.base",), {"RAY_VERSION": "2.58.0"}, ['"ray[default]==2.58.0"']),
    "a repository": (("publish.repository",), {"REPOSITORY_NAME": "a/b"}, ["create-repository --repository-name a/b"]),
}


@pytest.mark.parametrize(("words", "given", "lines"), DRY.values(), ids=DRY)
def test_a_dry_run_follows_the_settings(
    words: tuple[str, ...], given: dict[str, str], lines: list[str], invoke: Callable[..., int], capsys: Screen
) -> None:
    assert invoke("--dry", *words, **given) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line for line in lines if line not in printed.out] == []


def test_a_dry_run_may_be_for_some_nodes_only(invoke: Callable[..., int], capsys: Screen) -> None:
    Path("hosts.txt").write_text("10.0.0.7\n10.0.0.8\n", encoding="utf-8")
    assert invoke("--dry", "cluster.stop", "--only", "10.0.0.8", WORKERS_FILE="hosts.txt") == 0
    marks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ---")]
    assert marks == ["# --- 10.0.0.8"]


NO_LINE = {
    "practice hosts": (("sandbox.up",), ""),
    "no practice hosts": (("sandbox.down",), ""),
    "a program": (
        ("job.run", "prog.py"),
        "docker exec raydock-ray-head ray job submit --working-dir {here} -- python prog.py\n",
    ),
    "the list of programs": (("job.list",), "docker exec raydock-ray-head ray job list\n"),
    "the output of a program": (
        ("job.logs", "--id", "my job", "--follow"),
        "docker exec raydock-ray-head ray job logs 'my job' --follow\n",
    ),
    "the output of the latest program": (
        ("job.logs",),
        "docker exec raydock-ray-head ray job logs ID  # ID: the latest of docker exec raydock-ray-head ray job list\n",
    ),
    "a command": (("cluster.exec", "--", "ls", "a b"), "docker exec -i raydock-ray-head ls 'a b'\n"),
    "the end of a program": (("job.stop", "$(reboot)"), "docker exec raydock-ray-head ray job stop '$(reboot)'\n"),
}


@pytest.mark.parametrize(("words", "line"), NO_LINE.values(), ids=NO_LINE)
def test_a_dry_run_of_what_has_no_script_does_nothing(
    words: tuple[str, ...],
    line: str,
    invoke: Callable[..., int],
    capsys: Screen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("docker.from_env", lambda **_: pytest.fail("an engine was asked"))
    monkeypatch.setattr("sys.argv", ["invoke", "--dry", *words])
    Path("prog.py").touch()
    assert invoke("--dry", *words) == 0
    assert capsys.readouterr().out == line.format(here=Path.cwd())


AT_A_TERMINAL = {
    "cluster.shell": ["# docker exec -t -i <container-id> bash", "docker exec -t -i raydock-ray-head bash"],
    "build.shell": [
        "# docker run -t -i ray-project/deploy",
        "docker run -t -i --label raydock.manual=ray ray-project/deploy bash",
    ],
}


@pytest.mark.parametrize(("task", "lines"), AT_A_TERMINAL.items())
def test_a_dry_run_of_a_shell_is_a_script_of_one_line(
    task: str, lines: list[str], invoke: Callable[..., int], capsys: Screen
) -> None:
    assert invoke("--dry", task) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"#!/usr/bin/env bash\n# {task}: ")
    assert printed.splitlines()[-3:] == ["# --- head", *lines]


def test_the_dockerfile_can_be_seen(invoke: Callable[..., int], capsys: Screen) -> None:
    assert (
        invoke("build.dockerfile", MY_PROJECT_URL="https://git.test/a.git", MY_PROJECT_INSTALLATION_SCRIPT="make") == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert "RUN /bin/sh -e -c make" in lines
    assert "      org.opencontainers.image.revision=<my-project-commit>" in lines


def test_a_dockerfile_that_cannot_be_made_is_told_without_a_traceback(
    invoke: Callable[..., int], capsys: Screen
) -> None:
    assert invoke("build.dockerfile") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "MY_PROJECT_URL is not set" in printed.err


WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "a setting": (("cluster.status",), {"REDIS_PORT": "0"}, "CONFIG"),
    "a setting that is missing": (("build",), {}, "CONFIG"),
    "an inventory that is not there": (("cluster.status",), {"WORKERS_FILE": "nope.txt"}, "INVENTORY"),
    "a node that there is not": (("cluster.status", "--only", "nope"), {}, "USAGE"),
    "no node": (("cluster.status", "--only", ""), {}, "USAGE"),
    "no command": (("cluster.exec",), {}, "USAGE"),
    "a shell on a node that there is not": (("cluster.shell", "--only", "nope"), {}, "USAGE"),
    "a setting, in a dry run": (("--dry", "cluster.start"), {"REDIS_PORT": "0"}, "CONFIG"),
}


@pytest.mark.parametrize(("words", "given", "code"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_exit_2_and_a_document_all_the_same(
    words: tuple[str, ...], given: dict[str, str], code: str, invoke: Callable[..., int], capsys: Screen
) -> None:
    assert invoke(*words, "--json", **given) == 2
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["ok"], document["exit"], document["nodes"]) == (False, 2, [])
    assert {error["code"] for error in document["errors"]} == {code}
    assert code in printed.err
    assert "Traceback" not in printed.err


def test_a_shell_is_on_one_node(invoke: Callable[..., int], capsys: Screen) -> None:
    Path("workers.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert invoke("--dry", "cluster.shell", "--only", "two", WORKERS_FILE="workers.txt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        "ssh -t -o BatchMode=yes -o StrictHostKeyChecking=yes two 'docker exec -t -i raydock-ray-worker bash'"
    )
    assert invoke("cluster.shell", "--only", "one,two", WORKERS_FILE="workers.txt") == 2
    assert "--only one,two names 2 nodes" in capsys.readouterr().err


# --- performed -------------------------------------------------------------------------------------------------


class Performs:
    """Stands for the group: what comes of each node is the test's."""

    what: Callable[[Any], object]

    def __init__(self, run: Any) -> None:
        self.run = run

    def perform(self, _: Any, __: Any) -> None:
        for outcome in self.run.outcomes.values():
            outcome.asked = True
        type(self).what(self.run)


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> type[Performs]:
    made = type("Made", (Performs,), {"what": staticmethod(lambda _: None)})
    monkeypatch.setattr("deploy.group.HostGroup", made)
    return made


def fail(name: str, code: str) -> Callable[[Any], object]:
    def what(run: Any) -> None:
        for node, outcome in run.outcomes.items():
            if node.name == name:
                outcome.fail(Failure(code, "no"), "a step")

    return staticmethod(what)


def interrupted(_: Any) -> None:
    raise KeyboardInterrupt


ENDS: dict[str, tuple[Callable[[Any], object], int]] = {
    "all went well": (staticmethod(lambda _: None), 0),
    "a worker failed": (fail("one", "DISK_FULL"), 3),
    "the head failed": (fail("head", "DISK_FULL"), 1),
    "a worker was unreachable": (fail("one", "SSH_TIMEOUT"), 4),
    "we were refused": (fail("one", "HOST_KEY_CHANGED"), 6),
    "somebody interrupted it": (staticmethod(interrupted), 130),
}


@pytest.mark.parametrize(("what", "code"), ENDS.values(), ids=ENDS)
def test_the_process_ends_with_the_reports_code(
    what: Callable[[Any], object], code: int, invoke: Callable[..., int], performed: type[Performs], capsys: Screen
) -> None:
    Path("workers.txt").write_text("one\ntwo\n", encoding="utf-8")
    performed.what = what
    assert invoke("cluster.start", "--json") == code
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    document = json.loads(line)
    assert (document["exit"], document["ok"], document["task"]) == (code, code == 0, "cluster.start")
    assert [node["node"] for node in document["nodes"]] == ["head", "one", "two"]


def test_of_several_tasks_the_first_that_fails_ends_the_line(
    invoke: Callable[..., int], performed: type[Performs], capsys: Screen
) -> None:
    performed.what = fail("head", "DISK_FULL")
    assert invoke("cluster.install", "--json", "cluster.status", "--json") == 1
    assert [json.loads(line)["task"] for line in capsys.readouterr().out.splitlines()] == ["cluster.install"]


def test_a_bug_of_ours_is_not_told_as_a_failure(invoke: Callable[..., int], performed: type[Performs]) -> None:
    def bug(_: Any) -> None:
        raise ZeroDivisionError

    performed.what = staticmethod(bug)
    with pytest.raises(ZeroDivisionError):
        invoke("cluster.install")


def test_a_bug_at_a_node_is_told_behind_the_report_and_a_program_reads_its_document(
    invoke: Callable[..., int], performed: type[Performs], capsys: Screen
) -> None:
    def bug(run: Any) -> None:
        fail("head", "BUG")(run)
        run.bugs.extend([ZeroDivisionError("\x1b[2J\nagain: invoke x")] * 3)

    performed.what = staticmethod(bug)
    assert invoke("cluster.install", "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["nodes"][0]["code"] == "BUG"
    assert "ZeroDivisionError: \\x1b[2J\n    │ again: invoke x\nand 2 more" in printed.err


FIRST = {
    "one machine alone": ({}, ["no workers.txt: one machine, the head alone"]),
    "what the environment decided": (
        {"APP_TAG": "app", "CLUSTER_NAME": "blue"},
        ["from the environment: APP_TAG, CLUSTER_NAME", "no workers.txt: one machine, the head alone"],
    ),
}


@pytest.mark.parametrize(("given", "lines"), FIRST.values(), ids=FIRST)
def test_the_first_lines_say_what_the_command_line_does_not(
    given: dict[str, str], lines: list[str], invoke: Callable[..., int], performed: type[Performs], capsys: Screen
) -> None:
    assert performed
    assert invoke("cluster.status", **given) == 0
    assert capsys.readouterr().err.splitlines()[: len(lines)] == lines


def test_only_the_document_is_on_stdout(invoke: Callable[..., int], performed: type[Performs], capsys: Screen) -> None:
    assert performed
    assert invoke("cluster.status") == 0
    assert capsys.readouterr().out == ""


# What a task cannot do without on its command line.
NEEDED = {
    "build.commit": ("c0ffee",),
    "job.run": ("prog.py",),
    "job.stop": ("raydock-1",),
    "job.logs": ("--id", "raydock-1"),
}
BROKEN = {
    "sandbox.up": (("--workers", "many"), {}),
    "sandbox.down": ((), {"DOCKER_HOST": "tcp://192.0.2.1:2375"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_told_also_where_a_task_fails_before_it_begins(
    name: str, invoke: Callable[..., int], capsys: Screen
) -> None:
    Path("prog.py").touch()
    words, given = BROKEN.get(name, (NEEDED.get(name, ()), {"RAY_VERSION": "none", "MY_PROJECT_URL": "x"}))
    code = invoke(name, *words, "--json", **given)
    (line,) = capsys.readouterr().out.splitlines()
    document = checked(json.loads(line))
    assert code not in (0, 130)
    assert (document["task"], document["exit"], document["changed"]) == (name, code, False)
    assert document["errors"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_the_tasks(shell: str, copy: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("invoke"), "--print-completion-script", shell],
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "inv" in done.stdout


TASK = r"(?:build|publish|cluster|job|sandbox)[.a-z-]*"
SAID = re.compile(rf"\binvoke (?:--\S+ )*({TASK}(?: {TASK})*)")
TOLD = ("README.md", ".env.example", "CONTRIBUTING.md", "docs/*.md", "deploy/**/*.py")


def test_each_command_that_a_person_is_told_to_type_is_one_that_there_is() -> None:
    told = {
        (str(path.relative_to(TOP)), word.rstrip(".-"))
        for pattern in TOLD
        for path in TOP.glob(pattern)
        for line in SAID.findall(path.read_text(encoding="utf-8"))
        for word in line.split()
    }
    assert len(told) > 20
    assert sorted(one for one in told if one[1] not in {*NAMES, "build", "publish"}) == []


def raises(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


BROKEN_OFF = {
    "while keys are looked at": ("deploy.trust._all_shown", ("cluster.trust",)),
    "while practice hosts are made": ("deploy.practice.operate.up", ("sandbox.up",)),
    "while practice hosts are removed": ("deploy.practice.operate.down", ("sandbox.down",)),
    "while a Dockerfile is made": ("deploy.plans.image.dockerfile", ("build.dockerfile",)),
    "while it is asked what to replace": ("deploy.replace._others", ("cluster.start", "--replace")),
    "while the settings are read": ("deploy.inputs.read_inputs", ("publish",)),
    "while the head is looked for": ("deploy.desk.open_node", ("job.list",)),
}


@pytest.mark.parametrize(("where", "words"), BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_a_task_that_is_broken_off_ends_with_130_and_its_document(
    where: str, words: tuple[str, ...], invoke: Callable[..., int], capsys: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, raises)
    assert invoke(*words, "--json") == 130
    (line,) = capsys.readouterr().out.splitlines()
    document = checked(json.loads(line))
    assert (document["exit"], document["ok"], document["changed"]) == (130, False, False)
