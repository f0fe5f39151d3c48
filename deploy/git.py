"""The operator's own git: what `MY_PROJECT_SOURCE=copy` asks on this side, with the operator's credentials."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import run_here
from deploy.errors import Failure
from deploy.lates.project import ALL, ARCHIVE, ASK_NOBODY, ATTRIBUTES, FETCH, FOLDER, INIT, LEAVE_OUT, ONE, said
from deploy.withheld import BEGINNING, BY_CONTENT, BY_NAME, is_private_key, is_secret_name, told

if TYPE_CHECKING:
    from deploy.lates.project import Source
    from deploy.progress import Say

GIT = ("sh", "-c", f'{ASK_NOBODY}; exec git "$@"', "git")
LOOK = 60.0  # seconds for what git says of a repository
BRING = 900.0  # seconds for what git fetches or packs


class Git:
    """Implements `deploy.site.Git` on this machine."""

    def ask(self, source: Source) -> str:
        """Give what git tells of the project's ref."""
        return run(source, LOOK, *source.ask)

    def uncommitted(self, source: Source) -> int:
        """Count the files of a folder that are not as they were committed; a bare repository has none."""
        return len(run_here((*GIT, *source.status), LOOK, None).output.splitlines())

    @contextmanager
    def tree(self, source: Source, commit: str, say: Say) -> Iterator[Path]:
        """Have the tree at a commit for a block: an archive of `project/`, in a folder that nobody else may read.

        Committed secrets are not in it, and told.
        """
        with tempfile.TemporaryDirectory(prefix="raydock-") as folder:
            there, archive = ("-C", folder), Path(folder, "project.tar")
            run(source, LOOK, *INIT, folder)
            Path(folder, "info").mkdir(exist_ok=True)
            Path(folder, "info", "attributes").write_text(f"{ATTRIBUTES}\n", encoding="ascii")
            try:
                run(source, BRING, *there, *FETCH, *ONE, "--", source.url, commit)
            except Failure:
                run(source, BRING, *there, *FETCH, "--", source.url, *ALL)
            pack = (*there, *ARCHIVE, f"--prefix={FOLDER}/", f"--output={archive}", commit)
            run(source, BRING, *pack)
            if left_out := secrets_in(archive):
                run(source, BRING, *pack, *(f"{LEAVE_OUT}{name}" for name in left_out))
                for line in told([f"{name}: {reason}" for name, reason in left_out.items()], "copied"):
                    say(line)
            yield archive


def secrets_in(archive: Path) -> dict[str, str]:
    """Name the secrets among a project's files, each with the reason."""
    with tarfile.open(archive) as tar:
        judged = {member.name.removeprefix(f"{FOLDER}/"): objection(tar, member) for member in tar}
    return {name: judged[name] for name in sorted(judged) if judged[name]}


def objection(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Say why a file is not copied, or nothing."""
    if member.isdir():
        return ""
    if is_secret_name(member.name.removeprefix(f"{FOLDER}/")):
        return BY_NAME
    content = tar.extractfile(member) if member.isreg() else None
    return BY_CONTENT if content and is_private_key(content.read(BEGINNING)) else ""


def run(source: Source, timeout: float, *words: str) -> str:
    """Have git do something, and give what it says; `PROJECT_UNREACHABLE` where it does not."""
    cure = f"Try it on this machine, where nobody answers its questions: git ls-remote {source.url}"
    try:
        done = run_here((*GIT, *words), timeout, None)
    except Failure as failure:
        raise Failure("PROJECT_UNREACHABLE", f"git was not done within {timeout:.0f} s", cure) from failure
    if done.code:
        why = said(done.errors.strip()) or f"{source.url} has no commit {source.ref}"
        raise Failure("PROJECT_UNREACHABLE", why, cure if done.errors.strip() else "Correct MY_PROJECT_REF")
    return done.output
