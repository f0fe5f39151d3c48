"""The tasks about programs, on a played head: what is printed where, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploy import job
from deploy.errors import Failure
from deploy.jobs import JobCourse
from deploy.ray_api import Job, RayApi
from deploy.settings import Settings

from .played_head import LOG, Head, Link, later, once_asked

Screen = pytest.CaptureFixture[str]
ROWS = [
    {"submission_id": "old", "status": "FAILED", "driver_exit_code": -9, "start_time": 1000, "end_time": 3_723_000},
    {"submission_id": "new", "status": "RUNNING", "start_time": 4_000_000, "entrypoint": "python\n\x1b[31mf.py"},
]


NOTED: list[str] = []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, api: RayApi) -> None:
    """Have the played head be the head of the cluster."""
    NOTED.clear()

    @contextmanager
    def open_head(_: Context) -> Iterator[Any]:
        yield SimpleNamespace(settings=Settings(allow_unauthenticated=True), ray=api, note=NOTED.append)

    monkeypatch.setattr("deploy.desk.open_head", open_head)


def listed(played: Head, *rows: dict[str, Any]) -> None:
    played.answers["/api/jobs/"] = (200, json.dumps(rows).encode())


def ends(task: Callable[..., object], *words: str, **flags: bool) -> int:
    """Give the exit code of a task."""
    try:
        task(Context(), *words, **flags)
    except Exit as end:
        return end.code
    return 0


pytestmark = pytest.mark.usefixtures("opened")


# --- job.list --------------------------------------------------------------------------------------------------


def test_jobs_stand_in_a_table_a_line_each_and_no_control_character_gets_through(played: Head, capsys: Screen) -> None:
    listed(played, *reversed(ROWS))
    assert ends(job.list_) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert lines[0] == ["id", "status", "since", "took", "exit", "entrypoint"]
    assert [lines[1][:2], lines[1][4:]] == [["old", "FAILED"], ["1", "h", "02", "min", "137"]]
    assert [lines[2][:2], lines[2][-2:]] == [["new", "RUNNING"], ["python", "\\x1b[31mf.py"]]
    assert "\x1b" not in printed.out
    assert not any(line.endswith(" ") for line in printed.out.splitlines())
    assert printed.err == "next: invoke job.logs ID\n"


def test_a_long_command_line_is_no_reason_to_break_a_row(played: Head, capsys: Screen) -> None:
    listed(played, ROWS[1] | {"entrypoint": "python " + "x" * 250})
    assert ends(job.list_) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("x" * 250)


def test_jobs_are_told_to_programs(played: Head, capsys: Screen) -> None:
    listed(played, *ROWS)
    assert ends(job.list_, json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert (document["task"], document["ok"], document["changed"]) == ("job.list", True, False)
    assert (document["cluster"], document["loosened"]) == ("ray", ["ALLOW_UNAUTHENTICATED"])
    assert document["jobs"] == [
        {
            "job": "old",
            "status": "FAILED",
            "begun": "1970-01-01T00:00:01Z",
            "ended": "1970-01-01T01:02:03Z",
            "job_exit": 137,
            "entrypoint": "",
        },
        {
            "job": "new",
            "status": "RUNNING",
            "begun": "1970-01-01T01:06:40Z",
            "ended": None,
            "job_exit": None,
            "entrypoint": "python\n\x1b[31mf.py",
        },
    ]


def test_that_there_are_no_jobs_is_told(played: Head, capsys: Screen) -> None:
    listed(played)
    assert ends(job.list_, json=True) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["jobs"] == []
    assert printed.err.startswith("no jobs")


# --- job.logs --------------------------------------------------------------------------------------------------


def test_what_was_printed_so_far_is_printed_and_the_job_runs_on(capsys: Screen) -> None:
    assert ends(job.logs, "raydock-1") == 0
    printed = capsys.readouterr()
    assert printed.out.encode() == LOG
    assert printed.err == "raydock-1 runs; go on: invoke job.logs raydock-1 --follow\n"


def test_without_an_id_it_is_the_latest_job(played: Head, capsys: Screen) -> None:
    listed(played, *ROWS)
    assert ends(job.logs) == 0
    printed = capsys.readouterr()
    assert printed.out.encode() == LOG
    assert printed.err.startswith("the latest job is new: python \\x1b[31mf.py\n")


ENDS: dict[str, tuple[dict[str, Any], int, int | None]] = {
    "well": ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0, 0),
    "with a code": ({"status": "FAILED", "driver_exit_code": 7}, 7, 7),
    "stopped": ({"status": "STOPPED"}, 143, 143),
    "not run": ({"status": "FAILED", "message": "no such \x1bpackage"}, 1, None),
}


@pytest.mark.parametrize(("ended", "code", "job_exit"), ENDS.values(), ids=ENDS)
def test_who_follows_a_job_ends_as_it_does(
    ended: dict[str, Any], code: int, job_exit: int | None, played: Head, capsys: Screen
) -> None:
    played.job |= ended
    assert ends(job.logs, "raydock-1", follow=True, json=True) == code
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["job"], document["job_exit"], document["exit"]) == ("raydock-1", job_exit, code)
    assert printed.err.startswith(LOG.decode())
    assert "\x1b" not in printed.err


def test_a_job_of_which_the_connection_is_lost_for_good_is_exit_4(
    played: Head, session: Link, capsys: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        session.cut, session.repairs = True, [False] * 100

    monkeypatch.setattr(job, "writer", lambda _: cut)
    assert ends(job.logs, "raydock-1", follow=True, json=True) == 4
    printed = capsys.readouterr()
    assert [error["code"] for error in json.loads(printed.out)["errors"]] == ["JOB_LOST"]
    assert "invoke job.logs raydock-1 --follow" in printed.err
    assert played.submitted == []


# --- job.stop --------------------------------------------------------------------------------------------------


def test_a_job_is_stopped(played: Head, capsys: Screen) -> None:
    once_asked(played, lambda: played.end("STOPPED"))
    assert ends(job.stop, "raydock-1", json=True) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["job"], document["job_exit"], document["changed"]) == ("raydock-1", 143, True)
    assert printed.err.splitlines() == ["raydock-1 was asked to end, waiting up to 30 s", "raydock-1 was stopped"]
    assert NOTED == ["job.stop"]


def test_a_job_that_has_ended_is_not_stopped_again(played: Head, capsys: Screen) -> None:
    played.end("FAILED", 7)
    played.answers["/api/jobs/raydock-1/stop"] = (500, b"asked")
    assert ends(job.stop, "raydock-1", json=True) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["job_exit"], document["changed"]) == (7, False)
    assert printed.err == "nothing to do: raydock-1 ended with exit code 7, before\n"
    assert NOTED == []


# --- the audit -------------------------------------------------------------------------------------------------


def test_a_job_that_does_not_end_has_a_line_in_the_audit_too(played: Head) -> None:
    played.answers["/api/jobs/raydock-1/stop"] = (500, b"no")
    assert ends(job.stop, "raydock-1") == 1
    assert NOTED == ["job.stop"]


@pytest.mark.parametrize("fails", ["/api/jobs/", "the upload"])
def test_a_program_that_is_not_submitted_has_a_line_in_the_audit_too(
    fails: str, played: Head, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise Failure("RAY_API_FAILED", "no")

    played.answers["/api/jobs/"] = (500, b"no")
    if fails == "the upload":
        monkeypatch.setattr("deploy.programs.ship", refuse)
    (tmp_path / "f.py").touch()
    assert ends(job.run, str(tmp_path / "f.py")) == 125
    assert NOTED == ["job.run"]


# --- what all of them have -------------------------------------------------------------------------------------

WITH_ID = {"job.logs": job.logs, "job.stop": job.stop}


@pytest.mark.parametrize("task", WITH_ID.values(), ids=WITH_ID)
def test_a_job_that_there_is_not_is_exit_1(task: Callable[..., object], played: Head, capsys: Screen) -> None:
    played.answers["/api/jobs/nope"] = (404, b"")
    assert ends(task, "nope", json=True) == 1
    printed = capsys.readouterr()
    assert [error["code"] for error in json.loads(printed.out)["errors"]] == ["JOB_NOT_FOUND"]
    assert "invoke job.list" in printed.err


@pytest.mark.parametrize("task", WITH_ID.values(), ids=WITH_ID)
def test_what_is_no_id_is_exit_2(task: Callable[..., object], capsys: Screen) -> None:
    assert ends(task, "../nodes", json=True) == 2
    assert [error["code"] for error in json.loads(capsys.readouterr().out)["errors"]] == ["USAGE"]


CAUSES = {"HEAD_NOT_RUNNING": (1, 125), "SSH_TIMEOUT": (4, 125), "HOST_KEY_CHANGED": (6, 125)}


@pytest.mark.parametrize(("code", "exits"), CAUSES.items(), ids=CAUSES)
def test_a_failure_of_ours_is_the_reports_code_but_where_the_programs_is_passed_on(
    code: str, exits: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Screen
) -> None:
    def open_head(_: Context) -> Any:
        raise Failure(code, "no")

    (tmp_path / "f.py").touch()
    monkeypatch.setattr("deploy.desk.open_head", open_head)
    assert (ends(job.list_), ends(job.run, str(tmp_path / "f.py"))) == exits
    assert capsys.readouterr().err == f"{code}: no\n" * 2


# --- Ctrl-C ----------------------------------------------------------------------------------------------------


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def asked(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], str], *, terminal: bool = True) -> None:
    """Have somebody at the terminal who interrupts when the first line comes."""
    monkeypatch.setattr(job, "writer", lambda _: interrupt)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal, readline=answer))


LEFT: dict[str, tuple[Callable[[], str], bool]] = {
    "return": (lambda: "\n", True),
    "no": (lambda: "n\n", True),
    "the end of the input": (lambda: "", True),
    "another Ctrl-C": (interrupt, True),  # type: ignore[dict-item]
    "nobody is there": (lambda: "y\n", False),
}


@pytest.mark.parametrize(("answer", "terminal"), LEFT.values(), ids=LEFT)
@pytest.mark.parametrize("task", ["job.run", "job.logs"])
def test_a_program_goes_on_unless_somebody_says_otherwise(
    task: str,
    answer: Callable[[], str],
    terminal: bool,
    played: Head,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Screen,
) -> None:
    asked(monkeypatch, answer, terminal=terminal)
    monkeypatch.setattr("deploy.programs.new_id", lambda: "raydock-1")
    played.answers["/api/jobs/raydock-1/stop"] = (500, b"asked")
    (tmp_path / "f.py").touch()
    if task == "job.run":
        assert ends(job.run, str(tmp_path / "f.py"), json=True) == 130
    else:
        assert ends(job.logs, "raydock-1", follow=True, json=True) == 130
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["job"], document["exit"], document["job_exit"]) == ("raydock-1", 130, None)
    assert ("Stop it?" in printed.err) == terminal
    assert printed.err.replace("[y/N] ", "[y/N]\n").splitlines()[-3:] == [
        "raydock-1 goes on without us",
        "  → Its output: invoke job.logs raydock-1 --follow",
        "  → Its end: invoke job.stop raydock-1",
    ]


def test_a_program_is_stopped_where_somebody_says_so(
    played: Head, monkeypatch: pytest.MonkeyPatch, capsys: Screen
) -> None:
    asked(monkeypatch, lambda: "y\n")
    later(0.2, lambda: played.end("STOPPED"))
    assert ends(job.logs, "raydock-1", follow=True, json=True) == 130
    printed = capsys.readouterr()
    assert json.loads(printed.out)["job_exit"] == 143
    assert printed.err.splitlines()[-1] == "raydock-1 was stopped"
    assert NOTED == ["job.logs"]


def test_a_program_that_cannot_be_stopped_is_told_to_have_been_asked(
    played: Head, monkeypatch: pytest.MonkeyPatch, capsys: Screen
) -> None:
    asked(monkeypatch, lambda: "y\n")
    played.answers["/api/jobs/raydock-1/stop"] = (500, b"no")
    assert ends(job.logs, "raydock-1", follow=True) == 130
    told = capsys.readouterr().err.partition("[y/N] ")[2].splitlines()
    assert told[0].startswith("head RAY_API_FAILED: Ray's API answered HTTP 500: no")
    assert told[-1] == "raydock-1 was asked to end: see whether it has: invoke job.list"


STANDS: dict[str, tuple[JobCourse, list[str]]] = {
    "nothing was submitted": (JobCourse("job.run", exit=130), ["interrupted: nothing was submitted"]),
    "nobody knows": (
        JobCourse("job.run", submitting="raydock-1", exit=130),
        ["interrupted: see whether raydock-1 was submitted: invoke job.list"],
    ),
    "it only looked": (JobCourse("job.list", exit=130), ["interrupted: nothing was changed"]),
    "it had ended": (
        JobCourse("job.logs", job_id="j", job=Job("j", "FAILED", 7), exit=141),
        ["j ended with exit code 7"],
    ),
    "all went well": (JobCourse("job.run", job_id="j", job=Job("j", "SUCCEEDED", 0)), []),
}


@pytest.mark.parametrize(("of", "said"), STANDS.values(), ids=STANDS)
def test_what_stands_is_told(of: JobCourse, said: list[str]) -> None:
    assert of.standing() == said
