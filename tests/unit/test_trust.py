"""`cluster.trust` records a key where it will be found, and harms no file in doing so."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paramiko
import pytest
from invoke.program import Program

import tasks
from deploy import desk, known_files, ssh, trust

from .played_sshd import KEY, JumpServer, Server, listening

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


class Counted(JumpServer):
    """Counts who connects, and who asks to be logged in."""

    def __init__(self) -> None:
        super().__init__()
        self.connected, self.logins = 0, 0

    def serve(self, end: socket.socket) -> None:
        self.connected += 1
        super().serve(end)

    def get_allowed_auths(self, username: str) -> str:
        self.logins += 1
        return super().get_allowed_auths(username)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.logins += 1
        self.taken = (key.asbytes(),)
        return super().check_auth_publickey(username, key)


def trust_typed(*words: str) -> None:
    with contextlib.suppress(SystemExit):
        Program(namespace=tasks.namespace).run(["invoke", "cluster.trust", "--json", *words])


Hosts = tuple[Counted, Counted, Counted, list[int]]


@pytest.fixture
def hosts(home: Path) -> Iterator[Hosts]:
    """Have a host, and one behind a jump host, by whom any key is taken; and their ports."""
    paramiko.ECDSAKey.generate().write_private_key_file(str(home / ".ssh/id_ecdsa"))
    plain, jump, behind = Counted(), Counted(), Counted()
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(listening(server.serve)) for server in (plain, jump, behind)]
        (home / "workers.txt").write_text(f"u@127.0.0.1:{ports[0]}\nu@behind\n")
        config = f"Host behind\n HostName 127.0.0.1\n Port {ports[2]}\n ProxyJump j@127.0.0.1:{ports[1]}\n"
        (home / ".ssh/config").write_text(config)
        yield plain, jump, behind, ports


def test_nobody_is_logged_in_to_before_a_person_has_decided(
    hosts: Hosts, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    trust_typed()
    *servers, ports = hosts
    assert [(server.connected, server.logins) for server in servers] == [(1, 0), (1, 0), (0, 0)]
    told = capsys.readouterr()
    assert json.loads(told.out)["exit"] == 2
    assert "also takes the keys of those behind jump hosts" in told.err
    assert all((f":{port}  {KEY.get_name()}" in told.err) == (port != ports[2]) for port in ports)
    assert not (home / ".ssh/known_hosts").exists()


def test_behind_a_jump_host_it_is_asked_again_and_its_host_is_not_logged_in_to(
    hosts: Hosts, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[bool]] = []
    *servers, ports = hosts
    file = home / ".ssh/known_hosts"

    def agree(*_: object, **__: object) -> None:
        text = file.read_text() if file.exists() else ""
        asked.append([f"[127.0.0.1]:{port} {LINE}" in text for port in ports])

    monkeypatch.setattr(desk, "agree", agree)
    trust_typed()
    assert asked == [[False, False, False], [True, True, False]]
    assert [server.logins > 0 for server in servers] == [False, True, False]
    assert file.read_text() == "".join(f"[127.0.0.1]:{port} {LINE}\n" for port in ports)


def test_where_all_keys_are_known_nobody_is_asked_and_no_host_logged_in_to(
    hosts: Hosts, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *servers, ports = hosts
    (home / ".ssh/known_hosts").write_text("".join(f"[127.0.0.1]:{port} {LINE}\n" for port in ports))
    monkeypatch.setattr(desk, "agree", lambda *_, **__: pytest.fail("asked"))
    trust_typed()
    assert json.loads(capsys.readouterr().out)["exit"] == 0
    assert [(server.connected, server.logins > 0) for server in servers] == [(1, False), (1, True), (1, False)]


@pytest.mark.usefixtures("hosts")
def test_a_jump_host_that_lets_nobody_in_is_told_of_who_is_behind_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".ssh/id_ecdsa").unlink()
    trust_typed("--yes")
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [(node["code"], node["changed"]) for node in nodes] == [(None, True), ("SSH_AUTH_REFUSED", True)]


def test_hosts_show_their_keys_at_once_and_in_the_order_of_the_list(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    all_met = threading.Barrier(3)

    class Waits(Server):
        """Begins once all three were connected to."""

        def serve(self, end: socket.socket) -> None:
            all_met.wait(5)
            super().serve(end)

    with ExitStack() as stack:
        ports = [stack.enter_context(listening(Waits().serve)) for _ in range(3)]
        (home / "workers.txt").write_text("".join(f"u@127.0.0.1:{port}\n" for port in ports))
        trust_typed("--yes")
    told = capsys.readouterr()
    assert [node["code"] for node in json.loads(told.out)["nodes"]] == [None] * 3
    assert [line.split()[1] for line in told.err.splitlines() if "SHA256" in line] == [
        f"127.0.0.1:{port}" for port in ports
    ]


class NoSsh(Server):
    """Sends what no SSH server sends, in the place of its key exchange."""

    def serve(self, end: socket.socket) -> None:
        end.sendall(b"SSH-2.0-odd\r\n")
        names = struct.pack(">I", 4) + b"\xff\xfe\xff\xfe"
        payload = b"\x14" + 16 * b"x" + 10 * names + 5 * b"\0"
        pad = 8 - (len(payload) + 5) % 8 + 8
        end.sendall(struct.pack(">IB", len(payload) + 1 + pad, pad) + payload + pad * b"\0")
        time.sleep(1)
        end.close()


def test_a_host_that_speaks_no_ssh_keeps_no_other_from_being_recorded(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(NoSsh().serve) as odd, listening(Server().serve) as good:
        (home / "workers.txt").write_text(f"u@127.0.0.1:{odd}\nu@127.0.0.1:{good}\n")
        trust_typed("--yes")
    told = capsys.readouterr()
    assert [node["code"] for node in json.loads(told.out)["nodes"]] == ["SSH_STALLED", None]
    assert f"[127.0.0.1]:{good} {LINE}" in (home / ".ssh/known_hosts").read_text()
    assert "Traceback" not in told.err


def test_who_is_behind_too_many_jump_hosts_is_told(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hosts
    monkeypatch.setattr(trust, "HOPS", 0)
    trust_typed("--yes")
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [node["code"] for node in nodes] == [None, "HOST_KEY_UNKNOWN"]
