"""Commands on this machine, whatever the operator's own Invoke is told to do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from deploy import commands
from deploy.commands import end_children, run_here
from deploy.errors import Failure
from deploy.hosts import LocalHost
from deploy.progress import News, Output
from deploy.run import Run

from .fakes import scope


def test_output_and_errors_are_apart_and_the_code_is_the_commands() -> None:
    done = run_here(("sh", "-c", "echo out; echo err >&2; exit 3"), 10, None)
    assert (done.code, done.output, done.errors) == (3, "out\n", "err\n")


def test_words_stay_words() -> None:
    assert run_here(("printf", "%s|", "two words", "$HOME", "it's"), 10, None).output == "two words|$HOME|it's|"


def test_a_command_that_asks_gets_no_answer() -> None:
    assert run_here(("cat",), 10, None).output == ""


def test_an_absent_command_is_127() -> None:
    assert run_here(("raydock-no-such-command",), 10, None).code == 127


def test_of_a_failed_command_the_last_lines_are_told_and_no_line_without_measure() -> None:
    given = scope()
    host = LocalHost(given.inventory.head, Run(given, cast("Any", None)))
    with pytest.raises(Failure) as caught:
        host.run("sh", "-c", "seq 20; head -c 1000000 /dev/zero | tr '\\0' A; echo; echo why; exit 3")
    lines = caught.value.error.split("\n")
    assert lines[:2] == ["`sh` ended with 3: 13", "14"]
    assert lines[-1] == "why"
    assert len(lines) == 10
    assert len(lines[-2]) < 310


def test_lines_are_told_while_they_come() -> None:
    said: list[News] = []
    run_here(("printf", "10%%\\r50%%\\r\\nGr\\303\\274n\\n"), 10, said.append)
    assert said == [Output("10%"), Output("50%"), Output("Grün")]


def test_a_command_that_does_not_end_is_given_up() -> None:
    with pytest.raises(Failure, match="was not done within 1 s"):
        run_here(("sleep", "30"), 1, None)


@pytest.mark.parametrize("lets_us", [True, False], ids=["sudo ends it", "sudo refuses"])
def test_a_child_of_roots_that_does_not_end_is_given_up_in_time(
    lets_us: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\n{"shift; exec env " if lets_us else "exit 1 # "}"$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("deploy.commands.os.killpg", refuse)
    monkeypatch.setattr("deploy.commands.ENDING", 1.0)
    begun = time.monotonic()
    with pytest.raises(Failure, match="was not done within 1 s"):
        run_here(("sh", "-c", 'echo $$ >"$0"; exec sleep 20', str(tmp_path / "pid")), 1, None)
    assert time.monotonic() - begun < 10
    monkeypatch.undo()
    assert Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists() != lets_us
    for child in list(commands._children):
        commands._end(child)
        child.wait()
        commands._children.discard(child)


def test_one_that_outlives_us_is_let_go_where_it_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GONE", 20.0)
    done = tmp_path / "done"
    with pytest.raises(Failure, match="was not done within 1 s"):
        run_here(("sh", "-c", 'sleep 2; : >"$0"', str(done)), 1, None, outlives=True)
    assert done.exists()


def test_the_operators_own_invoke_settings_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".invoke.yaml").write_text("run:\n  echo: true\n  pty: true\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_here(("sh", "-c", "test -t 1 || echo no terminal"), 10, None)
    assert done.output == "no terminal\n"
    assert capfd.readouterr().out == ""


TOP = Path(__file__).resolve().parents[2]
RUNS = """
import sys
from deploy.commands import run_here
run_here(("sh", "-c", "for i in 1 2 3 4 5; do sleep 0.2; echo $i; done; : >$0", sys.argv[1]), 30, print, outlives={})
"""


@pytest.mark.parametrize("outlives", [True, False], ids=["one that outlives us", "any other"])
def test_where_nobody_reads_its_output_any_more_goes_on_only(outlives: bool, tmp_path: Path) -> None:
    done = tmp_path / "done"
    ours = subprocess.Popen([sys.executable, "-c", RUNS.format(outlives), str(done)], cwd=TOP, stdout=subprocess.PIPE)
    with ours:
        assert ours.stdout
        ours.stdout.readline()
        ours.kill()
    time.sleep(2)
    assert done.exists() == outlives


def test_what_is_at_work_here_is_ended_but_for_what_outlives_us(tmp_path: Path) -> None:
    # Its own child has the pipe, too.
    line = 'echo begun >$0.$1; (sleep 1; : >"$0.$1.done"); :'
    threads = [
        threading.Thread(
            target=run_here,
            args=(("sh", "-c", line, str(tmp_path / "it"), str(outlives)), 30, None),
            kwargs={"outlives": outlives},
            daemon=True,
        )
        for outlives in (True, False)
    ]
    for thread in threads:
        thread.start()
    while len(list(tmp_path.glob("it.*"))) < 2:
        time.sleep(0.05)
    begun = time.monotonic()
    end_children()
    threads[1].join(5)
    assert time.monotonic() - begun < 0.9
    threads[0].join(5)
    time.sleep(0.5)
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["it.True.done"]
