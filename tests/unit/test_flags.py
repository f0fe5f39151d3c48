"""What a task is told on its command line: all that is wrong with it at once, and before anything else is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import desk
from deploy.errors import Mistake
from deploy.flags import Flags

WRONG = {
    "no duration": (
        Flags(wait="5"),
        ["--wait: '5' is not a duration such as 30s, 5m or 1h. Say for instance --wait 5m"],
    ),
    "a negative one": (Flags(wait="-5m"), ["--wait: '-5m' is not a duration such as 30s, 5m or 1h. Say for instance"]),
    "full-width digits": (Flags(wait="５m"), [r"--wait: '\uff15m' is not a duration"]),
    "an escape": (Flags(wait="5m\x1b[2J"), [r"--wait: '5m\x1b[2J' is not a duration"]),
    "longer than a day": (Flags(wait="999999h"), ["--wait: '999999h' is more than 24h."]),
    # As in --wait "$TIME" where nobody set TIME.
    "nothing": (
        Flags(wait="", image=""),
        ["--image: names no image. Leave it out, or say which", "--wait: '' is not a"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_flag_is_told(case: str) -> None:
    flags, told = WRONG[case]
    problems = [str(problem) for problem in flags.problems()]
    assert [line[: len(begin)] for line, begin in zip(problems, told, strict=True)] == told


@pytest.mark.parametrize(("wait", "seconds"), [(None, 0), ("0s", 0), ("30s", 30), ("5m", 300), ("1h", 3600)])
def test_a_duration_is_seconds(wait: str | None, seconds: int) -> None:
    assert Flags(wait=wait).patience == seconds
    assert list(Flags(wait=wait).problems()) == []


def test_the_mistakes_of_files_and_of_flags_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("REDIS_PORT=x\n")
    (tmp_path / "workers.txt").write_text("10.0.0.300\n")
    monkeypatch.setattr(desk, "ROOT", tmp_path)
    with pytest.raises(Mistake) as caught:
        desk.scope_of(Flags(image="A", wait="soon"))
    assert [problem.place for problem in caught.value.problems] == [".env:1", "--image", "workers.txt:1", "--wait"]
    assert [problem.code for problem in caught.value.problems] == ["CONFIG", "CONFIG", "INVENTORY", "USAGE"]


def test_of_good_files_the_flags_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "ROOT", tmp_path)
    with pytest.raises(Mistake) as caught:
        desk.scope_of(Flags(only="a,b", wait="soon"))
    assert [problem.place for problem in caught.value.problems] == ["--only", "--only", "--wait"]
