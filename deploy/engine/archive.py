"""Tar archives, in temporary files: what is over 1 MB is too much for one piece of bytes on its way to a channel."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from deploy.reading import Odd

SPOOL = 1 << 20  # bytes that stay in memory
LARGEST = 1 << 20  # bytes of an archive of one file that an engine gives: a token, a list of users
# 2000-01-01: a zip, and so a wheel that is built of these files, cannot say anything before 1980.
WRITTEN = 946_684_800


@contextmanager
def context(files: Mapping[str, bytes], tree: Path | None = None) -> Iterator[IO[bytes]]:
    """Give a build's context: the files as everybody may read them, scripts as everybody may run them.

    They are added to the archive `tree`, where there is one.
    """
    entries = (
        (entry(name, content, 0o755 if content.startswith(b"#!") else 0o644), content)
        for name, content in files.items()
    )
    with added(tree, entries) if tree else packed(entries) as archive:
        yield archive


@contextmanager
def secret_file(name: str, content: bytes, uid: int) -> Iterator[IO[bytes]]:
    """Give an archive of one file that its user alone may read."""
    member = entry(name, content, 0o600)
    member.uid = uid
    with packed([(member, content)]) as archive:
        yield archive


def entry(name: str, content: bytes, mode: int) -> tarfile.TarInfo:
    """Give a file's entry."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, WRITTEN
    return member


@contextmanager
def packed(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Iterator[IO[bytes]]:
    """Give an archive, open at its beginning."""
    with tempfile.SpooledTemporaryFile(SPOOL) as file:
        with tarfile.open(fileobj=cast("BinaryIO", file), mode="w") as archive:
            _fill(archive, entries)
        file.seek(0)
        yield cast("IO[bytes]", file)


@contextmanager
def added(path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Iterator[IO[bytes]]:
    """Give an archive that there is, open at its beginning, with further entries."""
    with tarfile.open(path, mode="a") as archive:
        _fill(archive, entries)
    with path.open("rb") as file:
        yield file


def _fill(archive: tarfile.TarFile, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> None:
    for member, content in entries:
        archive.addfile(member, io.BytesIO(content))


def only_file(pieces: Iterable[bytes]) -> bytes | None:
    """Give the content of an archive's first entry; None where that is no file. `Odd` where it is no small archive."""
    packed = bytearray()
    for piece in pieces:
        packed += piece
        if len(packed) > LARGEST:
            raise Odd(f"an archive of more than {LARGEST >> 20} MB")
    try:
        # "r" would unpack as well; and how large a sparse file is, its header says.
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:
            member = archive.next()
            plain = member is not None and member.isreg() and not member.issparse()
            content = archive.extractfile(member) if member is not None and plain else None
            found = content.read(LARGEST) if content else None
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise Odd("what is no archive") from error
    if member is not None and found is not None and len(found) != member.size:
        raise Odd("an archive that ends in the middle")
    return found
