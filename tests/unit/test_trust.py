"""`cluster.trust` records a key where it will be found, and harms no file in doing so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

import tasks
from deploy import desk, known_files, ssh, trust

from .played_sshd import KEY, Server, listening

LINE = f"{KEY.get_name()} {KEY.get_base64()}"
Trust = Callable[[], tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(desk, "ROOT", tmp_path)
    monkeypatch.setattr(known_files, "SYSTEM_FILES", ())
    monkeypatch.setattr("os.environ", {"PATH": "/nowhere", "HOME": str(tmp_path)})
    (tmp_path / ".ssh").mkdir()
    ssh.configuration.cache_clear()
    return tmp_path


@pytest.fixture
def trusted(home: Path, capsys: pytest.CaptureFixture[str]) -> Trust:
    """Give `cluster.trust --yes` for one host; it gives the document, and the host's part of it."""

    def run() -> tuple[dict[str, Any], dict[str, Any]]:
        with listening(Server().serve) as port:
            (home / "workers.txt").write_text(f"u@127.0.0.1:{port}\n")
            with contextlib.suppress(SystemExit):
                Program(namespace=tasks.namespace).run(["invoke", "cluster.trust", "--yes", "--json"])
        document = json.loads(capsys.readouterr().out)
        return document, document["nodes"][-1]

    return run


NO_FILE = "is not a file in which a key can be recorded"
REFUSED = {
    "/dev/null": ("/dev/null", "/dev/null", NO_FILE),
    "what a link leads to": ("~/link", "~/link", NO_FILE),
    "none": ("none", "HOST", "UserKnownHostsFile of ssh_config for 127.0.0.1 is none: no key would be found again"),
}


@pytest.mark.parametrize(("named", "place", "error"), REFUSED.values(), ids=REFUSED)
def test_nobody_is_asked_about_a_key_that_cannot_be_recorded(
    named: str, place: str, error: str, trusted: Trust, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(desk, "agree", lambda *words, **_: asked.append(words))
    monkeypatch.setattr(trust, "write_whole", lambda *words: asked.append(words))  # whatever comes, not /dev/null
    (home / "link").symlink_to("/dev/null")
    (home / ".ssh/config").write_text(f"UserKnownHostsFile {named}\n")
    document, node = trusted()
    assert (asked, document["exit"]) == ([], 1)
    place = place.replace("~", str(home)).replace("HOST", node["node"])
    assert document["errors"] == [{"code": "CONFIG", "place": place, "error": error}]


def test_a_new_file_is_for_its_owner_alone(trusted: Trust, home: Path) -> None:
    document, _ = trusted()
    file = home / ".ssh/known_hosts"
    assert (document["exit"], file.stat().st_mode & 0o777) == (0, 0o600)
    assert file.read_text().endswith(f" {LINE}\n")


@pytest.mark.parametrize("mode", [0o644, 0o664, 0o600])
def test_a_file_that_there_is_keeps_its_rights(mode: int, trusted: Trust, home: Path) -> None:
    file = home / ".ssh/known_hosts"
    file.write_text("# ours\n")
    file.chmod(mode)
    trusted()
    assert file.read_text().endswith(f" {LINE}\n")
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("text", ["# ours\n", None], ids=["to a file", "to none as yet"])
def test_a_link_stays_one_and_the_key_is_where_it_leads(text: str | None, trusted: Trust, home: Path) -> None:
    (home / "shared").mkdir()
    (home / ".ssh/known_hosts").symlink_to("../shared/keys")
    if text:
        (home / "shared/keys").write_text(text)
    trusted()
    assert (home / ".ssh/known_hosts").is_symlink()
    assert (home / "shared/keys").read_text().endswith(f" {LINE}\n")


def test_every_other_byte_of_the_file_stays(home: Path, trusted: Trust) -> None:
    file = home / ".ssh/known_hosts"
    file.write_bytes(before := f"# old\rgone {LINE}\n# gone\x0cweb {LINE}\r\nbad \xff\n".encode("latin-1"))
    _, told = trusted()
    assert told["changed"]
    assert file.read_bytes().startswith(before)
    assert file.read_bytes().count(b"\n") == before.count(b"\n") + 1
