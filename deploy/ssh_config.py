"""What ssh_config says of a host, as OpenSSH has it."""

from __future__ import annotations

import getpass
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramiko.config import SSHConfig, SSHConfigDict
from paramiko.ssh_exception import ConfigParseError

from deploy.errors import Failure, Mistake
from deploy.grammar import plain
from deploy.ssh_lines import ALONE, BLOCK, COMMAND, CURE, EXEC, HOST_LINE, JUMP, NO, check_owner, expanded, is_none

USERS = Path("~/.ssh/config")
SYSTEM = Path("/etc/ssh/ssh_config")
WAYS = frozenset({JUMP, COMMAND})
EXEC_TIMEOUT = 30.0  # seconds for what `Match exec` runs
ORIGINAL = "original"  # the name by which a host is looked up; no word of ssh's


Base: Any = SSHConfig  # what is used of it has no types


class OpenSshConfig(Base):  # type: ignore[misc]  # as above
    """What ssh_config says: looked through twice only where ssh does that, and without what says that there is none."""

    def lookup(self, hostname: str) -> Mapping[str, Any]:
        """Give what holds for a host; `CONFIG`, of the node alone, where ssh would look for another name of it."""
        found = self._lookup(hostname)
        asked = {one["type"] for context in self._config for one in context.get("matches", ())}
        if "final" in asked:
            found = super().lookup(hostname)
        else:
            self._expand_variables(found, hostname)
        for way in WAYS:
            if is_none(found.get(way)):
                del found[way]
        read: Mapping[str, Any] = found
        return read

    def _lookup(self, hostname: str, options: Any = None, **how: Any) -> dict[str, Any]:
        """Collect what holds; of the two ways to a host only the one that stands first, though that be `none`."""
        given: Any = SSHConfigDict() if options is None else options
        given[BLOCK], given[ORIGINAL] = {}, hostname
        name = hostname
        if how.get("final"):
            # The second time ssh goes by the name that HostName has made by then, in small letters.
            name = name_of(given, hostname).lower()
            given["hostname"] = name.replace("%", "%%")
        found: dict[str, Any] = super()._lookup(name, given, **how)
        del found[BLOCK], found[ORIGINAL]
        if str(found.get("canonicalizehostname", NO)).lower() != NO:
            name = plain(hostname)
            cure = f"Write above it there: `Host {name}`, and below that `CanonicalizeHostname no` and its HostName"
            raise Failure("CONFIG", f"CanonicalizeHostname of ssh_config for {name} is not read here", cure)
        for later in [key for key in found if key in WAYS][1:]:
            # Where no jump host stands first, ssh takes a command behind it still.
            if later != COMMAND or not is_none(found[JUMP]):
                del found[later]
        return found

    def _expand_variables(self, found: dict[str, Any], host: str) -> dict[str, Any]:
        """Fill in the name; all else that has tokens is filled in where it is used, by who knows user and port."""
        found["hostname"] = name_of(found, found.get(ORIGINAL, host))
        return found

    def _does_match(
        self, asked: list[dict[str, Any]], host: str, _canonical: bool, final: bool, options: Mapping[str, Any]
    ) -> object:
        """Tell whether a block of `Match` holds, by the name that `HostName` makes of the host's.

        What is run is run last: it takes time, and most hosts are ruled out without it.
        """
        if not asked:
            return False
        known = {**options, "hostname": name_of(options, options[ORIGINAL])}
        starts = [number for number, one in enumerate(asked) if one["type"] == BLOCK]
        # Each is judged where it begins, as ssh does: behind what it includes, HostName may be another.
        judged: dict[str, bool] = options[BLOCK]
        for start, end in zip(starts, [*starts[1:], len(asked)], strict=True):
            number, *block = asked[start:end]
            if number["param"] not in judged:
                in_turn = sorted(block, key=lambda one: one["type"] == EXEC)
                holds = all(self._holds(one, host, final, known) is not one["negate"] for one in in_turn)
                judged[number["param"]] = holds
            if not judged[number["param"]]:
                return False
        return True

    def _holds(self, one: dict[str, Any], host: str, final: bool, known: Mapping[str, Any]) -> bool:
        """Tell whether one criterion is met, without its `!`."""
        kind, asked = one["type"], str(one["param"])
        if kind in ALONE:
            return final or kind == "all"
        if kind == EXEC:
            given = tokens_of_name(known[ORIGINAL], host=known["hostname"], alias=known.get("hostkeyalias"))
            return succeeds(filled(asked, given))
        # ssh compares the names of Match in small letters, and those of Host as they are.
        name, patterns = {
            "host": (known["hostname"].lower(), asked.lower()),
            "originalhost": (known[ORIGINAL].lower(), asked.lower()),
            HOST_LINE: (host, asked),
            "localuser": (login_name(), asked),
        }[kind]
        return bool(self._pattern_matches(patterns, name))


def name_of(options: Mapping[str, Any], host: str) -> str:
    """Give the name that `HostName` makes of a host's; the host's own is as it is."""
    given = str(options.get("hostname", host))
    return host if given == host else filled(given, {"h": host})


def tokens(name: str, *, host: str, port: int | str, user: str, alias: str | None) -> dict[str, str]:
    """Give what ssh's tokens stand for, of a host that goes by this name in ssh_config."""
    return tokens_of_name(name, host=host, alias=alias) | {"p": str(port), "r": user}


def tokens_of_name(name: str, *, host: str, alias: str | None) -> dict[str, str]:
    """Give those of them that are known before port and user are."""
    here = socket.gethostname()
    of_host = {"n": name, "h": host, "k": alias or name}
    ours = {"d": str(Path.home()), "i": str(os.getuid()), "l": here, "L": here.partition(".")[0], "u": login_name()}
    return of_host | ours


def filled(word: str, given: Mapping[str, str]) -> str:
    """Fill in what tokens stand for, and `%` for `%%`; a `ValueError` names one that is not known here."""

    def token(found: re.Match[str]) -> str:
        if found[1] not in {"%", *given}:
            raise ValueError(f"{found[0]} in it is not known here")
        return given.get(found[1], "%")

    return re.sub(r"%(.?)", token, word, flags=re.DOTALL)


def shell() -> str:
    """Give the shell by which ssh runs what ssh_config has."""
    return os.environ.get("SHELL", "/bin/sh")


def succeeds(line: str) -> bool:
    """Run what `Match exec` asks, by the operator's shell; `CONFIG`, of the node alone, where it does not end."""
    # No pipes: what it leaves running would keep them open, and all that it says would be kept.
    how: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        return subprocess.run((shell(), "-c", line), **how, timeout=EXEC_TIMEOUT, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("CONFIG", f"Match exec {plain(line)} of ssh_config: {error}", CURE) from error


def login_name() -> str:
    """Give the operator's name, by the number as ssh does; LOGNAME and USER may be another's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return getpass.getuser()


def read_ssh_config() -> OpenSshConfig:
    """Read the user's file and then the system's: what stands first holds.

    Raises:
        Mistake: `CONFIG`, with the file, where one cannot be read, or says what nobody understands.
    """
    config = OpenSshConfig()
    for file in (USERS.expanduser(), SYSTEM):
        if file != SYSTEM:
            check_owner(file)
        try:
            config.parse(expanded(file))
        except ConfigParseError as error:
            raise Mistake.of("CONFIG", f"cannot be understood: {error}", CURE, place=str(file)) from error
    return config
