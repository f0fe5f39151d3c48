"""What the audit has of a task, and what can be read of one that others have written into."""

from __future__ import annotations

import json

import pytest

from deploy.audit import LONGEST, Entry, acted, entries, line
from deploy.errors import Failure
from deploy.report import Outcome

from .fakes import scope

LOCKED = Failure("LOCKED", "somebody else")
GONE = Failure("SSH_TIMEOUT", "no answer from canary-secret")


def outcomes(*failed: Failure, workers: str = "w1\nw2") -> list[Outcome]:
    """Give what came of a head and workers, of which the first ones failed."""
    made = [Outcome(node, asked=True) for node in scope(workers).inventory.nodes]
    for outcome, failure in zip(made, failed, strict=False):
        outcome.fail(failure)
    return made


def test_a_line_says_who_did_what_when_and_what_came_of_it() -> None:
    (entry,) = entries(written(line("you@desk", "cluster.start", 1.5, outcomes(), "sha256:1d", interrupted=False)))
    assert (entry.when, entry.who, entry.task, entry.outcome) == (1.5, "you@desk", "cluster.start", "ok")
    assert (entry.login, entry.image, entry.codes, entry.nodes) == ("ubuntu", "sha256:1d", (), ())
    assert entry.json()["when"] == "1970-01-01T00:00:01Z"


def test_a_failure_is_told_by_its_code_and_node_and_never_by_its_text() -> None:
    text = line("you@desk", "cluster.start", 1.5, outcomes(GONE, GONE), "", interrupted=False)
    (entry,) = entries(written(text))
    assert (entry.outcome, entry.codes, entry.nodes) == ("failed", ("SSH_TIMEOUT",), ("head", "w1"))
    assert "canary" not in text


def test_a_task_that_the_operator_ended_is_interrupted() -> None:
    text = line("you@desk", "cluster.start", 1.5, outcomes(GONE), "", interrupted=True)
    assert [entry.outcome for entry in entries(written(text))] == ["interrupted"]


def test_a_line_goes_through_a_pipe_in_one_piece() -> None:
    long_name = ".".join(["n" * 60] * 4)
    many = outcomes(*[GONE] * 6, workers="\n".join(f"{number}{long_name}" for number in range(9)))
    text = line("you@desk" * 60, "cluster.start", 1.5, many, "", interrupted=False)
    assert len(text) <= LONGEST
    assert json.loads(text)["codes"] == ["SSH_TIMEOUT"]


def test_who_was_refused_the_lock_did_not_act() -> None:
    refused = outcomes(LOCKED)
    for outcome in refused[1:]:
        outcome.asked = False
    assert not acted(refused)
    assert acted(outcomes())
    assert acted(outcomes(GONE))


HOSTILE = {
    "no JSON": "a line",
    "cut": '{"as": "a", "who": "b"',
    "no object": "[1, 2]",
    "a field is missing": '{"as": "a", "who": "b", "task": "c", "since": 1}',
    "a number is none": '{"as": "a", "who": "b", "task": "c", "outcome": "ok", "since": "x"}',
    "codes are none": '{"as": "a", "who": "b", "task": "c", "outcome": "ok", "since": 1, "codes": 7}',
    "brackets without end": "[" * 100_000,
    "a number beyond all": '{"as": "a", "who": "b", "task": "c", "outcome": "ok", "since": 1e999}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_is_no_entry_is_passed_over(text: str) -> None:
    good = written(line("you@desk", "cluster.start", 1.5, outcomes(), "", interrupted=False))
    assert len(list(entries(f"{text}\n{good}\n{text}"))) == 1


def test_an_entry_moves_no_terminal() -> None:
    said = {"as": "\x1b[2J", "who": "a\rb", "task": "\x9d", "outcome": "ok", "since": 1}
    (entry,) = entries(json.dumps(said))
    assert entry == Entry(1.0, "a?b", "?[2J", "?", "ok")


def written(text: str) -> str:
    """Give a line as the head writes it."""
    return '{"as": "ubuntu", ' + text[1:]
