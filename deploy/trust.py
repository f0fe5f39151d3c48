"""`cluster.trust`: the keys that hosts show, judged by a person once, recorded for everybody's checks after it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import Failure, RaydockError
from deploy.files import write_whole
from deploy.hostkeys import HostKeyRefused
from deploy.known_files import Trust, load_known_hosts
from deploy.known_hosts import KnownHosts, entry, fingerprint
from deploy.report import Outcome, Report
from deploy.ssh import close_connection, connection_to, open_connection

if TYPE_CHECKING:
    import paramiko
    from invoke.context import Context

    from deploy.flags import Flags
    from deploy.inventory import Node
    from deploy.settings import Settings

CURE = "Compare the fingerprints, and say --yes"
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
    from deploy.desk import agree, dry, first_lines, scope_of, signals_told, tell
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
            shown = list(_all_shown(report.outcomes, scope.settings))
            if shown:
                _show(shown, screen.line)
                agree("Are these the hosts' own keys? Record them?", CURE, yes=flags.yes)
                _record_all(shown)
                for outcome in report.outcomes:
                    outcome.done = [f"recorded {one.host}" for one in shown if one.node == outcome.node]
        except RaydockError as error:
            report.problems = error.problems
        except KeyboardInterrupt:
            report.interrupted = True
            for outcome in report.outcomes:
                outcome.fail(Failure("INTERRUPTED", "interrupted before any key was recorded"))
        tell(report, flags)


def _all_shown(outcomes: Iterable[Outcome], settings: Settings) -> Iterable[Shown]:
    trusted: list[str] = []
    for outcome in outcomes:
        try:
            for one in _shown(outcome.node, settings, trusted):
                trusted.append(one.line)
                yield one
        except Failure as failure:
            outcome.fail(failure)


def _shown(node: Node, settings: Settings, trusted: list[str]) -> Iterable[Shown]:
    """Give the keys on the way to a node: a jump host's is met before those behind it."""
    mine: list[str] = []
    for _ in range(HOPS):
        # What was just shown counts first, so that the next hop is reached and an old key does not stand before it.
        shown = KnownHosts.parse("\n".join([*trusted, *mine]), "")
        connection = connection_to(node, settings, load_known_hosts(settings), shown=shown)
        try:
            open_connection(connection)
        except HostKeyRefused as refused:
            if refused.code == "HOST_KEY_REVOKED":
                raise
            file = recording_file(refused.trust)
            one = Shown(node, refused.trust, file, refused.key, refused.code, refused.error)
            mine.append(one.line)
            yield one
        except Failure as failure:
            if failure.code in ("SSH_AUTH_REFUSED", "KEY_ENCRYPTED"):
                return  # the key was judged; the login is another matter
            raise
        else:
            return
        finally:
            close_connection(connection)


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


def _show(shown: Sequence[Shown], line: object) -> None:
    write = line if callable(line) else print
    for one in shown:
        key = f"{one.key.get_name()} {fingerprint(one.key.asbytes())}"
        write(f"{one.node.name}  {one.host}:{one.port}  {key}")
        if one.code != "HOST_KEY_UNKNOWN":
            write(f"    {one.code}: {one.why}")


def _record_all(shown: Sequence[Shown]) -> None:
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
