"""What becomes of JSON that is not what was due: one error, whatever it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reading import Fields, Odd, listed, parsed, typed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["a"]), inner),
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        "NaN",
        "-Infinity",
        "1e400",
        b"\xff\xfe\x00",
        "\ud800x",
    ],
    ids=["nothing", "word", "torn", "deep-list", "deep", "long", "nan", "infinite", "great", "bytes", "surrogate"],
)
def test_what_is_no_json_is_odd(text: str | bytes) -> None:
    with pytest.raises(Odd, match="that is no JSON"):
        parsed(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, int), (1, bool), (10**30, int), ("1", int), (1, str), (None, dict), ([], dict), ({}, list), (2.5, int)],
)
def test_a_value_of_another_kind_is_odd(value: object, kind: type) -> None:
    with pytest.raises(Odd, match=f"where a {kind.__name__} was due"):
        typed(value, kind)


def test_of_a_text_nothing_is_told_for_it_may_be_a_secret() -> None:
    with pytest.raises(Odd, match="^a text of 4000 characters where a int was due$"):
        typed("\x1b[2J" * 1000, int)


@pytest.mark.parametrize("said", ['"\\ud800"', '"sha256:\\udfff"'])
def test_a_text_that_cannot_be_written_is_odd(said: str) -> None:
    with pytest.raises(Odd, match="that cannot be written"):
        typed(parsed(said), str)
    for fields in (Fields({"a": {"k": json.loads(said)}}), Fields({"a": {json.loads(said): "v"}})):
        with pytest.raises(Odd):
            fields.pairs("a")


def test_a_field_that_is_missing_is_odd_unless_it_may_be() -> None:
    fields = Fields({"none": None})
    assert (fields.text("none", ""), fields.inner("none").of, fields.texts("x"), fields.pairs("x")) == ("", {}, (), {})
    assert listed(None) == []
    for read in (fields.text, fields.number):
        with pytest.raises(Odd, match="None where a"):
            read("none")


READERS: tuple[Callable[[object], object], ...] = (
    lambda value: parsed(json.dumps(value)),
    lambda value: [one.text("a") for one in listed(value)],
    lambda value: Fields.read(value).number("a"),
    lambda value: Fields.read(value).texts("a"),
    lambda value: Fields.read(value).pairs("a"),
)


@given(JSON)
def test_a_reader_gives_what_was_due_or_says_that_it_is_odd(value: object) -> None:
    for read in READERS:
        with contextlib.suppress(Odd):
            read(value)
