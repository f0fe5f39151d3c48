"""Programs as jobs: shipped, followed to their end, and the exit code that is theirs."""

from __future__ import annotations

import io

import pytest

from deploy.errors import Failure
from deploy.parcel import Parcel
from deploy.programs import exit_code, follow, new_id, ship, shortened
from deploy.ray_api import Job, RayApi

from .played_head import LOG, Head


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
    assert written[:1] == [b"one\n"]


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
