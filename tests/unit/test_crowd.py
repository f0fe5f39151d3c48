"""The judge of a crowd: whom the relay takes for the one who acts, and when two acted together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.crowd import Deed, deed_of, together
from tests.faults.relay import Deeds


def deed(user: str, begin: int, end: int) -> Deed:
    return Deed(user, begin, end, "POST /containers/x/stop on head")


@pytest.mark.parametrize(
    ("done", "overlaps"),
    [
        pytest.param([deed("a", 1, 2), deed("a", 3, 4), deed("b", 5, 6)], 0, id="one after the other"),
        pytest.param([deed("a", 1, 2), deed("b", 3, 4), deed("a", 5, 6)], 1, id="one in the midst of another"),
        pytest.param([deed("a", 1, 4), deed("b", 3, 6)], 2, id="two stops of what neither started"),
        pytest.param([deed("a", 1, 9), deed("b", 3, 4)], 2, id="within one call of another's"),
        pytest.param([], 0, id="nobody"),
    ],
)
def test_two_act_together_where_their_deeds_overlap(done: list[Deed], overlaps: int) -> None:
    assert len(together(done)) == overlaps


@pytest.mark.parametrize(
    "call",
    [
        "POST /v1.41/containers/create?name=x",
        "POST /v1.41/containers/abc/start",
        "POST /v1.41/containers/abc/stop?t=45",
        "POST /v1.41/containers/abc/kill?signal=9",
        "DELETE /v1.41/containers/abc?v=False&force=True",
        "DELETE /v1.41/containers/abc",
        "PUT /v1.41/containers/abc/archive?path=/run",
        "POST /v1.41/images/create?tag=1&fromImage=a",
    ],
)
def test_a_call_that_changes_something_is_a_deed_however_it_comes(call: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    deeds, sent = Deeds(str(log)), f"GET /_ping HTTP/1.1\r\n\r\n{call} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for at in range(len(sent)):
        deeds.asks(sent[at : at + 1])
    assert log.read_text() == ""
    deeds.answers()
    (line,) = log.read_text().splitlines()
    assert deed_of(line, "head").what == f"{call} on head"


@pytest.mark.parametrize(
    "call",
    [
        "GET /v1.41/containers/abc/json",
        "POST /v1.41/containers/abc/exec",
        "POST /v1.41/exec/abc/start",
        "POST /v1.41/containers/abc/wait",
        "HEAD /v1.41/containers/abc/archive?path=/run",
    ],
)
def test_what_only_looks_is_no_deed(call: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    deeds = Deeds(str(log))
    deeds.asks(f"{call} HTTP/1.1\r\n\r\n".encode())
    deeds.answers()
    assert log.read_text() == ""
