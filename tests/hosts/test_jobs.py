"""Programs that run on: looked at, left, taken up again and stopped."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, Sandbox, operator

Invoke = Callable[..., Done]
ENV = {"ENVIRONMENT": "sandbox", **NO_ENGINE}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """A program that counts to a number, ten a second."""
    program = tmp_path / "counts.py"
    program.write_text(
        "import sys, time\nfor at in range(int(sys.argv[1])):\n    print(at, flush=True)\n    time.sleep(0.1)\n"
    )
    return program


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a task without a terminal; what has not ended ends with the test."""
    begun: list[subprocess.Popen[str]] = []

    def call(*words: str | Path) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [str(INVOKE), *map(str, words)],
                cwd=TOP,
                env=operator(ENV),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield call
    for one in begun:
        one.kill()
        one.communicate()


def line_of(task: subprocess.Popen[str], wanted: str) -> None:
    """Read what a task prints up to a line."""
    assert task.stdout
    for line in task.stdout:
        if line == f"{wanted}\n":
            return
    pytest.fail(f"no {wanted}: {task.communicate()[1]}")


def jobs(invoke: Invoke) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = invoke("job.list", "--json").report["jobs"]
    return listed


def test_a_program_is_followed_over_a_new_connection_and_not_submitted_again(
    invoke: Invoke, running: Sandbox, counts: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    before = len(jobs(invoke))
    task = begin("job.run", counts, "--", "80")
    seen = []
    for number in ("10", "40"):
        assert task.stdout
        for line in task.stdout:
            seen.append(line)
            if line == f"{number}\n":
                break
        # What sshd runs for the operator's connections, all of them.
        running.head.shell("pkill -KILL -u ubuntu -x sshd || true")
    assert task.stdout
    assert task.stderr
    # Not by communicate(), which knows nothing of lines that were read ahead.
    seen.extend(task.stdout)
    err = task.stderr.read()
    assert (task.wait(60), "".join(seen)) == (0, "".join(f"{at}\n" for at in range(80))), err
    assert "lost contact, connecting again" in err
    assert len(jobs(invoke)) == before + 1


def test_a_program_that_was_left_is_listed_shown_and_stopped(
    invoke: Invoke,
    running: Sandbox,  # noqa: ARG001
    counts: Path,
    begin: Callable[..., subprocess.Popen[str]],
) -> None:
    task = begin("job.run", counts, "--", "3000")
    line_of(task, "5")
    task.send_signal(signal.SIGINT)
    _, err = task.communicate(timeout=20)
    job = err.partition("submitted ")[2].split()[0]
    assert task.returncode == 130
    assert f"{job} goes on without us" in err
    assert f"invoke job.logs {job} --follow" in err
    assert f"invoke job.stop {job}" in err
    assert "Traceback" not in err

    *_, last = jobs(invoke)
    assert (last["job"], last["status"], last["job_exit"]) == (job, "RUNNING", None)
    row = invoke("job.list").out.splitlines()[-1]
    assert row.split()[:2] == [job, "RUNNING"]
    assert row.endswith("python counts.py 3000")

    shown = invoke("job.logs")
    assert shown.out.splitlines()[:6] == ["0", "1", "2", "3", "4", "5"]
    assert f"{job} runs" in shown.err

    stopped = invoke("job.stop", job, "--json")
    assert (stopped.report["job"], stopped.report["changed"], stopped.report["job_exit"]) == (job, True, 143)
    again = invoke("job.stop", job, "--json")
    assert not again.report["changed"]
    assert "nothing to do" in again.err
    followed = invoke("job.logs", job, "--follow", exit=143)
    assert followed.out.startswith(shown.out)
    assert jobs(invoke)[-1]["status"] == "STOPPED"


# Stops what Ray has a program ended by.
STUBBORN = """
import os, signal, time
from pathlib import Path
for found in Path("/proc").glob("[0-9]*/cmdline"):
    if b"ray::JobSupervisor" in found.read_bytes():
        os.kill(int(found.parent.name), signal.SIGSTOP)
print("stopped", flush=True)
time.sleep(600)
"""


def test_a_program_that_ray_does_not_end_is_told_and_can_be_ended_later(
    invoke: Invoke, running: Sandbox, tmp_path: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN)
    begin("job.run", program)
    end = time.monotonic() + 60
    while not running.head.attempt("pgrep", "-f", "[s]tubborn.py").out:
        assert time.monotonic() < end, "it does not run"
        time.sleep(0.5)
    job = jobs(invoke)[-1]["job"]
    try:
        time.sleep(2)
        (error,) = invoke("job.stop", job, "--json", exit=1).report["errors"]
        assert (error["code"], error["place"]) == ("JOB_STILL_RUNS", job)
    finally:
        running.head.run("pkill", "-CONT", "-f", "ray::JobSupervisor")
    assert invoke("job.stop", job, "--json").report["job_exit"] == 143


@pytest.mark.parametrize("task", ["job.logs", "job.stop"])
def test_an_unknown_job_is_told_with_the_list_of_those_that_there_are(
    invoke: Invoke,
    running: Sandbox,  # noqa: ARG001
    task: str,
) -> None:
    refused = invoke(task, "raydock-nope", "--json", exit=1)
    assert [error["code"] for error in refused.report["errors"]] == ["JOB_NOT_FOUND"]
    assert "invoke job.list" in refused.err


def test_ctrl_c_asks_and_leaves_the_program_unless_told_otherwise(
    invoke: Invoke,
    running: Sandbox,  # noqa: ARG001
    counts: Path,
) -> None:
    def type_(*words: str) -> pexpect.spawn:
        return pexpect.spawn(str(INVOKE), list(words), cwd=str(TOP), env=operator(ENV), encoding="utf-8", timeout=30)

    def end_of(typed: pexpect.spawn) -> str:
        said = str(typed.read())
        typed.close()
        assert (typed.exitstatus, "Traceback" in said) == (130, False), said
        return said

    typed = type_("job.run", str(counts), "--", "3000")
    typed.expect(r"submitted (raydock-\w+)")
    job = str(typed.match.group(1))
    typed.expect("\r\n5\r\n")
    typed.sendintr()
    typed.expect("Stop it?.*")
    typed.sendline("")
    assert f"{job} goes on without us" in end_of(typed)

    typed = type_("job.logs", job, "--follow")
    typed.expect("\r\n5\r\n")
    typed.sendintr()
    typed.expect("Stop it?.*")
    begun = time.monotonic()
    typed.sendintr()
    assert f"{job} goes on without us" in end_of(typed)
    assert time.monotonic() - begun < 5
    assert jobs(invoke)[-1]["status"] == "RUNNING"

    typed = type_("job.logs", "--follow")
    typed.expect("\r\n5\r\n")
    typed.sendintr()
    typed.expect("Stop it?.*")
    typed.sendline("y")
    assert f"{job} was stopped" in end_of(typed)
    assert jobs(invoke)[-1]["status"] == "STOPPED"
