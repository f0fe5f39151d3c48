"""The same for several at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

AT_ONCE = 8
T = TypeVar("T")


def at_once(do: Callable[[T], object], items: Iterable[T], most: int = AT_ONCE) -> None:
    """Do the same to all, at most so many at a time; the first failure is raised once all have ended.

    Not a pool of `concurrent.futures`: its threads would keep an interrupted process until they are done.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    failures: list[Exception] = []
    for item in items:
        waiting.put(item)

    def work() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                do(item)
            except Exception as error:  # the fence around one of them
                failures.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(most, waiting.qsize()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
