"""What a job prints, each line once, whatever is cut on the way."""

from __future__ import annotations

import time

import pytest
import requests

from deploy.errors import Failure
from deploy.ray_api import RayApi
from deploy.ray_api.lines import LINE_LIMIT, program_lines

from .played_head import LOG, Head, Link, later


def test_output_is_live_and_ends_with_the_job(played: Head, api: RayApi) -> None:
    lines = api.log_lines("raydock-1")
    assert [next(lines) for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
    assert played.job["status"] == "RUNNING"
    played.end("SUCCEEDED", 0)
    assert list(lines) == [b"no end"]


def test_a_cut_stream_goes_on_where_it_was_cut(played: Head, api: RayApi) -> None:
    played.cuts = [0, 2, 4, 11, 17]
    later(0.5, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.streams == 6


def test_a_silent_stream_is_opened_again(played: Head, head: tuple[Head, str], session: requests.Session) -> None:
    api = RayApi(session, None, base=head[1], poll=0.02, silence=0.1)

    def end() -> None:
        while played.streams < 3:
            time.sleep(0.02)
        played.end("SUCCEEDED", 0)

    later(0, end)
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.streams > 2


def test_what_is_printed_after_the_stream_was_cut_comes_from_the_file(played: Head, api: RayApi) -> None:
    lines = api.log_lines("raydock-1")
    assert next(lines) == b"one\n"
    played.log += b"\nlast words\n"  # the stream gives no more
    played.end("FAILED", 7)
    assert b"".join(lines) == b"two\nthree\nno end\nlast words\n"


def test_a_job_that_had_ended_before_gives_all_its_output(played: Head, api: RayApi) -> None:
    played.end("SUCCEEDED", 0)
    assert list(api.log_lines("raydock-1")) == [b"one\n", b"two\n", b"three\n", b"no end"]
    assert (played.streams, played.files) == (0, 1)


def test_a_cut_file_goes_on_where_it_was_cut(played: Head, api: RayApi) -> None:
    played.end("SUCCEEDED", 0)
    played.file_cuts = [0, 3, 12]
    assert b"".join(api.log_lines("raydock-1")) == LOG
    assert played.files == 4


@pytest.mark.parametrize("node", [None, "n1"])
def test_a_job_that_never_began_prints_nothing(node: str | None, played: Head, api: RayApi) -> None:
    played.job = {"status": "FAILED", "driver_node_id": node}
    played.answers["/api/v0/logs/file"] = (500, b"A file is not found at: /tmp/ray/x.log")
    assert list(api.log_lines("raydock-1")) == []


def test_a_job_waits_for_its_node(played: Head, api: RayApi) -> None:
    played.job = {"status": "PENDING", "driver_node_id": None}
    later(0.1, lambda: played.job.update(status="RUNNING", driver_node_id="n1"))
    later(0.3, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG


def test_a_short_silence_of_the_head_is_borne(played: Head, api: RayApi) -> None:
    played.answers["/api/jobs/raydock-1"] = (503, b"")
    later(0.15, lambda: played.answers.clear())
    later(0.3, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(api.log_lines("raydock-1")) == LOG


def test_a_long_line_comes_in_pieces_and_nothing_is_lost(played: Head, api: RayApi) -> None:
    played.log = b"x" * (LINE_LIMIT * 2) + b"\nend\n"
    played.end("SUCCEEDED", 0)
    lines = list(api.log_lines("raydock-1"))
    assert b"".join(lines) == played.log
    assert max(map(len, lines)) <= LINE_LIMIT + 5


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"10%\r20%\rdone\n", [b"10%\r", b"20%\r", b"done\n"]),
        (b"dos\r\nline\r\n", [b"dos\r\n", b"line\r\n"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"", []),
        ("é\u2028ü\n".encode(), ["é\u2028ü\n".encode()]),
        (b"\xff\x00\n", [b"\xff\x00\n"]),
    ],
)
def test_lines_keep_their_bytes_and_their_ends(log: bytes, lines: list[bytes], played: Head, api: RayApi) -> None:
    played.log = log
    played.end("SUCCEEDED", 0)
    assert list(api.log_lines("raydock-1")) == lines


SETTING_UP = b"2026-11-22 23:42:50,747\tINFO job_manager.py:581 -- Runtime env is setting up.\n"


@pytest.mark.parametrize(
    ("entrypoint", "before"),
    [
        ("python f.py", [SETTING_UP, b"Running entrypoint for job raydock-1: python f.py\n"]),
        ("python f.py 'a\nb'", [SETTING_UP, b"Running entrypoint for job raydock-1: python f.py 'a\n", b"b'\n"]),
        ("python f.py", []),
    ],
)
def test_what_ray_prints_before_the_program_is_left_out(entrypoint: str, before: list[bytes]) -> None:
    printed = [b"pip says this\n", b"mine\n", b"b'\n", b"more\n"]
    assert list(program_lines(iter([printed[0], *before, *printed[1:]]), entrypoint)) == printed


def test_what_a_program_prints_like_ray_is_its_own() -> None:
    lines = [b"Running entrypoint for job raydock-1: python f.py\n", b"Running entrypoint for job x: y\n", SETTING_UP]
    assert list(program_lines(iter(lines), "python f.py")) == lines[1:]


@pytest.mark.parametrize("repairs", [[], [False, False, True]], ids=["at once", "at the third attempt"])
def test_over_a_new_connection_output_goes_on_where_it_was_cut(
    repairs: list[bool], played: Head, api: RayApi, session: Link
) -> None:
    lines = api.log_lines("raydock-1")
    assert next(lines) == b"one\n"
    played.cuts = [9]  # of the next stream
    played.log += b"\nlast words\n"
    session.cut, session.repairs = True, repairs
    later(0.3, lambda: played.end("SUCCEEDED", 0))
    assert b"".join(lines) == b"two\nthree\nno end\nlast words\n"
    assert not session.cut


def test_the_file_is_read_on_over_a_new_connection(played: Head, api: RayApi, session: Link) -> None:
    played.end("SUCCEEDED", 0)
    lines = api.log_lines("raydock-1")
    session.cut = True
    assert b"".join(lines) == LOG


def test_a_connection_that_does_not_come_back_is_told_when_patience_is_out(api: RayApi, session: Link) -> None:
    lines = api.log_lines("raydock-1")
    next(lines)
    session.cut, session.repairs = True, [False] * 100
    with pytest.raises(Failure) as told:
        list(lines)
    assert told.value.code == "SSH_LOST"
    assert 5 < 100 - len(session.repairs) < 50


def test_without_following_there_is_what_was_printed_so_far(played: Head, api: RayApi) -> None:
    assert b"".join(api.log_lines("raydock-1", follow=False)) == LOG
    assert (played.streams, played.files) == (0, 1)
