"""What a person reads: progress while a task runs, one report at its end. rich's only door."""

from __future__ import annotations

from deploy.show.screen import Screen
from deploy.show.text import clean

__all__ = ["Screen", "clean"]
