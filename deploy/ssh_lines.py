"""The lines of ssh_config as OpenSSH reads them, written so that paramiko reads the same: with what `Include` names."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

from deploy.errors import Mistake
from deploy.files import writable_by

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
OURS = frozenset({"connecttimeout", "forwardagent"})
NO = "no"
SWITCHES = {"true": "yes", "false": NO}
NONE = "none"
EXEC = "exec"
LATER = frozenset({"%p", "%r"})  # what is not known when ssh_config is looked through
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


def is_none(way: object) -> bool:
    """Tell whether a way to a host is said to be none."""
    return str(way or "").lower() == NONE
