"""Files of the operator's: what is in one, or why that cannot be known."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = 0
KB, MB = 2**10, 2**20
# By a file's mode: who else can change it, and what ends that.
WRITERS = {
    stat.S_IWGRP: ("its group", "g-w"),
    stat.S_IWOTH: ("everybody", "o-w"),
    stat.S_IWGRP | stat.S_IWOTH: ("everybody", "go-w"),
}


def write_whole(path: Path, text: str) -> None:
    """Have a text of UTF-8 in a file: all of it, or, with an `OSError`, what was there.

    A new file is for its owner alone; one that there is keeps its place, where a link leads to it, and its rights.
    """
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            if path.exists():
                _make_like(file.fileno(), path.stat())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _make_like(handle: int, former: os.stat_result) -> None:
    """Give a file the owner, group and mode of the one in whose place it comes."""
    mode = stat.S_IMODE(former.st_mode) & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    try:
        os.fchown(handle, former.st_uid if os.getuid() == ROOT else -1, former.st_gid)
    except PermissionError:
        mode &= ~stat.S_IRWXG  # it is for a group that we are not in, and ours is another
    os.fchmod(handle, mode)


def read_bytes(path: Path, largest: int) -> bytes:
    """Give what is in a file of at most so many bytes; a `ValueError` says why it cannot be read."""
    try:
        # Reading a pipe or a device may never end.
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ValueError(error.strerror) from None
    if len(content) > largest:
        size = f"{largest // MB} MB" if largest >= MB else f"{largest // KB} kB"
        raise ValueError(f"it is larger than {size}")
    return content


def read_text(path: Path, largest: int) -> str:
    """Give the text in a file of UTF-8 without its byte order mark; a `ValueError` says why it cannot be read."""
    content = read_bytes(path, largest)
    if b"\0" in content:
        raise ValueError("it has NUL bytes, as UTF-16 has; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        raise ValueError(f"line {line} is not UTF-8") from None


def check_private(path: Path) -> Path:
    """Give a key's file; a `ValueError` if ssh would refuse it, by its own rule: it is ours, and open to others."""
    found = path.stat()
    if found.st_uid == os.getuid() and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"is open to others, and ssh takes no such key. Close it: chmod 600 {shlex.quote(str(path))}")
    return path


# What ssh offers where nothing is named.
USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")


def usual_keys() -> list[Path]:
    """Give those of the usual files of keys that there are."""
    return [file for name in USUAL_KEYS if (file := Path.home() / ".ssh" / name).exists()]


def open_keys() -> Iterator[str]:
    """Say which of the usual keys ssh, and so we, do not use, for they are open to others."""
    for file in usual_keys():
        try:
            check_private(file)
        except ValueError as wrong:
            yield f"{file} {wrong}"


def writable_by(found: os.stat_result) -> int:
    """Give the bits of a file's mode by which others than its owner can change it.

    A group in which nobody else is is no other: many systems give each user one, and files that it can change.
    """
    bits = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return bits & ~stat.S_IWGRP if bits & stat.S_IWGRP and is_own_group(found.st_gid) else bits


def is_own_group(gid: int) -> bool:
    """Tell whether a group has us and nobody else; one of which no member is known may have any."""
    try:
        me = pwd.getpwuid(os.getuid())
        members = set(grp.getgrgid(gid).gr_mem) | {one.pw_name for one in [me, *pwd.getpwall()] if one.pw_gid == gid}
    except KeyError:
        return False
    return members == {me.pw_name}


def openings(path: Path, name: str, secrets: str = "") -> Iterator[str]:
    """Say who else can change a file, or read the secrets that are in it, each with the line that ends it.

    A link is judged by what it leads to.
    """
    try:
        found, file = path.stat(), shlex.quote(str(path.resolve()) if path.is_symlink() else name)
    except OSError:
        return
    if found.st_uid not in (os.getuid(), ROOT):
        yield f"{name} belongs to {_user(found.st_uid)}, who can change it: sudo chown {os.getuid()} {file}"
    if whom := WRITERS.get(writable_by(found)):
        yield f"{whom[0]} can change {name}: chmod {whom[1]} {file}"
    if secrets and found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield f"others can read {name}, which has {secrets}: chmod 600 {file}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
