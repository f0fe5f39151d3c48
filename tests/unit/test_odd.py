"""What nodes say that is not what they were asked for: none of it is a bug of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.audit import entries
from deploy.errors import Failure
from deploy.listing import columns, record
from deploy.lock import answer, held_by, locked
from deploy.output import Kept, Marked
from deploy.ray import changed_keys
from deploy.ray_api.answers import job_of, jobs_of, nodes_of, stopped_of, submitted
from deploy.steps.absence import known_port
from deploy.steps.cluster import asked_ports
from deploy.steps.joining import addresses_in
from deploy.talk import Talk

DEEP = "[" * 100_000
TEXTS = ("", "[]", "[1]", "{}", '"x"', "null", "1" * 5000, "NaN", DEEP, '{"a":' * 100_000)

READERS: dict[str, Callable[[str], object]] = {
    "who holds the lock": lambda text: str(locked(held_by(f"5,1 12 {text}"))),
    "the audit": lambda text: list(entries(text)),
    "the probe": addresses_in,
    "the ports of another": lambda text: asked_ports({"raydock.asked": text}),
    "what was asked": lambda text: list(changed_keys(text, '{"a":1}')),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_text_that_is_not_what_was_due_is_read_as_nothing(read: Callable[[str], object]) -> None:
    for text in TEXTS:
        read(text)


@pytest.mark.parametrize("since", ["NaN", "Infinity", "1e300", "-1e18", "99999999999999", "-1", "true", '"1"', "[]"])
def test_a_lock_since_a_time_that_there_is_not_has_no_owner(since: str) -> None:
    held = held_by(f'5,1 12 {{"who":"a","task":"t","since":{since}}}')
    assert (held.owner.who, held.line) == ("", "")
    assert "somebody, a task since" in str(locked(held))


@pytest.mark.parametrize("times", ["9" * 4000 + ",1", "5.5,1", "5", "5,1,2", "5,", "-5,1"])
def test_a_lock_whose_times_are_odd_has_no_owner(times: str) -> None:
    assert held_by(f'{times} 12 {{"who":"a","task":"t","since":1}}').line == ""


@pytest.mark.parametrize(
    ("port", "known"), [("6379", True), ("", False), ("x", False), ("9" * 5000, False), ("٣", False)]
)
def test_a_label_has_a_port_or_has_none(port: str, known: bool) -> None:
    assert known_port(port) == known


JOB = {"status": "RUNNING", "submission_id": "x"}


@pytest.mark.parametrize(
    "odd",
    [
        {"start_time": 10**400},
        {"start_time": 10**18},
        {"start_time": -(10**18)},
        {"start_time": True},
        {"end_time": 10**17},
        {"driver_exit_code": 10**30},
        {"driver_exit_code": True},
        {"driver_exit_code": -1000},
    ],
)
def test_a_job_of_a_time_or_a_code_that_there_is_not_is_a_failure(odd: dict[str, Any]) -> None:
    with pytest.raises(Failure) as told:
        job_of("x", JOB | odd)
    assert told.value.code == "RAY_API_FAILED"


NAMES = st.sampled_from(
    [
        "data",
        "result",
        "node_ip",
        "state",
        "node_id",
        "is_head_node",
        "state_message",
        "submission_id",
        "type",
        "status",
    ]
    + ["driver_exit_code", "driver_node_id", "message", "entrypoint", "start_time", "end_time", "stopped"]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES |= st.sampled_from(["RUNNING", "FAILED", "ALIVE", 1e18, 10**13])
LIES = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=8))


@given(LIES)
def test_whatever_rays_api_answers_it_is_a_failure_or_makes_sense(said: object) -> None:
    def listing(answer: object) -> None:
        for job in jobs_of(answer):
            columns(job, time.time())
            record(job)

    for read in (nodes_of, listing, submitted, stopped_of, lambda answer: record(job_of("x", answer))):
        try:
            read(said)
        except Failure as failure:
            assert failure.code == "RAY_API_FAILED"  # noqa: PT017 - it may raise none


class Endless(Talk):
    """A program that has no end."""

    said = 0

    def send(self, _data: bytes) -> None:
        raise AssertionError("nobody sends")

    def receive(self, _timeout: float) -> bytes | None:
        self.said += 1
        assert self.said < 100
        return b"x" * 10_000

    def end(self, _patience: float) -> tuple[int | None, str]:
        raise AssertionError("nobody ends it")


def test_a_holder_that_talks_without_end_is_not_listened_to_for_ever() -> None:
    assert answer(Endless(), "word") == ""


def test_a_command_that_says_the_mark_itself_ends_nothing_and_is_not_held_back() -> None:
    kept = Kept()
    stream = Marked("mark", (kept,))
    said = b"mark\nbegun mark 12345\n" + b"x" * 1_000_000 + b"mark 7\n"
    ended = [stream.add(said[at : at + 1000]) for at in range(0, len(said), 1000)]
    assert (ended[-1], stream.code, any(ended[:-1])) == (True, 7, False)
    assert kept.text == "begun mark 12345\n" + "x" * 1_000_000


def test_what_stands_behind_a_mark_is_held_only_as_long_as_it_may_be_a_code() -> None:
    kept = Kept()
    stream = Marked("mark", (kept,))
    stream.add(b"mark\nmark ")
    assert kept.text == ""
    stream.add(b"of a line")
    assert kept.text == "mark of a line"


def test_the_audit_is_read_as_it_was_written() -> None:
    line = {"as": "b", "who": "\x1b[2Ja", "task": "c", "since": 1, "outcome": "ok", "seconds": 2.5, "image": "sha256:1"}
    (entry,) = entries(json.dumps(line))
    assert (entry.who, entry.when, entry.seconds, entry.image) == ("?[2Ja", 1.0, 2.5, "sha256:1")
