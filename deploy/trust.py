"""`cluster.trust`: the keys that hosts show, judged by a person once, recorded for everybody's checks after it.

Nobody is logged in to whose key is not known: behind a jump host it is asked again, when the jump host's is recorded.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.at_once import at_once
from deploy.early import tidy_seldom
from deploy.errors import Failure, RaydockError
from deploy.files import write_whole
from deploy.hostkeys import HostKeyRefused
from deploy.known_files import Trust, load_known_hosts
from deploy.known_hosts import KnownHosts, entry, fingerprint
from deploy.report import Outcome, Report
from deploy.ssh import close_connection, connection_to, open_connection
from deploy.windows import windows

if TYPE_CHECKING:
    import paramiko
    from invoke.context import Context

    from deploy.flags import Flags
    from deploy.inventory import Node
    from deploy.progress import Watch
    from deploy.settings import Settings
    from deploy.show import Screen

CURE = "Compare the fingerprints, and say --yes"
BEHIND = ", which also takes the keys of those behind jump hosts, not shown until these are recorded"
HOPS = 8  # jump hosts before one node, each with a key of its own


@dataclass(frozen=True)
class Shown:
    """A key that a host shows and known_hosts does not vouch for."""

    node: Node
    trust: Trust
    file: Path
    key: paramiko.PKey
    code: str
    why: str
    jump: bool  # whether there are hosts behind it, which were not met yet

    @property
    def host(self) -> str:
        """The name under which it is known."""
        return self.trust.host

    @property
    def port(self) -> int:
        """The port under which it is known."""
        return self.trust.port

    @property
    def line(self) -> str:
        """The line that known_hosts gets."""
        return entry(self.host, self.port, self.key.get_name(), self.key.asbytes())


def trust_hosts(c: Context, flags: Flags) -> None:
    """Show the keys in one table, ask once, record them."""
    from deploy.desk import dry, first_lines, scope_of, signals_told, tell
    from deploy.show import Screen

    report = Report("cluster.trust")
    if dry(c):
        print("ssh-keyscan -H HOST >> ~/.ssh/known_hosts  # for each host; compare the fingerprints first")
        return
    screen = Screen()
    with signals_told(report):
        try:
            scope = scope_of(flags)
            report.about(scope.settings)
            first_lines(scope)
            nodes = [node for node in scope.inventory.nodes if node.name in scope.selected and not node.local]
            report.outcomes = [Outcome(node, asked=True) for node in nodes]
            _judge(report.outcomes, scope.settings, flags, screen)
        except RaydockError as error:
            report.problems = error.problems
        except KeyboardInterrupt:
            report.interrupted = True
            for outcome in report.outcomes:
                if not outcome.done:
                    outcome.fail(Failure("INTERRUPTED", "interrupted before its key was recorded"))
        tell(report, flags)


def _judge(outcomes: Sequence[Outcome], settings: Settings, flags: Flags, screen: Screen) -> None:
    """Ask about what is shown and record it; then again about those behind the jump hosts among it."""
    from deploy.desk import agree

    for hop in range(HOPS + 1):
        with screen.watch() as watch:
            shown = _all_shown(outcomes, settings, watch)
        once: dict[tuple[Path, str], Shown] = {}
        for one in shown:
            once.setdefault((one.file, one.line), one)
        if not once:
            return
        _show(once.values(), screen.line)
        no = "no more was recorded" if hop else "nothing was done"
        cure = f"{CURE}{BEHIND if any(one.jump for one in shown) else ''}"
        agree("Are these the hosts' own keys? Record them?", cure, yes=flags.yes, no=no)
        _record_all(once.values())
        for outcome in outcomes:
            outcome.done += [f"recorded {one.host}" for one in once.values() if one.node == outcome.node]
        behind = {one.node for one in shown if one.jump}
        outcomes = [outcome for outcome in outcomes if outcome.node in behind]
    for outcome in outcomes:
        outcome.fail(
            Failure("HOST_KEY_UNKNOWN", f"it is behind more than {HOPS} jump hosts", "Run it again: it goes on")
        )


def _all_shown(outcomes: Sequence[Outcome], settings: Settings, watch: Watch) -> list[Shown]:
    """Give what hosts show that is not known, in the order of the list; as many are asked at once as in any task."""
    known = load_known_hosts(settings)
    found: dict[Node, Shown] = {}

    def look(outcome: Outcome) -> None:
        watch.begins(outcome.node)
        try:
            if one := _shown(outcome.node, settings, known):
                found[outcome.node] = one
        except Failure as failure:
            outcome.fail(failure)
        finally:
            watch.ends(outcome.node)

    tidy_seldom()
    watch.stage(len(outcomes))
    at_once(look, outcomes, windows(settings.concurrency).chains)
    return [found[outcome.node] for outcome in outcomes if outcome.node in found]


class Judged(Exception):
    """What ends a connection whose keys are known, before the login."""


class NoLogin:
    """Is in the place of a login: a key is judged before it, and no more is wanted of the last host."""

    def authenticate(self, transport: paramiko.Transport) -> None:  # noqa: ARG002
        """End the connection."""
        raise Judged


def _shown(node: Node, settings: Settings, known: KnownHosts) -> Shown | None:
    """Give the first key on the way to a node that is not known; jump hosts are logged in to where theirs is."""
    connection = connection_to(node, settings, known)
    connection.connect_kwargs["auth_strategy"] = NoLogin()
    try:
        open_connection(connection)
    except Judged:
        return None
    except HostKeyRefused as refused:
        if refused.code == "HOST_KEY_REVOKED":
            raise
        file, jump = recording_file(refused.trust), refused.client is not connection.client
        return Shown(node, refused.trust, file, refused.key, refused.code, refused.error, jump=jump)
    finally:
        close_connection(connection)
    return None


def recording_file(trust: Trust) -> Path:
    """Give the file in which a hop's key is recorded.

    Raises:
        Failure: `CONFIG` where no file is read for it, or it is none, such as /dev/null.
    """
    cure = "Name a file in UserKnownHostsFile of ssh_config, or in SSH_KNOWN_HOSTS"
    if trust.file is None:
        said = f"UserKnownHostsFile of ssh_config for {trust.host} is none: no key would be found again"
        raise Failure("CONFIG", said, cure)
    if trust.file.exists() and not trust.file.is_file():
        raise Failure("CONFIG", "is not a file in which a key can be recorded", cure, place=str(trust.file))
    return trust.file


def _show(shown: Iterable[Shown], write: Callable[[str], None]) -> None:
    for one in shown:
        key = f"{one.key.get_name()} {fingerprint(one.key.asbytes())}"
        write(f"{one.node.name}  {one.host}:{one.port}  {key}")
        if one.code != "HOST_KEY_UNKNOWN":
            write(f"    {one.code}: {one.why}")


def _record_all(shown: Collection[Shown]) -> None:
    """Record each key in the file that holds for its host."""
    for path in dict.fromkeys(one.file for one in shown):
        _record(path, [one for one in shown if one.file == path])


def _record(path: Path, shown: Sequence[Shown]) -> None:
    """Replace what the file has for these hosts' changed keys, and add the new lines; whole or not at all."""
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    lines = text.removesuffix("\n").split("\n") if text else []
    replaced = [one for one in shown if one.code == "HOST_KEY_CHANGED"]
    kept = [line for line in lines if not any(_is_about(line, one) for one in replaced)]
    text = "\n".join([*kept, *dict.fromkeys(one.line.rstrip("\n") for one in shown)]) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = f"{'Make room there (df -h)' if full else 'Mend that'}, or set SSH_KNOWN_HOSTS to a file elsewhere"
        said = f"cannot be written, and is as it was: {error.strerror}"
        raise Failure("DISK_FULL" if full else "CONFIG", said, cure, place=str(path)) from error


def _is_about(line: str, one: Shown) -> bool:
    """Tell whether a line holds an old key of this very host and port."""
    known = KnownHosts.parse(line, "")
    return bool(known.key_types(one.host, one.port)) and not line.lstrip().startswith("@")
