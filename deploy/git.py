"""The operator's own git: what `MY_PROJECT_SOURCE=copy` asks on this side, with the operator's credentials."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import run_here
from deploy.errors import Failure
from deploy.lates.project import ALL, ARCHIVE, ASK_NOBODY, ATTRIBUTES, FETCH, FOLDER, INIT, ONE, said

if TYPE_CHECKING:
    from deploy.lates.project import Source

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
    def tree(self, source: Source, commit: str) -> Iterator[Path]:
        """Have the tree at a commit for a block: an archive of `project/`, in a folder that nobody else may read."""
        with tempfile.TemporaryDirectory(prefix="raydock-") as folder:
            there, archive = ("-C", folder), Path(folder, "project.tar")
            run(source, LOOK, *INIT, folder)
            Path(folder, "info").mkdir(exist_ok=True)
            Path(folder, "info", "attributes").write_text(f"{ATTRIBUTES}\n", encoding="ascii")
            try:
                run(source, BRING, *there, *FETCH, *ONE, "--", source.url, commit)
            except Failure:
                run(source, BRING, *there, *FETCH, "--", source.url, *ALL)
            run(source, BRING, *there, *ARCHIVE, f"--prefix={FOLDER}/", f"--output={archive}", commit)
            yield archive


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
