"""How many nodes at once: never more than files can be opened for."""

from __future__ import annotations

import resource

import pytest

from deploy.windows import DIALS, OURS, PER_CHAIN, PER_DIAL, Windows, windows

LIMITS: dict[str, tuple[int, int, Windows]] = {
    "no limit": (32, resource.RLIM_INFINITY, Windows(32, DIALS)),
    "the usual one": (32, 1024, Windows(32, DIALS)),
    "a tight one": (32, 256, Windows(32, 32)),
    "more asked for than there are files": (1000, 256, Windows(32, 32)),
    "hardly any": (32, 10, Windows(1, 1)),
    "one at a time": (1, 1024, Windows(1, DIALS)),
}


@pytest.mark.parametrize(("concurrency", "files", "wanted"), LIMITS.values(), ids=LIMITS)
def test_the_windows_are_as_asked_for_within_the_limit_on_files(concurrency: int, files: int, wanted: Windows) -> None:
    assert windows(concurrency, files) == wanted


@pytest.mark.parametrize("files", range(128, 4096, 61))
def test_both_windows_together_stay_within_it(files: int) -> None:
    size = windows(1000, files)
    assert OURS + size.chains * PER_CHAIN + size.dials * PER_DIAL <= files
