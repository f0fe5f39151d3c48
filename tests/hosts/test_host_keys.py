"""Host keys: whom Raydock speaks to, what it says of all others, and that they learn nothing from it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pexpect
import pytest

from tests.faults.duel import by_openssh, by_raydock
from tests.hosts.observer import INVOKE, TOP, Done, PracticeHost, Sandbox, operator
from tests.planted import agent

Invoke = Callable[..., Done]
RUN = TOP / "conf/sandbox/run"
# Of RFC 4253 and 4252: what comes before a login, and what is part of one.
NEWKEYS, SERVICE_REQUEST, USERAUTH = 21, 5, range(50, 80)


def key_of(host: PracticeHost, kind: str = "ed25519") -> str:
    """Give a public key of a host: type and base64."""
    return " ".join(host.run("cat", f"/etc/ssh/ssh_host_{kind}_key.pub").split()[:2])


def fingerprint(key: str) -> str:
    """Give a key's fingerprint, as OpenSSH has it."""
    told = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True).stdout
    return told.split()[1]


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Give a key that no host has, of a type."""
    folder = tmp_path_factory.mktemp("keys")

    def make(kind: str = "ed25519") -> str:
        path = folder / kind
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        return " ".join(path.with_suffix(".pub").read_text().split()[:2])

    return make


@dataclass(frozen=True)
class Desk:
    """An operator with a known_hosts and a workers.txt of their own."""

    known_hosts: Path
    workers: Path
    env: dict[str, str]

    def know(self, keys: Mapping[str, str]) -> str:
        """Have the file know these hosts; give its text."""
        text = "".join(f"{name} {key}\n" for name, key in keys.items())
        self.known_hosts.write_text(text)
        return text


@pytest.fixture
def desk(sandbox: Sandbox, environment: Callable[..., str], tmp_path: Path) -> Desk:
    """An operator who knows nobody yet; the inventory is the sandbox's."""
    known_hosts, workers = tmp_path / "known_hosts", tmp_path / "workers.txt"
    workers.write_text("".join(f"ubuntu@{one.node}  #: private={one.address}\n" for one in sandbox.workers))
    return Desk(
        known_hosts,
        workers,
        {"ENVIRONMENT": environment(SSH_KNOWN_HOSTS=known_hosts, WORKERS_FILE=workers), "HOME": str(tmp_path)},
    )


def name(host: PracticeHost) -> str:
    """Give the name under which known_hosts has a host that is reached on loopback."""
    return f"[127.0.0.1]:{host.port}"


def known(sandbox: Sandbox) -> dict[str, str]:
    """Give all hosts with their keys."""
    return {name(host): key_of(host) for host in sandbox}


# ---- keys that are not known


def test_a_host_that_is_not_known_is_refused(invoke: Invoke, sandbox: Sandbox, desk: Desk) -> None:
    head, unknown, fine = sandbox
    before = desk.know({host: key for host, key in known(sandbox).items() if host != name(unknown)})
    refused = invoke("cluster.install", "--json", env=desk.env, exit=6)
    node = refused.node(unknown.node)
    assert (node["outcome"], node["code"]) == ("failed", "HOST_KEY_UNKNOWN")
    assert fingerprint(key_of(unknown)) in node["error"]
    assert f"invoke cluster.trust --only {unknown.node}" in refused.err
    assert [refused.node(host.node)["outcome"] for host in (head, fine)] == ["ok", "ok"]
    assert desk.known_hosts.read_text() == before


def test_a_host_whose_key_changed_is_refused_before_it_learns_who_asks(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, other: Callable[..., str]
) -> None:
    head, changed, fine = sandbox
    before = desk.know(known(sandbox) | {name(changed): other()})
    begun = datetime.now(UTC).replace(tzinfo=None)
    refused = invoke("cluster.install", "--json", env=desk.env, exit=6)
    node = refused.node(changed.node)
    assert (node["outcome"], node["code"]) == ("failed", "HOST_KEY_CHANGED")
    assert f"{desk.known_hosts}:2 has {fingerprint(other())}" in node["error"]
    assert f"the host shows {fingerprint(key_of(changed))}" in node["error"]
    assert changed.node in refused.err
    assert [refused.node(host.node)["outcome"] for host in (head, fine)] == ["ok", "ok"]
    assert desk.known_hosts.read_text() == before
    # sshd names the user as soon as one was named to it.
    assert "ubuntu" in fine.box.logs(since=begun).decode()
    log = changed.box.logs(since=begun).decode()
    assert "[preauth]" in log
    assert "ubuntu" not in log


class Listener:
    """An SSH server that notes the number of every message that it gets."""

    def __init__(self) -> None:
        self.key = paramiko.ECDSAKey.generate()
        self.messages: list[int] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.transports: list[paramiko.Transport] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self.socket.accept()
                self.answer(paramiko.Transport(end))

    def answer(self, transport: paramiko.Transport) -> None:
        read = transport.packetizer.read_message

        def noted() -> tuple[int, paramiko.Message]:
            number, message = read()
            self.messages.append(number)
            return number, message

        transport.packetizer.read_message = noted  # type: ignore[method-assign]
        transport.add_server_key(self.key)
        transport.start_server(threading.Event(), paramiko.ServerInterface())
        self.transports.append(transport)

    def close(self) -> None:
        # A thread that waits in accept() is woken by this, and not by close().
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for transport in self.transports:
            transport.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("knows", "code"),
    [("another", "HOST_KEY_CHANGED"), ("none", "HOST_KEY_UNKNOWN"), ("this", "SSH_AUTH_REFUSED")],
)
def test_no_byte_of_a_login_goes_to_a_host_whose_key_is_refused(
    invoke: Invoke, desk: Desk, listener: Listener, other: Callable[..., str], knows: str, code: str
) -> None:
    shown = f"{listener.key.get_name()} {listener.key.get_base64()}"
    key = {"another": other("ecdsa"), "this": shown}.get(knows)
    desk.workers.write_text(f"ubuntu@127.0.0.1:{listener.port}\n")
    text = (RUN / "known_hosts").read_text()
    desk.known_hosts.write_text(text + (f"[127.0.0.1]:{listener.port} {key}\n" if key else ""))
    refused = invoke("cluster.install", "--json", env=desk.env, exit=6)
    assert refused.node(f"127.0.0.1:{listener.port}")["code"] == code
    assert NEWKEYS in listener.messages
    login = {SERVICE_REQUEST, *USERAUTH} & set(listener.messages)
    assert bool(login) == (knows == "this")


# ---- trust


def test_trust_without_anybody_to_ask_records_nothing(invoke: Invoke, sandbox: Sandbox, desk: Desk) -> None:
    refused = invoke("cluster.trust", env=desk.env, exit=2)
    assert "--yes" in refused.err
    assert all(fingerprint(key_of(host)) in refused.err for host in sandbox)
    assert not desk.known_hosts.exists()


def test_trust_records_what_it_shows_and_then_all_hosts_are_reached(
    invoke: Invoke, sandbox: Sandbox, desk: Desk
) -> None:
    trusted = invoke("cluster.trust", "--yes", "--json", env=desk.env)
    assert trusted.report["changed"]
    assert all(f"127.0.0.1:{host.port}" in trusted.err for host in sandbox)
    assert all(fingerprint(key_of(host)) in trusted.err for host in sandbox)
    assert desk.known_hosts.read_text() == "".join(f"{host} {key}\n" for host, key in known(sandbox).items())
    assert not invoke("cluster.install", "--json", env=desk.env).report["changed"]
    assert not invoke("cluster.trust", "--json", env=desk.env).report["changed"]


def test_trust_replaces_a_changed_key_and_leaves_the_other_lines(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, other: Callable[..., str]
) -> None:
    changed = sandbox.workers[0]
    desk.know(known(sandbox) | {name(changed): other()})
    with desk.known_hosts.open("a") as file:
        file.write(f"# a comment\n{name(changed)}0 {other()}\n")
    trusted = invoke("cluster.trust", "--yes", "--only", changed.node, env=desk.env)
    assert "HOST_KEY_CHANGED" in trusted.err
    lines = {f"{host} {key}" for host, key in known(sandbox).items()}
    assert set(desk.known_hosts.read_text().splitlines()) == lines | {"# a comment", f"{name(changed)}0 {other()}"}
    invoke("cluster.install", env=desk.env)


@pytest.mark.parametrize(("answer", "exit"), [("y", 0), ("n", 2), ("", 2)], ids=["yes", "no", "nothing"])
def test_trust_asks_once_at_a_terminal(sandbox: Sandbox, desk: Desk, answer: str, exit: int) -> None:
    terminal = pexpect.spawn(str(INVOKE), ["cluster.trust"], cwd=TOP, env=operator(desk.env), encoding="utf-8")
    terminal.expect(r"\[y/N\] ", timeout=30)
    assert all(fingerprint(key_of(host)) in terminal.before for host in sandbox)
    terminal.sendline(answer)
    terminal.expect(pexpect.EOF, timeout=30)
    terminal.close()
    assert terminal.exitstatus == exit, terminal.before
    assert desk.known_hosts.exists() == (answer == "y")


# ---- jump hosts


@pytest.fixture
def behind(desk: Desk, sandbox: Sandbox, tmp_path: Path) -> PracticeHost:
    """The first worker, to be reached by its own address behind the second."""
    behind, jump = sandbox.workers
    desk.workers.write_text(f"ubuntu@{behind.address}  #: private={behind.address}\n")
    (tmp_path / ".ssh").mkdir()
    config = f"Host {behind.address}\n  ProxyJump ubuntu@127.0.0.1:{jump.port}\n"
    (tmp_path / ".ssh/config").write_text(config)
    return behind


def test_a_host_is_reached_through_its_jump_host(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, behind: PracticeHost
) -> None:
    desk.know(known(sandbox) | {behind.address: key_of(behind)})
    begun = datetime.now(UTC).replace(tzinfo=None)
    done = invoke("cluster.install", "--json", env=desk.env)
    assert done.node(behind.address)["outcome"] == "ok"
    assert f"Accepted publickey for ubuntu from {sandbox.workers[1].address}" in behind.box.logs(since=begun).decode()


@pytest.mark.parametrize("place", ["jump host", "host behind it"])
def test_a_changed_key_is_refused_on_every_hop(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, behind: PracticeHost, other: Callable[..., str], place: str
) -> None:
    jump = sandbox.workers[1]
    wrong = {"jump host": name(jump), "host behind it": behind.address}[place]
    desk.know(known(sandbox) | {behind.address: key_of(behind)} | {wrong: other()})
    refused = invoke("cluster.install", "--json", env=desk.env, exit=6).node(behind.address)
    assert refused["code"] == "HOST_KEY_CHANGED"
    assert fingerprint(other()) in refused["error"]
    shown = jump if place == "jump host" else behind
    assert fingerprint(key_of(shown)) in refused["error"]
    where = f"127.0.0.1:{jump.port}" if shown is jump else f"{behind.address}:22"
    assert f"for {where}," in refused["error"]


def test_a_login_that_the_jump_host_refuses_is_told_of_the_jump_host(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, behind: PracticeHost, tmp_path: Path
) -> None:
    jump = sandbox.workers[1]
    config = tmp_path / ".ssh/config"
    config.write_text(config.read_text().replace("ubuntu@", "nobody@"))
    desk.know(known(sandbox) | {behind.address: key_of(behind)})
    refused = invoke("cluster.install", "--json", env=desk.env, exit=6).node(behind.address)
    assert refused["code"] == "SSH_AUTH_REFUSED"
    assert refused["error"].startswith(f"127.0.0.1:{jump.port} refuses nobody with ")


def test_trust_shows_every_hop_and_records_them_all(
    invoke: Invoke, sandbox: Sandbox, desk: Desk, behind: PracticeHost
) -> None:
    trusted = invoke("cluster.trust", "--yes", env=desk.env)
    hops = (sandbox.head, sandbox.workers[1], behind)
    assert all(fingerprint(key_of(host)) in trusted.err for host in hops)
    invoke("cluster.install", env=desk.env)


# ---- the same verdicts as OpenSSH's

# HOST stands for the name of the host, HASHED too; ED, EC and RSA for its keys, OTHER_… for keys that it lacks.
FILES = {
    "empty": "",
    "its-key": "HOST ED\n",
    "no-newline": "HOST ED",
    "only-ecdsa": "HOST EC\n",
    "only-rsa": "HOST RSA\n",
    "another-key": "HOST OTHER_ED\n",
    "another-of-another-type": "HOST OTHER_RSA\n",
    "one-right-one-wrong-type": "HOST OTHER_ED\nHOST EC\n",
    "wrong-then-right": "HOST OTHER_ED\nHOST ED\n",
    "hashed": "HASHED ED\n",
    "hashed-other": "HASHED OTHER_ED\n",
    "wildcards": "[127.0.?.*]:* ED\n",
    "all-but": "*,!HOST ED\n",
    "among-names": "example.com,HOST,192.0.2.1 ED a comment\n",
    "bare-name": "127.0.0.1 ED\n",
    "bare-name-another-key": "127.0.0.1 OTHER_ED\n",
    "bare-name-right-and-full-name-wrong": "127.0.0.1 ED\nHOST OTHER_ED\n",
    "another-port": "[127.0.0.1]:1 ED\n",
    "revoked": "HOST ED\n@revoked * ED\n",
    "another-revoked": "HOST ED\n@revoked HOST OTHER_ED\n",
    "revoked-so-another-type": "@revoked HOST ED\nHOST EC\n",
    "authority": "@cert-authority * OTHER_ED\n",
    "authority-and-key": "@cert-authority HOST OTHER_ED\nHOST ED\n",
    "unknown-marker": "@nonsense HOST ED\n",
    "damaged-line-before": "HOST ssh-ed25519 AAAA!!!\nHOST ED\n",
    "wrong-type-name": "HOST ssh-rsa BASE64\n",
    "carriage-returns": "HOST ED\r\n",
    "blanks-and-comments": "# a comment\n\n\t HOST \t ED\n",
    "commented-out": "#HOST ED\n",
}


@pytest.fixture(scope="module")
def keys(sandbox: Sandbox, other: Callable[..., str]) -> dict[str, str]:
    host = sandbox.workers[0]
    return {
        "HOST": name(host),
        "HASHED": paramiko.HostKeys.hash_host(name(host)),
        "ED": key_of(host),
        "BASE64": key_of(host).split()[1],
        "EC": key_of(host, "ecdsa"),
        "RSA": key_of(host, "rsa"),
        "OTHER_ED": other("ed25519"),
        "OTHER_RSA": other("rsa"),
    }


@pytest.mark.parametrize("text", [pytest.param(text, id=case) for case, text in FILES.items()])
def test_a_known_hosts_file_means_what_it_means_to_openssh(
    sandbox: Sandbox, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "known_hosts"
    file.write_bytes(re.sub(r"[A-Z_]+", lambda word: keys.get(word[0], word[0]), text).encode())
    whom = (sandbox.workers[0].port, RUN / "id_ed25519", "ubuntu")
    verdict = by_openssh(file, *whom)
    assert verdict in ("trusted", "unknown", "changed", "revoked")
    assert by_raydock(file, *whom) == verdict


# ---- what is agreed with a host


def test_the_key_exchange_is_strict_and_no_agent_is_forwarded(
    invoke: Invoke, sandbox: Sandbox, environment: Callable[..., str], tmp_path: Path
) -> None:
    head, log = sandbox.head, "/root/kex.log"
    known_hosts, ssh = tmp_path / "known_hosts", tmp_path / ".ssh"
    known_hosts.write_text(f"[{head.address}]:2299 {key_of(head)}\n")
    ssh.mkdir()
    # Who types `ssh` has their agent forwarded.
    (ssh / "config").write_text("Host *\n  ForwardAgent yes\n")
    with agent(tmp_path, [head]) as (place, key):
        name = environment(
            HEAD=f"ubuntu@{head.address}:2299", WORKERS_FILE=None, SSH_KNOWN_HOSTS=known_hosts, SSH_KEY=key
        )
        # It serves one connection, and tells all of it.
        head.shell(f"/usr/sbin/sshd -ddd -p 2299 -E {log} >/dev/null 2>&1 </dev/null & sleep 0.5")
        invoke("cluster.history", env={"ENVIRONMENT": name, "HOME": str(tmp_path), "SSH_AUTH_SOCK": str(place)})
    said = head.run("cat", log)
    head.run("rm", log)
    assert "Accepted publickey for ubuntu" in said
    assert "will use strict KEX ordering" in said
    assert "auth-agent" not in said
