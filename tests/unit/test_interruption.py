"""The signals of a run: what each has come to it, in order and in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import paramiko
import pytest
from invoke.exceptions import Exit

from deploy import interruption
from deploy.commands import Result
from deploy.course import Course, ended
from deploy.desk import signals_told
from deploy.errors import Failure
from deploy.hosts import LocalHost, token_in
from deploy.interruption import STOPPING, Interruption, heard
from deploy.report import Report
from deploy.run import Run
from deploy.signals import ENDING
from deploy.ssh_hosts import SshHost

from .fakes import scope

SOON = 5.0  # seconds


class Noted:
    """A run that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.come = threading.Condition()

    def _note(self, what: str) -> None:
        with self.come:
            self.asked.append(what)
            self.come.notify_all()

    def halt(self, why: Failure) -> None:
        self._note(f"halt: {why.code}")

    def cut(self) -> None:
        self._note("cut")

    def leave(self) -> None:
        self._note("leave")

    def say(self, line: str) -> None:
        self._note(line)

    def await_last(self, what: str) -> list[str]:
        """Give what was asked for once the last of it is this."""
        with self.come:
            assert self.come.wait_for(lambda: self.asked[-1:] == [what], SOON), self.asked
            return list(self.asked)

    @property
    def as_run(self) -> Run:
        return cast("Run", self)


HALTED = ["halt: INTERRUPTED", STOPPING]


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def listening(noted: Noted) -> Iterator[Interruption]:
    with heard(noted.as_run, noted.say) as made:
        yield made


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_the_first_signal_halts_the_run_and_says_so(number: int, listening: Interruption, noted: Noted) -> None:
    assert listening.signals == 0
    os.kill(os.getpid(), number)
    assert noted.await_last(STOPPING) == HALTED


def test_a_second_one_cuts_it_off_and_leaves_at_once(listening: Interruption, noted: Noted) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    noted.await_last(STOPPING)
    begun = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    assert noted.await_last("leave") == [*HALTED, "cut", "leave"]
    assert time.monotonic() - begun < 0.5
    with pytest.raises(KeyboardInterrupt):
        listening.hear(signal.SIGINT, None)


def test_what_does_not_end_by_itself_is_cut_off_and_then_left(
    monkeypatch: pytest.MonkeyPatch, listening: Interruption, noted: Noted
) -> None:
    assert interruption.GRACE + interruption.PATIENCE < 5
    monkeypatch.setattr(interruption, "GRACE", 0.2)
    monkeypatch.setattr(interruption, "PATIENCE", 0.2)
    listening.hear(signal.SIGINT, None)
    assert noted.await_last("leave") == [*HALTED, "cut", "leave"]


def test_a_run_that_ends_meanwhile_is_not_cut_off(noted: Noted) -> None:
    with heard(noted.as_run, noted.say) as listening:
        listening.hear(signal.SIGINT, None)
        noted.await_last(STOPPING)
    assert noted.asked == HALTED


def test_what_whoever_started_us_has_us_ignore_stays_ignored(noted: Noted) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heard(noted.as_run, noted.say) as listening:
            os.kill(os.getpid(), signal.SIGHUP)
            assert listening.signals == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_without_signals_is_left_alone_and_leaves_no_descriptor_open(noted: Noted) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - descriptors
    with heard(noted.as_run, noted.say):
        pass
    assert noted.asked == []
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_nothing_is_opened_any_more_once_the_line_is_cut() -> None:
    of = scope("one")
    run = Run(of, cast("Any", None))
    run.halt(Failure("INTERRUPTED", "interrupted"))
    run.cut()
    local, behind = LocalHost(of.inventory.head, run), SshHost(of.inventory.workers[0], run)
    for touch in (
        lambda: local.run("true"),
        lambda: local.docker,
        lambda: behind.run("true"),
        lambda: behind.connection,
        lambda: behind.fail(Failure("SSH_LOST", "by ourselves")),
    ):
        with pytest.raises(Failure, match="interrupted"):
            touch()
    assert run.outcome(behind.node).problem is None


def test_to_cut_the_line_waits_for_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("deploy.run.end_children", over.wait)
    Run(scope("one"), cast("Any", None)).cut()
    over.set()


class Reconnecting(SshHost):
    """A node whose every command comes to a new session, as after one's groups were changed meanwhile."""

    @property
    def connection(self) -> Any:
        if self._connection is None:
            self._connection = cast("Any", object())
        return self._connection

    def session(self) -> Any:
        return self


class OneShell:
    """A shell that has no session."""

    def __init__(self, host: Reconnecting, *, reconnects: bool) -> None:
        self.host, self.reconnects, self.closed = host, reconnects, 0

    def run(self, *_: object, **__: object) -> Result:
        if self.reconnects:
            self.host._connection = None
        return Result(0, "", "")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("reconnects", [True, False])
def test_a_shell_of_a_former_session_runs_nothing_more(reconnects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    of = scope("one")
    host = Reconnecting(of.inventory.workers[0], Run(of, cast("Any", None)))
    shell = OneShell(host, reconnects=reconnects)
    monkeypatch.setattr("deploy.ssh_hosts.Shell", lambda _: shell)
    host.run("true")
    assert (shell.closed, len(host._shells)) == ((1, 0) if reconnects else (0, 1))


class Alive:
    """A connection that lives, to an sshd that opens no further session."""

    client = property(lambda self: self)
    get_transport = property(lambda self: lambda: self)
    is_active = property(lambda _: lambda: True)
    saved_exception = None


def test_a_session_that_never_opens_is_no_connection_that_is_lost() -> None:
    of = scope("one")
    host = SshHost(of.inventory.workers[0], Run(of, cast("Any", None)))
    host._connection = cast("Any", Alive())
    assert host.lost("`ip`", paramiko.SSHException("Timeout opening channel.")).code == "SSH_STALLED"
    assert host.lost("`ip`", EOFError("closed")).code == "SSH_LOST"


@pytest.mark.parametrize("kept", [b"\xff\xfe", b"a\nb", b"x" * 513, b" \n"])
def test_a_file_without_a_token_is_told_and_nothing_of_it(kept: bytes) -> None:
    with pytest.raises(Failure, match=r"has no token: a text of \d+ characters") as told:
        token_in(kept)
    assert told.value.code == "TOKEN_MISMATCH"
    assert token_in(b"0123abcd\n").reveal() == "0123abcd"


def interrupted_report() -> int:
    with pytest.raises(Exit) as left, signals_told(Report("cluster.start")):
        os.kill(os.getpid(), signal.SIGINT)
    return int(left.value.code)


def interrupted_course() -> int:
    course = Course("job.run")
    with ended(course):
        os.kill(os.getpid(), signal.SIGINT)
    return course.exit


@pytest.mark.parametrize("interrupted", [interrupted_report, interrupted_course])
@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_after_the_end_of_what_was_interrupted_changes_no_exit_code(
    interrupted: Callable[[], int], number: signal.Signals
) -> None:
    assert interrupted() == 130
    os.kill(os.getpid(), number)
