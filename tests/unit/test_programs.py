"""Programs as jobs: shipped, followed to their end, and the exit code that is theirs."""

from __future__ import annotations

import io
import time

import pytest
import requests

from deploy.errors import Failure, Mistake
from deploy.parcel import Parcel
from deploy.programs import checked_id, ending, exit_code, follow, id_in, latest, new_id, ship, shortened, stop
from deploy.ray_api import Job, RayApi

from .played_head import LOG, Head, later


def test_a_package_is_sent_if_it_is_new(played: Head, api: RayApi) -> None:
    for content in (b"zip", b"another"):
        ship(api, Parcel("_ray_pkg_1.zip", io.BytesIO(content), 3, "run.py", ("run.py",), ()))
    assert played.packages == {"_ray_pkg_1.zip": b"zip"}


def test_a_program_is_followed_to_its_end(played: Head, api: RayApi) -> None:
    written: list[bytes] = []
    played.end("FAILED", 7)
    assert exit_code(follow(api, "raydock-1", written.append)) == 7
    assert b"".join(written) == LOG


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b""), "Ray knows no job raydock-1"),
        ((403, b""), "Ray refused our token"),
        ((503, b""), "HTTP 503"),
    ],
)
def test_a_job_that_is_lost_from_sight_is_told(answer: tuple[int, bytes], said: str, played: Head, api: RayApi) -> None:
    written: list[bytes] = []

    def write(line: bytes) -> None:
        written.append(line)
        played.answers["/api/jobs/raydock-1"] = answer

    with pytest.raises(Failure) as told:
        follow(api, "raydock-1", write)
    assert (told.value.code, told.value.place) == ("JOB_LOST", "raydock-1")
    assert said in told.value.error
    assert told.value.cure == "Take it up again: invoke job.logs raydock-1 --follow"
    assert written[:1] == [b"one\n"]


def test_a_job_whose_head_has_ended_is_told_at_once(played: Head, head: tuple[Head, str]) -> None:
    def ended() -> None:
        raise Failure("HEAD_NOT_RUNNING", "the head's container ended with 137", "Start it: invoke cluster.start")

    played.answers["/api/jobs/raydock-1"] = (503, b"")
    begun = time.monotonic()
    with requests.Session() as session, pytest.raises(Failure) as told:
        follow(RayApi(session, None, base=head[1], patience=30, see=ended), "raydock-1", lambda _: None)
    assert (told.value.code, time.monotonic() - begun < 10) == ("JOB_LOST", True)
    assert "may still run" not in told.value.error


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (Job("j", "SUCCEEDED", 0), 0),
        (Job("j", "SUCCEEDED"), 0),
        (Job("j", "FAILED", 7), 7),
        (Job("j", "FAILED", 125), 125),
        (Job("j", "FAILED", -9), 137),
        (Job("j", "FAILED", 137), 137),
        (Job("j", "FAILED", -2), 130),
        (Job("j", "STOPPED"), 143),
    ],
)
def test_the_exit_code_is_the_programs_own(job: Job, code: int) -> None:
    assert exit_code(job) == code


def test_a_program_that_ray_did_not_run_has_no_exit_code() -> None:
    with pytest.raises(Failure) as told:
        exit_code(Job("j", "FAILED", message="runtime_env setup failed:\n  no such package"))
    assert told.value.code == "JOB_FAILED"
    assert told.value.error.endswith("runtime_env setup failed: no such package")


def test_a_long_message_keeps_its_end() -> None:
    short = shortened("begin\n" + "x" * 1000 + "\nthe reason")
    assert len(short) < 310
    assert short.startswith("begin x")
    assert short.endswith("x the reason")


def test_the_ids_of_jobs_are_ours_and_new() -> None:
    found = {new_id() for _ in range(100)}
    assert len(found) == 100
    assert all(one.startswith("raydock-") for one in found)


def test_a_job_is_stopped_and_has_ended_then(played: Head, api: RayApi) -> None:
    said: list[str] = []
    later(0.1, lambda: played.end("STOPPED"))
    assert stop(api, "raydock-1", said.append).status == "STOPPED"
    assert said == ["raydock-1 was asked to end, waiting up to 30 s"]


def test_a_job_that_does_not_end_when_it_was_asked_to_is_told(api: RayApi) -> None:
    with pytest.raises(Failure) as told:
        stop(api, "raydock-1", str, deadline=0.1)
    assert (told.value.code, told.value.place) == ("JOB_STILL_RUNS", "raydock-1")
    assert told.value.cure == "Ask again: invoke job.stop raydock-1"


def test_without_jobs_there_is_no_latest_one(played: Head, api: RayApi) -> None:
    played.answers["/api/jobs/"] = (200, b"[]")
    with pytest.raises(Failure, match="no program was submitted") as told:
        latest(api)
    assert told.value.code == "JOB_NOT_FOUND"


@pytest.mark.parametrize("text", ["raydock-0a", "raysubmit_x.Y", "two words", "$(reboot)", "Grüße"])
def test_what_may_be_an_id_is_taken(text: str) -> None:
    assert checked_id(f" {text}\n") == text


@pytest.mark.parametrize("text", ["", " ", ".", "..", "a/b", "../nodes", "-x", "a\x1b[31m", "a\nb", "x" * 201])
def test_what_can_be_no_id_is_a_mistake(text: str) -> None:
    with pytest.raises(Mistake, match=r"is no id of a job.*invoke job\.list"):
        checked_id(text)


COMMAND_LINES = {
    "an id": ("job.logs raydock-1", True),
    "an id behind flags": ("--dry job.logs --follow --json raydock-1", True),
    "an id before flags": ("job.logs raydock-1 --follow", True),
    "no id": ("job.logs", False),
    "flags alone": ("job.logs --follow", False),
    "an id by its flag": ("job.logs --id raydock-1", False),
    "an id by its flag, short": ("job.logs -i raydock-1", False),
    "an id by its flag, in one": ("job.logs --id=raydock-1 --follow", False),
    "another task": ("job.logs --follow cluster.stop", False),
    "another task of one word": ("job.logs build", False),
    "another task's id": ("job.stop raydock-1", False),
    "the arguments of a program": ("job.run f.py -- job.logs raydock-1", False),
}


@pytest.mark.parametrize(("line", "given"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_an_id_may_be_left_out(line: str, given: bool) -> None:
    assert id_in(["invoke", *line.split()], "job.logs") == given


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (Job("j", "PENDING"), "has not begun yet"),
        (Job("j", "RUNNING"), "runs"),
        (Job("j", "STOPPED"), "was stopped"),
        (Job("j", "SUCCEEDED", 0), "ended with exit code 0"),
        (Job("j", "FAILED", -9), "ended with exit code 137"),
        (Job("j", "FAILED", message="no\n such package"), "was not run to its end: no such package"),
    ],
)
def test_how_a_job_ended_is_said(job: Job, said: str) -> None:
    assert ending(job) == said
