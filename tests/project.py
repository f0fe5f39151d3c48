"""A project of the operator's, as the tests of git have one."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ALONE = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@dataclass(frozen=True)
class Project:
    """A repository of the operator's."""

    folder: Path

    def git(self, *words: str) -> str:
        """Have git do something in it, past everything of this machine's."""
        done = subprocess.run(("git", *words), cwd=self.folder, env=ALONE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, **files: str) -> None:
        """Write files; a name's `__` is a slash."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, **files: str) -> str:
        """Write files, commit all there is, and give the commit."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=a")
        return self.git("rev-parse", "HEAD")

    @property
    def url(self) -> str:
        """Its address, which git treats as another machine's."""
        return f"file://{self.folder}"
