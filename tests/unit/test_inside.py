"""`cluster.shell` and `cluster.exec`, but for the containers: what is meant, and what the engine tells of an end."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.channel.wire import Wire
from deploy.engine import attach
from deploy.engine.attach import Program
from deploy.engine.calls import Calls
from deploy.engine.streams import FRAME
from deploy.errors import Failure, Mistake
from deploy.inside import SHELL, Command, by_hand, check, command
from deploy.reading import Fields

LINES = {
    "the document's": (SHELL.typed, True, "docker exec -t -i raydock-ray-head bash"),
    "in a pipe": (("cat",), False, "docker exec -i raydock-ray-head cat"),
    "quoted": (("sh", "-c", "echo $HOME"), False, "docker exec -i raydock-ray-head sh -c 'echo $HOME'"),
}


@pytest.mark.parametrize(("typed", "terminal", "line"), LINES.values(), ids=LINES)
def test_by_hand_it_is_one_line(typed: tuple[str, ...], terminal: bool, line: str) -> None:
    assert by_hand("raydock-ray-head", typed, terminal=terminal) == line


def test_a_command_is_what_stands_after_the_dashes() -> None:
    assert command(["ls", "a b", ""]) == Command(("ls", "a b", ""), ("ls", "a b", ""))


@pytest.mark.parametrize("arguments", [[], [""]], ids=["nothing", "an empty word"])
def test_no_command_is_a_mistake(arguments: list[str]) -> None:
    with pytest.raises(Mistake, match="invoke cluster.exec -- CMD ARGS"):
        command(arguments)


# ---- whether anybody is there


ANSWERS: dict[str, tuple[Failure | None, Failure | None, str]] = {
    "both": (None, Failure("COMMAND_FAILED", "nobody asks"), ""),
    "no engine": (Failure("DOCKER_TIMEOUT", "no answer"), None, "DOCKER_TIMEOUT"),
    "no link": (Failure("DOCKER_TIMEOUT", "no answer"), Failure("COMMAND_FAILED", "not within 5 s"), "SSH_LOST"),
    "a link that tells": (Failure("SSH_LOST", "gone"), Failure("COMMAND_FAILED", "nobody asks"), "SSH_LOST"),
}


@pytest.mark.parametrize(("engine", "link", "code"), ANSWERS.values(), ids=ANSWERS)
def test_silence_of_the_engine_may_be_that_of_the_link(engine: Failure | None, link: Failure | None, code: str) -> None:
    def answer(failure: Failure | None) -> None:
        if failure:
            raise failure

    host: Any = SimpleNamespace(
        docker=SimpleNamespace(ping=lambda: answer(engine)),
        ask=lambda *_, **__: answer(link),
        node=SimpleNamespace(name="head"),
    )
    told = ""
    try:
        check(host)
    except Failure as failure:
        told = failure.code
    assert told == code


# ---- what the engine tells of a program


def program(output: bytes, *shown: Mapping[str, Any], terminal: bool = False) -> Program:
    """Give a program of this output, of which the engine tells this, one after the other."""
    answers = iter(shown)
    calls = SimpleNamespace(answer=lambda *_: Fields(next(answers)))
    response: Any = SimpleNamespace(raw=SimpleNamespace(connection=SimpleNamespace(wire=None)))
    response.raw.read, response.raw.read1 = (getattr(io.BytesIO(output), name) for name in ("read", "read1"))
    return Program(cast("Calls", calls), "id", response, action="run it", terminal=terminal)


def frame(stream: int, content: bytes) -> bytes:
    return FRAME.pack(stream, len(content)) + content


def shown(code: int | None, *, running: bool = False) -> Mapping[str, Any]:
    return {"Running": running, "ExitCode": code}


ABSENT = b'OCI runtime exec failed: exec: "x": executable file not found in $PATH: unknown\r\n'
REFUSED = b'OCI runtime exec failed: exec: "/etc/passwd": permission denied: unknown\r\n'
ENDS: dict[str, tuple[bytes, int, list[tuple[int, bytes]], int]] = {
    "its own": (frame(1, b"out") + frame(2, b"err"), 7, [(1, b"out"), (2, b"err")], 7),
    "by a signal": (b"", 137, [], 137),
    "not in the image": (frame(1, ABSENT), 126, [(2, ABSENT)], 127),
    "not in the image, of a newer engine": (frame(1, ABSENT), 127, [(2, ABSENT)], 127),
    "not to be run": (frame(1, REFUSED), 126, [(2, REFUSED)], 126),
    "its own 126": (frame(1, b"executable file not found"), 126, [(1, b"executable file not found")], 126),
}


@pytest.mark.parametrize(("output", "told", "pieces", "code"), ENDS.values(), ids=ENDS)
def test_a_program_has_its_output_and_its_exit_code(
    output: bytes, told: int, pieces: list[tuple[int, bytes]], code: int
) -> None:
    ran = program(output, shown(told))
    assert list(ran.output()) == pieces
    assert ran.exit_code() == code


def test_at_a_terminal_all_output_is_one_stream_of_plain_bytes() -> None:
    assert list(program(b"\x01\x00\x1b[31mred", terminal=True).output()) == [(1, b"\x01\x00\x1b[31mred")]


def test_a_program_that_has_closed_its_output_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "OFTEN", 0.0)
    monkeypatch.setattr(attach, "LAST", 0.0)
    told = [shown(None, running=True)] * 3 + [shown(None), shown(3)]
    assert program(b"", *told).exit_code() == 3


def test_a_shell_that_outlives_its_terminal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "OFTEN", 0.01)
    monkeypatch.setattr(attach, "LAST", 0.02)
    with pytest.raises(Failure, match="it runs on"):
        program(b"", *[shown(None, running=True)] * 99, terminal=True).exit_code()


# ---- the wire to it


def test_a_write_that_is_not_taken_asks_and_goes_on() -> None:
    ours, theirs = socket.socketpair()
    wire, content, taken = Wire(ours), bytes(range(256)) * 16_384, b""
    wire.settimeout(0.05)
    asked = threading.Event()
    wire.on_silence = asked.set

    def write() -> None:
        wire.sendall(content)
        wire.end_writing()

    writing = threading.Thread(target=write)
    writing.start()
    assert asked.wait(5)
    while piece := theirs.recv(1 << 20):
        taken += piece
    writing.join(5)
    assert taken == content
    theirs.send(b"still read")
    assert wire.recv(20) == b"still read"
    wire.drop()
    theirs.close()


def test_a_write_that_is_not_taken_ends_where_nobody_can_be_asked() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.settimeout(0.05)
    with pytest.raises(TimeoutError):
        wire.sendall(bytes(1 << 24))
    wire.drop()
    theirs.close()
