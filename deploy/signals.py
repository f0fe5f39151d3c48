"""Signals that end a task: heard while it lasts, and no more once it was interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_signals(handler: Callable[[int, Any], object], *numbers: int) -> Iterator[None]:
    """Handle signals for the block, but for those that whoever started us has us ignore, as nohup does."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def heed_no_more(*numbers: int) -> None:
    """Ignore signals from now on: what was interrupted ends by its own exit code, however often it is asked to."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
