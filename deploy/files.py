"""Files of the operator's: what is in one, or why that cannot be known."""

from __future__ import annotations

import stat
from pathlib import Path

KB, MB = 2**10, 2**20


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


def others_may_read(path: Path) -> bool:
    """Tell whether anybody but its owner may read a file, as far as its mode says."""
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


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
