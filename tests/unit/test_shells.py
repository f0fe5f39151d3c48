"""Shells that run one command after the other, at a played server with a real shell behind it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import paramiko
import pytest

from deploy.commands import Result
from deploy.errors import Failure
from deploy.progress import News, Output
from deploy.shells import Shell

from .played_sshd import Server, listening

PIECE = 32 * 1024


class Runs(Server):
    """Lets anybody in, and runs what it is asked for."""

    def __init__(self, login_shell: str = "") -> None:
        super().__init__()
        self.login_shell, self.asked = login_shell, 0

    def get_allowed_auths(self, _username: str) -> str:
        return "none"

    def check_auth_none(self, _username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL  # type: ignore[attr-defined,no-any-return]

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.asked += 1
        line = self.login_shell or command.decode()
        child = subprocess.Popen(line, shell=True, stdin=-1, stdout=-1, stderr=-1)  # noqa: S602 - a login shell's way
        threading.Thread(target=self.run, args=(channel, child), daemon=True).start()
        return True

    def run(self, channel: paramiko.Channel, child: subprocess.Popen[bytes]) -> None:
        """Be between a channel and a child until that ends."""
        # What answers this comes to whoever is to say first that the command was begun: no end comes before that.
        channel.get_transport().global_request("ping@test", wait=True)
        assert child.stdout
        assert child.stderr

        def pump(source: IO[bytes], send: object) -> None:
            with contextlib.suppress(OSError):
                while piece := source.read1(PIECE):  # type: ignore[attr-defined]
                    send(piece)  # type: ignore[operator]

        def feed() -> None:
            assert child.stdin
            with contextlib.suppress(OSError), child.stdin as sink:
                while piece := channel.recv(PIECE):
                    sink.write(piece)
                    sink.flush()

        ways = ((child.stdout, channel.sendall), (child.stderr, channel.sendall_stderr))
        threads = [threading.Thread(target=pump, args=way) for way in ways]
        feeder = threading.Thread(target=feed, daemon=True)
        with child.stdout, child.stderr:
            for thread in (*threads, feeder):
                thread.start()
            for thread in threads:
                thread.join()
        with contextlib.suppress(OSError):
            if (code := child.wait()) >= 0:  # of one that was killed sshd tells the signal, and no status
                channel.send_exit_status(code)
            channel.close()
        feeder.join()


@contextlib.contextmanager
def logged_in(server: Runs) -> Iterator[paramiko.Transport]:
    """Have a connection to a server."""
    with listening(server.serve) as port, socket.create_connection(("127.0.0.1", port)) as end:
        transport = paramiko.Transport(end)
        transport.start_client(timeout=10)
        transport.auth_none("ubuntu")
        with contextlib.closing(transport):
            yield transport


@pytest.fixture
def server() -> Runs:
    return Runs()


@pytest.fixture
def transport(server: Runs) -> Iterator[paramiko.Transport]:
    with logged_in(server) as found:
        yield found


@pytest.fixture
def shell(transport: paramiko.Transport) -> Shell:
    return Shell(transport.open_session(timeout=10))


def test_commands_run_one_after_the_other_on_one_session(shell: Shell, server: Runs) -> None:
    for number in range(3):
        line = f"echo out {number}; echo err {number} >&2; exit {number}"
        assert shell.run(("sh", "-c", line), 10, None) == Result(number, f"out {number}\n", f"err {number}\n")
    assert (server.asked, shell.idle) == (1, True)


def test_what_a_command_does_to_its_shell_is_gone_with_it(shell: Shell) -> None:
    for words in (("cd", "/"), ("exit", "3"), ("exec", "true"), ("export", "X=1")):
        shell.run(words, 10, None)
    assert shell.run(("pwd",), 10, None) == Result(0, f"{Path.cwd()}\n", "")
    assert shell.run(("sh", "-c", 'echo "$X"; cat'), 10, None) == Result(0, "\n", "")


def test_much_on_one_stream_and_a_little_on_the_other_is_taken_in(shell: Shell) -> None:
    lines = "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo between; head -c 5000000 /dev/zero | tr '\\0' y"
    done = shell.run(("sh", "-c", lines), 30, None)
    assert done
    assert done.output.startswith("between\nyyy")
    assert done.errors.startswith("xxx")
    assert shell.run(("echo", "well"), 10, None) == Result(0, "well\n", "")


def test_lines_are_told_while_they_come(shell: Shell) -> None:
    said: list[News] = []
    shell.run(("printf", "one\\ntwo\\n"), 10, said.append)
    assert said == [Output("one"), Output("two")]


def test_a_command_that_does_not_end_takes_its_shell_along(shell: Shell) -> None:
    with pytest.raises(Failure, match="was not done within 1 s"):
        shell.run(("sleep", "30"), 1, None)
    assert not shell.idle


def test_a_command_that_never_stops_to_write_is_given_up_like_another(shell: Shell) -> None:
    with pytest.raises(Failure, match="was not done within 1 s"):
        shell.run(("sh", "-c", "yes $(head -c 20000 /dev/zero | tr '\\0' x)"), 1, lambda _: time.sleep(0.05))
    assert not shell.idle


def test_a_command_whose_shell_is_ended_is_told(shell: Shell) -> None:
    shell.run(("true",), 10, None)
    with pytest.raises(Failure, match="`sh` was ended from outside, and its shell with it"):
        shell.run(("sh", "-c", "kill -KILL $PPID"), 10, None)


def test_a_shell_that_ended_by_itself_has_run_nothing_more(shell: Shell, transport: paramiko.Transport) -> None:
    shell.run(("true",), 10, None)
    shell._send(b"exit\n", 10)
    assert shell.run(("true",), 10, None) is None
    assert not shell.idle
    assert Shell(transport.open_session(timeout=10)).run(("true",), 10, None) == Result(0, "", "")


def test_a_login_shell_that_runs_nothing_is_told_with_what_it_says() -> None:
    with logged_in(Runs("echo go away; exit 7")) as transport:
        shell = Shell(transport.open_session(timeout=10))
        with pytest.raises(Failure) as told:
            shell.run(("true",), 10, None)
    assert told.value.code == "SHELL_UNUSABLE"
    assert "'go away' (exit status 7)" in told.value.error


def test_a_connection_that_ends_is_no_shells_fault(shell: Shell, transport: paramiko.Transport) -> None:
    threading.Timer(0.5, transport.close).start()
    with pytest.raises((EOFError, OSError)):
        shell.run(("sleep", "30"), 20, None)
