"""Which files say what host keys are good, as OpenSSH finds them: the user's, the system's, those of ssh_config."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import Failure
from deploy.known_hosts import REVOKED, SSH_PORT, Kind, KnownHosts, Verdict, fingerprint, matches
from deploy.ssh_config import filled, tokens

if TYPE_CHECKING:
    from fabric import Connection

    from deploy.settings import Settings

USER_FILES = ("known_hosts", "known_hosts2")
SYSTEM_FILES: tuple[Path, ...] = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
# What of ssh_config says which keys are good.
NAMED = ("userknownhostsfile", "globalknownhostsfile", "revokedhostkeys", "knownhostscommand")
NONE = "none"
KRL = "SSHKRL\n\0"  # how a list of ssh-keygen's own form begins
ANY = "*"
RSA_SIZE = 1024  # bits, which ssh wants where RequiredRSASize says nothing
KEPT = 16  # sets of files that are kept as they were read


@dataclass(frozen=True)
class Trust:
    """What is known for one hop: under which name, where a key for it is recorded, and what the files say."""

    host: str
    port: int
    file: Path | None  # None where no file of the user's is read for it
    known: KnownHosts
    # The keys of RevokedHostKeys, each with its place. ssh looks there only when a key is shown: which kind it asks for
    # is by the others.
    revoked: Mapping[bytes, str] = field(default_factory=dict)
    accepted: str = ANY  # HostKeyAlgorithms
    rsa_size: int = RSA_SIZE  # the fewest bits of an RSA key

    def accepts(self, algorithm: str) -> bool:
        """Tell whether the hop may be asked for a key of this kind."""
        if self.accepted.startswith("-"):
            return not matches(self.accepted[1:], algorithm)
        # What is added or put first takes nothing away; what is not known here anyway is not added.
        return self.accepted.startswith(("+", "^")) or matches(self.accepted, algorithm)

    def verdict(self, key: bytes) -> Verdict:
        """Judge the key that the hop shows."""
        if place := self.revoked.get(key):
            return Verdict(Kind.REVOKED, place, fingerprint(key))
        return self.known.verdict(self.host, self.port, key)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The host key algorithms to ask for first."""
        return self.known.algorithms(self.host, self.port)


def users_files(settings: Settings) -> tuple[Path, ...]:
    """Give the user's files where ssh_config names none: SSH_KNOWN_HOSTS, else OpenSSH's own."""
    own = settings.ssh_known_hosts
    return (Path(own),) if own else tuple(Path.home() / ".ssh" / name for name in USER_FILES)


def load_known_hosts(settings: Settings) -> KnownHosts:
    """Read every known_hosts file that holds where ssh_config names none; the system's count in any case."""
    return read_all((*users_files(settings), *SYSTEM_FILES))


def trust_of(hop: Connection, settings: Settings, usual: KnownHosts) -> Trust:
    """Give what is known for a hop: `usual`, unless ssh_config says otherwise for it.

    Raises:
        Failure: `CONFIG` where it names what is not read here; to pass that over could trust a key that ssh refuses.
    """
    config: Mapping[str, Any] = hop.ssh_config
    if config.get("checkhostip", "no") != "no":
        raise unread("CheckHostIP", "addresses are not checked beside names", hop)
    alias = config.get("hostkeyalias")
    host, port = (str(alias), SSH_PORT) if alias else (hop.host, hop.port)
    users = users_files(settings)
    limits: dict[str, Any] = {"accepted": config.get("hostkeyalgorithms", ANY), "rsa_size": rsa_size(config, hop)}
    if not any(key in config for key in NAMED):
        return Trust(host, port, users[0], usual, **limits)
    if config.get("knownhostscommand", NONE).lower() != NONE:
        raise unread("KnownHostsCommand", "it is not run here", hop)
    # What is typed at ssh holds before what is configured.
    if not settings.ssh_known_hosts:
        users = files(config, "UserKnownHostsFile", hop, users)
    known = read_all((*users, *files(config, "GlobalKnownHostsFile", hop, SYSTEM_FILES)))
    (revoked,) = [revoked_in(file, hop) for file in files(config, "RevokedHostKeys", hop, ())] or [{}]  # at most one
    return Trust(host, port, users[0] if users else None, known, revoked, **limits)


def rsa_size(config: Mapping[str, Any], hop: Connection) -> int:
    """Give the fewest bits that an RSA key may have."""
    try:
        return int(config.get("requiredrsasize", RSA_SIZE))
    except ValueError as error:
        raise unread("RequiredRSASize", "it is no number", hop) from error


def files(config: Mapping[str, Any], option: str, hop: Connection, usual: tuple[Path, ...]) -> tuple[Path, ...]:
    """Give the files that an option of ssh_config names, else the usual ones."""
    value = config.get(option.lower())
    if value is None:
        return usual
    return tuple(named(word, option, hop) for word in shlex.split(str(value)) if word.lower() != NONE)


def named(word: str, option: str, hop: Connection) -> Path:
    """Give the file that a word names; ssh fills in nothing but a home in those of GlobalKnownHostsFile."""
    try:
        return Path(word if option == "GlobalKnownHostsFile" else expanded(word, option, hop)).expanduser()
    except RuntimeError as error:
        raise unread(option, f"there is no user for {word}", hop) from error


def expanded(word: str, option: str, hop: Connection) -> str:
    """Give a file's name with OpenSSH's tokens filled in, as far as they are known here."""
    if "${" in word:
        raise unread(option, "variables in it are not read here", hop)
    try:
        return filled(word, tokens_of(hop))
    except ValueError as unknown:
        raise unread(option, str(unknown), hop) from unknown


def tokens_of(hop: Connection) -> dict[str, str]:
    """Give what tokens stand for on a hop."""
    alias = hop.ssh_config.get("hostkeyalias")
    return tokens(hop.original_host, host=hop.host, port=hop.port, user=hop.user, alias=alias)


def read_all(paths: tuple[Path, ...]) -> KnownHosts:
    """Read those of the files that there are."""
    return _parsed(tuple((path, stamp) for path in paths if (stamp := _stamp(path))))


def _stamp(file: Path) -> tuple[int, ...] | None:
    """Give the stamp of a file; None where there is none."""
    try:
        return _stamped(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from error


def _stamped(file: Path) -> tuple[int, ...]:
    """Give what changes when a file does."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


# A thousand nodes mostly have one set of files.
@lru_cache(KEPT)
def _parsed(stamped: tuple[tuple[Path, tuple[int, ...]], ...]) -> KnownHosts:
    known = KnownHosts()
    for file, _ in stamped:
        try:
            known += KnownHosts.parse(text_of(file), str(file))
        except OSError as error:
            raise _unreadable(file, error) from error
    return known


def text_of(file: Path) -> str:
    """Give a file's text; a lone CR ends no line to ssh, and so does not to us."""
    return file.read_bytes().decode("utf-8", "replace")


def _unreadable(file: Path, error: OSError) -> Failure:
    cure = "Mend that, or name another file in SSH_KNOWN_HOSTS"
    return Failure("CONFIG", f"cannot be read: {error.strerror}", cure, place=str(file))


def revoked_in(file: Path, hop: Connection) -> Mapping[bytes, str]:
    """Read a file of revoked keys, each a line as in a `.pub`; ssh refuses every host, too, where it cannot be read.

    Returns:
        The keys, each with the place where it stands first.
    """
    try:
        return _revoking(file, _stamped(file))
    except OSError as error:
        raise unread("RevokedHostKeys", f"{file} cannot be read: {error.strerror}", hop) from error
    except ValueError as wrong:
        raise unread("RevokedHostKeys", str(wrong), hop) from wrong


@lru_cache(KEPT)
def _revoking(file: Path, _stamp: tuple[int, ...]) -> Mapping[bytes, str]:
    text = text_of(file)
    if text.startswith(KRL):
        raise ValueError(f"{file} is a KRL, which is not read here")
    lines = [line.strip() for line in text.split("\n")]
    keys = [f"{REVOKED} * {line}" if line and not line.startswith("#") else "" for line in lines]
    known = KnownHosts.parse("\n".join(keys), str(file))
    read = {line.place for line in known.lines}
    for place in (f"{file}:{number}" for number, key in enumerate(keys, 1) if key):
        if place not in read:
            raise ValueError(f"{place} has no key that is known here")
    return {line.key: line.place for line in reversed(known.lines)}


def unread(option: str, why: str, hop: Connection) -> Failure:
    """Give the failure of a hop for which ssh_config says more than is read here."""
    cure = "Name files of plain lines there, by their whole names, or leave it out for this host"
    return Failure("CONFIG", f"{option} of ssh_config for {hop.host}: {why}", cure)
