"""Ctrl-C before a task has begun, and after it has ended."""

from __future__ import annotations

import signal
import sys

from deploy.errors import INTERRUPTED


def end_quietly() -> None:
    """Have Ctrl-C end us with the code of what is interrupted, unless whoever started us has us ignore it.

    Invoke's own is 1. A task has a handler of its own, which tells what stands.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
