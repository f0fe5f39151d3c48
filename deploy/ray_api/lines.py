"""A job's output as it comes: bytes read in the background, lines cut from them, Ray's own lines left out."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from queue import Empty, Full, Queue

from deploy.errors import Failure

LINE_LIMIT = 1 << 16  # bytes; a longer line is passed on in pieces
SETTING_UP = re.compile(rb"\tINFO job_manager\.py:\d+ -- Runtime env is setting up\.\s*\Z")


def program_lines(lines: Iterator[bytes], entrypoint: str) -> Iterator[bytes]:
    """Give a job's output without the lines that Ray itself puts before its program's."""
    for line in lines:
        if line.startswith(b"Running entrypoint for job "):
            # An argument with a line break makes it several.
            more = len(entrypoint.encode().splitlines()) - 1
            yield from islice(lines, max(0, more), None)
        elif not SETTING_UP.search(line):
            yield line


class Lines:
    """What was taken of a job's output: how many bytes, and the beginning of a line that has not ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.taken = 0
        self._begun = b""

    def add(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and give the lines that it ends; a progress bar ends its own with carriage returns."""
        self.taken += len(chunk)
        *ended, begun = _split(self._begun + chunk)
        self._begun = begun if len(begun) <= LINE_LIMIT else b""
        return ended if self._begun or not begun else [*ended, begun]

    def end(self) -> Iterator[bytes]:
        """Give the line that never ended, if there is one."""
        if self._begun:
            yield self._begun
        self._begun = b""


class Tail:
    """A live stream, read in a thread of its own: its silence keeps nobody from asking for the status."""

    def __init__(self) -> None:
        """Begin with no stream."""
        self._chunks: Queue[bytes | None] = Queue(maxsize=64)
        self._closed = threading.Event()
        self.open = False

    def start(self, stream: Iterator[bytes]) -> None:
        """Begin to read a stream."""
        self.open = True
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def chunks(self, seconds: float) -> Iterator[bytes]:
        """Give what comes within so many seconds; `open` is false when the stream has ended or was cut."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self.open:
                time.sleep(left)
                return
            with suppress(Empty):
                chunk = self._chunks.get(timeout=left)
                self.open = chunk is not None
                yield chunk or b""

    def close(self) -> None:
        """Want no more; the thread ends with the next byte, the next time-out or the connection."""
        self._closed.set()

    def _read(self, stream: Iterator[bytes]) -> None:
        try:
            with suppress(Failure):  # a cut stream is opened again where it was cut
                for chunk in stream:
                    if not self._put(chunk):
                        return
        finally:
            self._put(None)

    def _put(self, chunk: bytes | None) -> bool:
        while not self._closed.is_set():
            with suppress(Full):
                self._chunks.put(chunk, timeout=0.5)
                return True
        return False


def _split(text: bytes) -> list[bytes]:
    r"""Cut behind each `\n`, and each `\r` that no `\n` follows; the last piece has no end yet."""
    pieces = text.splitlines(keepends=True)
    begun = pieces and (not pieces[-1].endswith((b"\n", b"\r")) or pieces[-1].endswith(b"\r"))
    return pieces if begun else [*pieces, b""]
