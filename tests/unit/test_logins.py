"""Logins at servers that are slow, silent, busy, or do not want our key: each is told by its own name, and in time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest
from paramiko.pkey import PublicBlob

from deploy import desk, dial, identities, pulse, sessions, ssh, stalls, talk
from deploy.channel import docker_over
from deploy.errors import Failure
from deploy.hosts import Host
from deploy.inventory import Node
from deploy.known_files import load_known_hosts
from deploy.known_hosts import KnownHosts, entry
from deploy.run import Run
from deploy.settings import Settings
from deploy.shells import Shell
from deploy.ssh import close_connection, connection_to, open_connection
from deploy.talk import ChannelTalk

from .fakes import scope
from .played_sshd import KEY, Server, listening

SOON = 0.5
NOBODY: Any = None  # is told of the run
Serve = Callable[[socket.socket], object]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an operator without keys, agent or configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    ssh.configuration.cache_clear()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all that waits wait half a second."""
    for name in ("BANNER", "KEX", "AUTH"):
        monkeypatch.setattr(stalls, name, stalls.Part(getattr(stalls, name).name, SOON))
    monkeypatch.setattr(ssh, "PAUSE", 0.01)
    monkeypatch.setattr(pulse, "BEAT", 0.2)
    monkeypatch.setattr(pulse, "SILENCE", SOON)


def key_file(name: str, *, passphrase: str = "", kind: str = "ed25519") -> Path:
    path = Path.home() / ".ssh" / name
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path], check=True)
    return path


def public(path: Path) -> bytes:
    return bytes(PublicBlob.from_file(f"{path}.pub").key_blob)


def connect(port: int, **values: object) -> paramiko.Transport:
    """Log in at a played server, whose key is known."""
    known = KnownHosts.parse(entry("127.0.0.1", port, KEY.get_name(), KEY.asbytes()), "known_hosts")
    node = Node("one", "127.0.0.1", role="worker", user="ubuntu", port=port)
    connection = connection_to(node, Settings(**values), known)
    try:
        open_connection(connection)
    except BaseException:
        assert all(not thread.name.startswith("Thread-") or thread.daemon for thread in threading.enumerate())
        raise
    transport = connection.client.get_transport()
    assert isinstance(transport, paramiko.Transport)
    return transport


def refusal(port: int, **values: object) -> Failure:
    with pytest.raises(Failure) as told:
        connect(port, **values)
    return told.value


def silent(end: socket.socket) -> None:
    """Take the connection, and say nothing."""
    end.settimeout(60)
    while end.recv(100):
        pass


def drips(end: socket.socket) -> None:
    """Say a letter now and then, and never that it is SSH."""
    try:
        while True:
            end.sendall(b"x")
            time.sleep(0.05)
    except OSError:
        return


def chatters(end: socket.socket) -> None:
    end.sendall(b"220 mail.example ESMTP\r\n" * 101)
    silent(end)


def begins(end: socket.socket) -> None:
    end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    silent(end)


def drops(end: socket.socket) -> None:
    end.close()


EVIL: dict[str, tuple[Serve, str, str]] = {
    "silent": (silent, "SSH_NO_BANNER", "does not say that it is SSH"),
    "letter by letter": (drips, "SSH_NO_BANNER", "does not say that it is SSH"),
    "another protocol": (chatters, "SSH_NO_BANNER", "does not say that it is SSH"),
    "stands still in the key exchange": (begins, "SSH_STALLED", "key exchange (kex)"),
    "stands still in the login": (Server(slow=30).serve, "SSH_STALLED", "login (auth)"),
    "too many logins at once": (drops, "SSH_BUSY", "closes connections"),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("serve", "code", "words"), EVIL.values(), ids=EVIL)
def test_what_stands_in_the_way_is_told_in_time(
    serve: Callable[[socket.socket], object], code: str, words: str
) -> None:
    key_file("id_ed25519")
    with listening(serve) as port:
        begun = time.monotonic()
        told = refusal(port)
        assert (told.code, time.monotonic() - begun < 10 * SOON) == (code, True)
    assert words in told.error
    assert f"127.0.0.1:{port}" in told.error


@pytest.mark.usefixtures("hasty")
def test_a_connection_that_was_dropped_is_tried_three_times_more() -> None:
    file = key_file("id_ed25519")
    server, came = Server(public(file)), [0]

    def busy(end: socket.socket) -> None:
        came[0] += 1
        if came[0] <= 3:
            end.sendall(b"Exceeded MaxStartups\r\n")
            end.close()
        else:
            server.serve(end)

    with listening(busy) as port:
        assert connect(port).is_authenticated()
        came[0] = -10
        assert refusal(port).code == "SSH_BUSY"
        assert came[0] == -10 + 4


def test_nobody_at_a_port_is_told_at_once() -> None:
    with listening(silent) as port:
        pass
    begun = time.monotonic()
    assert refusal(port).code == "SSH_REFUSED"
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("answer", ["never", "late"])
def test_a_name_server_that_does_not_answer_is_not_waited_for(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30 if answer == "never" else 2))
    begun = time.monotonic()
    with pytest.raises(socket.gaierror, match="did not answer within 0.3 s"):
        dial.dial("host.example", 22, 0.3)
    assert time.monotonic() - begun < 1.5


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    stuffed = [socket.socket() for _ in range(4)]
    for end in stuffed:
        end.setblocking(False)
        end.connect_ex(full.getsockname())
    with listening(silent) as port:
        found = [(socket.AF_INET, 0, 0, "", full.getsockname()), (socket.AF_INET, 0, 0, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with dial.dial("host.example", 22, 2) as end:
            assert end.getpeername()[1] == port
    for end in (*stuffed, full):
        end.close()


def test_a_small_packet_does_not_wait_for_the_one_before_to_be_acknowledged() -> None:
    with listening(silent) as port, dial.dial("127.0.0.1", port) as end:
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_key_that_is_refused_is_offered_once_and_named_with_the_user() -> None:
    key_file("id_ed25519")
    server = Server()
    with listening(server.serve) as port:
        told = refusal(port)
    assert (told.code, len(server.offered)) == ("SSH_AUTH_REFUSED", 1)
    assert told.error == f"127.0.0.1:{port} refuses ubuntu with ~/.ssh/id_ed25519"
    assert "authorized_keys" in told.cure


def test_no_key_at_all_is_told() -> None:
    with listening(Server().serve) as port:
        told = refusal(port)
    assert told.code == "SSH_AUTH_REFUSED"
    assert "there is none in ~/.ssh" in told.error


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize("named", ["usual", "IdentityFile"])
def test_a_key_that_is_open_to_others_is_not_offered(mode: int, named: str) -> None:
    file = key_file("id_ed25519" if named == "usual" else "mine")
    file.chmod(mode)
    if named == "IdentityFile":
        (file.parent / "config").write_text(f"IdentityFile {file}\n")
    server = Server(public(file))
    with listening(server.serve) as port:
        told = refusal(port)
    assert (told.code, server.offered) == ("SSH_AUTH_REFUSED", [])
    assert f"~/.ssh/{file.name} is open to others, and ssh takes no such key" in told.error
    assert f"chmod 600 {file}" in told.error


def test_a_usual_key_that_is_open_to_others_is_told_where_another_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    file = key_file("id_rsa")
    file.chmod(0o644)
    for of in (scope("one"), scope(), scope("one", ssh_key=str(key_file("mine")))):
        desk.first_lines(of)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "id_rsa" in line]
    assert line.endswith(f"chmod 600 {file}")


# What ssh_config says, the files of keys that there are, and those that are offered.
OFFERED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "nothing": ("", ("id_rsa", "id_ed25519", "mine"), ("id_rsa", "id_ed25519")),
    "IdentitiesOnly alone": ("IdentitiesOnly yes\n", ("id_rsa", "id_ed25519"), ("id_rsa", "id_ed25519")),
    "IdentityFile": ("IdentityFile ~/.ssh/mine\n", ("id_rsa", "mine"), ("mine",)),
    "IdentityFile with tokens": (
        "IdentityFile ~/.ssh/%r-%n-%h-%k-%%~\nIdentityFile %d/.ssh/mine\n",
        ("ubuntu-127.0.0.1-127.0.0.1-127.0.0.1-%~", "mine"),
        ("ubuntu-127.0.0.1-127.0.0.1-127.0.0.1-%~", "mine"),
    ),
    "both": ("IdentitiesOnly yes\nIdentityFile ~/.ssh/mine\n", ("id_rsa", "mine"), ("mine",)),
    "IdentityFile that is not there": ("IdentityFile ~/.ssh/mine\n", ("id_rsa",), ()),
}


@pytest.mark.parametrize(("config", "there", "offered"), OFFERED.values(), ids=OFFERED)
def test_ssh_config_says_which_keys_are_offered(config: str, there: tuple[str, ...], offered: tuple[str, ...]) -> None:
    files = {name: key_file(name) for name in there}
    (Path.home() / ".ssh" / "config").write_text(config)
    server = Server()
    with listening(server.serve) as port:
        assert refusal(port).code == "SSH_AUTH_REFUSED"
    assert server.offered == [public(files[name]) for name in offered]


# What ssh_config says of a jump host, and the keys that it is offered where SSH_KEY is `mine`.
AT_A_JUMP_HOST = {
    "nothing": ("", ("mine", "id_ed25519")),
    "a key of its own": ("IdentityFile ~/.ssh/jumps", ("jumps", "mine")),
    "its own alone": ("IdentityFile ~/.ssh/jumps\n IdentitiesOnly yes", ("jumps", "mine")),
}


@pytest.mark.parametrize(("config", "offered"), AT_A_JUMP_HOST.values(), ids=AT_A_JUMP_HOST)
def test_a_jump_host_is_offered_its_own_keys_before_ssh_key(config: str, offered: tuple[str, ...]) -> None:
    files = {name: key_file(name) for name in ("id_ed25519", "jumps", "mine")}
    refusing = Server()
    with listening(refusing.serve) as jump:
        text = f"Host 127.0.0.1\n ProxyJump j\nHost j\n HostName 127.0.0.1\n Port {jump}\n HostKeyAlias j\n {config}\n"
        (Path.home() / ".ssh/config").write_text(text)
        (Path.home() / ".ssh/known_hosts").write_text(entry("j", 22, KEY.get_name(), KEY.asbytes()))
        known = load_known_hosts(Settings())
        node = Node("one", "127.0.0.1", role="worker", user="ubuntu", port=9)
        with pytest.raises(Failure, match=f"127.0.0.1:{jump} refuses"):
            open_connection(connection_to(node, Settings(ssh_key=files["mine"]), known))
    assert refusing.offered == [public(files[name]) for name in offered]


def test_a_node_is_offered_ssh_key_and_no_other() -> None:
    files = {name: key_file(name) for name in ("id_ed25519", "own", "mine")}
    (Path.home() / ".ssh/config").write_text("IdentityFile ~/.ssh/own\n")
    server = Server()
    with listening(server.serve) as port:
        assert refusal(port, ssh_key=files["mine"]).code == "SSH_AUTH_REFUSED"
    assert server.offered == [public(files["mine"])]


def test_a_file_that_is_named_by_the_port_is_offered() -> None:
    (Path.home() / ".ssh/config").write_text("IdentityFile ~/.ssh/%p\n")
    server = Server()
    with listening(server.serve) as port:
        file = key_file(str(port))
        assert refusal(port).code == "SSH_AUTH_REFUSED"
    assert server.offered == [public(file)]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Run an agent, to which keys without a passphrase are added."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 5
    while not path.exists() and time.monotonic() < ends:
        time.sleep(0.02)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))

    def add(key: Path) -> None:
        subprocess.run(["ssh-add", "-q", key], check=True)

    yield add
    process.terminate()
    process.wait()


@pytest.mark.parametrize(
    ("config", "set_", "offered"),
    [
        ("IdentityAgent {}", False, True),
        ("IdentityAgent {}", True, True),
        ("IdentityAgent none # for now", True, False),
        ("IdentityAgent SSH_AUTH_SOCK", True, True),
        ("IdentityAgent /nonexistent", True, False),
        ("", True, True),
    ],
)
def test_the_agent_is_the_one_that_ssh_config_names(
    config: str, set_: bool, offered: bool, agent: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(key := key_file("apart"))
    (Path.home() / ".ssh/config").write_text(config.format(os.environ["SSH_AUTH_SOCK"]) + "\n")
    if not set_:
        monkeypatch.delenv("SSH_AUTH_SOCK")
    server = Server()
    with listening(server.serve) as port:
        assert refusal(port).code == "SSH_AUTH_REFUSED"
    assert (public(key) in server.offered) is offered


def test_an_agent_with_too_many_keys_is_told_and_how_to_say_which(agent: Callable[[Path], None]) -> None:
    files = [key_file(f"key{number}") for number in range(10)]
    for file in files:
        agent(file)
    with listening(Server(public(files[-1])).serve) as port:
        told = refusal(port)
    assert (told.code, told.cure) == ("SSH_AUTH_REFUSED", "Say which is the right one: set SSH_KEY")
    assert "hung up on ubuntu after 6 keys: too many keys" in told.error
    with listening(Server(public(files[-1])).serve) as port:
        assert connect(port, ssh_key=str(files[-1])).is_authenticated()


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked_for_it() -> None:
    file = key_file("deploy", passphrase="secret")
    server = Server(public(file))
    with listening(server.serve) as port:
        told = refusal(port, ssh_key=str(file))
    assert (told.code, server.offered) == ("KEY_ENCRYPTED", [])
    assert "~/.ssh/deploy has a passphrase" in told.error
    assert "ssh-add ~/.ssh/deploy" in told.cure


@pytest.mark.parametrize("half", ["beside it", "in it"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_key_with_a_passphrase_that_the_agent_holds_is_the_agents(
    half: str, kind: str, agent: Callable[[Path], None]
) -> None:
    file = key_file("deploy", kind=kind)
    agent(key_file("another"))
    agent(file)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", file], check=True)
    server = Server(mine := public(file))
    if half == "in it":
        file.with_name("deploy.pub").unlink()
    with listening(server.serve) as port:
        assert connect(port, ssh_key=str(file)).is_authenticated()
    assert server.offered == [mine] * len(server.offered)


BROKEN = {
    "another form": "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
    "cut": "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n",
    "nothing": "",
    "no base64": "-----BEGIN OPENSSH PRIVATE KEY-----\n***\n-----END OPENSSH PRIVATE KEY-----\n",
    "its mark alone": "-----BEGIN OPENSSH PRIVATE KEY-----\n{:.20}\n-----END OPENSSH PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("form", BROKEN.values(), ids=BROKEN)
def test_a_broken_key_is_told_though_there_is_an_agent(form: str, agent: Callable[[Path], None]) -> None:
    agent(file := key_file("deploy"))
    body = "".join(file.read_text().splitlines()[1:-1])
    file.with_name("deploy.pub").unlink()
    file.write_text(form.format(body))
    server = Server()
    with listening(server.serve) as port:
        assert "~/.ssh/deploy cannot be read" in refusal(port, ssh_key=str(file)).error
    assert server.offered == []


@pytest.mark.parametrize("named", ["mine", "mine.pub"])
@pytest.mark.parametrize("only", ["yes", "no"])
def test_a_public_half_alone_names_a_key_of_the_agents(named: str, only: str, agent: Callable[[Path], None]) -> None:
    file, other = key_file("mine"), key_file("other")
    agent(other)
    agent(file)
    file.unlink()
    (file.parent / "config").write_text(f"IdentitiesOnly {only}\nIdentityFile ~/.ssh/{named}\n")
    server = Server(public(file))
    with listening(server.serve) as port:
        assert connect(port).is_authenticated()
    assert set(server.offered) == {public(file)}


def test_a_public_half_of_which_no_agent_has_the_key_is_offered_by_nobody() -> None:
    file = key_file("mine")
    (file.parent / "config").write_text("IdentityFile ~/.ssh/mine.pub\n")
    server = Server(public(file))
    with listening(server.serve) as port:
        told = refusal(port)
    assert server.offered == []
    assert "~/.ssh/mine.pub cannot be read" in told.error


def test_an_agent_that_hangs_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = socket.socket(socket.AF_UNIX)
    hung.bind(str(tmp_path / "agent"))
    hung.listen()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setattr(identities, "AGENT_TIMEOUT", 0.3)
    file = key_file("id_ed25519")
    with listening(Server(public(file)).serve) as port:
        assert connect(port).is_authenticated()
    hung.detach()  # who waits for it goes on waiting


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("stops", [True, False])
def test_an_idle_connection_lives_as_long_as_the_other_side(stops: bool) -> None:
    file = key_file("id_ed25519")
    server = Server(public(file))
    with listening(server.serve) as port:
        transport = connect(port)
        if stops:
            # Its kernel still takes what comes; nobody reads it.
            assert server.transport
            server.transport.packetizer.read_message = lambda: time.sleep(60)  # type: ignore[method-assign,assignment,return-value]
        time.sleep(5 * SOON)
        assert transport.is_active() is not stops
        transport.close()


@pytest.mark.usefixtures("hasty")
def test_hosts_connect_at_once_and_not_in_turn() -> None:
    with listening(silent, "0.0.0.0") as port:  # noqa: S104 - on each address of loopback, for a moment
        run = Run(scope("\n".join(f"127.0.0.{number}:{port}" for number in range(1, 9))), NOBODY)
        hosts = [run.host(node) for node in run.scope.inventory.nodes[1:]]
        codes: list[str] = []

        def ask(host: Host) -> None:
            with pytest.raises(Failure) as told:
                host.docker.ping()
            codes.append(told.value.code)

        threads = [threading.Thread(target=ask, args=(host,)) for host in hosts]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert time.monotonic() - begun < 4 * SOON
    assert codes == ["SSH_NO_BANNER"] * 8


@pytest.mark.parametrize("waited", [0.0, 10.0])
def test_a_tcp_connection_that_waited_long_for_its_login_is_made_anew(waited: float) -> None:
    file, came = key_file("id_ed25519"), [0]
    server = Server(public(file))

    def serve(end: socket.socket) -> None:
        came[0] += 1
        server.serve(end)

    with listening(serve) as port:
        known = KnownHosts.parse(entry("127.0.0.1", port, KEY.get_name(), KEY.asbytes()), "known_hosts")
        connection = connection_to(Node("one", "127.0.0.1", role="worker", user="ubuntu", port=port), Settings(), known)
        first = ssh.dialled(connection)
        ssh.Dialled(connection, first.sock, time.monotonic() - waited).open()
        assert came == [2 if waited else 1]
        close_connection(connection)


def test_closing_ends_what_was_half_open(tmp_path: Path) -> None:
    with listening(silent) as port:
        node = Node("one", "127.0.0.1", role="worker", user="ubuntu", port=port)
        connection = connection_to(node, Settings(), KnownHosts())
        sock = ssh.dialled(connection).sock
        assert sock
        connection.connect_kwargs["sock"] = sock
        close_connection(connection)
        assert sock.fileno() == -1
    assert tmp_path.exists()


class Mute(Server):
    """Opens sessions, and does not say whether it runs what it is asked for in them; or it does, and reads nothing."""

    def __init__(self, *taken: bytes, runs: bool = False) -> None:
        super().__init__(*taken)
        self.runs = runs

    def check_channel_exec_request(self, _channel: paramiko.Channel, _command: bytes) -> bool:
        if not self.runs:
            time.sleep(6 * SOON)
        return self.runs


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(Shell, id="a command"),
        pytest.param(lambda channel: ChannelTalk(channel, "true"), id="a talk"),
        pytest.param(lambda channel: docker_over(lambda: channel), id="the engine"),
    ],
)
def test_an_sshd_that_does_not_say_whether_it_runs_a_command_is_told(
    ask: Callable[[paramiko.Channel], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWER", SOON)
    with listening(Mute(public(key_file("id_ed25519"))).serve) as port, contextlib.closing(connect(port)) as transport:
        channel = transport.open_session(timeout=10)
        with pytest.raises(Failure) as told:
            ask(channel)
        assert told.value.code == "SSH_STALLED"
        assert channel.closed


def test_what_nobody_reads_is_not_sent_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "ANSWER", SOON)
    server = Mute(public(key_file("id_ed25519")), runs=True)
    with listening(server.serve) as port, contextlib.closing(connect(port)) as transport:
        one = ChannelTalk(transport.open_session(timeout=10), "cat")
        with pytest.raises(TimeoutError):
            one.send(bytes(4 << 20))


class Dying:
    """A channel of a connection that ends at this moment."""

    status_event = threading.Event()

    def shutdown_write(self) -> None:
        raise EOFError

    def settimeout(self, _seconds: float) -> None:
        """Nothing."""

    def recv_stderr(self, _size: int) -> bytes:
        raise EOFError

    close = shutdown_write


def test_a_talk_over_a_connection_that_dies_ends_without_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "run_on", lambda *_: None)
    assert ChannelTalk(cast("Any", Dying()), "cat").end(0.01) == (None, "")


class Login:
    """A client whose login stands still, and what closes it."""

    def __init__(self) -> None:
        self.remote_version, self.closed = "", threading.Event()
        self.close = self.closed.set

    def get_transport(self) -> Login:
        return self


def test_a_login_is_ended_at_a_later_look_where_no_thread_could_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    client, stall = Login(), stalls.Stall()
    login = stalls.Login(cast("Any", client), stall, stalls.BANNER, time.monotonic() - 2 * stalls.BANNER.seconds)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", unable)
        login.look()
    assert stall.part is None
    login.look()
    assert client.closed.wait(10)
    assert stall.part is stalls.BANNER


def unable(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
