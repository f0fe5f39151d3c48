"""An SSH server that is played, for what no real one does on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

KEY = paramiko.ECDSAKey.generate()


@contextmanager
def listening(serve: Callable[[socket.socket], object], address: str = "127.0.0.1") -> Iterator[int]:
    """Have a port whose connections `serve` is given, each in a thread of its own."""
    server = socket.create_server((address, 0))
    ends: list[socket.socket] = []

    def begin(end: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the test is over
            serve(end)

    def take() -> None:
        while True:
            try:
                end, _ = server.accept()
            except OSError:
                return
            ends.append(end)
            threading.Thread(target=begin, args=(end,), daemon=True).start()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        taker.join()  # it may just be taking the last
        for end in ends:
            end.close()


class Server(paramiko.ServerInterface):
    """Takes the keys that it is given, after so many seconds, and hangs up on whoever offered too many."""

    def __init__(self, *taken: bytes, slow: float = 0, tries: int = 6) -> None:
        self.taken, self.slow, self.tries = taken, slow, tries
        self.offered: list[bytes] = []
        self.transport: paramiko.Transport | None = None

    def serve(self, end: socket.socket) -> None:
        """Serve one connection."""
        self.transport = paramiko.Transport(end)
        self.transport.add_server_key(KEY)
        self.transport.start_server(event=threading.Event(), server=self)

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, _username: str, key: paramiko.PKey) -> int:
        time.sleep(self.slow)
        self.offered.append(key.asbytes())
        if key.asbytes() in self.taken:
            return AUTH_SUCCESSFUL
        if len(self.offered) >= self.tries and self.transport:
            self.transport.close()
        return AUTH_FAILED

    def check_channel_request(self, _kind: str, _number: int) -> int:
        return OPEN_SUCCEEDED


class JumpServer(Server):
    """Connects to where it is asked, and remembers it."""

    def __init__(self, *taken: bytes) -> None:
        super().__init__(*taken)
        self.asked: list[int] = []

    def check_channel_direct_tcpip_request(self, _number: int, _from: object, to: tuple[str, int]) -> int:
        self.asked.append(to[1])
        threading.Thread(target=self._pass_on, args=(socket.create_connection(to),), daemon=True).start()
        return OPEN_SUCCEEDED

    def _pass_on(self, end: socket.socket) -> None:
        with end, contextlib.suppress(Exception):
            channel = self.transport and self.transport.accept(10)
            if not channel:  # who asked has gone
                return
            threading.Thread(target=_pump, args=(end.recv, channel.sendall, channel.close), daemon=True).start()
            _pump(channel.recv, end.sendall, channel.close)
            end.shutdown(socket.SHUT_RDWR)


def _pump(recv: Callable[[int], bytes], send: Callable[[bytes], object], close: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # a connection's end raises many, by where it is met
        while came := recv(1 << 15):
            send(came)
    with contextlib.suppress(Exception):
        close()
