"""Each command of the README, typed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.observer import NO_ENGINE, TOP, Done, Sandbox, operator

Invoke = Callable[..., Done]

README = (TOP / "README.md").read_text(encoding="utf-8")
TYPED = [
    line.partition("#")[0].strip()
    for line in README.splitlines()
    if line.startswith("    ") and ("invoke " in line or line.startswith("    script/"))
]
# Who else types it.
ELSEWHERE = {
    "script/demo": "test_demo.py",
    "script/test": "whoever reads this line's outcome",
    "invoke build.base build cluster.start": "test_one_machine.py",
    "IMAGE=rayproject/ray:2.60.0 invoke cluster.setup cluster.start": "test_everyday.py, with an image that is here",
    "invoke cluster.shell": "test_inside.py, at a terminal",
    "MY_PROJECT_SOURCE=copy MY_PROJECT_URL=git@git.example.com:team/app.git invoke build": "test_git.py, by HTTP",
    "MY_PROJECT_SOURCE=copy MY_PROJECT_URL=~/app invoke build": "test_git.py, of a folder of its own",
}
# What stands for something else: the README's words, and what is typed here.
STANDS = {"prog.py --folder .": "examples/where.py --folder examples", "prog.py": "examples/where.py", "[ID]": ""}
HERE = [line for line in TYPED if line not in ELSEWHERE]

pytestmark = pytest.mark.timeout(240)


def test_no_command_of_the_readme_is_forgotten() -> None:
    assert sorted(set(ELSEWHERE) - set(TYPED)) == []
    assert len(HERE) > 15


def test_the_commands_of_the_readme_do_what_it_says_in_its_order(running: Sandbox, invoke: Invoke) -> None:  # noqa: ARG001
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**operator({"ENVIRONMENT": "sandbox", **NO_ENGINE}), "PATH": path}
    ended = False
    for line in HERE:
        if ended and "invoke cluster.stop" not in line:
            # What follows in the README is for a cluster that runs.
            invoke("cluster.start")
            ended = False
        typed = line
        for word, stands in STANDS.items():
            typed = typed.replace(word, stands)
        if " ID" in typed:
            typed = typed.replace(" ID", " " + invoke("job.list", "--json").report["jobs"][-1]["job"])
        done = subprocess.run(
            ("bash", "-c", typed),
            cwd=TOP,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{shlex.quote(typed)}\n{done.stdout}\n{done.stderr}"
        ended = "cluster.stop" in line
