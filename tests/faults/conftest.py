"""The bench that the rows share, and which of them a run has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench, real_bench, stub_bench
from tests.faults.bench_c import lacking, many_bench
from tests.faults.canaries import find_canaries
from tests.faults.catalogue import rows
from tests.faults.judge import RECORDS, commit
from tests.faults.row import Row
from tests.faults.rows_s import variables
from tests.faults.score import sandbox
from tests.hosts.observer import Sandbox
from tests.planted import Planted, planted

HERE = Path(__file__).resolve().parent
BEGUN = pytest.StashKey[float]()
FRAME = 240  # seconds for what surrounds a row's own task


@pytest.fixture(scope="session")
def rows_hosts(request: pytest.FixtureRequest) -> Sandbox:
    """The practice hosts; with `--part`, three of those that are up, beside which others may be at work."""
    if part := request.config.option.part:
        return sandbox(part)
    found: Sandbox = request.getfixturevalue("practice_hosts")
    return found


@pytest.fixture(scope="session")
def secrets(rows_hosts: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """An operator's secrets, for as long as there are rows; their environment is that of all that is typed."""
    with planted(tmp_path_factory.mktemp("planted"), rows_hosts) as made, variables(**made.env):
        yield made


def having(secrets: Planted, bench: Bench) -> Bench:
    """Have the secrets be a bench's, and see that each would be found wherever it is looked for."""
    bench.plant(secrets)
    find_canaries(bench)
    return bench


@pytest.fixture(scope="session")
def bench_a(rows_hosts: Sandbox, secrets: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The practice hosts with Ray, and decoys on them."""
    with real_bench(rows_hosts, tmp_path_factory.mktemp("bench-a")) as made:
        yield having(secrets, made)


@pytest.fixture(scope="session")
def bench_b(rows_hosts: Sandbox, secrets: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The practice hosts with a stub of Ray."""
    with stub_bench(rows_hosts, tmp_path_factory.mktemp("bench-b")) as made:
        yield having(secrets, made)


@pytest.fixture
def bench_c(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Hundreds of SSH endpoints with a stub of Docker."""
    if lacks := lacking():
        pytest.skip(f"this machine lacks what bench C needs: {lacks}")
    with many_bench(tmp_path_factory.mktemp("bench-c")) as made:
        yield made


@pytest.fixture
def bench(row: Row, request: pytest.FixtureRequest) -> Bench:
    """The bench that a row wants."""
    found: Bench = request.getfixturevalue(f"bench_{row.bench.lower()}")
    return found


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note when a run begins: its records bear that."""
    session.config.stash[BEGUN] = time.time()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep how long a run took that had every row, if its rows were recorded."""
    asked = {item.callspec.params["row"].number for item in session.items if item.path.parent == HERE}  # type: ignore[attr-defined]
    if session.config.getoption("record", default=False) and asked == set(rows()):
        begun, ended = session.config.stash[BEGUN], time.time()
        run = {"begin": moment(begun), "end": moment(ended), "seconds": round(ended - begun)}
        told = session.config.pluginmanager.get_plugin("terminalreporter")
        skipped = len(told.stats.get("skipped", ())) if told else 0
        run |= {"rows": len(asked), "failed": session.testsfailed, "skipped": skipped, "commit": commit()}
        (RECORDS / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def moment(seconds: float) -> str:
    """Write a time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@pytest.fixture(scope="session")
def run_begun(request: pytest.FixtureRequest) -> str:
    """When this run began."""
    return moment(request.config.stash[BEGUN])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what only these tests know."""
    parser.addoption("--part", type=int, help="the rows of bench B on three hosts alone, as the games have them")
    parser.addoption("--record", action="store_true", help="write docs/faults/ROW.json for each row")
    parser.addoption("--quick-rows", action="store_true", help="only the rows that every run of all tests has")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each row its time; leave out what a quick run does not have."""
    for item in [item for item in items if item.path.parent == HERE]:
        row = item.callspec.params["row"]  # type: ignore[attr-defined]  # each is parametrised
        item.add_marker(pytest.mark.timeout(row.within + FRAME, func_only=True))
        if config.option.quick_rows and not row.quick:
            items.remove(item)
