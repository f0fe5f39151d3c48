"""What the engine's streams say: records of JSON, layers on their way, lines of a build, frames of output."""

from __future__ import annotations

import codecs
import json
import re
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from deploy.channel.http import pieces
from deploy.progress import Amount, Output
from deploy.reading import Fields, Odd

if TYPE_CHECKING:
    import requests

    from deploy.progress import Say

OFTEN = 0.2  # seconds between two looks at how far it is
RECORD = 1 << 20  # bytes of the answer that are one record
LAYERS = 1000  # of an image, as far as they are told; an engine takes some 127
LINE = 8 * 1024  # letters of a line that have no end
TAIL = 30  # lines of a failing step
DONE = frozenset({"Pull complete", "Already exists", "Pushed", "Layer already exists"})
BYTES = frozenset({"Downloading", "Pushing"})
FETCHED = frozenset({"Download complete", "Verifying Checksum"})
# What the engine does by itself with a layer that has come; that a slow disk makes it silent is no stall.
AT_WORK = frozenset({"Extracting", "Verifying Checksum"})
LAYER = re.compile(r"[0-9a-f]{12}")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
STEP = re.compile(r"Step (\d+/\d+) : (.*)")
# What the classic builder says about its own containers and layers.
CHATTER = re.compile(r"( ---> |Removing intermediate container |Successfully (built|tagged) )")
FRAME = struct.Struct(">BxxxL")
STDOUT, STDERR = 1, 2


def records(response: requests.Response) -> Iterator[Fields]:
    """Give the JSON records of a body as they come; the engine puts them one after the other."""
    text = codecs.getincrementaldecoder("utf-8")("replace")
    decoder = json.JSONDecoder()
    rest = ""
    for piece in pieces(response):
        rest = (rest + text.decode(piece)).lstrip()
        while rest:
            try:
                record, end = decoder.raw_decode(rest)
            except ValueError:
                break
            except RecursionError as error:
                raise Odd("a record that nests without end") from error
            yield Fields.read(record)
            rest = rest[end:].lstrip()
        if len(rest) > RECORD:
            raise ConnectionError(f"a record of the engine's answer has more than {RECORD >> 20} MB: {rest[:80]}")
    if rest:
        raise ConnectionError(f"the engine's answer ends in the middle: {rest[:80]}")


def error_of(record: Fields) -> str:
    """Give the error that a record tells, nothing where it tells none; the answer's status is 200 all the same."""
    return record.inner("errorDetail").text("message", "") or record.text("error", "")


class Progress:
    """Tells of layers on their way: how many are done, and how many bytes, five times a second."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._done: dict[str, bool] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._next = 0.0
        self._said: Amount | None = None
        self.begun = False
        # Whether the last that was told is the engine's own work.
        self.at_work = False
        self._heard = time.monotonic()

    def see(self, record: Fields) -> None:
        """Take a record in, and say how far it is, if that was not said just now."""
        layer, status = record.text("id", ""), record.text("status", "")
        self.begun, self.at_work = True, status in AT_WORK
        self._heard = time.monotonic()
        if not LAYER.fullmatch(layer) or (layer not in self._done and len(self._done) >= LAYERS):
            return
        self._done[layer] = status in DONE or status.startswith("Mounted from")
        detail = record.inner("progressDetail")
        if status in BYTES and detail.of.get("total"):
            total = max(detail.number("total"), 0)
            # The engine leaves a zero out.
            self._bytes[layer] = (min(max(detail.number("current", 0), 0), total), total)
        elif (self._done[layer] or status in FETCHED) and layer in self._bytes:
            self._bytes[layer] = (self._bytes[layer][1],) * 2
        if self._clock() >= self._next:
            self.tell()

    @property
    def silent(self) -> float:
        """For how many seconds nothing was told."""
        return time.monotonic() - self._heard

    def tell(self) -> None:
        """Say how far it is, unless the same was said last."""
        if self._done and (amount := self.amount) != self._said:
            self._say(amount)
            self._said = amount
            self._next = self._clock() + OFTEN

    @property
    def amount(self) -> Amount:
        """How far it is."""
        come, total = (sum(sizes) for sizes in zip(*self._bytes.values(), strict=True)) if self._bytes else (0, 0)
        return Amount(f"{sum(self._done.values())} of {len(self._done)} layers", come, total)


class BuildLog:
    """The output of a build, line by line: says its steps, and keeps the last lines of each for an error."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._rest = ""
        self._progress = Progress(say)
        self._tail: deque[str] = deque(maxlen=TAIL)
        self.step = ""
        self.command = ""

    def see(self, record: Fields) -> None:
        """Take a record in."""
        if "stream" not in record.of:
            self._progress.see(record)
            return
        *lines, rest = (self._rest + record.text("stream", "")).split("\n")
        self._rest = rest[:LINE]
        for line in lines:
            self._line(line[:LINE])

    def end(self) -> None:
        """Take the last line in, which may lack its end."""
        self._line(self._rest)
        self._rest = ""

    def _line(self, raw: str) -> None:
        line = plain(raw)
        if found := STEP.match(line):
            self.step, self.command = found.groups()
            self._tail.clear()
        elif not line or CHATTER.match(line):
            return
        else:
            self._tail.append(line)
            self._say(Output(line))
            return
        self._say(line)

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of the step's output."""
        return tuple(self._tail)


def plain(line: str) -> str:
    """Give a line as a terminal would leave it: without colours, the last of what was written over itself."""
    return ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip()


def frames(response: requests.Response) -> Iterator[tuple[int, bytes]]:
    """Give the output of a program without a terminal, as it comes: 1 or 2 for the stream, and what was written."""
    held = bytearray()
    for piece in pieces(response):
        held += piece
        while len(held) >= FRAME.size:
            stream, length = FRAME.unpack_from(held)
            if length > RECORD:
                raise ConnectionError(f"a frame of the engine's answer has {length} bytes")
            ends = FRAME.size + length
            if len(held) < ends:
                break
            yield stream, bytes(held[FRAME.size : ends])
            del held[:ends]
    if held:
        raise ConnectionError("the engine's answer ends in the middle")
