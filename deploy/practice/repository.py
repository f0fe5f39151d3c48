"""`examples/app` as a git repository: the same content is the same commit on every machine."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.practice import command
from deploy.practice.files import TOP

NAME = "app.git"
BRANCH = "main"
TIP = f"refs/heads/{BRANCH}"
SOURCE = TOP / "examples" / "app"

WHO_AND_WHEN = (("NAME", "Raydock"), ("EMAIL", "raydock@example.com"), ("DATE", "2000-01-01T00:00:00Z"))
# Nothing of the operator's own git settings may get into the commit.
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in WHO_AND_WHEN},
}


@dataclass(frozen=True)
class Repository:
    """A bare repository: the commit at its tip, and all of its files as a tar archive."""

    commit: str
    archive: bytes


def example() -> Repository:
    """Give the repository of `examples/app`, with what is in that folder now and is not ignored."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, NAME)
        _git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", "--template=", str(bare))
        there = (
            f"--git-dir={bare}",
            f"--work-tree={SOURCE}",
            "-c",
            f"core.excludesFile={TOP / '.gitignore'}",
        )
        _git(*there, "add", "--all", ".")
        _git(*there, "commit", "--quiet", "--message=The example application")
        commit = _git(*there, "rev-parse", TIP).strip()
        (bare / "index").unlink()
        return Repository(commit, _tar(bare))


def _git(*arguments: str) -> str:
    return command.run("git", *arguments, seconds=60, folder=SOURCE, environment=_environment())


def _environment() -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return ours | ENVIRONMENT


def _tar(bare: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(bare, arcname=NAME, filter=_as_root)
    return buffer.getvalue()


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Git serves only what belongs to the user who serves it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
