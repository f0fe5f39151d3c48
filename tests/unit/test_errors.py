"""The one family of errors, its codes, and the secret that no message shows."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator

import pytest

from deploy.errors import CODES, Failure, Kind, Mistake, Problem, RaydockError
from deploy.secret import Secret

from .fakes import TOP


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("CONFIG", 2), ("SSH_TIMEOUT", 4), ("HOST_KEY_CHANGED", 6), ("AWS_EXPIRED", 6), ("PULL_FAILED", 1)],
)
def test_a_code_asks_for_an_exit_code(code: str, exit_code: int) -> None:
    assert Problem(code, "x").kind.value == exit_code


def test_every_kind_is_an_exit_code_of_its_own() -> None:
    assert sorted(kind.value for kind in Kind) == [1, 2, 4, 5, 6]


def test_codes_are_upper_case_words() -> None:
    assert [code for code in CODES if not code.replace("_", "").isalpha() or code != code.upper()] == []


def test_a_code_that_there_is_not_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError, match="NO_SUCH"):
        Problem("NO_SUCH", "x")


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        pytest.param(Problem("CONFIG", "is empty"), "is empty", id="alone"),
        pytest.param(Problem("CONFIG", "is empty", place=".env:3"), ".env:3: is empty", id="with its place"),
        pytest.param(Problem("CONFIG", "is empty", "Fill it"), "is empty. Fill it", id="with the next move"),
        pytest.param(Problem("CONFIG", "is empty", "Fill it", ".env:3"), ".env:3: is empty. Fill it", id="with both"),
    ],
)
def test_a_problem_is_one_line(problem: Problem, line: str) -> None:
    assert str(problem) == line


def test_of_an_error_without_measure_the_beginning_and_the_end_are_told() -> None:
    problem = Problem("COMMAND_FAILED", f"`sh` ended with 1: {'A' * 3_000_000} the reason")
    assert len(problem.told) < 3100
    assert problem.told.startswith("`sh` ended with 1: AAA")
    assert problem.told.endswith("AAA the reason")
    assert str(problem) == problem.told


def test_what_is_wrong_with_a_whole_file_is_told_uncut() -> None:
    mistake = Mistake(*(Problem("CONFIG", f"mistake {number}", place=f".env:{number}") for number in range(1000)))
    assert str(mistake) == "\n".join(f".env:{number}: mistake {number}" for number in range(1000))


def test_a_mistake_tells_all_that_is_wrong_a_line_each() -> None:
    mistake = Mistake(Problem("CONFIG", "a", place=".env:1"), Problem("INVENTORY", "b"))
    assert str(mistake) == ".env:1: a\nb"
    assert [problem.code for problem in mistake.problems] == ["CONFIG", "INVENTORY"]


def test_no_problems_make_no_mistake() -> None:
    Mistake.raise_any([])
    with pytest.raises(Mistake):
        Mistake.raise_any([Problem("CONFIG", "a")])


def test_a_failure_is_one_problem_and_has_its_parts() -> None:
    failure = Failure("PULL_FAILED", "no such image", "Publish it", place="10.0.0.7")
    assert (failure.code, failure.error, failure.cure, failure.place) == (
        "PULL_FAILED",
        "no such image",
        "Publish it",
        "10.0.0.7",
    )
    assert failure.problems == (failure.problem,)


def test_mistakes_and_failures_are_one_family() -> None:
    assert issubclass(Mistake, RaydockError)
    assert issubclass(Failure, RaydockError)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param(lambda secret: f"{secret}", id="format"),
        pytest.param(lambda secret: "{:>12}".format(secret), id="format with a width"),  # noqa: UP032 (the case)
        pytest.param(lambda secret: "%s" % secret, id="percent"),  # noqa: UP031 (the case)
        pytest.param(lambda secret: str([secret]), id="in a list"),
        pytest.param(lambda secret: str(ValueError(secret)), id="in an exception"),
        pytest.param(lambda secret: str(vars(type(secret))), id="in its class"),
    ],
)
def test_a_secret_does_not_show_itself(shown: object) -> None:
    assert callable(shown)
    assert "hunter2" not in shown(Secret("hunter2"))


def test_a_secret_gives_its_value_when_asked_by_name() -> None:
    assert Secret("hunter2").reveal() == "hunter2"


def test_secrets_are_equal_when_their_values_are() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\udcff") == Secret("\udcff")
    assert {Secret("a"), Secret("a")} == {Secret("a")}


def test_a_secret_is_true_when_it_has_a_value() -> None:
    assert Secret("a")
    assert not Secret("")


@pytest.mark.parametrize("way_out", [list, pickle.dumps, len], ids=["iterating", "pickling", "measuring"])
def test_a_secret_is_no_string(way_out: object) -> None:
    assert callable(way_out)
    with pytest.raises(TypeError):
        way_out(Secret("hunter2"))


def test_a_secret_is_its_own_copy() -> None:
    secret = Secret("hunter2")
    assert copy.deepcopy({"key": secret})["key"] is copy.copy(secret) is secret


# --- the page --------------------------------------------------------------------------------------------------

PAGE = (TOP / "docs/errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def told_exit_codes() -> dict[str, int]:
    """Give each code of the page with the exit code that its chapter tells; the last chapters' is 1."""
    chapters = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    exits = {chapter: re.search(r"\(exit (\d)\b", chapter.splitlines()[0]) for chapter in chapters}
    return {row[0]: int(found[1]) if found else 1 for chapter, found in exits.items() for row in ROW.findall(chapter)}


def test_the_page_has_each_code_once_with_its_exit_code_and_no_other() -> None:
    assert told_exit_codes() == {code: kind.value for code, kind in CODES.items()}
    assert len(ROW.findall(PAGE)) == len(CODES)


CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
SOURCES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for path in (TOP / "deploy").rglob("*.py")
    if path.name != "errors.py"
}


def raised_literally(tree: ast.AST) -> Iterator[str]:
    """Give the codes that stand where a problem, a failure or a mistake is made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Problem", "Failure", "Mistake.of"):
            codes = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "code")]
            yield from (
                str(part.value)
                for code in codes
                for part in ast.walk(code)
                if isinstance(part, ast.Constant) and CODE.fullmatch(str(part.value))
            )


def told(tree: ast.AST) -> set[str]:
    """Give the codes that stand anywhere as a word, as in tables, but for those that something is compared with."""
    compared = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in node.comparators
        for part in ast.walk(side)
    }
    words = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in compared]
    return {node.value for node in words if isinstance(node.value, str)} & set(CODES)


def test_no_code_is_raised_that_there_is_not() -> None:
    raised = {code for tree in SOURCES.values() for code in raised_literally(tree)}
    assert raised - set(CODES) == set()
    assert len(raised) > 50, "most are raised by their name"


def test_each_code_is_raised_somewhere_and_not_only_compared_with() -> None:
    assert set(CODES) - {code for tree in SOURCES.values() for code in told(tree)} == set()


BROUGHT_ABOUT = (*TOP.glob("tests/faults/rows_*.py"), *TOP.glob("tests/hosts/*.py"), TOP / "tests/unit/test_told.py")


def words_of(tree: ast.AST) -> set[str]:
    """Give the codes in what a test compares with, or looks for in what was told."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {word for text in texts for word in CODE.findall(text)} & set(CODES)


def called(tree: ast.AST) -> set[str]:
    """Give the last word of the name of everything that is called."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(function).rpartition(".")[2] for function in functions}


def named(tree: ast.AST) -> set[str]:
    """Give every name that stands there."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def brought_about(module: ast.Module) -> set[str]:
    """Give the codes that stand in rows, in functions that type a task, and in the tables that those have."""
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    typing, known = {"invoke", "command", "row"}, 0
    while known < len(typing):
        known = len(typing)
        typing |= {name for name, function in functions.items() if called(function) & typing}
    used = [function for name, function in functions.items() if name in typing]
    names = {name for function in used for name in named(function)}
    tables = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign) and named(node) & names]
    calls = [node for node in module.body if isinstance(node, ast.Expr) and called(node) & typing]
    return set().union(*(words_of(node) for node in (*used, *tables, *calls)))


def test_each_code_is_brought_about_by_a_task() -> None:
    brought = set().union(*(brought_about(ast.parse(path.read_text(encoding="utf-8"))) for path in BROUGHT_ABOUT))
    # Whoever knows how to bring about a bug of ours mends it.
    assert set(CODES) - brought == {"BUG"}


def test_a_code_that_only_an_engine_is_asked_for_is_not_brought_about_by_a_task() -> None:
    asked = """
TABLE = {"DOCKER_ABSENT": 1}
OTHER = {"API_TOO_OLD": 1}
def test_engine(): assert Engine().ping().code == "COMMAND_FAILED"
def test_other(): assert Engine(OTHER)
def typed(invoke): return invoke("cluster.stop")
def test_task(invoke): assert typed(invoke).code in TABLE or "NAME_CONFLICT"
"""
    assert brought_about(ast.parse(asked)) == {"DOCKER_ABSENT", "NAME_CONFLICT"}
