"""HTTP on wires, for requests and for the Docker SDK."""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from deploy.channel.wire import ANSWER, PIECE, Wire
from deploy.errors import Failure

if TYPE_CHECKING:
    import socket

LOOK = 10.0  # seconds without an answer after which the other side is asked, on another channel, whether it lives
CHANNELS = 4  # kept open for the next request; sshd allows 10 sessions per connection (MaxSessions)


Verdict = Callable[[Wire, OSError | http.client.HTTPException], Failure]


class WireConnection(urllib3.connection.HTTPConnection):
    """HTTP on a wire. Where the wire ends without an answer, `verdict` says why."""

    wire: Wire

    def __init__(self, *args: Any, adapter: WireAdapter, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adapter = adapter
        self.verdict = adapter.verdict

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, to which nothing applies that was set for the one before."""
        if self.sock is not None:
            self.wire.deadline, self.wire.on_silence, self.wire.allowance = None, None, None
        super().request(*args, **kwargs)

    def connect(self) -> None:
        """Open a wire."""
        self.wire = self.adapter.open()
        self.wire.settimeout(self.timeout)
        self.sock = cast("socket.socket", self.wire)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        """Give the response, or the reason for which there is none."""
        wire = self.wire
        # Without an answer http.client closes the wire, and what is still to come is the reason.
        wire.hold()
        try:
            with self._watched():
                return super().getresponse()
        except (ConnectionError, http.client.BadStatusLine) as error:
            if self.verdict is None:
                raise
            raise self.verdict(wire, error) from error
        finally:
            wire.release()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Wait for an answer as long as the request may take, and only while the other side lives."""
        seconds = self.timeout
        # All of its headers, and not only the next byte.
        self.wire.deadline = None if seconds is None else time.monotonic() + seconds
        if self.adapter.alive and (seconds is None or seconds > LOOK):
            self.timeout, self.wire.on_silence = LOOK, self.adapter.alive
        try:
            yield
        finally:
            self.timeout, self.wire.on_silence, self.wire.deadline = seconds, None, None
            self.wire.settimeout(seconds)

    @property
    def is_connected(self) -> bool:
        """Whether the next request can use this connection."""
        return self.sock is not None and self.wire.idle


def pieces(response: requests.Response) -> Iterator[bytes]:
    """Give a body as it comes, in pieces of a bounded size."""
    # `iter_content` has a whole chunk in memory before it gives a byte, and a chunk may be of any size.
    while piece := response.raw.read1(PIECE):
        yield piece


def wire_of(response: requests.Response) -> Wire:
    """Give the wire from which the body of a response comes; what is set on it ends with that request."""
    return cast("WireConnection", response.raw.connection).wire


class WirePool(urllib3.HTTPConnectionPool):
    """Connections on wires."""

    ConnectionCls = WireConnection

    @contextmanager
    def taken(self) -> Iterator[WireConnection]:
        """Have a connection for a block; one in which that goes wrong is closed."""
        connection = cast("WireConnection", self._get_conn())
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            self._put_conn(connection)

    def warm(self, connections: int) -> None:
        """Have so many that no request uses, connected."""
        taken = [cast("WireConnection", self._get_conn()) for _ in range(connections)]
        try:
            for connection in taken:
                if connection.sock is None:
                    connection.connect()
        finally:
            for connection in taken:
                self._put_conn(connection)

    def release(self) -> None:
        """Close what no request uses."""
        idle, taken = self.pool, []
        with contextlib.suppress(queue.Empty):
            while idle is not None:
                taken.append(idle.get_nowait())
        for connection in taken:
            if connection is not None:
                connection.close()
            self._put_conn(connection)


class WireAdapter(HTTPAdapter):
    """Sends every request through wires of one opener; `timeout` is for each read, where a request has none."""

    def __init__(self, opener: Callable[[], Wire], timeout: float, verdict: Verdict | None = None) -> None:
        self._opener = opener
        self.verdict = verdict
        # Raises where the other side does not live; without it an answer is waited for however dead it is.
        self.alive: Callable[[], None] | None = None
        self._timeout = timeout
        self._wires: weakref.WeakSet[Wire] = weakref.WeakSet()
        self._wire_pool = WirePool("node", maxsize=CHANNELS, adapter=self, blocksize=PIECE, timeout=timeout)
        super().__init__()

    def open(self) -> Wire:
        """Open a wire."""
        wire = self._opener()
        self._wires.add(wire)
        return wire

    def warm(self, connections: int) -> None:
        """Open wires for requests to come."""
        self._wire_pool.warm(connections)

    def release(self) -> None:
        """Close every wire that no request uses."""
        self._wire_pool.release()

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> WirePool:
        """Give the pool, whatever the request."""
        return self._wire_pool

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        response = super().send(request, *args, **kwargs)
        # Nobody asked for it packed, and a few bytes that are may stand for gigabytes.
        response.raw.headers.discard("Content-Encoding")
        if not kwargs.get("stream"):
            wire_of(response).allowance = ANSWER
            wire_of(response).deadline = time.monotonic() + kwargs["timeout"]
        return response

    def ask(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> requests.Response:
        """Send a small request, and give its whole answer; what goes wrong is what requests raises.

        What requests and urllib3 do beside takes twice as long as all of this.
        """
        try:
            with self._wire_pool.taken() as connection:
                seconds = connection.timeout = self._timeout if timeout is None else timeout
                with contextlib.suppress(BrokenPipeError):  # it may have answered before it heard all
                    connection.request(method, url, body=body, headers=headers, preload_content=False)
                answer = connection.getresponse()
                connection.wire.allowance, connection.wire.deadline = ANSWER, time.monotonic() + seconds
                # Not all at once: room would be made for whatever length the answer says that it has.
                pieces = iter(lambda: answer.read1(PIECE, decode_content=False), b"")
                return response_of(answer, b"".join(pieces))
        except (TimeoutError, urllib3.exceptions.ReadTimeoutError) as error:
            raise requests.exceptions.ReadTimeout(error) from error
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            raise requests.exceptions.ConnectionError(error) from error

    def close(self) -> None:
        """Close every wire, also those that are read from."""
        super().close()
        self._wire_pool.close()
        for wire in list(self._wires):
            wire.shutdown()
            wire.drop()


def response_of(answer: urllib3.BaseHTTPResponse, content: bytes) -> requests.Response:
    """Give an answer of which all has come as requests has it."""
    response = requests.Response()
    response.status_code, response.reason = answer.status, answer.reason or ""
    response.headers = CaseInsensitiveDict(answer.headers)
    response.encoding = get_encoding_from_headers(response.headers)
    response.raw = io.BytesIO(content)
    return response
