"""ssh_config as OpenSSH reads it: with the files that `Include` names, over which paramiko passes."""

from __future__ import annotations

import getpass
import glob
import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any

from paramiko.config import SSHConfig, SSHConfigDict
from paramiko.ssh_exception import ConfigParseError

from deploy.errors import Failure, Mistake
from deploy.files import writable_by
from deploy.grammar import plain

USERS = Path("~/.ssh/config")
SYSTEM = Path("/etc/ssh/ssh_config")
DEPTH = 16  # files within files, as OpenSSH has it
LINE = re.compile(r"(\w+)(?:\s*=\s*|\s+)(.+)")
CURE = "Correct it there: `ssh -G HOST` says what ssh makes of it"

# What `Match` may ask that is answered here; paramiko takes another word for one that holds, knows no login when it is
# asked, and does not look at a canonical name as ssh does.
ASKED = frozenset({"all", "exec", "final", "host", "localuser", "originalhost"})
ALONE = frozenset({"all", "final"})
NAMES = frozenset({"host", "localuser", "originalhost"})
BRACKET = "["  # begins a set of characters in paramiko's patterns, and is itself in ssh's

# What names files that say whom to trust: several, or one.
SEVERAL = frozenset({"userknownhostsfile", "globalknownhostsfile"})
ONE = frozenset({"revokedhostkeys"})
# What has one value that is used here, and what is decided here whatever it says: it is left out.
SINGLE = frozenset(
    {"canonicalizehostname", "checkhostip", "hostkeyalgorithms", "hostkeyalias", "hostname", "identitiesonly"}
    | {"identityagent", "identityfile", "port", "proxyjump", "requiredrsasize", "user"}
)
JUMP, COMMAND = "proxyjump", "proxycommand"
WAYS = frozenset({JUMP, COMMAND})
OURS = frozenset({"connecttimeout", "forwardagent"})
NO = "no"
SWITCHES = {"true": "yes", "false": NO}
NONE = "none"
EXEC = "exec"
LATER = frozenset({"%p", "%r"})  # what is not known when ssh_config is looked through
EXEC_TIMEOUT = 30.0  # seconds for what `Match exec` runs
ORIGINAL = "original"  # the name by which a host is looked up; no word of ssh's
BLOCK = "block"  # begins what one line of `Host` or `Match` asks, with its number; no word of ssh's
numbers = count()
HOST_LINE = "hostline"  # what a line of `Host` within a file that a block includes asks; no word of ssh's
# Of what words are made: to ssh no other backslash than these is an escape.
CHARACTER = re.compile(r"""\\['"\\ ]|.""", re.DOTALL)
# A word of `Match`: in double quotes or without any, and what might be one to ssh.
WORD = re.compile(
    r"""(?P<remark>\#)|(?:"(?P<quoted>[^"]*)(?<!\\)"|(?P<bare>[^\s"'\\=]+))(?![^ \t])|(?P<other>[^ \t]+)"""
)

# What a block's hosts must meet, as words of `Match`; nothing of what holds for all.
Criteria = tuple[str, ...]


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


def is_none(way: object) -> bool:
    """Tell whether a way to a host is said to be none."""
    return str(way or "").lower() == NONE


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


def expanded(file: Path, around: Criteria = (), depth: int = 0, folder: Path | None = None) -> Iterator[str]:
    """Give the lines of a file, with those of the files that it includes in their places.

    Args:
        file: the file; one that is not there has no lines.
        around: what the blocks demand in which it is included.
        depth: in how many files it is.
        folder: where names without one are looked for: its own, for a file that nothing includes.
    """
    folder, block = folder or file.parent, around
    for number, line in enumerate(lines_of(file), 1):
        place, (key, value) = f"{file}:{number}", keyword(line)
        if key == "include":
            if depth == DEPTH:
                raise Mistake.of("CONFIG", f"files include each other, {DEPTH} deep", CURE, place=place)
            for included in named(value, folder, place):
                check_owner(included)
                yield from expanded(included, block, depth + 1, folder)
                yield heading(block)
        elif key in ("host", "match"):
            given = words(value, place) if key == "host" else asked_of(value, place)
            block = (*around, *criteria(key, given, place))
            yield f"Host {shlex.join(given)}" if key == "host" and not around else heading(block)
        elif key in SEVERAL | ONE:
            yield listing(key, words(value, place), place)
        elif key == COMMAND:
            yield command(value, place)
        elif key in SINGLE:
            if key == JUMP:
                check_jump(value, place)
            yield single(key, words(value, place))
        elif key not in OURS:
            yield line


def lines_of(file: Path) -> list[str]:
    """Give the lines of a file, each up to a NUL; none of one that is not there, as ssh does."""
    try:
        # To ssh nothing else ends a line, and what stands behind a remark's CR is a remark.
        lines = file.read_bytes().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Mistake.of("CONFIG", f"cannot be read: {error.strerror}", CURE, place=str(file)) from error
    return [line.partition("\0")[0] for line in lines]


def keyword(line: str) -> tuple[str, str]:
    """Give a line's keyword, in small letters, and what follows it; nothing of a remark."""
    found = LINE.match(line.strip())
    return (found[1].lower(), found[2]) if found else ("", "")


def named(value: str, folder: Path, place: str) -> Iterable[Path]:
    """Give the files that `Include` names; `CONFIG` for names that ssh fills in and that are not read here."""
    for word in words(value, place):
        if "${" in word or "%" in word:
            raise Mistake.of("CONFIG", f"Include: variables in {word} are not read here", CURE, place=place)
        try:
            pattern = folder.absolute() / Path(word).expanduser()
        except RuntimeError as error:
            raise Mistake.of("CONFIG", f"Include: there is no user for {word}", CURE, place=place) from error
        # Not Path.glob: to it `*` means what begins with a dot, too.
        yield from map(Path, sorted(glob.glob(str(pattern))))  # noqa: PTH207


def asked_of(value: str, place: str) -> list[str]:
    """Split what follows `Match`, up to a remark; `CONFIG` for what ssh and its shell would not read as it is here.

    To ssh a single quote is no quote there, and a backslash no escape.
    """
    words(value, place)
    found: list[str] = []
    for word in WORD.finditer(value):
        if word["remark"]:
            break
        if word["other"]:
            cure = 'Write it in double quotes, without \\" in it; single quotes and \\ only in those of exec'
            raise Mistake.of("CONFIG", f"Match: {word['other']} is not read here", cure, place=place)
        found.append(word["quoted"] if word["bare"] is None else word["bare"])
    return found


def criteria(key: str, given: list[str], place: str) -> Criteria:
    """Give what a line of `Host` or `Match` demands; `CONFIG` where it asks what is not known here."""
    if key == "host":
        check_patterns(given, place)
        return (BLOCK, str(next(numbers)), HOST_LINE, ",".join(given))
    if not given:
        raise Mistake.of("CONFIG", "Match asks nothing", CURE, place=place)
    found: list[str] = [BLOCK, str(next(numbers))]
    rest = iter(given)
    for word in rest:
        asked = word.lower()
        name = asked.removeprefix("!")
        if name not in ASKED or asked == "!all":
            raise Mistake.of("CONFIG", f"Match {word} is not read here", CURE, place=place)
        wanted = [] if name in ALONE else list(islice(rest, 1))
        if name not in ALONE and (not any(wanted) or wanted[0].startswith("#")):
            raise Mistake.of("CONFIG", f"Match {word} does not say what", CURE, place=place)
        check_patterns(wanted if name in NAMES else (), place)
        if name == EXEC:
            check_command("".join(wanted), place)
        if name == "all" and (more := next(rest, None)):
            raise Mistake.of("CONFIG", f"Match all stands before {more}", CURE, place=place)
        found += [] if name == "all" else [asked, *wanted]
    return tuple(found)


def check_patterns(patterns: Iterable[str], place: str) -> None:
    """Refuse patterns of names that mean something else to paramiko."""
    for pattern in patterns:
        if BRACKET in pattern:
            raise Mistake.of("CONFIG", f"the pattern {pattern} is not read here", CURE, place=place)


def check_command(line: str, place: str) -> None:
    """Refuse what asks for port or user: HEAD, workers.txt or a jump may give others than ssh_config."""
    for token in re.findall("%.", line):
        if token in LATER:
            cure = f"Write what it stands for in place of {token}, or ask by `Match host`"
            raise Mistake.of("CONFIG", f"{token} in Match exec is not read here", cure, place=place)


def check_jump(value: str, place: str) -> None:
    """Refuse a `none` in quotes or before a remark: to ssh it is a jump host of that name."""
    if is_none(" ".join(words(value, place))) and not is_none(value.lstrip(" \t=")):
        cure = "Write `ProxyJump none` and nothing else on the line"
        raise Mistake.of("CONFIG", f"ssh takes {value} for the name of a jump host", cure, place=place)


def heading(block: Criteria) -> str:
    """Write the line that begins such a block."""
    return f"Match {shlex.join(block)}" if block else "Host *"


def listing(key: str, given: list[str], place: str) -> str:
    """Write a line that names files: in a shell's words, and quotes around all, which is what paramiko takes off.

    From `"a" "b"` it would take the first quote and the last.
    """
    if "" in given or (key in ONE and len(given) != 1):
        wanted = "the name of one file" if key in ONE else "names of files"
        raise Mistake.of("CONFIG", f"{key} has something else than {wanted}", CURE, place=place)
    return f'{key} "{shlex.join(given)}"' if given else ""


def single(key: str, given: list[str]) -> str:
    """Write a line with one value, without the remark behind it, and yes or no for what is one of these."""
    value = " ".join(given)
    return f'{key} "{SWITCHES.get(value.lower(), value)}"' if given else ""


def command(value: str, place: str) -> str:
    """Write a line with a command: ssh has all that is left of the line, with its quotes and what looks like a remark.

    Quotes stand around all, which is what paramiko takes off; to it the word in them is not the one for no command.
    """
    line = value.lstrip(" \t=")
    words(line, place)
    if not line:
        raise Mistake.of("CONFIG", f"{COMMAND} names no command", CURE, place=place)
    return f'{COMMAND} "{line}"'


def words(value: str, place: str) -> list[str]:
    """Split what follows a keyword, up to a remark, as ssh does; `CONFIG` where a quote is not closed."""
    found: list[str] = []
    inside, quote = False, ""
    for character in CHARACTER.findall(value):
        if character in (" ", "\t") and not quote:
            inside = False
            continue
        if not inside:
            if character == "#":
                break
            found.append("")
            inside = True
        if character == quote:
            quote = ""
        elif character in ("'", '"') and not quote:
            quote = character
        else:
            found[-1] += character if character == "\\ " and quote else character[-1]
    if quote:
        raise Mistake.of("CONFIG", f"cannot be understood: no closing {quote}", CURE, place=place)
    return found


def check_owner(file: Path) -> None:
    """Refuse, as ssh does, a file that others may change: it says whom to trust."""
    try:
        found = file.stat()
    except OSError:
        return
    if found.st_uid not in (0, os.getuid()) or writable_by(found):
        cure = f"chmod go-w {shlex.quote(str(file))}"
        raise Mistake.of("CONFIG", "others may change it, and ssh takes no such file", cure, place=str(file))
