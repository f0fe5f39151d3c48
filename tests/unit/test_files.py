"""Files of the operator's: who else can change one, or read what is secret in it, and the line that ends that."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import files
from deploy.errors import Mistake
from deploy.settings import load

SECRET = "AWS_SECRET_ACCESS_KEY=hunter2\n"
OPEN = {
    "a secret that everybody can read": (
        SECRET,
        0o644,
        "others can read .env, which has AWS_SECRET_ACCESS_KEY: chmod 600",
    ),
    "one that the group can read": (SECRET, 0o640, "others can read .env, which has AWS_SECRET_ACCESS_KEY: chmod 600"),
    "two of them": (
        f"{SECRET}AWS_SESSION_TOKEN=hunter3\n",
        0o644,
        "others can read .env, which has AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN: chmod 600",
    ),
    "settings that everybody can change": ("GPUS=all\n", 0o646, "everybody can change .env: chmod o-w"),
    "settings that the group can change": ("GPUS=all\n", 0o664, "its group can change .env: chmod g-w"),
    "settings that the group can change and not read": ("GPUS=all\n", 0o620, "its group can change .env: chmod g-w"),
    "settings that all of them can change": ("GPUS=all\n", 0o666, "everybody can change .env: chmod go-w"),
}


def laid(folder: Path, text: str, mode: int) -> Path:
    file = folder / ".env"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("case", OPEN)
def test_what_is_open_is_told_and_its_line_ends_it(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "is_own_group", lambda _gid: False)
    text, mode, told = OPEN[case]
    laid(tmp_path, text, mode)
    (line,) = load(tmp_path, {}).openings()
    assert line == f"{told} .env"
    subprocess.run(shlex.split(line.rpartition(": ")[2]), cwd=tmp_path, check=True)
    assert list(load(tmp_path, {}).openings()) == []


ME = pwd.getpwuid(os.getuid())
ALSO_US = SimpleNamespace(pw_name=ME.pw_name, pw_uid=ME.pw_uid, pw_gid=ME.pw_gid + 1)
OTHER = SimpleNamespace(pw_name="other", pw_uid=ME.pw_uid + 1, pw_gid=ME.pw_gid)
GROUPS = {
    "our own": (ME, [], [], True),
    "our own, of which we are told as a member too": (ME, [ME.pw_name], [], True),
    "of which we alone are a member": (ALSO_US, [ME.pw_name], [], True),
    "with another member": (ME, [ME.pw_name, "other"], [], False),
    "that is another's own, too": (ME, [], [OTHER], False),
    "of nobody who is known": (ALSO_US, [], [], False),
}


@pytest.mark.parametrize(("us", "members", "others", "own"), GROUPS.values(), ids=GROUPS)
def test_a_file_that_a_group_of_nobody_else_can_change_is_not_told(
    us: Any, members: list[str], others: list[Any], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid(tmp_path, "GPUS=all\n", 0o664)
    monkeypatch.setattr("grp.getgrgid", lambda _gid: SimpleNamespace(gr_mem=members))
    monkeypatch.setattr("pwd.getpwuid", lambda _uid: us)
    monkeypatch.setattr("pwd.getpwall", lambda: [us, *others])
    told = [line.partition(":")[0] for line in load(tmp_path, {}).openings()]
    assert told == ([] if own else ["its group can change .env"])


@pytest.mark.parametrize(
    ("text", "mode"), [(SECRET, 0o600), ("GPUS=all\n", 0o644), ("GPUS=all\nAWS_PROFILE=a\n", 0o644)]
)
def test_what_is_as_usual_is_not_told(text: str, mode: int, tmp_path: Path) -> None:
    laid(tmp_path, text, mode)
    assert list(load(tmp_path, {}).openings()) == []


def test_a_secret_of_the_environment_is_in_no_file(tmp_path: Path) -> None:
    laid(tmp_path, "GPUS=all\n", 0o644)
    assert list(load(tmp_path, {"AWS_SECRET_ACCESS_KEY": "hunter2"}).openings()) == []


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "its own").mkdir()
    file = laid(tmp_path / "its own", SECRET, 0o644)
    (tmp_path / ".env").symlink_to(file)
    (line,) = load(tmp_path, {}).openings()
    assert line.endswith(f": chmod 600 '{file}'")


def test_a_list_of_workers_that_everybody_can_change_is_told(tmp_path: Path) -> None:
    (tmp_path / "workers.txt").write_text("a\n")
    (tmp_path / "workers.txt").chmod(0o646)
    assert list(load(tmp_path, {}).openings()) == ["everybody can change workers.txt: chmod o-w workers.txt"]


@pytest.mark.parametrize(("uid", "name"), [(1, "daemon"), (4_000_000, "user 4000000")])
def test_a_file_of_somebody_else_is_told(uid: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = laid(tmp_path, "GPUS=all\n", 0o600)
    found = file.stat()
    theirs = os.stat_result((found.st_mode, *found[1:4], uid, *found[5:10]))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: theirs)
    told = f".env belongs to {name}, who can change it: sudo chown {os.getuid()} .env"
    assert list(files.openings(file, ".env")) == [told]


def test_what_is_not_there_is_open_to_nobody(tmp_path: Path) -> None:
    assert list(load(tmp_path, {}).openings()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_ssh_would_not_take_is_refused_with_the_line_that_ends_it(mode: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    key.chmod(mode)
    with pytest.raises(Mistake) as caught:
        load(tmp_path, {"SSH_KEY": "key"})
    (problem,) = caught.value.problems
    assert problem.error == f"SSH_KEY='key' is open to others, and ssh takes no such key. Close it: chmod 600 {key}"
    subprocess.run(shlex.split(problem.error.rpartition(": ")[2]), check=True)
    assert load(tmp_path, {"SSH_KEY": "key"}).ssh_key == key


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is whom it is compared with")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o644, 0o640, 0o604, 0o610, 0o601])
def test_a_key_is_taken_where_openssh_takes_it(mode: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    key.with_suffix(".pub").unlink()
    key.chmod(mode)
    theirs = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True).returncode == 0
    try:
        load(tmp_path, {"SSH_KEY": "key"})
    except Mistake:
        assert not theirs
    else:
        assert theirs


@pytest.mark.skipif(os.getuid() != files.ROOT, reason="only root can give a file away")
def test_a_file_that_is_replaced_is_still_its_owners(tmp_path: Path) -> None:
    file = laid(tmp_path, "", 0o664)
    os.chown(file, 1, 2)
    files.write_whole(file, "new\n")
    found = file.stat()
    assert (file.read_text(), found.st_uid, found.st_gid, found.st_mode & 0o777) == ("new\n", 1, 2, 0o664)


def test_what_a_group_may_do_is_not_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError

    file = laid(tmp_path, "", 0o664)
    monkeypatch.setattr(os, "fchown", refused)
    files.write_whole(file, "new\n")
    assert file.stat().st_mode & 0o777 == 0o604
