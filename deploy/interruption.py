"""Ctrl-C, SIGTERM and SIGHUP in a run: the first has it end in order within 5 s, a second one at once."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.signals import ENDING, on_signals

if TYPE_CHECKING:
    from types import FrameType

    from deploy.run import Run

GRACE = 2.0  # seconds for the steps that are at work to come to their end
PATIENCE = 1.0  # seconds for those that were cut off to see it
STOPPING = "stopping after the current step; press again to abandon"


class Interruption:
    """What the signals of a run have come to. A thread attends to them: a handler may not wait for any lock."""

    def __init__(self, run: Run, say: Callable[[str], object]) -> None:
        self._run, self._say = run, say
        self._woken, self._wake = os.pipe()
        self.signals = 0

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal; a handler. The third is for somebody who sees that two do not help."""
        self.signals += 1
        if self.signals > 2:
            raise KeyboardInterrupt
        os.write(self._wake, b".")

    def attend(self) -> None:
        """Wait for signals, and do what they ask for, until the run has ended."""
        if not self._comes(None):
            return
        self._run.halt(Failure("INTERRUPTED", "interrupted"))
        self._say(STOPPING)
        again = self._comes(GRACE)
        if again is False:
            return
        self._run.cut()
        if again or self._comes(PATIENCE) is not False:
            self._run.leave()

    def _comes(self, patience: float | None) -> bool | None:
        """Tell whether a signal comes: False where the run ends before, None where neither does in time."""
        ready, _, _ = select.select([self._woken], [], [], patience)
        return bool(os.read(self._woken, 1)) if ready else None

    def over(self, attending: threading.Thread) -> None:
        """Have the thread end."""
        os.close(self._wake)
        attending.join(PATIENCE)
        os.close(self._woken)


@contextmanager
def heard(run: Run, say: Callable[[str], object]) -> Iterator[Interruption]:
    """Have signals halt a run for the block, but for those that whoever started us has us ignore."""
    interruption = Interruption(run, say)
    attending = threading.Thread(target=interruption.attend, daemon=True)
    attending.start()
    try:
        with on_signals(interruption.hear, *ENDING):
            yield interruption
    finally:
        interruption.over(attending)
