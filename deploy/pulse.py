"""Whether the other side of an SSH connection still lives: it is asked, and a connection without answers is ended.

Neither of the keepalives that are there tells. paramiko's own asks for no answer; TCP's ends with the next machine,
which may be a jump host, and the kernel of a machine answers for an sshd that hangs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import paramiko
from paramiko.packet import Packetizer

if TYPE_CHECKING:
    import socket

BEAT = 2.5  # seconds between two looks
SILENCE = 15.0  # seconds without a packet after which the other side counts as gone
QUESTION = "keepalive@openssh.com"  # sshd answers any request that it does not know


class HeardPacketizer(Packetizer):
    """Reads packets, and knows when the last one came."""

    def __init__(self, socket: socket.socket) -> None:
        super().__init__(socket)
        self.heard = time.monotonic()

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Give the next packet."""
        message = super().read_message()
        self.heard = time.monotonic()
        return message

    def start_handshake(self, _seconds: float) -> None:
        """Nothing: paramiko's timer would keep the process from ending, and the login has a watch of its own."""


class Pulse:
    """Asks the other side of a connection for a sign of life, and ends the connection where none comes."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._question: threading.Thread | None = None
        packetizer = transport.packetizer
        assert isinstance(packetizer, HeardPacketizer)  # noqa: S101 - of our own factory
        self._packetizer = packetizer
        packetizer.heard = time.monotonic()
        packetizer.set_keepalive(BEAT, self.beat)

    def beat(self) -> None:
        """Look whether something came, and ask if nothing did for a while. The connection's own thread calls this."""
        silent = time.monotonic() - self._packetizer.heard
        if silent > SILENCE:
            raise EOFError(f"no sign of life for {SILENCE:g} s")
        # By another thread: what is sent may have to wait, and this one reads.
        if self._question is None or not self._question.is_alive():
            self._question = threading.Thread(target=self._ask, daemon=True)
            self._question.start()

    def _ask(self) -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._transport.global_request(QUESTION, wait=True)
