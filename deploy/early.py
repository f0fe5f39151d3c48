"""What holds before a task has begun, and after it has ended: Ctrl-C, how often Python tidies up, who has a part."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

from deploy.errors import INTERRUPTED

SELDOM = 50_000  # objects that are made before the collector looks again


def tidy_later() -> None:
    """Have Python look for no garbage before a run begins: what imports make stays, and to look at it takes a while.

    At its end it would look at all of it several times over, of which nothing comes.
    """
    gc.disable()
    atexit.register(gc.freeze)


def keep_plugins_out() -> None:
    """Have no package that happens to be installed take part in reading settings, as pydantic would let it.

    Secrets are among them; and to look through all packages for such a one takes a while.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def tidy_seldom() -> None:
    """Have Python look for garbage from now on, though seldom, and not at what is there by now."""
    gc.freeze()
    gc.set_threshold(SELDOM)
    gc.enable()


def end_quietly() -> None:
    """Have Ctrl-C end us with the code of what is interrupted, unless whoever started us has us ignore it.

    Invoke's own is 1. A task has a handler of its own, which tells what stands.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
