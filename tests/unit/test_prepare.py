"""A node that is made ready before it is asked, and what a look at one of its ports says."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import paramiko
import pytest

from deploy import run, ssh_hosts
from deploy.errors import Failure
from deploy.hosts import LocalHost
from deploy.run import Run
from deploy.ssh_hosts import SshHost

from .fakes import TOP, scope

SLOW = 0.2  # seconds


class Link:
    """A connection, as what was dialled and as what is open; it lives until it is closed."""

    client = property(lambda self: self)
    connection = property(lambda self: self)
    saved_exception = gateway = None

    def __init__(self) -> None:
        self.alive = True

    def open(self) -> None:
        """Nothing: it is."""

    def get_transport(self) -> Link:
        return self

    def is_active(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.alive = False


class Node(SshHost):
    """A node to which the test connects; it counts how often."""

    def __init__(self, dials: Callable[[], object] = lambda: None) -> None:
        of = scope("one")
        super().__init__(of.inventory.workers[0], Run(of, cast("Any", None)))
        self.dials, self.dialled, self.link = dials, 0, Link

    def _dial(self) -> Any:
        self.dialled += 1
        self.dials()
        self._reached = True
        return self.link()


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Failure]:
    """Have an engine that is counted by what comes in the way of each try; nothing does where the list is empty."""
    ways: list[Failure] = []

    def engine(link: object) -> object:
        if ways:
            raise ways.pop(0)
        return link

    monkeypatch.setattr(ssh_hosts, "dial_engine", lambda open_session: open_session.__self__.connection)
    monkeypatch.setattr("deploy.channel.docker_over", lambda _, dialled: dialled)
    monkeypatch.setattr("deploy.engine.Engine", engine)
    return ways


def prepared(node: Node) -> None:
    """Make it ready, and wait for that."""
    node.prepare()
    assert node._preparing
    node._preparing.join(10)


def slowly() -> None:
    time.sleep(SLOW)


def unreachable() -> None:
    slowly()
    raise Failure("SSH_TIMEOUT", "nobody answers")


def test_who_asks_finds_what_was_made_ready(engines: list[Failure]) -> None:
    node = Node(slowly)
    node.prepare()
    assert node.docker is node.docker
    assert (node.dialled, engines) == (1, [])


def test_a_node_that_does_not_answer_is_not_waited_for_twice(engines: list[Failure]) -> None:
    node = Node(unreachable)
    node.prepare()
    with pytest.raises(Failure, match="nobody answers"):
        assert node.docker
    assert (node.dialled, engines) == (1, [])


def test_who_dials_a_node_that_does_not_answer_is_told_what_came_of_it(engines: list[Failure]) -> None:
    node = Node(unreachable)
    prepared(node)
    with pytest.raises(Failure, match="nobody answers"):
        node.dial()
    assert (node.dialled, engines) == (1, [])


def refuses(node: Node) -> None:
    """Have its login refused."""

    class Refused(Link):
        def open(self) -> None:
            raise Failure("SSH_AUTH_REFUSED", "no")

    node.link = Refused


def test_who_dials_a_node_that_refuses_the_login_has_it_told_by_the_login(engines: list[Failure]) -> None:
    node = Node()
    refuses(node)
    prepared(node)
    node.dial()
    with pytest.raises(Failure, match="^no$"):
        node.open()
    assert (node.dialled, engines) == (2, [])


def test_what_came_in_the_way_is_no_newer_by_being_asked_for_again(engines: list[Failure]) -> None:
    node = Node(unreachable)
    prepared(node)
    kept = node._kept_failure
    node.prepare()
    assert node._preparing
    node._preparing.join(10)
    assert (node._kept_failure, node.dialled, engines) == (kept, 1, [])


def test_a_node_that_was_closed_while_its_engine_was_silent_is_connected_to_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def engine(link: object) -> object:
        asked.set()
        answers.wait(10)
        return link

    monkeypatch.setattr(ssh_hosts, "GIVING_UP", 0.01)
    monkeypatch.setattr(ssh_hosts, "dial_engine", lambda _: None)
    monkeypatch.setattr("deploy.channel.docker_over", lambda _, dialled: dialled)
    monkeypatch.setattr("deploy.engine.Engine", engine)
    node = Node()
    node.prepare()
    assert asked.wait(10)
    node.close()
    node.open()
    assert node.dialled == 2
    answers.set()


def test_a_node_is_made_ready_once_at_a_time(engines: list[Failure]) -> None:
    node = Node(slowly)
    node.prepare()
    first = node._preparing
    node.prepare()
    assert node._preparing is first
    assert (node.docker is node.docker, node.dialled, engines) == (True, 1, [])


def test_what_may_be_mended_by_now_is_tried_again(engines: list[Failure], monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(unreachable)
    prepared(node)
    node.dials = slowly
    monkeypatch.setattr(ssh_hosts, "FRESH", 0.0)
    node.open()
    assert (node.dialled, engines) == (2, [])


def test_a_new_session_is_told_nothing_of_the_former(engines: list[Failure]) -> None:
    engines.append(Failure("DOCKER_TIMEOUT", "no"))
    node = Node()
    prepared(node)
    node.reconnect()
    assert node.docker
    assert node.dialled == 2


def test_what_came_in_the_way_is_told_once(engines: list[Failure]) -> None:
    node = Node(unreachable)
    prepared(node)
    node.dials = slowly
    with pytest.raises(Failure):
        node.open()
    node.open()
    assert (node.dialled, engines) == (2, [])


@pytest.mark.parametrize(
    ("code", "asked_again"),
    # It may be installed, or its user let in, before somebody asks.
    [("DOCKER_TIMEOUT", False), ("DOCKER_ABSENT", True), ("DOCKER_PERMISSION", True)],
)
def test_an_engine_that_hangs_is_not_waited_for_twice(code: str, asked_again: bool, engines: list[Failure]) -> None:
    engines.append(Failure(code, "no"))
    node = Node()
    prepared(node)
    if asked_again:
        assert node.docker
    else:
        with pytest.raises(Failure, match="no"):
            assert node.docker
    assert node.docker
    assert node.dialled == 1


def test_who_has_a_shell_there_does_not_wait_for_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), threading.Event()

    def engine(_: object) -> object:
        asked.set()
        answers.wait(10)
        return Link()

    monkeypatch.setattr(ssh_hosts, "dial_engine", lambda _: None)
    monkeypatch.setattr("deploy.channel.docker_over", lambda _, dialled: dialled)
    monkeypatch.setattr("deploy.engine.Engine", engine)
    node = Node()
    node.prepare()
    assert asked.wait(10)
    opened = threading.Thread(target=node.open, daemon=True)
    opened.start()
    opened.join(5)
    assert not opened.is_alive()
    answers.set()


def test_a_node_that_nobody_needs_any_more_is_not_waited_for(
    engines: list[Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_hosts, "GIVING_UP", 0.01)
    over = threading.Event()
    node = Node(lambda: over.wait(10))
    node.prepare()
    closed = threading.Thread(target=node.close, daemon=True)
    closed.start()
    closed.join(5)
    over.set()
    assert not closed.is_alive()
    assert engines == []


SAYS: dict[str, tuple[Exception | None, bool | None]] = {
    "connects": (None, True),
    "is refused there": (paramiko.ChannelException(2, "Connect failed"), False),
    "may not": (paramiko.ChannelException(1, "Administratively prohibited"), None),
    "has no room": (paramiko.ChannelException(4, "Resource shortage"), None),
    "still tries, or cannot be heard": (paramiko.SSHException("Timeout opening channel."), None),
}


@pytest.mark.parametrize("sshd", SAYS)
def test_what_a_look_at_a_port_says_where_sshd(sshd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, reached = SAYS[sshd]
    waits = []

    def to(_self: Node, _address: str, _port: int, timeout: float) -> object:
        waits.append(timeout)
        if error:
            raise error
        return socket.socket()

    monkeypatch.setattr(Node, "_to", to)
    node = Node()
    node.open()
    assert node.reaches("10.0.0.1", 6379) is reached
    assert waits == [3.0]


def test_a_look_at_a_port_over_a_lost_link_is_no_shut_port(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.open()

    def to(*_: object) -> object:
        cast("Any", node._connection).alive = False
        raise EOFError

    monkeypatch.setattr(Node, "_to", to)
    with pytest.raises(Failure) as told:
        node.reaches("10.0.0.1", 6379)
    assert told.value.code == "SSH_LOST"


def test_no_more_nodes_are_reached_out_to_than_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(SshHost, "prepare", lambda host: reached.append(host.node.name))
    of = scope("one\ntwo\nthree\nfour", concurrency=3)
    Run(of).reach_out(of.inventory.nodes)  # the head is this machine
    assert reached == ["one", "two", "three"]


def test_what_speaks_to_engines_is_loaded_while_nodes_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, connecting, met = threading.Event(), threading.Event(), threading.Event()

    def load() -> None:
        loads.set()
        if connecting.wait(5):
            met.set()

    def prepare(_: SshHost) -> None:
        if loads.wait(5):
            connecting.set()

    monkeypatch.setattr(run, "load_engine", load)
    monkeypatch.setattr(SshHost, "prepare", prepare)
    of = scope("one")
    Run(of).reach_out(of.inventory.nodes)
    assert met.wait(5)


ORDER = """
import sys
from deploy import run, ssh_hosts
from tests.unit.fakes import scope

def dial(session):
    print("docker" in sys.modules)
    raise KeyboardInterrupt

ssh_hosts.dial_engine = dial
of = scope("one")
try:
    ssh_hosts.SshHost(of.inventory.workers[0], run.Run(of)).docker
except KeyboardInterrupt:
    run.load_engine()
    print({"docker", "deploy.engine"} <= sys.modules.keys())
"""


def test_an_engine_is_dialled_before_what_speaks_to_it_is_loaded() -> None:
    # By a Python of its own: this one has loaded it.
    done = subprocess.run([sys.executable, "-c", ORDER], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


def test_this_machine_looks_at_a_port_itself() -> None:
    of = scope("")
    host = LocalHost(of.inventory.head, Run(of, cast("Any", None)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert host.reaches("127.0.0.1", port)
    assert not host.reaches("127.0.0.1", port)
