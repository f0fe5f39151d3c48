"""Programs in a container that somebody speaks with: a shell at a terminal, a command in a pipe."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.channel.http import wire_of
from deploy.channel.wire import PIECE
from deploy.engine.calls import PING, Calls
from deploy.engine.containers import Containers
from deploy.engine.failures import CONTAINER, START, told
from deploy.engine.streams import STDERR, STDOUT, frames
from deploy.errors import Failure
from deploy.reading import Fields, typed

if TYPE_CHECKING:
    import requests

# Those of the engine, Ctrl-P Ctrl-Q, would be kept from the program: these nobody types.
DETACH_KEYS = "ctrl-^,ctrl-@,ctrl-^,ctrl-@"
# What a program and all that it starts have in their environment, so that they are found again.
MARK = "RAYDOCK_EXEC"
# The engine ends no exec. `$0` is the mark, what follows the signals, one after the other as long as one is left.
END_MARKED = """\
mark=$0
marked() { for at in $(grep -slzFx -- "$mark" /proc/[0-9]*/environ); do at=${at%/environ}; echo "${at#/proc/}"; done; }
command -v grep >/dev/null || exit 1
for signal; do
  kill -s "$signal" $(marked) 2>/dev/null
  for i in 1 2 3 4 5 6 7 8 9 10; do [ -n "$(marked)" ] || exit 0; sleep 0.3; done
done
exit 1
"""
NEVER_RAN = b"OCI runtime exec failed"
ABSENT = re.compile(rb"executable file not found|no such file or directory")
NOT_STARTED, NOT_FOUND = 126, 127  # exit codes of a shell's for a program that it cannot run
QUIET = 5.0  # seconds; a person waits at the other end
LAST = 10.0  # seconds that a program at a terminal may live without it
OFTEN = 0.2  # seconds
ENDING = 20.0  # seconds


@dataclass(frozen=True)
class Size:
    """The size of a terminal, in characters."""

    rows: int
    columns: int


class Program:
    """A program that runs in a container. One thread may read its output while another feeds it."""

    kind = "exec"  # what the engine's API calls it

    def __init__(self, calls: Calls, id: str, response: requests.Response, *, action: str, terminal: bool) -> None:
        self._calls, self._id, self._response = calls, id, response
        self._wire = wire_of(response)
        self._action, self._terminal = action, terminal
        self._not_found = False

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Give what it writes as it comes: 1 or 2 for the stream, at a terminal always 1, and the bytes."""
        with told(self._action):
            pieces = self._raw() if self._terminal else frames(self._response)
            for number, (stream, content) in enumerate(pieces):
                # The engine's own words come in the program's place.
                if number == 0 and content.startswith(NEVER_RAN):
                    self._not_found = bool(ABSENT.search(content))
                    yield STDERR, content
                else:
                    yield stream, content

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        while content := self._response.raw.read1(PIECE):
            yield STDOUT, content

    def write(self, content: bytes) -> None:
        """Have it read something; this waits until it does."""
        with told(self._action):
            self._wire.sendall(content)

    def end_input(self) -> None:
        """Have it read the end."""
        with told(self._action):
            self._wire.end_writing()

    def resize(self, size: Size) -> None:
        """Tell it, once it runs, how large its terminal is."""
        with told(self._action):
            params = {"h": size.rows, "w": size.columns}
            self._calls.post(self.kind, self._id, "resize", params=params, timeout=PING)

    def exit_code(self) -> int:
        """Wait for its end, which may come after that of its output, and give its exit code."""
        ends = time.monotonic() + LAST
        while (code := self._code()) is None:
            if self._terminal and time.monotonic() > ends:
                raise Failure("DOCKER_DOWN", f"{self._action}: the engine let go of it, and it runs on", START)
            time.sleep(OFTEN)
        # Engines before 23 do not tell the two apart.
        return NOT_FOUND if code == NOT_STARTED and self._not_found else code

    def _code(self) -> int | None:
        """Give its exit code; None while it runs."""
        with told(self._action):
            shown = self._shown()
            running = typed(shown.of.get("Running"), bool) or shown.of.get("ExitCode") is None
            return None if running else shown.number("ExitCode")

    def _shown(self) -> Fields:
        return self._calls.answer("exec", self._id, "json")


class MainProgram(Program):
    """The program that a container was made for."""

    kind = "containers"

    def _shown(self) -> Fields:
        return self._calls.answer("containers", self._id, "json").inner("State")


class Attach(Containers):
    """What the operator asks of an engine about programs in a container."""

    @contextmanager
    def attach(
        self,
        name: str,
        argv: Sequence[str],
        mark: str,
        *,
        size: Size | None = None,
        kind: str = "",
        on_silence: Callable[[], None] | None = None,
    ) -> Iterator[Program]:
        """Run a program in a container and have its streams for a block; it may run on after it.

        Args:
            name: the container.
            argv: the program and its arguments.
            mark: of `new_mark`, by which it can be ended.
            size: the terminal's; without one the program gets none, but three streams.
            kind: what programs call the terminal, as `TERM` has it.
            on_silence: what is asked every few seconds in which nothing comes or goes; it raises where that is no
                silence of the program's. Without one the engine is asked.
        """
        action = f"run {argv[0]} in {name}"
        terminal = {"Tty": size is not None, "ConsoleSize": [size.rows, size.columns] if size else None}
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "DetachKeys": DETACH_KEYS,
            "Env": [mark, *([f"TERM={kind}"] if size and kind else [])],
            "Cmd": list(argv),
            **terminal,
        }
        with ExitStack() as stack:
            with told(action):
                made = self.made("containers", name, "exec", json=body)
                response = stack.enter_context(self.stream("exec", made, "start", json={"Detach": False, **terminal}))
            self._watch(response, on_silence, stack)
            yield Program(self, made, response, action=action, terminal=size is not None)

    def new_container(self, image: str, argv: Sequence[str], labels: Mapping[str, str], *, terminal: bool) -> str:
        """Create a container for a program that somebody speaks with, and give its id. It ends with its input."""
        body = {
            "Image": image,
            "Cmd": list(argv),
            "Labels": dict(labels),
            "Tty": terminal,
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        with self._seen.changing(), told(f"create a container of {image}", CONTAINER):
            return self.made("containers/create", json=body)

    @contextmanager
    def start_attached(
        self, id: str, *, size: Size | None = None, on_silence: Callable[[], None] | None = None
    ) -> Iterator[Program]:
        """Start a container of `new_container` and have its program's streams for a block; see `attach`."""
        action = f"run {id[:12]}"
        asked = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1, "detachKeys": DETACH_KEYS}
        with ExitStack() as stack:
            with self._seen.changing(), told(action, CONTAINER):
                response = stack.enter_context(self.stream("containers", id, "attach", params=asked))
                self._watch(response, on_silence, stack)
                self.post("containers", id, "start")
            yield MainProgram(self, id, response, action=action, terminal=size is not None)

    def _watch(self, response: requests.Response, on_silence: Callable[[], None] | None, stack: ExitStack) -> None:
        wire = wire_of(response)
        wire.settimeout(QUIET)
        wire.on_silence = on_silence or self.alive
        # Whoever still feeds it does not wait.
        stack.callback(wire.shutdown)

    def end_marked(self, name: str, mark: str, *signals: str) -> bool:
        """End the programs of a container that have this mark, and tell whether they are gone.

        Signals are names without SIG; each is sent to what the one before has left after three seconds.
        """
        code, _ = self.exec(name, ("sh", "-c", END_MARKED, mark, *signals), ENDING)
        return code == 0


def new_mark() -> str:
    """Give a mark that no other program has."""
    return f"{MARK}={secrets.token_hex(8)}"
