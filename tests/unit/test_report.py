"""What came of a task: the exit code, and the document that a program reads."""

from __future__ import annotations

import json

import pytest

from deploy.errors import Failure, Problem
from deploy.report import Outcome, Report

from .fakes import scope

NODES = scope("10.0.0.7\n10.0.0.8:2222  #: private=10.1.0.8\n10.0.0.9").inventory.nodes
# An outcome in a word: `ok`, `skipped`, or the code of what went wrong.
OK, SKIPPED = "ok", "skipped"


def report(*words: str, problems: tuple[str, ...] = (), interrupted: bool = False) -> Report:
    """Give the report of the head and as many workers as there are words."""
    outcomes = [Outcome(node, asked=word != SKIPPED) for node, word in zip(NODES, words, strict=False)]
    for outcome, word in zip(outcomes, words, strict=True):
        if word not in (OK, SKIPPED):
            outcome.fail(Failure(word, "it did not work", "Mend it"), "start it")
    return Report(
        "cluster.start",
        "ray",
        outcomes=outcomes,
        problems=tuple(Problem(code, "wrong") for code in problems),
        interrupted=interrupted,
    )


EXITS: dict[str, tuple[Report, int]] = {
    "all is done": (report(OK, OK), 0),
    "nobody was asked": (report(SKIPPED, SKIPPED), 0),
    "there is nobody": (report(), 0),
    "some nodes failed": (report(OK, "PULL_FAILED", OK), 3),
    "all workers failed, the head did not": (report(OK, "PULL_FAILED", "PULL_FAILED"), 3),
    "the head failed": (report("PULL_FAILED", OK, OK), 1),
    "every node failed": (report("PULL_FAILED", "DISK_FULL"), 1),
    "every node that was asked failed": (report(SKIPPED, "PULL_FAILED", SKIPPED), 1),
    "one of two that were asked failed": (report(SKIPPED, "PULL_FAILED", OK), 3),
    "a node could not be reached": (report(OK, "SSH_TIMEOUT"), 4),
    "the head could not be reached": (report("SSH_TIMEOUT", SKIPPED), 4),
    "unreachable comes before failed": (report("PULL_FAILED", "DNS_FAIL"), 4),
    "a host key changed": (report(OK, "HOST_KEY_CHANGED"), 6),
    "the registry refused us": (report("REGISTRY_AUTH"), 6),
    "AWS refused us": (report("AWS_DENIED"), 6),
    "refused comes before unreachable": (report("SSH_TIMEOUT", "SSH_AUTH_REFUSED", "PULL_FAILED"), 6),
    "our settings are wrong": (report(problems=("CONFIG",)), 2),
    "our inventory is wrong": (report(problems=("INVENTORY", "CONFIG")), 2),
    "something failed that is no node's": (report(OK, problems=("AWS_FAILED",)), 1),
    "something refused us that is no node's": (report(OK, problems=("AWS_NO_CREDS",)), 6),
    "interrupted": (report(OK, OK, interrupted=True), 130),
    "interrupted comes before all": (report("SSH_TIMEOUT", "HOST_KEY_CHANGED", interrupted=True), 130),
}


@pytest.mark.parametrize(("made", "code"), EXITS.values(), ids=EXITS)
def test_the_exit_code_is_the_first_that_holds(made: Report, code: int) -> None:
    assert made.exit == code
    assert made.json()["exit"] == code
    assert made.json()["ok"] is (code == 0)


def test_a_lock_that_somebody_holds_comes_before_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy import errors

    # No step takes the lock yet; its exit code stands all the same.
    monkeypatch.setattr(errors, "CODES", {**errors.CODES, "HELD": errors.Kind.LOCKED})
    assert report("HELD", "HOST_KEY_CHANGED").exit == 5


WORDS = {
    "skipped": SKIPPED,
    "ok": OK,
    "failed": "PULL_FAILED",
    "unreachable": "SSH_LOST",
}


@pytest.mark.parametrize(("word", "what"), WORDS.items(), ids=WORDS)
def test_an_outcome_is_one_of_four_words(word: str, what: str) -> None:
    (outcome,) = report(what).outcomes
    assert outcome.word == word


def test_a_refusal_is_a_failure_and_not_unreachable() -> None:
    (outcome,) = report("HOST_KEY_CHANGED").outcomes
    assert outcome.word == "failed"


def test_the_first_failure_is_the_cause_and_stays() -> None:
    outcome = Outcome(NODES[0])
    outcome.fail(Failure("PULL_FAILED", "first"), "pull the image")
    outcome.fail(Failure("SSH_LOST", "second"), "start it")
    assert outcome.problem == Problem("PULL_FAILED", "first")
    assert outcome.step == "pull the image"


def test_what_was_done_is_a_change_also_where_something_failed_after_it() -> None:
    assert not report(OK, "PULL_FAILED").changed
    made = report(OK, "PULL_FAILED")
    made.outcomes[1].done.append("install Docker")
    assert made.changed
    assert [node["changed"] for node in made.json()["nodes"]] == [False, True]


def test_the_document_has_the_keys_of_the_contract_and_no_others() -> None:
    document = report(OK, "PULL_FAILED", problems=("CONFIG",)).json()
    ours = ["changed", "cluster", "errors", "exit", "image", "loosened", "nodes", "ok", "schema", "task"]
    assert sorted(document) == ours
    assert sorted(document["nodes"][0]) == [
        "address",
        "changed",
        "code",
        "container",
        "container_id",
        "digest",
        "error",
        "log_tail",
        "node",
        "outcome",
        "ray",
        "role",
        "spec",
    ]
    assert [sorted(error) for error in document["errors"]] == [["code", "error", "place"]] * 2
    assert (document["schema"], document["cluster"], document["task"]) == (1, "ray", "cluster.start")


def test_a_node_that_nobody_looked_at_is_unknown_and_not_absent() -> None:
    assert report(OK, SKIPPED).json()["nodes"][1] == {
        "node": "10.0.0.7",
        "role": "worker",
        "address": "10.0.0.7",
        "outcome": "skipped",
        "changed": False,
        "container": "unknown",
        "container_id": None,
        "spec": None,
        "digest": None,
        "ray": "unknown",
        "log_tail": [],
        "code": None,
        "error": None,
    }


def test_what_was_found_of_a_node_stands_in_its_object() -> None:
    made = report(OK, "RAY_EXITED")
    made.outcomes[1].facts |= {
        "container": "exited",
        "container_id": "c0ffee",
        "spec": "v1:1",
        "ray": "absent",
        "log_tail": ("last", "words"),
    }
    node = made.json()["nodes"][1]
    assert (node["container"], node["container_id"], node["spec"], node["ray"]) == (
        "exited",
        "c0ffee",
        "v1:1",
        "absent",
    )
    assert (node["outcome"], node["code"], node["error"]) == ("failed", "RAY_EXITED", "it did not work")
    assert node["log_tail"] == ["last", "words"]


ADDRESSES = {
    "where SSH goes": (1, {}, "10.0.0.7"),
    "private= before that": (2, {}, "10.1.0.8"),
    "the address that Ray has before both": (2, {"address": "172.16.0.8"}, "172.16.0.8"),
}


@pytest.mark.parametrize(("place", "facts", "address"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_nodes_address_is(place: int, facts: dict[str, str], address: str) -> None:
    made = report(OK, OK, OK)
    made.outcomes[place].facts |= facts
    assert made.json()["nodes"][place]["address"] == address


def test_nodes_stand_in_the_inventorys_order_and_the_head_first() -> None:
    names = [node["node"] for node in report(OK, OK, OK, OK).json()["nodes"]]
    assert names == ["head", "10.0.0.7", "10.0.0.8:2222", "10.0.0.9"]


def test_alike_problems_are_told_once_with_all_their_nodes() -> None:
    made = report(OK, "PULL_FAILED", "SSH_TIMEOUT", "PULL_FAILED")
    alike = {problem.code: [one.node.name for one in outcomes] for problem, outcomes in made.alike().items()}
    assert alike == {"PULL_FAILED": ["10.0.0.7", "10.0.0.9"], "SSH_TIMEOUT": ["10.0.0.8:2222"]}
    assert made.json()["errors"] == [
        {"code": "PULL_FAILED", "place": "10.0.0.7", "error": "it did not work"},
        {"code": "SSH_TIMEOUT", "place": "10.0.0.8:2222", "error": "it did not work"},
    ]


def test_what_a_node_writes_without_measure_does_not_fill_the_document() -> None:
    made = report("ok", problems=("COMMAND_FAILED",))
    made.problems = (Problem("COMMAND_FAILED", "A" * 3_000_000),)
    made.outcomes[0].fail(Failure("COMMAND_FAILED", "B" * 3_000_000))
    made.outcomes[0].facts["log_tail"] = ["C" * 3_000_000]
    assert len(json.dumps(made.json())) < 15_000


def test_problems_with_another_cause_are_not_alike() -> None:
    made = report(OK, OK)
    made.outcomes[0].fail(Failure("PULL_FAILED", "no space"))
    made.outcomes[1].fail(Failure("PULL_FAILED", "no network"))
    assert [error["error"] for error in made.json()["errors"]] == ["no space", "no network"]


def test_a_tasks_own_fields_come_beside_the_contracts() -> None:
    made = report(OK)
    made.image, made.facts = (
        "registry.test/my-app@sha256:1",
        {"digest": "sha256:1", "uri": "registry.test/my-app:latest"},
    )
    document = json.loads(json.dumps(made.json()))
    assert (document["image"], document["digest"], document["uri"]) == (made.image, *made.facts.values())
