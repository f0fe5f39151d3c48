"""A port of this machine whose connections are passed on: both ways, many at once, and over a new link."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from deploy.dashboard import Doorway, Opener, url
from deploy.errors import Failure

LOST = Failure("SSH_LOST", "the connection ended")
SHUT = Failure("RAY_API_FAILED", "nothing answers")


class SocketTunnel:
    """A way to the other end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def recv(self, size: int) -> bytes:
        return self.end.recv(size)

    def sendall(self, data: bytes) -> None:
        self.end.sendall(data)

    def shutdown_write(self) -> None:
        self.end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.end.close()


def to_an_echo() -> SocketTunnel:
    """Give a way to what says everything again, and ends when nothing more comes."""
    ours, theirs = socket.socketpair()

    def say_again() -> None:
        with closing(theirs), suppress(OSError):
            while piece := theirs.recv(4096):
                theirs.sendall(piece.upper())

    threading.Thread(target=say_again, daemon=True).start()
    return SocketTunnel(ours)


@contextmanager
def doorway(opener: Callable[[], Any]) -> Iterator[int]:
    """Give the port of a doorway that is open."""
    with Doorway(0, opener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def asked(port: int, said: bytes) -> bytes:
    """Say something at a port, and give all that is answered."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(4096):
            answer += piece
    return answer


def test_what_is_said_is_passed_on_both_ways_to_its_end() -> None:
    with doorway(to_an_echo) as port:
        assert asked(port, b"a" * 1_000_000) == b"A" * 1_000_000


def test_connections_go_on_beside_each_other() -> None:
    with doorway(to_an_echo) as port, socket.create_connection(("127.0.0.1", port), 10) as silent:
        assert [asked(port, b"%d" % number) for number in range(20)] == [b"%d" % number for number in range(20)]
        silent.sendall(b"me, too")
        assert silent.recv(100) == b"ME, TOO"


def test_nobody_else_reaches_it() -> None:
    with Doorway(0, to_an_echo) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_connection_that_cannot_be_passed_on_ends_and_the_next_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[Failure | None] = [SHUT, None]

    def opener() -> SocketTunnel:
        if refusal := answers.pop(0):
            raise refusal
        return to_an_echo()

    with doorway(opener) as port:
        with suppress(ConnectionError):
            assert asked(port, b"") == b""
        assert asked(port, b"x") == b"X"
    assert "RAY_API_FAILED nothing answers" in capsys.readouterr().err


class PlayedHost:
    """A host whose tunnels fail in turn."""

    def __init__(self, *answers: Failure | None) -> None:
        self.answers = list(answers)
        self.regained = 0

    def tunnel(self, address: str, port: int) -> tuple[str, int]:
        if refusal := self.answers.pop(0):
            raise refusal
        return (address, port)

    def regain(self) -> None:
        self.regained += 1


def test_a_lost_link_is_opened_again() -> None:
    host = PlayedHost(LOST, None)
    assert Opener(host, ("10.0.0.1", 8265))() == ("10.0.0.1", 8265)  # type: ignore[arg-type,comparison-overlap]
    assert host.regained == 1


def test_a_port_at_which_nobody_listens_is_no_lost_link() -> None:
    host = PlayedHost(SHUT)
    with pytest.raises(Failure, match="nothing answers"):
        Opener(host, ("10.0.0.1", 8265))()  # type: ignore[arg-type]
    assert host.regained == 0


@pytest.mark.parametrize(
    ("host", "written"), [("127.0.0.1", "http://127.0.0.1:8265"), ("fd00::1", "http://[fd00::1]:8265")]
)
def test_an_address_is_written_for_a_browser(host: str, written: str) -> None:
    assert url(host, 8265) == written
