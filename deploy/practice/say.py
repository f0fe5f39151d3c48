"""How a sandbox's progress is told: one line at a time."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
