"""The one place where the sandbox runs a program of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.errors import Failure


def run(
    *command: str,
    seconds: int,
    code: str = "COMMAND_FAILED",
    cure: str = "",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end, and give what it wrote.

    Raises:
        Failure: it is not installed, failed, or took longer than it may; its last lines are told.
    """
    try:
        done = subprocess.run(  # noqa: S603 - an argv of ours, and no shell
            command, cwd=folder, env=environment, timeout=seconds, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Failure(code, f"{error.filename} is not installed", "Run script/bootstrap") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(code, f"{command[0]} was not done in {seconds} s", cure) from error
    if done.returncode:
        end = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise Failure(code, f"{command[0]} failed: {end}", cure)
    return done.stdout
