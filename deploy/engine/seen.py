"""What was seen of an engine's containers: it holds until something is done to one of a cluster's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Seen:
    """Answers by what was asked. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, Any] = {}
        self._changes = 0

    def look(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Ask, and keep the answer, unless something was done meanwhile: it may be of the time before that."""
        changes = self._changes
        answer = ask()
        with self._lock:
            if changes == self._changes:
                self._answers[key] = answer
        return answer

    def last(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Give what was answered last; ask where nobody did, or something was done since."""
        with self._lock:
            if key in self._answers:
                return self._answers[key]  # type: ignore[no-any-return]  # of the kind that is asked for by this key
        return self.look(key, ask)

    def keep(self, key: Hashable, answer: object) -> None:
        """Keep what is known without asking."""
        with self._lock:
            self._answers[key] = answer

    def get(self, key: Hashable) -> Any:
        """Give what is kept; None where nothing is."""
        with self._lock:
            return self._answers.get(key)

    @contextmanager
    def changing(self) -> Iterator[dict[Hashable, Any]]:
        """Forget it all, for the block changes a container, or may; what it puts into the dict is known after it."""
        known: dict[Hashable, Any] = {}
        self._forget({})
        try:
            yield known
        finally:
            self._forget(known)

    def _forget(self, but: Mapping[Hashable, Any]) -> None:
        with self._lock:
            self._changes += 1
            self._answers = dict(but)
