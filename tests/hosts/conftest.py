"""What holds for a run of the tests on practice hosts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.practice import SHARING

# How many of these tests pass. In CI a run of all of them in which fewer do has failed.
HOST_TESTS = 323
HERE = Path(__file__).resolve().parent
# These want practice hosts of their own, or none; the others share theirs after them.
FIRST = ("test_sandbox.py", "test_demo.py", "test_one_machine.py")
TIMEOUT = 60  # seconds for one test, without its fixtures


def place(item: pytest.Item) -> tuple[int, int]:
    """Tell when a test comes: what needs no host, what needs hosts of its own, what shares them, what breaks them."""
    name = item.path.name
    folders = {HERE: 1 if name in FIRST else 2, HERE.parent / "faults": 3}
    return folders.get(item.path.parent, 0), SHARING.index(name) if name in SHARING else len(SHARING)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those first that the shared hosts would be in the way of; give each its time."""
    items.sort(key=place)
    for item in items:
        if item.path.parent == HERE:
            marker = item.get_closest_marker("timeout")
            seconds = marker.args[0] if marker else TIMEOUT
            # The first test to ask for a shared fixture does not pay for it: what fixtures call has its own deadline.
            item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)


def shortfall(config: pytest.Config) -> str:
    """Say what a run of all host tests in CI lacks; nothing where it lacks nothing."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    whole = any(Path(word).resolve() in (HERE, *HERE.parents) for word in config.args) and not stats.get("deselected")
    if not (os.environ.get("CI") and whole) or config.option.collectonly:
        return ""

    def names(outcome: str, *folders: str) -> list[str]:
        return [report.nodeid for report in stats.get(outcome, ()) if report.nodeid.startswith(folders)]

    passed, skipped = names("passed", "tests/hosts/"), names("skipped", "tests/hosts/", "tests/faults/")
    if skipped:
        return f"skipped, as in CI no test on real hosts may be: {', '.join(skipped)}"
    if len(passed) < HOST_TESTS:
        return f"{len(passed)} tests on real hosts passed, and {HOST_TESTS} are committed (tests/hosts/conftest.py)"
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a run fail that lacks something."""
    if session.exitstatus == pytest.ExitCode.OK and shortfall(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what it lacks."""
    if lacks := shortfall(config):
        terminalreporter.write_line(lacks, red=True)
