"""ssh_config as OpenSSH reads it: with the files that `Include` names, over which paramiko passes."""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from paramiko.config import SSHConfig
from paramiko.ssh_exception import ConfigParseError

from deploy.errors import Mistake

USERS = Path("~/.ssh/config")
SYSTEM = Path("/etc/ssh/ssh_config")
DEPTH = 16  # files within files, as OpenSSH has it
LINE = re.compile(r"(\w+)(?:\s*=\s*|\s+)(.+)")
CURE = "Correct it there: `ssh -G HOST` says what ssh makes of it"

# What `Match` may ask that is answered here; paramiko takes another word for one that holds.
ASKED = frozenset({"all", "canonical", "exec", "final", "host", "localuser", "originalhost", "user"})
ALONE = frozenset({"all", "canonical", "final"})

# What names files that say whom to trust: several, or one.
SEVERAL = frozenset({"userknownhostsfile", "globalknownhostsfile"})
ONE = frozenset({"revokedhostkeys"})
# Of what words are made: to ssh no other backslash than these is an escape.
CHARACTER = re.compile(r"""\\['"\\ ]|.""", re.DOTALL)

# What a block's hosts must meet, as words of `Match`; nothing of what holds for all.
Criteria = tuple[str, ...]


def read_ssh_config() -> SSHConfig:
    """Read the user's file and then the system's: what stands first holds.

    Raises:
        Mistake: `CONFIG`, with the file, where one cannot be read, or says what nobody understands.
    """
    config = SSHConfig()
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
            given = words(value, place)
            block = (*around, *criteria(key, given, place))
            yield heading(block) if around else f"{key} {shlex.join(given)}"
        elif key in SEVERAL | ONE:
            yield listing(key, words(value, place), place)
        else:
            yield line


def lines_of(file: Path) -> list[str]:
    """Give the lines of a file, each up to a NUL; none of one that is not there, as ssh does."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
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


def criteria(key: str, given: list[str], place: str) -> Criteria:
    """Give what a line of `Host` or `Match` demands; `CONFIG` where it asks what is not known here."""
    if key == "host":
        return ("originalhost", ",".join(given))
    rest = iter(given)
    for word in rest:
        asked = word.lower().removeprefix("!")
        if asked not in ASKED:
            raise Mistake.of("CONFIG", f"Match {word} is not read here", CURE, place=place)
        if asked not in ALONE:
            next(rest, None)
    return tuple(word for word in given if word.lower() != "all")


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
    if found.st_uid not in (0, os.getuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        cure = f"chmod go-w {shlex.quote(str(file))}"
        raise Mistake.of("CONFIG", "others may change it, and ssh takes no such file", cure, place=str(file))
