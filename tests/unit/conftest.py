"""What the quick tests share: a head of Ray's, and property tests that are few and leave their finds in .cache."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from deploy.ray_api import RayApi
from deploy.secret import Secret

from .played_head import TOKEN, Handler, Head, Link

FINDS = DirectoryBasedExampleDatabase(Path(__file__).resolve().parents[2] / ".cache" / "hypothesis")
settings.register_profile("quick", max_examples=60, deadline=None, database=FINDS)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Have signals handled as before: a task that is interrupted heeds no more of them, to its process's end."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in ending]
    yield
    for number, handler in zip(ending, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def head() -> Iterator[tuple[Head, str]]:
    played = Head()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Played", (Handler,), {"head": played}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield played, f"http://127.0.0.1:{server.server_address[1]}"
    played.ending.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def session() -> Iterator[Link]:
    with Link() as made:
        yield made


@pytest.fixture
def api(head: tuple[Head, str], session: Link) -> RayApi:
    return RayApi(
        session,
        Secret(TOKEN),
        base=head[1],
        timeout=2,
        poll=0.02,
        patience=0.3,
        silence=5,
        reconnect=session.reconnect,
    )


@pytest.fixture
def played(head: tuple[Head, str]) -> Head:
    return head[0]
