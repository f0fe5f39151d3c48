"""What the quick tests share: property tests that are few, and leave their finds in .cache."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

FINDS = DirectoryBasedExampleDatabase(Path(__file__).resolve().parents[2] / ".cache" / "hypothesis")
settings.register_profile("quick", max_examples=60, deadline=None, database=FINDS)
settings.load_profile("quick")
