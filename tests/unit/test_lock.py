"""The lock, with its real holder: one acts, the other hears who, and a line that is cut frees it."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import lock as locks
from deploy.audit import Entry, entries, line
from deploy.durations import parse_duration, say_duration
from deploy.errors import Failure
from deploy.lock import Held, Lock, Owner, end_holder, held_by, holder, note_in_audit, who_holds
from deploy.talk import ChildTalk, Talk

ALICE = Owner("alice@laptop", "cluster.start", 1_700_000_000.0)
BOB = Owner("bob@desk", "cluster.stop", 1_700_000_100.0)


class Here:
    """This machine as the head."""

    def __init__(self) -> None:
        self.children: list[ChildTalk] = []

    def talk(self, command: str) -> Talk:
        child = ChildTalk(("sh", "-c", command))
        self.children.append(child)
        return child


class Cut(ChildTalk):
    """A line on which nothing comes back any more, without an end, once it is cut."""

    is_cut = False

    def receive(self, timeout: float) -> bytes | None:
        if self.is_cut:
            time.sleep(timeout)
            return None
        return super().receive(timeout)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(locks, "state_folder", lambda cluster: str(tmp_path / cluster))
    monkeypatch.setattr(locks, "RETRY", 0.02)
    (tmp_path / "blue").mkdir()
    made = Here()
    yield made
    for child in made.children:
        child._child.kill()
        child._child.wait()


def lock(here: Here, owner: Owner, **how: float) -> Lock:
    return Lock(here.talk, "blue", owner, **{"beat": 0.1, "silence": 20, **how})


def refused(one: Lock, patience: float = 0) -> Failure:
    with pytest.raises(Failure) as caught:
        one.take(patience)
    return caught.value


def owner_at_work(here: Here) -> Owner | None:
    held = who_holds(here, "blue")
    return held.owner if held else None


def test_the_second_hears_who_has_it_since_when_and_what_for(here: Here, tmp_path: Path) -> None:
    first = lock(here, ALICE)
    first.take()
    os.utime(tmp_path / "blue/lock.who", (time.time() - 125,) * 2)
    failure = refused(lock(here, BOB))
    began = time.strftime("%H:%M:%S", time.localtime(ALICE.since))
    assert (failure.code, failure.error) == (
        "LOCKED",
        f"somebody else holds the lock: alice@laptop, cluster.start since {began} (2 min)",
    )
    assert "--wait 5m" in failure.problem.cure
    assert "--steal" in failure.problem.cure
    assert first.lost() is None
    first.release()


def test_it_is_free_as_soon_as_it_was_let_go_and_nothing_is_left_of_it(here: Here, tmp_path: Path) -> None:
    for owner in (ALICE, BOB, ALICE):
        one = lock(here, owner)
        one.take()
        assert owner_at_work(here) == owner
        one.release()
        assert owner_at_work(here) is None
    assert sorted(path.name for path in (tmp_path / "blue").iterdir()) == ["audit", "lock"]
    assert one.lost() is None


def test_it_is_kept_for_longer_than_a_silence(here: Here) -> None:
    one = lock(here, ALICE, silence=2)
    one.take()
    time.sleep(2.5)
    assert one.lost() is None
    assert refused(lock(here, BOB)).code == "LOCKED"
    one.release()


def test_whoever_waits_has_it_when_the_other_lets_go(here: Here) -> None:
    first, second = lock(here, ALICE), lock(here, BOB)
    heard: list[str] = []
    first.take()
    threading.Timer(0.3, first.release).start()
    second.take(5, heard.append)
    assert len(heard) == 1
    assert heard[0].startswith("waits for alice@laptop")
    second.release()


def test_waiting_ends(here: Here) -> None:
    first = lock(here, ALICE)
    first.take()
    assert refused(lock(here, BOB), patience=0.2).code == "LOCKED"
    first.release()


def test_an_operator_who_is_paused_loses_it_and_hears_so_before_the_next_step(here: Here) -> None:
    first = lock(here, ALICE, beat=60, silence=0.6)  # no line after the first: so is one who is paused
    first.take()
    second = lock(here, BOB)
    second.take(5)
    lost = first.lost()
    assert lost
    assert lost.code == "LOCK_LOST"
    assert second.lost() is None
    for one in (first, second):
        one.release()


def test_whoever_hears_nothing_stops_before_the_holder_lets_go(here: Here) -> None:
    made: list[Cut] = []

    def talk(command: str) -> Talk:
        made.append(Cut(("sh", "-c", command)))
        return made[-1]

    one = Lock(talk, "blue", ALICE, beat=0.1, silence=2)
    one.take()
    made[0].is_cut = True
    time.sleep(1.7)
    assert one.lost()
    # The holder still hears us: it is for us to stop first.
    assert owner_at_work(here) == ALICE
    one.release()


def test_the_end_of_the_holder_is_known_at_once(here: Here) -> None:
    first = lock(here, ALICE)
    first.take()
    held = who_holds(here, "blue")
    assert held
    end_holder(here, "blue", held)
    second = lock(here, BOB)
    second.take(2)
    end = time.monotonic() + 2
    while not first.lost() and time.monotonic() < end:
        time.sleep(0.02)
    assert first.lost()
    first.release()
    assert second.lost() is None
    assert owner_at_work(here) == BOB
    second.release()


def test_ending_nobodys_lock_does_nothing(here: Here, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    held = Held(ALICE, f"{bystander.pid} {{}}")
    end_holder(here, "blue", held)
    (tmp_path / "blue/lock.who").write_text(f"{held.line}\n")
    end_holder(here, "blue", held)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_an_operator_who_is_cut_off_before_saying_a_word_frees_it_too(here: Here) -> None:
    mute = here.talk(holder("blue", "w", 0.6))
    one = lock(here, BOB)
    one.take(10)
    one.release()
    mute.end(1)


@pytest.mark.parametrize("pid", ["-1", "--", "1/../self", "", "$$"])
def test_what_is_no_number_of_a_process_is_not_ended(pid: str, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(_: str) -> Talk:
        raise AssertionError("it was asked to end something")

    monkeypatch.setattr(here, "talk", talk)
    end_holder(here, "blue", Held(ALICE, f"{pid} {{}}"))


def test_only_the_holder_that_was_shown_is_ended(here: Here) -> None:
    first, second = lock(here, ALICE), lock(here, BOB)
    first.take()
    shown = who_holds(here, "blue")
    assert shown
    first.release()
    second.take()
    end_holder(here, "blue", shown)
    time.sleep(0.3)
    assert second.lost() is None
    assert owner_at_work(here) == BOB
    second.release()


def test_what_a_killed_holder_left_is_in_nobodys_way(here: Here, tmp_path: Path) -> None:
    # As a file of somebody else's is: not even root writes into a folder of that name.
    (tmp_path / "blue/lock.who").symlink_to("/proc/version")
    one = lock(here, ALICE)
    one.take()
    assert owner_at_work(here) == ALICE
    one.release()


def test_a_head_that_falls_silent_is_one_that_cannot_be_reached(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "ANSWER", 0.2)
    monkeypatch.setattr(locks, "LETTING_GO", 0.1)
    monkeypatch.setattr(here, "talk", lambda _: Here.talk(here, "exec sleep 5"))
    assert refused(lock(here, ALICE)).code == "SSH_LOST"


def test_a_killed_operators_lock_is_free_at_once(here: Here) -> None:
    word = "w"
    operator = subprocess.Popen(
        ["sh", "-c", holder("blue", word, 20)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert operator.stdin
    assert operator.stdout
    operator.stdin.write(json.dumps({"who": "alice", "task": "t", "since": 1}) + "\n")
    operator.stdin.flush()
    assert operator.stdout.readline() == "w held\n"
    operator.stdin.close()
    one = lock(here, BOB)
    one.take(2)
    one.release()
    operator.stdout.close()
    operator.wait(5)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_holder_is_one_line_for_any_login_shell(here: Here, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    plain = here.talk
    monkeypatch.setattr(here, "talk", lambda command: plain(f"exec {shell} -c {shlex.quote(command)}"))
    assert "\n" not in holder("blue", "w", 20)
    one = lock(here, ALICE)
    one.take()
    one.release()


def test_a_shell_that_prints_before_is_no_matter(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = here.talk
    monkeypatch.setattr(here, "talk", lambda command: plain(f"echo welcome; echo held; {command}"))
    one = lock(here, ALICE)
    one.take()
    assert owner_at_work(here) == ALICE
    one.release()
    assert who_holds(here, "blue") is None


def test_a_head_that_never_stops_talking_is_not_listened_to_for_ever(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "ANSWER", 0.5)
    monkeypatch.setattr(locks, "LETTING_GO", 0.1)
    monkeypatch.setattr(here, "talk", lambda _: Here.talk(here, "exec sh -c 'while :; do echo x; sleep 0.1; done'"))
    with pytest.raises(Failure) as told:
        who_holds(here, "blue")
    assert told.value.code == "SSH_LOST"


def test_a_folder_that_cannot_be_had_is_told_with_the_line_to_type(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "state_folder", lambda cluster: f"/proc/{cluster}")
    failure = refused(lock(here, ALICE))
    assert failure.code in ("SUDO_PASSWORD_NEEDED", "LOCK_FAILED")
    assert failure.problem.cure == "On the head: sudo install -d -m 2770 -g docker /proc/blue"


def test_a_head_without_flock_is_told_and_not_taken_for_a_busy_one(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "id", "install", "date", "timeout", "head", "dd", "cat", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    plain = here.talk
    monkeypatch.setattr(here, "talk", lambda command: plain(f"PATH={programs}; export PATH; {command}"))
    failure = refused(lock(here, ALICE))
    assert (failure.code, failure.error) == ("LOCK_FAILED", "the lock cannot be taken: flock is not installed")
    assert failure.cure == "On the head: sudo apt-get install util-linux"
    assert who_holds(here, "blue") is None


@pytest.mark.parametrize(
    "said",
    ["", "12", "2,1 12 {}", "2,1 12 []", '2,1 12 {"who": 1}', '2,1 12 {"who": "a", "task": "b", "since": "c"}'],
)
def test_an_owner_that_cannot_be_read_is_somebody(said: str) -> None:
    assert held_by(said).line == ""
    assert str(held_by(said)).startswith("somebody, a task since ")


def test_an_owner_moves_no_terminal() -> None:
    said = json.dumps({"who": "\x1b]0;x\x07\na" + 99 * "b", "task": "t\r", "since": 1})
    owner = held_by(f"2,1 12 {said}").owner
    assert owner.who == "?]0;x??a" + 72 * "b"
    assert owner.task == "t?"


def audit_of(tmp_path: Path) -> list[Entry]:
    return list(entries((tmp_path / "blue/audit").read_text()))


def me() -> str:
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def test_the_last_word_is_a_line_of_the_audit(here: Here, tmp_path: Path) -> None:
    for task in ("cluster.start", "cluster.stop"):
        one = lock(here, ALICE, beat=0.01)  # its lines and the last one may come together
        one.take()
        time.sleep(0.1)
        one.release(line("alice@laptop", task, 1_700_000_000.0, [], "sha256:1d", interrupted=False))
    found = audit_of(tmp_path)
    assert [(one.task, one.outcome, one.login, one.image) for one in found] == [
        ("cluster.start", "ok", me(), "sha256:1d"),
        ("cluster.stop", "ok", me(), "sha256:1d"),
    ]


def test_a_task_that_ends_without_a_word_was_cut_off(here: Here, tmp_path: Path) -> None:
    one = lock(here, ALICE)
    one.take()
    one.release()
    (found,) = audit_of(tmp_path)
    assert (found.who, found.task, found.when, found.outcome) == (ALICE.who, ALICE.task, ALICE.since, "cut off")


@pytest.mark.usefixtures("here")
def test_an_operator_who_is_killed_amid_a_word_was_cut_off_too(tmp_path: Path) -> None:
    operator = subprocess.Popen(["sh", "-c", holder("blue", "w", 20)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert operator.stdout
    operator.stdout.close()
    operator.communicate(json.dumps({"who": "alice", "task": "t", "since": 1}).encode() + b"\n1\n", timeout=10)
    (found,) = audit_of(tmp_path)
    assert (found.who, found.task, found.outcome) == ("alice", "t", "cut off")


def test_a_lock_that_was_stolen_is_in_the_audit(here: Here, tmp_path: Path) -> None:
    first = lock(here, ALICE)
    first.take()
    held = who_holds(here, "blue")
    assert held
    end_holder(here, "blue", held)
    assert [(one.task, one.outcome) for one in audit_of(tmp_path)] == [(ALICE.task, "stolen")]
    first.release()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_task_without_the_lock_is_in_the_audit(here: Here, tmp_path: Path, shell: str) -> None:
    plain = here.talk
    here.talk = lambda command: plain(f"exec {shell} -c {shlex.quote(command)}")  # type: ignore[method-assign]
    said = line("bob@desk", "build.image", 1.0, [], "", interrupted=True)
    assert note_in_audit(here, "blue", said) == ""
    assert [(one.who, one.task, one.outcome) for one in audit_of(tmp_path)] == [
        ("bob@desk", "build.image", "interrupted")
    ]


def test_an_audit_that_cannot_be_written_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "state_folder", lambda cluster: f"/proc/{cluster}")
    assert note_in_audit(here, "blue", "{}") != ""


def test_ctrl_c_is_none_of_the_holders_business(here: Here) -> None:
    one = lock(here, ALICE)
    one.take()
    assert os.getpgid(here.children[0]._child.pid) != os.getpgid(0)
    one.release()


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("0s", 0), ("24h", 86400)])
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5M", "1.5h", "25h", "٣m", "5m\n", "9999999s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (90000, "25 h")]
)
def test_a_duration_is_said(seconds: int, text: str) -> None:
    assert say_duration(seconds) == text
