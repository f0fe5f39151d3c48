"""What a command writes: found between its marks however it comes, and never kept without end."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from deploy.commands import sudo_refused
from deploy.output import HEAD, LINE, TAIL, Kept, Lines, Marked
from deploy.progress import News, Output
from deploy.shells import script

MARK = "raydock-0123456789abcdef"
OUTPUTS: dict[str, tuple[bytes, str, str, int | None]] = {
    "plain": (b"M\nhello\nM 0\n", "hello\n", "", 0),
    "nothing": (b"M\nM 3\n", "", "", 3),
    "no line's end": (b"M\nhelloM 0\n", "hello", "", 0),
    "noise before it": (b"Hello there\nM\nhello\nM 0\n", "hello\n", "Hello there", 0),
    "noise after it": (b"M\nhello\nM 0\nbye\n", "hello\n", "", 0),
    "the mark's beginning among it": (b"M\nraydock-0123\nM 0\n", "raydock-0123\n", "", 0),
    "no end": (b"M\nhel", "hel", "", None),
    "no beginning": (b"This account is not available.\n", "", "This account is not available.", None),
}


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("said", "output", "noise", "code"), OUTPUTS.values(), ids=OUTPUTS)
def test_the_output_is_what_stands_between_the_marks(
    said: bytes, output: str, noise: str, code: int | None, size: int
) -> None:
    kept = Kept()
    stream = Marked(MARK, (kept,))
    whole = said.replace(b"M", MARK.encode())
    for at in range(0, len(whole), size):
        if stream.add(whole[at : at + size]):
            break
    assert (kept.text, stream.code) == (output, code)
    assert stream.begun == (b"M\n" in said)
    assert stream.noise == noise


@pytest.mark.parametrize("code", [0, 7, 127])
def test_any_shell_that_reads_the_script_runs_the_command_between_marks(code: int) -> None:
    argv = ("sh", "-c", f"echo 'it'\"'\"'s' \\$HOME; cat; exit {code}")
    done = subprocess.run(["/bin/sh"], input=script(argv, MARK), capture_output=True, check=True)
    assert done.stdout.decode() == f"{MARK}\nit's $HOME\n{MARK} {code}\n"
    assert done.stderr.decode() == f"{MARK}\n{MARK} {code}\n"
    assert shlex.join(argv) in script(argv, MARK).decode()


def test_of_an_endless_output_the_beginning_and_the_end_are_kept_and_what_lies_between_is_counted() -> None:
    kept = Kept()
    kept.add(b"first\n")
    for _ in range(100):
        kept.add(b"x" * 1_000_000)
    kept.add(b"last\n")
    assert kept.text.startswith("first\nxxx")
    assert kept.text.endswith("xxxlast\n")
    left_out = int(kept.text.split("[")[1].split()[0])
    assert left_out + len(kept.text) - len(f"\n[{left_out} bytes left out]\n") == 100_000_000 + 11
    assert len(kept.text) < HEAD + 2 * TAIL + 100


def test_of_a_line_that_does_not_end_only_the_beginning_is_told() -> None:
    said: list[News] = []
    lines = Lines(said.append)
    for _ in range(50):
        lines.add(b"y" * 100_000)
    lines.add(b"\nGr\xfcn\n")
    assert said == [Output("y" * LINE), Output("Gr�n")]


SUDO: dict[str, tuple[str, str]] = {
    "a password": ("sudo: a password is required", "NOPASSWD"),
    "not in sudoers": ("ubuntu is not in the sudoers file.", "NOPASSWD"),
    "a terminal": ("sudo: sorry, you must have a tty to run sudo", "!requiretty"),
    "no sudo": ("sh: 2: sudo: not found", "Install sudo"),
    "nothing": ("", "NOPASSWD"),
}


@pytest.mark.parametrize(("said", "cure"), SUDO.values(), ids=SUDO)
def test_what_sudo_wants_is_told_in_its_own_words(said: str, cure: str) -> None:
    told = sudo_refused(said)
    assert told.code == "SUDO_PASSWORD_NEEDED"
    assert told.error == (said or "sudo refuses, and says nothing")
    assert cure in told.cure
