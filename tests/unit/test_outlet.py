"""Text that goes out to readers who may be gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.outlet import Outlet

TOP = Path(__file__).resolve().parents[2]
WRITES = """
import sys
from deploy.outlet import Outlet
out = Outlet(sys.stdout)
for _ in range(3):
    out.write("x" * 100_000)
sys.stdout.write("what others still write")
sys.exit(7)
"""


@pytest.mark.parametrize("closed", ["the reader is gone", "it was closed before"])
def test_who_writes_to_nobody_ends_as_it_would_have(closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    shell = 'exec "$0" "$@"' + (" >&-" if closed == "it was closed before" else "")
    done = subprocess.run(
        [
            "sh",
            "-c",
            shell,
            sys.executable,
            "-c",
            WRITES.replace("sys.stdout.write", "sys.stdout and sys.stdout.write"),
        ],
        cwd=TOP,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (7, "")


def test_what_is_written_goes_out_at_once(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        assert Outlet(file).write("a line\n") == 7
        assert (tmp_path / "out").read_text(encoding="utf-8") == "a line\n"
        assert not Outlet(file).isatty()
