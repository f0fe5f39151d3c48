"""What every test stands on."""

from __future__ import annotations

import signal

from tests.practice import (  # noqa: F401 - fixtures are found by their names here
    client,
    environment,
    invoke,
    path,
    practice_hosts,
    running,
    sandbox,
    started,
    stopped,
)
from tests.project import private, project  # noqa: F401 - likewise


def pytest_configure() -> None:
    """Have what the tests start end by the signals of a terminal, also where we run in the background.

    There they are ignored, and so by all that we start: an ignored signal is inherited, a handled one is not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
