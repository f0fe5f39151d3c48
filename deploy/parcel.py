"""What is shipped with a program: its file alone, or a folder without secrets and what git ignores."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

from deploy.errors import Mistake
from deploy.withheld import BEGINNING, BY_CONTENT, BY_NAME, is_private_key, is_secret_name

CAP = 100 << 20  # bytes; Ray's dashboard takes no greater body
PIECE = 1 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can tell
# A hook of git's runs with these, and they would say which repository is meant.
GIT = ("env", *(f"-u{key}" for key in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")), "LC_ALL=C", "git")
GIT_DEADLINE = 60.0  # seconds


@dataclass(frozen=True)
class Selection:
    """The files to ship, each with its name for the program and its path; and what stays, with the reason."""

    files: tuple[tuple[str, Path], ...]
    withheld: tuple[str, ...]


@dataclass(frozen=True)
class Parcel:
    """A zip of files under a name made from its content, in a temporary file that lasts for its block."""

    name: str
    content: BinaryIO
    size: int
    program: str
    files: tuple[str, ...]
    withheld: tuple[str, ...]


def entrypoint(program: str, arguments: Iterable[str]) -> str:
    """Give the shell line that runs the program."""
    return shlex.join(["python", program, *arguments])


@contextmanager
def pack(file: str, folder: str = "") -> Iterator[Parcel]:
    """Have the program's parcel for a block. A `Mistake` tells what cannot be shipped."""
    root, program = locate(file, folder)
    chosen = select(root, program, _within(root) if folder else ())
    with tempfile.TemporaryFile() as content:
        name = _zip(chosen, content)
        size = content.tell()
        content.seek(0)
        names = tuple(name for name, _ in chosen.files)
        yield Parcel(name, content, size, program, names, chosen.withheld)


def locate(file: str, folder: str = "") -> tuple[Path, str]:
    """Give the folder that is shipped and the program's name in it."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise Mistake.of("USAGE", f"{file} is no file", "Name a Python program of this machine")
    if not folder:
        path = path.resolve()
        return path.parent, path.name
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise Mistake.of("USAGE", f"--folder {folder} is no folder")
    root = root.resolve()
    path = path.parent.resolve() / path.name  # a link keeps its own name, and is judged by it
    if not path.is_relative_to(root):
        raise Mistake.of("USAGE", f"{file} does not lie within --folder {folder}")
    return root, path.relative_to(root).as_posix()


def select(root: Path, program: str, listed: Iterable[str]) -> Selection:
    """Choose among files of a folder, named from it. The program goes even where git ignores it."""
    files: dict[str, Path] = {}
    withheld: list[str] = []
    for name in sorted({program, *listed}):
        if reason := objection(root, name):
            if name == program:
                raise Mistake.of("USAGE", f"{program} is not shipped: {reason}")
            withheld.append(f"{name}: {reason}")
        elif (root / name).is_file():  # git also lists what was deleted, and what is no plain file
            files[name] = root / name
    return Selection(tuple(files.items()), tuple(withheld))


def objection(root: Path, name: str) -> str:
    """Say why a file is not shipped, or nothing. A link is judged by its own name and by its target."""
    path = root / name
    real = path.resolve()
    if not real.is_relative_to(root):
        return "a link that points outside the folder"
    if path.is_symlink() and path.is_dir():
        return "a link to a folder"
    if is_secret_name(name) or is_secret_name(real.relative_to(root).as_posix()):
        return BY_NAME
    if real.is_file() and _is_private_key(real):
        return BY_CONTENT
    return ""


def _is_private_key(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            return is_private_key(opened.read(BEGINNING))
    except OSError as error:
        raise _unreadable(path, error) from error


def _within(root: Path) -> Iterator[str]:
    """Name the files of a folder, without what git ignores where git knows the folder."""
    names = _git_files(root)
    if names is None:
        yield from _walk(root)
        return
    for name in names:
        path = root / name
        if (path / ".git").exists() and not path.is_symlink():  # a repository within: git lists it as one
            yield from (f"{name.rstrip('/')}/{inner}" for inner in _within(path))
        elif not path.is_dir():  # a submodule that was not fetched is an empty folder
            yield name


def _git_files(root: Path) -> list[str] | None:
    """Ask git for a folder's files; None where the folder is in no work tree."""
    argv = (*GIT, "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z")
    try:
        asked = subprocess.run(argv, capture_output=True, check=False, timeout=GIT_DEADLINE)
    except subprocess.TimeoutExpired:
        late = f"git did not tell within {GIT_DEADLINE:g} s what it ignores in {root}"
        raise Mistake.of("USAGE", late, f"Try it: git -C {shlex.quote(str(root))} status") from None
    if asked.returncode == 0:
        return [os.fsdecode(name) for name in asked.stdout.split(b"\0") if name]
    said = asked.stderr.decode(errors="replace").strip()
    known = any((parent / ".git").exists() for parent in (root, *root.parents))
    if "not a git repository" in said or not known:
        return None
    why = said.splitlines()[0] if said else "it says nothing"
    raise Mistake.of("USAGE", f"git cannot tell what it ignores in {root}: {why}")


def _walk(root: Path) -> Iterator[str]:
    """Name the files of a folder that git does not know, without hidden folders and compiled Python."""
    for at, folders, files in os.walk(root, onerror=_raise):
        here = Path(at)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from ((here / name).relative_to(root).as_posix() for name in (*files, *links))


def _zip(chosen: Selection, content: BufferedRandom) -> str:
    """Write the files, sorted and undated: the same files make the same bytes. Give the name of these."""
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in chosen.files:
            try:
                _add(archive, name, path, chosen)
            except OSError as error:
                raise _unreadable(path, error) from error
    _check_size(content.tell(), chosen)
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256").hexdigest()  # leaves the file at its end
    return f"_ray_pkg_{digest[:16]}.zip"


def _add(archive: zipfile.ZipFile, name: str, path: Path, chosen: Selection) -> None:
    entry = zipfile.ZipInfo(os.fsencode(name).decode(errors="replace"), EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with path.open("rb") as source:
        executable = os.fstat(source.fileno()).st_mode & stat.S_IXUSR
        entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
        with archive.open(entry, "w", force_zip64=True) as target:
            while piece := source.read(PIECE):
                target.write(piece)
                _check_size(archive.fp.tell() if archive.fp else 0, chosen)


def _check_size(size: int, chosen: Selection) -> None:
    """Stop at the cap, before more is written, and name the files that weigh most."""
    if size < CAP:
        return
    weights = sorted(((path.stat().st_size, name) for name, path in chosen.files), reverse=True)
    biggest = ", ".join(f"{name} ({weight / (1 << 20):.1f} MiB)" for weight, name in weights[:3])
    raise Mistake.of(
        "USAGE",
        f"more than {CAP >> 20} MiB to ship, which is all that Ray takes; the biggest: {biggest}",
        "Have git ignore what the program does not need, or lay it on the nodes with VOLUMES",
    )


def _unreadable(path: Path, error: OSError) -> Mistake:
    return Mistake.of("USAGE", f"{path} cannot be read: {error.strerror}")


def _raise(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error) from error
