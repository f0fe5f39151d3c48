"""What a program of the operator's is given, and what becomes of one that is broken off."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from deploy.course import Course, Signalled, ended, raise_signal
from deploy.errors import Failure, Mistake
from deploy.passing import arguments_after_dashes, writer
from deploy.signals import on_signals


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["invoke", "job.run", "f.py"], []),
        (["invoke", "job.run", "f.py", "--"], []),
        (["invoke", "job.run", "f.py", "--", "a b", "-x"], ["a b", "-x"]),
        (["invoke", "job.run", "f.py", "--", "a", "--", "b"], ["a", "--", "b"]),
        (["invoke", "job.run", "--json", "f.py", "--", "--json"], ["--json"]),
        (["invoke", "cluster.exec", "--", "sh", "-c", "exit 7"], ["sh", "-c", "exit 7"]),
    ],
)
def test_arguments_are_what_follows_the_first_dashes(argv: list[str], arguments: list[str]) -> None:
    assert arguments_after_dashes(argv) == arguments


BROKEN: dict[str, tuple[BaseException, int]] = {
    "Ctrl-C": (KeyboardInterrupt(), 130),
    "a terminal that is closed": (Signalled(signal.SIGHUP), 129),
    "a pipe that nobody reads": (BrokenPipeError(), 141),
    "a failure of ours": (Failure("SSH_LOST", "gone"), 125),
    "a mistake": (Mistake.of("USAGE", "there is no command"), 2),
}


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(("error", "code"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_off_a_program_has_its_exit_code(
    error: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course = Course("cluster.exec")
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with ended(course):
            fail(error)
        course.tell(as_json=False)
    assert course.exit == code
    assert capsys.readouterr().err == "".join(f"{one.code}: {one.error}\n" for one in course.problems)


def test_the_next_move_stands_below_what_went_wrong_and_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    course = Course("job.run")
    with ended(course):
        fail(Failure("JOB_LOST", "the head ended", "Start it: invoke cluster.start", place="raydock-1"))
    course.tell(as_json=True)
    assert capsys.readouterr().err == "raydock-1 JOB_LOST: the head ended\n  → Start it: invoke cluster.start\n"


def test_a_signal_ends_us_as_ctrl_c_does_while_it_is_handled() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as raised, on_signals(raise_signal, signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert isinstance(raised.value, Signalled)
    assert raised.value.exit == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_whoever_started_us_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_signals(raise_signal, signal.SIGHUP):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_bytes_are_passed_on_as_they_are_and_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", newline="\n") as stream:
        writer(stream)(b"\xff\r\n\0")
        assert os.read(reading, 10) == b"\xff\r\n\0"
    os.close(reading)
