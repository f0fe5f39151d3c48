"""The lock on the head: of several operators one acts at a time, for as long as its line to the head lives.

A holder on the head has the `flock`. Every few seconds a line goes to it, which it sends back. Where none comes it lets
go; where none comes back, whoever had the lock does nothing more. So a dead or cut-off operator's lock frees itself.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from deploy import grammar
from deploy.audit import CUT_OFF, NOTE, STOLEN
from deploy.durations import say_duration
from deploy.errors import Failure
from deploy.grammar import plain
from deploy.reading import FAR, Fields, moment, parsed
from deploy.talk import Talk

BEAT = 5.0  # seconds between two lines to the holder
SILENCE = 20.0  # seconds without a line, after which the holder lets go
DOUBT = 0.75  # of that, since the last line that came back, after which we do nothing more
ANSWER = 15.0  # seconds for the holder to say whether it has the lock
MOST = 64 * 1024  # bytes of an answer, and of what a login shell says before it
LETTING_GO = 3.0  # seconds for it to end
MOMENT = 2.0  # seconds in which a holder has said who it is for
RETRY = 1.0  # seconds between two tries, where somebody waits for it
BUSY, NO_FILE = 75, 73
NO_FLOCK = "flock is not installed"

Start = Callable[[str], Talk]


class Talker(Protocol):
    """A node that runs a line of shell to talk with."""

    def talk(self, command: str) -> Talk:
        """Run it."""


@dataclass(frozen=True)
class Owner:
    """Who has the lock: `user@machine`, for which task, since when (seconds since 1970, by their own clock)."""

    who: str
    task: str
    since: float

    def __str__(self) -> str:
        began = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.who or 'somebody'}, {self.task} since {began}"


@dataclass(frozen=True)
class Held:
    """A lock that somebody else has.

    Attributes:
        owner: who.
        line: what their holder wrote, by which it is known; nothing where it is only just coming or going.
        seconds: for how long, by the head's clock; None where that is not known.
    """

    owner: Owner
    line: str = ""
    seconds: int | None = None

    def __str__(self) -> str:
        return f"{self.owner}" + ("" if self.seconds is None else f" ({say_duration(self.seconds)})")


def state_folder(cluster: str) -> str:
    """Give the folder on the head for what operators share there."""
    return f"/var/lib/raydock/{cluster}"


# What a contender is told: the head's time, when the holder came, and its line.
SHOWN = 'printf "%s,%s " "$(date +%s)" "$(date -r "$d/lock.who" +%s 2>/dev/null)"; cat "$d/lock.who"'


# The folder, made for the group where there is one.
MADE = '[ -d "$d" ] || install -d -m 2770 -g docker "$d" 2>/dev/null || install -d -m 2770 "$d"'
# What a holder does with what it is sent: a last word goes into the audit, and all else back.
HEARD = 'case $line in *"$brace"*) told=1; note "$brace${line#*"$brace"}";; *) printf \'%s\\n\' "$line";; esac'


def holder(cluster: str, word: str, silence: float) -> str:
    """Write the holder, for any `sh`; after `word` it says whether it has the lock.

    A line with a brace is for the audit; where none came by its end, it writes that the task was cut off.
    """
    # What a killed holder left we may not be allowed to write into, only to remove. An answer to an operator who is
    # gone must not end it (PIPE) before it has said so in the audit.
    held = f"""\
{NOTE}
brace='{{'
trap '' PIPE
command -v flock >/dev/null || {{ echo {NO_FLOCK} >&2; exit {NO_FILE}; }}
{MADE} || exit {NO_FILE}
[ -e "$d/lock" ] || : >>"$d/lock" || exit {NO_FILE}
exec 9<"$d/lock" || exit {NO_FILE}
flock -n 9 || {{ echo {word} busy; {SHOWN}; exit {BUSY}; }}
rm -f "$d/lock.who"
who=$(timeout {silence:g} head -n 1 9<&-) && [ -n "$who" ] || exit {NO_FILE}
printf '%s %s\\n' "$$" "$who" >"$d/lock.who" || exit {NO_FILE}
echo {word} held
while line=$(timeout {silence:g} dd bs=4096 count=1 2>/dev/null 9<&-) && [ -n "$line" ]; do {HEARD}; done
[ -n "$told" ] || note "${{who%?}}"{shlex.quote(CUT_OFF)}
rm -f "$d/lock.who"
"""
    return in_folder(cluster, held)


def auditor(cluster: str) -> str:
    """Write what takes one line for the audit, for any `sh`."""
    return in_folder(cluster, f'{NOTE}\n{MADE} || exit {NO_FILE}\nline=$(timeout {ANSWER:g} head -n 1) && note "$line"')


def in_folder(cluster: str, lines: str) -> str:
    """Write lines of `sh` for the folder, `$d`; they are root's where it is not ours yet.

    That is to make it, or since the group is too new for this session.
    """
    folder = shlex.quote(state_folder(cluster))
    choose = f'd={folder}; if [ -w "$d" ] || [ "$(id -u)" = 0 ]; then exec sh -c "$0"; else exec sudo -n sh -c "$0"; fi'
    # In one line: csh takes none between quotes.
    return shlex.join(["sh", "-c", choose, "; ".join([f"d={folder}", "umask 002", *lines.splitlines()])])


def ending(cluster: str, pid: str) -> str:
    """Write what ends a holder by its number; nothing where it has ended, though another may have the lock by now."""
    taken = f'note "${{who%?}}"{shlex.quote(STOLEN)}'
    end = (
        f'd={shlex.quote(state_folder(cluster))}; {NOTE}; who=$(cut -d " " -f 2- "$d/lock.who" 2>/dev/null); '
        # The number may be somebody else's by now.
        f'tr "\\0" " " <"/proc/"{shlex.quote(pid)}/cmdline 2>/dev/null | '
        f"grep -qF {shlex.quote(state_folder(cluster))} || exit 0; "
        f"{{ kill {shlex.quote(pid)} 2>/dev/null || sudo -n kill {shlex.quote(pid)}; }} && {taken}"
    )
    return shlex.join(["sh", "-c", end])


def who_holds(host: Talker, cluster: str) -> Held | None:
    """Give who has the lock; None where nobody has."""
    folder = shlex.quote(state_folder(cluster))
    # Whoever may not look needs no lock to be told so: taking it says what to do.
    word = secrets.token_hex(8)
    held = f"{{ echo {word} busy; {SHOWN}; }}"
    line = f'd={folder}; command -v flock >/dev/null && exec 9<"$d/lock" && {{ flock -n 9 || {held}; }}'
    talk = host.talk(shlex.join(["sh", "-c", line]))
    said = answer(talk, word)
    code, errors = talk.end(LETTING_GO)
    if code is None and not said:
        raise no_place(code, errors, cluster)
    return held_by(said.partition("\n")[2]) if said else None


def note_in_audit(host: Talker, cluster: str, line: str) -> str:
    """Have a line in the audit of a task that needs no lock; give why it cannot be written, nothing where it is."""
    talk = host.talk(auditor(cluster))
    with contextlib.suppress(OSError, EOFError):
        talk.send(line.encode() + b"\n")
    code, errors = talk.end(LETTING_GO)
    return errors or f"it ended with {code}" if code or code is None else ""


def end_holder(host: Talker, cluster: str, held: Held) -> None:
    """End a holder that has the lock: whoever it is for hears of it before their next step."""
    pid = held.line.partition(" ")[0]
    # The head says it, and `kill` takes more than numbers: what is none was nobody's.
    if not pid.isdecimal():
        return
    code, errors = host.talk(ending(cluster, pid)).end(ANSWER)
    if code:
        raise Failure(
            "LOCK_FAILED", f"the other's lock cannot be ended: {errors or code}", "End it on the head, as root"
        )


class Lock:
    """A lock that is held, or is to be."""

    def __init__(
        self, start: Start, cluster: str, owner: Owner, *, beat: float = BEAT, silence: float = SILENCE
    ) -> None:
        """Hold nothing yet; `start` runs a line of shell on the head."""
        self._start, self._cluster, self._owner = start, cluster, owner
        self._beat, self._silence, self._doubt = beat, silence, DOUBT * silence
        self._talk: Talk | None = None
        self._over = threading.Event()
        self._good_until = 0.0

    def take(self, patience: float = 0.0, say: Callable[[str], None] = lambda _: None) -> None:
        """Take it, and keep it by a thread that cannot keep the process from ending.

        Args:
            patience: seconds to wait for somebody else to let go.
            say: hears for whom we wait.

        Raises:
            Failure: `LOCKED`, with who has it; `LOCK_FAILED` where the head has no place for it.
        """
        end = now() + patience
        waiting_for = ""
        while (other := self._try()) is not None:
            # Who is only just coming or going has no name.
            if now() >= end + (0 if other.owner.who else MOMENT):
                raise locked(other)
            if other.owner.who and other.line != waiting_for:
                say(f"waits for {other}")
                waiting_for = other.line
            time.sleep(RETRY)

    def lost(self) -> Failure | None:
        """Give the reason to do nothing more; None while the lock is ours."""
        if self._talk is None or (not self._over.is_set() and now() < self._good_until):
            return None
        return Failure(
            "LOCK_LOST",
            "the line that holds the cluster's lock is cut: somebody else may act by now",
            "See what runs (invoke cluster.status), then run the task again",
        )

    def release(self, last_word: str = "") -> None:
        """Let go, and see that it is free for whoever comes next.

        Args:
            last_word: the line for the audit.
        """
        talk, self._talk = self._talk, None
        self._over.set()
        if talk:
            with contextlib.suppress(OSError, EOFError):
                talk.send(last_word.encode() + b"\n" if last_word else b"")
            talk.end(LETTING_GO)

    def _try(self) -> Held | None:
        """Take the lock; give who else has it."""
        word = secrets.token_hex(8)
        talk = self._start(holder(self._cluster, word, self._silence))
        sent = now()
        with contextlib.suppress(OSError):
            talk.send(json.dumps(asdict(self._owner)).encode() + b"\n")
        said = answer(talk, word)
        if said.startswith("held"):
            self._talk, self._good_until = talk, sent + self._doubt
            self._over.clear()
            threading.Thread(target=self._keep, args=(talk,), daemon=True).start()
            return None
        code, errors = talk.end(LETTING_GO)
        if code == BUSY:
            return held_by(said.partition("\n")[2])
        raise no_place(code, errors, self._cluster)

    def _keep(self, talk: Talk) -> None:
        """Send a line every few seconds; one that came back is good from when it was sent."""
        sent: dict[bytes, float] = {}
        number, rest = 0, b""
        try:
            while not self._over.is_set():
                number += 1
                name = b"%d" % number
                sent[name] = now()
                talk.send(name + b"\n")
                until = sent[name] + self._beat
                while (left := until - now()) > 0 and not self._over.is_set():
                    piece = talk.receive(min(left, 0.5))
                    if piece == b"":
                        return
                    *lines, rest = (rest + (piece or b"")).split(b"\n")
                    rest = rest[:MOST]
                    times = [sent.pop(line) for line in lines if line in sent]
                    self._good_until = max((self._good_until, *(one + self._doubt for one in times)))
        except (OSError, EOFError):
            return
        finally:
            self._over.set()


def answer(talk: Talk, word: str) -> str:
    """Give what the holder says after its word, whatever a login shell says before; nothing where it ends first."""
    said, end = b"", now() + ANSWER
    mark = word.encode() + b" "
    while (left := end - now()) > 0:
        piece = talk.receive(left)
        said += piece or b""
        if len(said) > MOST:
            return ""
        _, found, after = said.partition(mark)
        if piece == b"" or (found and after.startswith(b"held")):
            return after.decode(errors="replace")
    return ""


def held_by(said: str) -> Held:
    """Read who has the lock, as the head tells it: `NOW,SINCE PID {…}`; without a name where that cannot be read."""
    times, _, line = said.strip().partition(" ")
    try:
        found = Fields.read(parsed(line.partition(" ")[2]))
        owner = Owner(plain(found.text("who")), plain(found.text("task")), moment(found.of.get("since")))
        read, began = (grammar.whole(one, 0, FAR) for one in times.split(","))
    except ValueError:
        return Held(Owner("", "a task", time.time()))
    return Held(owner, line, max(0, read - began))


def locked(held: Held) -> Failure:
    """Give the failure of who came second."""
    cure = "Wait for them: --wait 5m; where they are gone for good, take it: --steal"
    return Failure("LOCKED", f"somebody else holds the lock: {held}", cure)


def no_place(code: int | None, errors: str, cluster: str) -> Failure:
    """Give the failure for a head that has no place for the lock, or does not say."""
    if code is None:
        return Failure(
            "SSH_LOST", "the head did not answer when its lock was asked for", "Is it up? Run the task again"
        )
    by_hand = f"sudo install -d -m 2770 -g docker {state_folder(cluster)}"
    if "password is required" in errors or "not in the sudoers" in errors:
        return Failure(
            "SUDO_PASSWORD_NEEDED", "the lock's folder is not there, and sudo asks", f"On the head: {by_hand}"
        )
    if NO_FLOCK in errors:
        by_hand = "sudo apt-get install util-linux"
    said = errors or f"it ended with {code}"
    return Failure("LOCK_FAILED", f"the lock cannot be taken: {said}", f"On the head: {by_hand}")


def now() -> float:
    """Give seconds that also pass while this machine sleeps: the holder's do."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
