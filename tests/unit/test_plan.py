"""Words, late values, and plans that are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from deploy.plan import Chain, Late, Phrase, Place, Plan, Stage, Step, Word, lates, phrase, quoted, run_only

from .fakes import FakeSite, bash, scope

if TYPE_CHECKING:
    from deploy.inventory import Node

HOSTILE = {
    "nothing": "",
    "a blank": "two words",
    "quotes": """it's "quoted" """,
    "a substitution": "$(touch /tmp/never)",
    "backticks": "`touch /tmp/never`",
    "a variable": "$HOME ${HOME}",
    "the end of a command": "; exit 7 # && || > < |",
    "a backslash at the end": "C:\\",
    "glob and tilde": "~ * ? [a] {1,2} !!",
    "lines and tabs": "one\n\ttwo\nLINES\nthree",
    "letters of all kinds": "Grüße ✓ \u202e",
}


def late(name: str, *needs: Late[Any]) -> Late[str]:
    return Late(name, f"echo {name}", lambda _: name, needs=needs)


ADDRESS = late("address")


@pytest.mark.parametrize("literal", HOSTILE.values(), ids=HOSTILE)
def test_bash_reads_a_literal_as_it_was_written(literal: str) -> None:
    read = bash(f"printf '<%s>' {quoted(literal)} {quoted(phrase('--port=', literal, ADDRESS))}", address=literal)
    assert read == f"<{literal}><--port={literal}{literal}>"


WORDS: dict[str, tuple[Word, str]] = {
    "a plain word stands as it is": ("--head", "--head"),
    "what the shell would read is quoted": ("a b", "'a b'"),
    "nothing is a word too": ("", "''"),
    "a late value is its variable": (ADDRESS, '"$address"'),
    "a phrase quotes each part": (phrase("--address=", ADDRESS, ":6379"), '--address="$address":6379'),
    "a phrase quotes the parts that want it": (phrase("a b", ADDRESS, "$x"), "'a b'\"$address\"'$x'"),
}


@pytest.mark.parametrize(("word", "line"), WORDS.values(), ids=WORDS)
def test_a_word_is_written_for_bash(word: Word, line: str) -> None:
    assert quoted(word) == line


@dataclass(frozen=True)
class Does(Step):
    """A step of the tests."""

    what: Any
    seen: Any = run_only()

    @property
    def title(self) -> str:
        return "do it"

    @property
    def shell(self) -> str:
        return "true"

    def done(self, site: Any) -> bool:
        return isinstance(site, FakeSite)

    def apply(self, site: Any) -> None:
        raise AssertionError(site)


URI, PASSWORD = late("uri"), late("password")
IMAGE = late("image", URI, PASSWORD)
RUN = late("run", late("token"))

FOUND: dict[str, tuple[object, list[str]]] = {
    "a literal has none": ("words", []),
    "a late value is one": (ADDRESS, ["address"]),
    "what it needs comes first": (IMAGE, ["uri", "password", "image"]),
    "what is needed by what is needed comes before it": (late("a", late("b", late("c"))), ["c", "b", "a"]),
    "a phrase has those of its parts": (phrase("--x=", ADDRESS, RUN), ["address", "token", "run"]),
    "a tuple has those of its items": (("x", (URI, "y"), PASSWORD), ["uri", "password"]),
    "a step has those of its fields": (Does((IMAGE,), None), ["uri", "password", "image"]),
    "what only the run finds out is not the script's": (Does("x", (IMAGE, ADDRESS)), []),
    "a step within a step": (Does(Does(ADDRESS, IMAGE), None), ["address"]),
}


@pytest.mark.parametrize(("value", "names"), FOUND.values(), ids=FOUND)
def test_the_late_values_of_a_value_are_found_in_the_order_of_need(value: object, names: list[str]) -> None:
    assert [one.name for one in lates(value)] == names


def test_late_values_are_the_same_by_what_is_asked_and_not_by_who_answers() -> None:
    assert Late("a", "echo", lambda _: 1) == Late("a", "echo", lambda _: 2)
    assert Late("a", "echo", lambda _: 1) != Late("a", "echo 1", lambda _: 1)


def test_a_phrase_is_made_of_its_parts() -> None:
    assert phrase("a", ADDRESS) == Phrase(("a", ADDRESS))


HEAD, ONE, TWO = scope("one\ntwo").inventory.nodes
A, B, C = Does("a", None), Does("b", None), Does("c", None)


def plan(*chains: Chain) -> Plan:
    return Plan((Stage(chains),))


def test_then_has_the_stages_of_both_one_after_the_other() -> None:
    first, second = plan(Chain(ONE, (A,))), Plan((Stage((Chain(ONE, (B,)),), after_head=True),))
    assert first.then(second).stages == (*first.stages, *second.stages)


class Ahead(Does):
    """A step that is of use whatever comes of the head."""

    ahead = True


class Looks(Does):
    """One that changes nothing."""

    changes = False


D, LOOK = Ahead("d", None), Looks("e", None)
DURING = {
    "where they have something to do ahead": ((Chain(HEAD, (A,)),), Chain(ONE, (D, B)), True),
    "where they have nothing to do ahead": ((Chain(HEAD, (A,)),), Chain(ONE, (B, D)), False),
    "where they have nothing to do": ((Chain(HEAD, (A,)),), Chain(ONE, ()), False),
    "where the head only looks": ((Chain(HEAD, (LOOK,)),), Chain(ONE, (D, B)), False),
    "where the head has nothing to do": ((Chain(HEAD, ()),), Chain(ONE, (D, B)), False),
    "where others are at work, too": ((Chain(HEAD, (A,)), Chain(TWO, (A,))), Chain(ONE, (D, B)), False),
    "where a worker is at work, and not the head": ((Chain(TWO, (A,)),), Chain(ONE, (D, B)), False),
    "where it is the head that goes on": ((Chain(HEAD, (A,)),), Chain(HEAD, (D, B)), False),
}


@pytest.mark.parametrize(("first", "then", "expected"), DURING.values(), ids=DURING)
def test_workers_may_begin_while_the_head_alone_is_at_work(
    first: tuple[Chain, ...], then: Chain, expected: bool
) -> None:
    one, two = Stage(first), Stage((then,), after_head=True)
    assert list(Plan((one, two)).turns()) == ([(one, two)] if expected else [(one, None), (two, None)])
    whatever = Stage((then,))
    assert list(Plan((one, whatever)).turns()) == [(one, None), (whatever, None)]


def test_along_has_each_node_go_straight_on() -> None:
    both = plan(Chain(HEAD, (A,)), Chain(ONE, (A,))).along(plan(Chain(HEAD, (B,)), Chain(ONE, (B, C))))
    assert both == plan(Chain(HEAD, (A, B)), Chain(ONE, (A, B, C)))


def test_along_takes_in_the_nodes_of_either_plan() -> None:
    assert plan(Chain(HEAD, (A,))).along(plan(Chain(TWO, (B,)))) == plan(Chain(HEAD, (A,)), Chain(TWO, (B,)))


@pytest.mark.parametrize("stages", [(), (Stage(()), Stage(()))], ids=["of none", "of two"])
def test_along_is_for_plans_of_one_stage(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match="unpack"):
        plan(Chain(HEAD, (A,))).along(Plan(stages))


def test_a_step_changes_nodes_by_itself_unless_it_says_otherwise() -> None:
    assert (A.changes, A.ends_session, A.where, A.document) == (True, False, Place.NODE, "")


class Here(Does):
    """A step on the operator's side."""

    where = Place.OPERATOR


FIRST = {
    "those of the first stage, the head before others": ((Chain(ONE, (A,)), Chain(HEAD, (A,))), (), [HEAD, ONE]),
    "and those that may begin meanwhile": ((Chain(HEAD, (A,)),), (Chain(ONE, (D, B)),), [HEAD, ONE]),
    "but not those that have to wait": ((Chain(HEAD, (A,)),), (Chain(ONE, (B,)),), [HEAD]),
    "nor those that nothing is done on": ((Chain(HEAD, (A,)), Chain(ONE, ())), (), [HEAD]),
    "nor those of which something is done here alone": ((Chain(HEAD, (Here("a", None),)),), (), []),
    "though those that are come to later": ((Chain(HEAD, (Here("a", None), A)),), (), [HEAD]),
}


@pytest.mark.parametrize(("first", "then", "expected"), FIRST.values(), ids=FIRST)
def test_nodes_that_are_connected_to_from_the_start_are(
    first: tuple[Chain, ...], then: tuple[Chain, ...], expected: list[Node]
) -> None:
    stages = (Stage(first), Stage(then, after_head=True)) if then else (Stage(first),)
    assert list(Plan(stages).first_reached()) == expected


def test_a_plan_of_nothing_connects_to_nobody() -> None:
    assert Plan(()).first_reached() == ()
