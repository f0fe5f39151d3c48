"""Ray's REST API, played by a server of our own: what it answers, and how it can fail."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
import requests

from deploy.errors import Failure
from deploy.ray_api import Job, RayApi, RayNode, calls

from .played_head import TOKEN, Head, Link, later, listed, row


def test_nodes_are_rays_rows_with_the_dead_ones_among_them(played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = listed(row(), row("DEAD", node_id="n0"))
    assert api.nodes() == [
        RayNode(address="10.0.0.7", state="ALIVE", node_id="n1", is_head=False),
        RayNode(address="10.0.0.7", state="DEAD", node_id="n0", is_head=False),
    ]
    assert [node.alive for node in api.nodes()] == [True, False]
    assert played.tokens == {f"Bearer {TOKEN}"}


def test_there_are_no_nodes_while_nothing_answers(session: requests.Session) -> None:
    assert RayApi(session, None, base="http://127.0.0.1:1").nodes() == []


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, b"Unauthorized: Missing authentication token"), "TOKEN_MISMATCH", "HTTP 401"),
        ((403, b"Forbidden: Invalid authentication token"), "TOKEN_MISMATCH", "HTTP 403"),
        ((500, b"Traceback\n  File\nOSError: no\x1b[31m disk\n"), "RAY_API_FAILED", "HTTP 500: OSError: no?[31m disk"),
        ((302, b""), "RAY_API_FAILED", "HTTP 302"),
        ((200, b"<html>"), "RAY_API_FAILED", "no JSON but '<html>'"),
        ((200, b"\xff\xfe"), "RAY_API_FAILED", "no JSON"),
        ((200, b"null"), "RAY_API_FAILED", "None where a dict was due"),
        ((200, b"[]"), "RAY_API_FAILED", "a list where a dict was due"),
        ((200, b'{"data": {"result": {"result": {}}}}'), "RAY_API_FAILED", "a dict where a list was due"),
        ((200, b"[" * 100_000), "RAY_API_FAILED", "no JSON but '[[["),
        (listed(row(node_ip=7)), "RAY_API_FAILED", "7 where a str was due"),
        (listed(row(is_head_node="no")), "RAY_API_FAILED", "a text of 2 characters where a bool was due"),
    ],
)
def test_an_odd_answer_is_told(answer: tuple[int, bytes], code: str, said: str, played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = answer
    with pytest.raises(Failure) as told:
        api.nodes()
    assert (told.value.code, said in str(told.value)) == (code, True)
    assert TOKEN not in str(told.value)


def test_a_head_that_is_not_ready_has_no_nodes_yet(played: Head, api: RayApi) -> None:
    played.answers["/api/v0/nodes"] = (503, b"")
    assert api.nodes() == []


def test_a_package_is_sent_once(played: Head, api: RayApi) -> None:
    assert not api.has_package("_ray_pkg_1.zip")
    content = bytes(range(256)) * 20_000
    api.upload("_ray_pkg_1.zip", io.BytesIO(content))
    assert api.has_package("_ray_pkg_1.zip")
    assert played.packages == {"_ray_pkg_1.zip": content}


def test_a_job_is_submitted_in_its_package(played: Head, api: RayApi) -> None:
    api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")
    assert played.submitted == [
        {
            "entrypoint": "python run.py",
            "submission_id": "raydock-1",
            "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"},
        }
    ]


def test_a_job_of_which_only_the_answer_was_lost_is_submitted(played: Head, api: RayApi) -> None:
    played.answers["/api/jobs/"] = (502, b"")
    api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")


def test_a_job_that_was_not_taken_is_not_submitted(played: Head, api: RayApi) -> None:
    played.answers |= {"/api/jobs/": (502, b""), "/api/jobs/raydock-1": (404, b"")}
    with pytest.raises(Failure, match="HTTP 502"):
        api.submit("python run.py", "raydock-1", "_ray_pkg_1.zip")


@pytest.mark.parametrize("ask", [RayApi.job, RayApi.stop])
def test_a_job_that_ray_does_not_know_is_not_found(ask: Any, played: Head, api: RayApi) -> None:
    played.answers |= {"/api/jobs/raydock-1": (404, b""), "/api/jobs/raydock-1/stop": (404, b"")}
    with pytest.raises(Failure) as told:
        ask(api, "raydock-1")
    assert told.value.code == "JOB_NOT_FOUND"


def test_a_job_can_be_stopped(api: RayApi) -> None:
    assert api.stop("raydock-1")


@pytest.mark.parametrize(
    "job", [{"status": "DREAMING"}, {"status": None}, {"status": "FAILED", "driver_exit_code": "7"}]
)
def test_an_odd_job_is_told(job: dict[str, Any], played: Head, api: RayApi) -> None:
    played.job = job
    with pytest.raises(Failure) as told:
        api.job("raydock-1")
    assert told.value.code == "RAY_API_FAILED"


def test_a_slow_drip_has_the_deadline_of_the_whole_answer(
    played: Head, head: tuple[Head, str], session: requests.Session
) -> None:
    played.drip = 0.05
    played.answers["/api/v0/nodes"] = (200, b" " * 100)
    begun = time.monotonic()
    assert RayApi(session, None, base=head[1], timeout=0.3).nodes() == []
    assert time.monotonic() - begun < 2


def test_an_endless_answer_is_refused(played: Head, api: RayApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "BODY_LIMIT", 1 << 20)
    played.answers["/api/v0/nodes"] = (200, b" " * (2 << 20))
    with pytest.raises(Failure, match="more than 1 MiB"):
        api.nodes()


def test_jobs_are_those_that_were_submitted_the_newest_last(played: Head, api: RayApi) -> None:
    rows = [
        {"type": "SUBMISSION", "submission_id": "new", "status": "RUNNING", "start_time": 2500, "entrypoint": "b"},
        {"type": "DRIVER", "submission_id": None, "job_id": "01000000", "status": "RUNNING", "start_time": 2000},
        {"type": "SUBMISSION", "submission_id": "old", "status": "SUCCEEDED", "start_time": 1000, "end_time": 1500},
        {"type": "SUBMISSION", "submission_id": "not begun", "status": "PENDING", "start_time": None},
    ]
    played.answers["/api/jobs/"] = (200, json.dumps(rows).encode())
    assert api.jobs() == [
        Job("old", "SUCCEEDED", begun=1.0, ended=1.5),
        Job("new", "RUNNING", begun=2.5, entrypoint="b"),
        Job("not begun", "PENDING"),
    ]


def test_a_program_that_nobody_submitted_is_no_job(played: Head, api: RayApi) -> None:
    played.job = {"type": "DRIVER", "status": "RUNNING"}
    with pytest.raises(Failure, match="Ray knows no job 01000000"):
        api.job("01000000")


def test_a_job_bears_the_id_of_its_submission_by_whatever_id_it_was_asked_for(played: Head, api: RayApi) -> None:
    played.job |= {"submission_id": "raydock-1"}
    assert api.job("02000000").id == "raydock-1"


def test_a_job_is_waited_for_until_it_has_ended(played: Head, api: RayApi, session: Link) -> None:
    later(0.1, lambda: played.end("STOPPED"))
    session.cut = True
    assert api.ended("raydock-1", within=5).status == "STOPPED"


def test_a_job_is_not_waited_for_longer_than_was_said(api: RayApi) -> None:
    begun = time.monotonic()
    assert api.ended("raydock-1", within=0.1).status == "RUNNING"
    assert time.monotonic() - begun < 1


class Submitted(Link):
    """A link that is cut behind the request to submit."""

    def request(self, method: Any, *args: Any, **options: Any) -> requests.Response:
        response = super().request(method, *args, **options)
        if method == "POST":
            response.close()
            self.cut = True
            raise Failure("SSH_LOST", "lost contact")
        return response


def over(session: Link, base: str) -> RayApi:
    return RayApi(session, None, base=base, timeout=2, poll=0.02, patience=0.2, reconnect=session.reconnect)


def test_a_job_is_submitted_once_though_the_connection_was_lost(played: Head, head: tuple[Head, str]) -> None:
    with Submitted() as session:
        over(session, head[1]).submit("python run.py", "raydock-1", "_ray_pkg_1.zip")
    assert len(played.submitted) == 1


def test_a_job_of_which_nobody_knows_whether_it_was_submitted_is_told(head: tuple[Head, str]) -> None:
    with Submitted() as session:
        session.repairs = [False] * 100
        with pytest.raises(Failure) as told:
            over(session, head[1]).submit("python run.py", "raydock-1", "_ray_pkg_1.zip")
    assert (told.value.code, told.value.place) == ("JOB_LOST", "raydock-1")
    assert "invoke job.list" in told.value.cure
