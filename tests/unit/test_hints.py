"""The command that a person is most likely to type next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.errors import Failure
from deploy.hints import again, next_command, typed, unlike_latest
from deploy.report import Outcome, Report

from .fakes import scope

BROKEN = Failure("PULL_FAILED", "no")


def report(task: str, *failed: str, **values: bool) -> Report:
    """Give the report of a task on a head and three workers, some of which failed."""
    outcomes = [Outcome(node, asked=True) for node in scope("w1\nw2\nw3").inventory.nodes]
    for outcome in outcomes:
        if outcome.node.name in failed:
            outcome.fail(BROKEN)
    return Report(task, outcomes=outcomes, **values)  # type: ignore[arg-type]  # `interrupted` is all there is


AGAIN = {
    "some workers": (
        report("cluster.start", "w1", "w3"),
        ("2 of 4 nodes failed", "invoke cluster.start --only w1,w3"),
    ),
    "the head, without which no worker can": (
        report("cluster.start", "head", "w1"),
        ("2 of 4 nodes failed", "invoke cluster.start"),
    ),
    "everybody": (
        report("cluster.pull", "head", "w1", "w2", "w3"),
        ("4 of 4 nodes failed", "invoke cluster.pull"),
    ),
    "a task that was interrupted": (
        report("cluster.stop", "w1", interrupted=True),
        ("1 of 4 nodes are not done", "invoke cluster.stop"),
    ),
    "a task that only looked": (report("cluster.status", "w1"), ("", "")),
}


@pytest.mark.parametrize(("of", "told"), AGAIN.values(), ids=AGAIN)
def test_what_is_to_be_done_again_after(of: Report, told: tuple[str, str]) -> None:
    assert again(of, only=None, image="") == told


def test_what_was_told_is_told_again() -> None:
    of = report("cluster.start", "head", "w1")
    assert again(of, only="head,w1", image="a b:1")[1] == "invoke cluster.start --only head,w1 --image 'a b:1'"
    assert again(of, only=None, image="", container="c0ffee")[1].startswith("invoke cluster.start c0ffee")


def test_a_task_that_never_began_has_nothing_to_be_done_again() -> None:
    assert again(Report("cluster.start", problems=(BROKEN.problem,)), only=None, image="") == ("", "")


NEXT = {
    "nothing follows": ("build.image", ["build"], "invoke publish"),
    "it was typed by its whole name": ("build.image", ["build.image", "--json"], "invoke publish"),
    "another follows on the line": ("build.image", ["build", "publish"], ""),
    "it is the last on the line": ("publish.image", ["build", "publish"], "invoke cluster.setup cluster.start"),
    "nobody knows what follows": ("sandbox.up", ["sandbox.up"], ""),
}


@pytest.mark.parametrize(("task", "words", "command"), NEXT.values(), ids=NEXT)
def test_the_next_command_where(task: str, words: list[str], command: str) -> None:
    assert next_command(task, words) == command


def test_an_image_that_is_not_the_latest_is_named_in_what_follows() -> None:
    command = "IMAGE=r.test/a:1d1d invoke cluster.setup cluster.start"
    assert next_command("publish.image", [], image="r.test/a:1d1d") == command
    published = Report("publish.image", facts={"tags": ["1d1d"], "uri": "r.test/a:1d1d"})
    assert unlike_latest(published) == "r.test/a:1d1d"
    assert unlike_latest(replace(published, facts={"tags": ["1d1d", "latest"], "uri": "r.test/a:1d1d"})) == ""


def test_a_command_keeps_its_environment() -> None:
    assert typed("invoke build", "my site") == "ENVIRONMENT='my site' invoke build"
    assert typed("invoke build", None) == "invoke build"
    assert (
        typed("See it: invoke build, or do not invoke it", "x")
        == "See it: ENVIRONMENT=x invoke build, or do not invoke it"
    )
