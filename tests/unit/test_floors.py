"""Imports point down only, each library has one door, and the prompt is not kept waiting."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "deploy"

# From the lowest up; a package stands for all of its modules. A module may import from its own floor and from
# those below it.
FLOORS = (
    {
        "errors",
        "early",
        "files",
        "secret",
        "sizes",
        "durations",
        "grammar",
        "timings",
        "signals",
        "reading",
        "withheld",
    },
    {"settings", "inputs", "envfile", "clashes", "lists", "ports", "inventory", "hostfile", "image", "known_hosts"}
    | {
        "shell",
        "systems",
        "progress",
        "ray",
        "site",
        "plan",
        "lates",
        "steps",
        "probes",
        "plans",
        "script",
        "report",
        "hints",
        "audit",
    },
    {"channel", "engine", "hostkeys", "ssh", "hosts", "commands", "group", "run", "registry", "dockerconfig", "ray_api"}
    | {
        "ssh_hosts",
        "known_files",
        "ssh_lines",
        "ssh_config",
        "aws",
        "interruption",
        "at_once",
        "outlet",
        "windows",
        "doors",
        "talk",
        "sessions",
        "ssh_errors",
        "stdio",
        "shells",
        "lock",
        "dial",
        "output",
        "identities",
        "jumps",
        "pulse",
        "stalls",
        "git",
        "parcel",
        "passing",
        "show",
        "practice",
        "programs",
        "listing",
        "terminal",
    },
    {"flags", "desk", "trust", "replace", "course", "jobs", "inside", "manual", "dashboard"},
    {"build", "publish", "cluster", "job", "sandbox"},
)
PURE = FLOORS[0] | FLOORS[1]

# Who may import a library when the program runs; for types alone everybody may.
DOORS = {
    "fabric": {"ssh", "group"},
    "paramiko": {"ssh_hosts", "ssh", "ssh_config", "hostkeys", "identities", "output", "pulse"},
    "docker": {"channel", "engine", "dockerconfig", "practice"},
    "requests": {"channel", "engine", "ray_api", "practice"},
    "urllib3": {"channel", "engine", "ray_api"},
    "boto3": {"aws"},
    "botocore": {"aws"},
    "dotenv": {"envfile"},
    "pydantic": {"settings"},
    "pydantic_core": {"settings"},
    "rich": {"show"},
    "invoke": {"tasks", "desk", "flags", "commands", "inside", "manual", "dashboard", *FLOORS[4]},
}

# Who may read the environment: the desk, once a run; what reads ssh_config, the SHELL by which ssh runs what is asked
# there; the practice hosts are no part of a run. What is early tells pydantic something in it.
READERS = {"desk", "early", "practice", "ssh_config"}

# What `invoke --list` and `--help` have no use for.
HEAVY = {"pydantic", "dotenv", "docker", "boto3", "fabric", "rich"}


@dataclass(frozen=True)
class Import:
    """That one module imports another, both by their full names; and whether only for its types."""

    by: str
    name: str
    typing: bool


def module_of(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        for name in names_in(node):
            yield Import(module_of(path), name, id(node) in for_types)


def names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in MODULES else str(node.module)


MODULES = {module_of(path): path for path in (*DEPLOY.rglob("*.py"), TOP / "tasks.py")}
IMPORTS = [found for path in MODULES.values() for found in imports_of(path)]


def place(module: str) -> str:
    """Give what the tables call a module: `deploy.steps.setup` is `steps`."""
    return module.removeprefix("deploy.").partition(".")[0]


def floor(module: str) -> int:
    numbers = (number for number, names in enumerate(FLOORS) if place(module) in names)
    return next(numbers, len(FLOORS))


def test_every_module_has_one_floor() -> None:
    named = [name for names in FLOORS for name in names]
    assert sorted(named) == sorted(set(named))
    assert {place(module) for module in MODULES} - {"deploy", "tasks"} <= set(named)


def test_every_floor_and_door_is_of_a_module_that_there_is() -> None:
    there = {place(module) for module in MODULES}
    assert {name for names in (*FLOORS, *DOORS.values()) for name in names} - there == set()


def test_imports_point_down() -> None:
    up = [
        f"{found.by} imports {found.name}"
        for found in IMPORTS
        if found.name in MODULES and found.name != "deploy" and not found.typing
        if floor(found.by) < floor(found.name)
    ]
    assert up == []


def test_no_module_needs_itself() -> None:
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.name in MODULES and not found.typing and found.name != found.by:
            graph.setdefault(found.by, set()).add(found.name)
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_its_door(library: str) -> None:
    users = {place(found.by) for found in IMPORTS if found.name.split(".")[0] == library and not found.typing}
    assert users <= DOORS[library]


def test_the_pure_floors_need_python_alone() -> None:
    allowed = {*sys.stdlib_module_names, "deploy", "dotenv", "pydantic", "pydantic_core"}
    foreign = [
        f"{found.by} imports {found.name}"
        for found in IMPORTS
        if place(found.by) in PURE and found.name.split(".")[0] not in allowed
    ]
    assert foreign == []


@pytest.mark.parametrize("library", ["subprocess", "socket", "ssl", "http", "asyncio", "threading", "concurrent"])
def test_the_pure_floors_reach_nothing(library: str) -> None:
    assert [found.by for found in IMPORTS if place(found.by) in PURE and found.name.split(".")[0] == library] == []


def test_one_place_reads_the_environment() -> None:
    readers = {
        place(module)
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    }
    assert readers <= READERS


def test_loading_the_tasks_loads_nothing_heavy() -> None:
    program = f"import sys, tasks; print(sorted({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_nodes_are_connected_to_before_what_speaks_to_them_is_loaded() -> None:
    later = {"docker", "requests", "rich", "boto3"}
    program = f"import sys, deploy.group, deploy.run; print(sorted({later!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
