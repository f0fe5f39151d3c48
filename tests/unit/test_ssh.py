"""Connections: made without a word to anybody, told apart by their hops."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from deploy import ssh, ssh_config
from deploy.errors import Failure
from deploy.inventory import Node
from deploy.known_hosts import KnownHosts, entry
from deploy.settings import Settings
from deploy.ssh import close_connection, connection_to, open_connection, way_to

from .played_sshd import KEY, JumpServer, Server, listening


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the ssh_config of an operator who has nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(ssh_config, "SYSTEM", tmp_path / "none")
    (tmp_path / ".ssh").mkdir()
    ssh.configuration.cache_clear()
    return tmp_path / ".ssh/config"


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns at almost every instruction."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_connections_are_made_by_several_threads_at_once() -> None:
    settings, known = Settings(), KnownHosts()
    broken: list[BaseException] = []

    def make(name: str) -> None:
        try:
            for _ in range(15):
                connection_to(Node(name, name, role="worker", user="ubuntu"), settings, known)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells it
            broken.append(error)

    threads = [threading.Thread(target=make, args=(f"10.0.0.{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert broken == []


# What ssh_config says, and the ways to `t` that ssh goes: `j1 > t`, or a command before the first.
WAYS = {
    "one jump host": ("Host t\n ProxyJump j1", "me@j1:22 > me@t:22"),
    "two, from left to right": ("Host t\n ProxyJump j1,bob@j2:2222", "me@j1:22 > bob@j2:2222 > me@t:22"),
    "three": ("Host t\n ProxyJump j1,j2,j3", "me@j1:22 > me@j2:22 > me@j3:22 > me@t:22"),
    "another port of the same address": (
        "Host t\n HostName 127.0.0.1\n Port 4\n ProxyJump 127.0.0.1:1",
        "me@127.0.0.1:1 > me@127.0.0.1:4",
    ),
    "another user of the same host": ("Host t\n ProxyJump bob@t", "CONFIG"),
    "a URL": ("Host t\n ProxyJump ssh://b%6Fb;x=1@j1:2222/", "bob@j1:2222 > me@t:22"),
    "an address of IPv6": ("Host t\n ProxyJump bob@[fe80::1]:2222", "bob@fe80::1:2222 > me@t:22"),
    "the target's name in it": ("Host t\n ProxyJump %h-jump", "me@t-jump:22 > me@t:22"),
    "a name with %": ("Host t\n HostName fe80::1%%eth0", "me@fe80::1%eth0:22"),
    "a jump host's own": ("Host t\n ProxyJump j1\nHost j1\n ProxyJump j0", "me@j0:22 > me@j1:22 > me@t:22"),
    "of the later ones no own": ("Host t\n ProxyJump j1,j2\nHost j2\n ProxyJump j0", "me@j1:22 > me@j2:22 > me@t:22"),
    "a jump host's own values": (
        "Host t\n ProxyJump j1\nHost j1\n HostName x\n User ann\n Port 7",
        "ann@x:7 > me@t:22",
    ),
    "a command": ("Host t\n ProxyCommand nc %h %p", "nc t 22 > me@t:22"),
    "a command in quotes": ('Host t\n ProxyCommand "nc" "%h" "%p"', '"nc" "t" "22" > me@t:22'),
    "a command, and then none": ("Host t\n ProxyCommand nc\n ProxyCommand none", "nc > me@t:22"),
    "no command, and then one": ("Host t\n ProxyCommand None\n ProxyCommand nc", "me@t:22"),
    "a command by the name of none": ('Host t\n ProxyCommand "none"', '"none" > me@t:22'),
    "a command with a remark of its own": ("Host t\n ProxyCommand == nc # it's ", "nc # it's > me@t:22"),
    "a jump host's command": (
        "Host t\n ProxyJump j1\nHost j1\n ProxyCommand nc %h %p",
        "nc j1 22 > me@j1:22 > me@t:22",
    ),
    "no command, and then a jump host": ("Host t\n ProxyCommand none\nHost *\n ProxyJump j1", "me@t:22"),
    "no jump host, and then a command": ("Host t\n ProxyJump none\nHost *\n ProxyCommand nc", "nc > me@t:22"),
    "no jump host, a command, and then a jump host": (
        "Host t\n ProxyJump NONE\n ProxyCommand nc\nHost *\n ProxyJump j1",
        "nc > me@t:22",
    ),
    "no jump host, and a command when it is looked through again": (
        "Match final host t\n ProxyCommand nc\nHost t\n ProxyJump none",
        "nc > me@t:22",
    ),
    "no jump host, and then one": ("Host t\n ProxyJump none\nHost *\n ProxyJump j1", "me@t:22"),
    "neither": ("Host t\n ProxyJump none\n ProxyCommand none\nHost *\n ProxyCommand nc\n ProxyJump j1", "me@t:22"),
    "a command, and then a jump host": (
        "Host t\n ProxyCommand nc\nHost *\n ProxyJump j1",
        "nc > me@t:22",
    ),
    "a jump host, and then a command": (
        "Host t\n ProxyJump j1\nHost t\n ProxyCommand nc",
        "me@j1:22 > me@t:22",
    ),
    "the second given before Match final": (
        "Match final host t\n ProxyCommand nc\nHost t\n ProxyJump j1",
        "me@j1:22 > me@t:22",
    ),
    "a jump host of all": ("Host *\n ProxyJump j1", "CONFIG"),
    "a jump host of all, but itself": ("Host j1\n ProxyJump none\nHost *\n ProxyJump j1", "me@j1:22 > me@t:22"),
    "a jump host of all with another address": ("Host *\n ProxyJump j1\nHost j1\n HostName x", "CONFIG"),
    "a circle": ("Host t\n ProxyJump j1\nHost j1\n ProxyJump j2\nHost j2\n ProxyJump j1", "CONFIG"),
    "one that is itself": ("Host t\n HostName x\n ProxyJump x", "CONFIG"),
    "a blank in a list": ("Host t\n ProxyJump j1, j2", "CONFIG"),
    "an empty one": ("Host t\n ProxyJump j1,", "CONFIG"),
    "no port": ("Host t\n ProxyJump j1:0", "CONFIG"),
}


def way_of(node: Node) -> str:
    try:
        found = way_to(connection_to(node, Settings(), KnownHosts()))
    except Failure as failure:
        return failure.code
    command = [found[0].gateway] if found[0].gateway else []
    return " > ".join([*command, *(f"{hop.user}@{hop.host}:{hop.port}" for hop in found)])


@pytest.mark.parametrize(("text", "way"), WAYS.values(), ids=WAYS)
def test_a_host_is_reached_by_the_way_that_ssh_goes(text: str, way: str, config: Path) -> None:
    config.write_text(f"{text}\nMatch all\n User me\n")
    assert way_of(Node("t", "t", role="worker")) == way


def test_fabrics_own_files_have_no_say(config: Path) -> None:
    config.write_text("User me\n")
    (Path.home() / ".fabric.yml").write_text("gateway: elsewhere\nport: 7\nuser: nobody\n")
    assert way_of(Node("t", "t", role="worker")) == "me@t:22"


def test_a_command_is_run_by_a_shell_with_what_its_tokens_stand_for(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("Host t\n HostName x\n Port 3\n ProxyCommand echo '%n %h %p %r %%h' > ~/said\n")
    connection = connection_to(Node("t", "t", role="worker", user="ann", port=7), Settings(), KnownHosts())
    # As paramiko runs it, and to its end.
    monkeypatch.setattr(paramiko, "ProxyCommand", lambda line: subprocess.run(shlex.split(line), check=True))
    connection.open_gateway()
    assert (Path.home() / "said").read_text() == "t x 7 ann %h\n"


def test_the_quotes_of_a_command_are_the_shells(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('Host t\n ProxyCommand "sh" -c "echo %h > ~/said" "%p"\n')
    connection = connection_to(Node("t", "t", role="worker"), Settings(), KnownHosts())
    monkeypatch.setattr(paramiko, "ProxyCommand", lambda line: subprocess.run(shlex.split(line), check=True))
    connection.open_gateway()
    assert (Path.home() / "said").read_text() == "t\n"


def test_a_token_that_is_not_known_is_told(config: Path) -> None:
    config.write_text("Host t\n HostName x%y\n")
    with pytest.raises(Failure, match="ssh_config has for t what is not understood here: ValueError %y in it"):
        connection_to(Node("t", "t", role="worker"), Settings(), KnownHosts())


@pytest.mark.parametrize("unknown", [1, 2, 3, None])
def test_two_jump_hosts_are_passed_in_their_order_and_each_has_to_show_its_key(
    unknown: int | None, config: Path
) -> None:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(config.parent / "id_ecdsa"))
    first, second, last = JumpServer(key.asbytes()), JumpServer(key.asbytes()), Server(key.asbytes())
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(listening(server.serve)) for server in (first, second, last)]
        one, two, three = ports
        config.write_text(f"Host t\n HostName 127.0.0.1\n Port {three}\n ProxyJump 127.0.0.1:{one},127.0.0.1:{two}\n")
        lines = [entry("127.0.0.1", port, KEY.get_name(), KEY.asbytes()) for port in ports]
        known = KnownHosts.parse("".join(line for hop, line in enumerate(lines, 1) if hop != unknown), "")
        connection = connection_to(Node("t", "t", role="worker"), Settings(), known)
        stack.callback(close_connection, connection)
        if unknown:
            with pytest.raises(Failure, match=f"127.0.0.1:{ports[unknown - 1]} shows") as told:
                open_connection(connection)
            assert told.value.code == "HOST_KEY_UNKNOWN"
        else:
            open_connection(connection)
    reached = (unknown or 4) - 1  # hops whose key was good: each was logged in to, and asked for the next
    assert [len(server.offered) > 0 for server in (first, second, last)] == [hop < reached for hop in range(3)]
    assert (first.asked, second.asked) == ([two][:reached], [three][: max(reached - 1, 0)])
