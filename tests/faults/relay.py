"""Stands before `docker system dial-stdio` on a host, and writes down what its user has the engine change.

A line for each call: the user, from when to when in nanoseconds, the method and the path. A call ends with the first
bytes of its answer, which the engine sends when what was asked for is done.
"""

from __future__ import annotations

import getpass
import os
import re
import selectors
import subprocess
import sys
import time

# What changes something for others; an exec, of Ray's probe, does not, nor what only waits or looks.
CHANGES = re.compile(
    rb"(?:^|\n)((?:POST|PUT|DELETE) /(?:v[\d.]+/)?(?:"
    rb"containers/create|containers/[^/ ]+/(?:start|stop|kill|restart|rename|archive)|containers/[^/? ]+(?=[? ])"
    rb"|images/create|images/[^ ]+/tag|images/[^/? ]+(?=[? ])"
    rb")\S*) HTTP/1\.1\r?\n"
)
LONGEST = 4096  # bytes of the line of a request


class Deeds:
    """The calls of one session, as far as they have begun."""

    def __init__(self, place: str) -> None:
        self.log = os.open(place, os.O_WRONLY | os.O_APPEND)
        self.user = getpass.getuser()
        self.tail = b""
        self.begun: list[tuple[int, str]] = []

    def asks(self, data: bytes) -> None:
        """Look for calls in what goes to the engine; a line may come in pieces."""
        text = self.tail + data
        end = 0
        for found in CHANGES.finditer(text):
            self.begun.append((time.time_ns(), found[1].decode(errors="replace")))
            end = found.end() - 1
        self.tail = text[max(end, len(text) - LONGEST) :]

    def answers(self) -> None:
        """Write down what is answered now."""
        for begin, call in self.begun:
            os.write(self.log, f"{self.user} {begin} {time.time_ns()} {call}\n".encode())
        self.begun.clear()


def put(target: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(target, data) :]


def main() -> int:
    """Relay both ways until the engine's side ends."""
    deeds = Deeds(sys.argv[1])
    line = ["/usr/bin/docker", "system", "dial-stdio"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as there:
        assert there.stdin
        assert there.stdout
        asked, said = there.stdin.fileno(), there.stdout.fileno()
        ends = selectors.DefaultSelector()
        ends.register(0, selectors.EVENT_READ)
        ends.register(said, selectors.EVENT_READ)
        while True:
            for key, _ in ends.select():
                data = os.read(key.fd, 1 << 16)
                if key.fd == 0 and data:
                    deeds.asks(data)
                    put(asked, data)
                elif key.fd == 0:
                    ends.unregister(0)
                    there.stdin.close()
                elif data:
                    deeds.answers()
                    put(1, data)
                else:
                    # What was never answered is done or not: it ends here.
                    deeds.answers()
                    return 0


if __name__ == "__main__":
    sys.exit(main())
