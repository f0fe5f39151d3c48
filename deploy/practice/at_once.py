"""The same for several at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

AT_ONCE = 8
T = TypeVar("T")


def at_once(do: Callable[[T], object], items: Iterable[T]) -> None:
    """Do the same to all, some at a time; the first failure is raised once all have ended.

    Not a pool of `concurrent.futures`: its threads would keep an interrupted process until they are done.
    """
    places = threading.BoundedSemaphore(AT_ONCE)
    failures: list[Exception] = []

    def chain(item: T) -> None:
        try:
            with places:
                do(item)
        except Exception as error:  # the fence around one of them
            failures.append(error)

    threads = [threading.Thread(target=chain, args=(item,), daemon=True) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
