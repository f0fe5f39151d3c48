"""A shell and commands in the cluster's containers: behind SSH with a real terminal, and on this machine's engine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from docker import DockerClient

from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, PracticeHost, Sandbox, operator

HEAD = "raydock-sandbox-head"
BEHIND_SSH = {"ENVIRONMENT": "sandbox", **NO_ENGINE}
HERE = {"CLUSTER_NAME": "inside-test", "DOCKER_HOST": os.environ.get("DOCKER_HOST"), "WORKERS_FILE": None}
PROMPT = r"[#$] "

Where = dict[str, str | None]


@pytest.fixture(params=["behind-ssh", "here"])
def where(request: pytest.FixtureRequest) -> Where:
    """The settings of a cluster whose head runs: behind SSH, and on this machine's engine."""
    if request.param == "behind-ssh":
        request.getfixturevalue("running")
        return BEHIND_SSH
    request.getfixturevalue("box")
    return HERE


@pytest.fixture
def box(client: DockerClient) -> Iterator[object]:
    """A container that stands for the head on this machine; it has no Ray, which nothing here asks for."""
    made: Any = client.containers.run(
        "raydock/python-root", ["sleep", "600"], name="raydock-inside-test-head", init=True, detach=True
    )
    yield made
    made.remove(force=True)
    # The head's folder, with the audit.
    shutil.rmtree("/var/lib/raydock/inside-test", ignore_errors=True)


@contextmanager
def typed(*words: str, env: Where, size: tuple[int, int] = (33, 101)) -> Iterator[pexpect.spawn[bytes]]:
    """Type a task at a terminal of this size."""
    environ = {**operator(env), "TERM": "xterm-256color"}
    child = pexpect.spawn(str(INVOKE), list(words), cwd=str(TOP), env=environ, dimensions=size, timeout=20)
    try:
        yield child
    finally:
        child.close(force=True)


def code_of(child: pexpect.spawn[bytes]) -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def piped(*words: str, env: Where, stdin: bytes | None = None, code: int = 0) -> tuple[bytes, str]:
    """Run a command in the container without a terminal; give its output and what stderr has."""
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    ran = subprocess.run(
        [str(INVOKE), *words], cwd=TOP, env=operator(env), capture_output=True, timeout=50, check=False, **given
    )
    said = ran.stderr.decode()
    assert (ran.returncode, "Traceback" in said) == (code, False), said
    return ran.stdout, said


def test_a_shell_has_the_terminal(where: Where) -> None:
    with typed("cluster.shell", env=where) as shell:
        shell.expect(PROMPT)
        shell.sendline("stty size; echo $TERM-$((6 * 7))")
        shell.expect("33 101\r\nxterm-256color-42\r\n")
        shell.setwinsize(50, 132)
        # The size goes by another channel than the keys.
        shell.sendline('until [ "$(stty size)" != "33 101" ]; do sleep 0.1; done; stty size')
        shell.expect("50 132\r\n")
        shell.sendline("echo sle''eps; sleep 100")
        shell.expect("sleeps\r\n")
        shell.send("\x03")
        shell.expect(PROMPT)
        shell.sendline("echo it lives: $?")
        shell.expect("it lives: 130")
        shell.sendline("exit 7")
        assert code_of(shell) == 7


def test_a_command_in_a_pipe_has_three_streams_and_its_exit_code(where: Where) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(sys.stdin.isatty() or 7)"
    assert piped("cluster.exec", "--", "python3", "-c", program, env=where, code=7) == (b"out\n", "err\n")
    content = os.urandom(5_000_000)
    assert piped("cluster.exec", "--", "cat", env=where, stdin=content)[0] == content


def test_a_shell_in_a_pipe_reads_its_script(where: Where) -> None:
    out, _ = piped("cluster.shell", env=where, stdin=b"echo $BASH; tty; kill -9 $$\n", code=137)
    assert re.fullmatch(rb"/\S+/bash\nnot a tty\n", out)


def test_a_command_that_the_image_does_not_have_is_127(where: Where) -> None:
    out, err = piped("cluster.exec", "--", "no-such-program", env=where, code=127)
    assert out == b""
    assert "no-such-program" in err


def test_a_program_reads_of_a_command_in_one_document(invoke: Callable[..., Any], running: Sandbox) -> None:
    worker = running.workers[0].node
    ran = invoke("cluster.exec", "--json", "--only", worker, "--", "sh", "-c", "hostname; exit 3", exit=3)
    assert (ran.report["exec_exit"], ran.report["exit"], ran.report["ok"]) == (3, 3, False)
    assert ran.err == "worker-1\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_what_is_broken_off_leaves_no_process(running: Sandbox, number: signal.Signals, code: int) -> None:
    mark = f"98{number}"
    with running_command(mark) as ours:
        until(lambda: sleeping(running.head, mark))
        ours.send_signal(number)
        assert ours.wait(20) == code
    until(lambda: not sleeping(running.head, mark))


def test_a_terminal_that_is_closed_takes_its_shell_along(running: Sandbox) -> None:
    with typed("cluster.shell", env=BEHIND_SSH) as shell:
        shell.expect(PROMPT)
        shell.sendline("sleep 976")
        until(lambda: sleeping(running.head, "976"))
        shell.close()
    until(lambda: not sleeping(running.head, "976"))


def test_a_link_that_is_lost_is_told_and_the_terminal_restored(running: Sandbox, tmp_path: Path) -> None:
    line = f"stty -a >{tmp_path}/before; {INVOKE} cluster.shell; echo ended: $?; stty -a >{tmp_path}/after; exit"
    environ = {**operator(BEHIND_SSH), "PS1": "outer: "}
    with_shell = pexpect.spawn("bash", ["--norc", "-c", line], cwd=str(TOP), env=environ, timeout=20)
    with_shell.expect(PROMPT)
    # The one whose user we are: the server itself is root's.
    running.head.shell("pkill -KILL -f '^sshd: ubuntu'")
    with_shell.expect("SSH_LOST")
    with_shell.expect(f"may run on.*{HEAD}|{HEAD}.*may run on")
    with_shell.expect("ended: 125")
    with_shell.expect(pexpect.EOF)
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()
    # As the help says, it runs on.
    left = running.head.docker("top", HEAD, "-o", "pid,comm").split("\n")
    running.head.run("kill", "-HUP", *[line.split()[0] for line in left if line.endswith(" bash")])


def running_command(seconds: str) -> subprocess.Popen[bytes]:
    argv = [str(INVOKE), "cluster.exec", "--", "sh", "-c", f"sleep {seconds} & wait"]
    return subprocess.Popen(argv, cwd=TOP, env=operator(BEHIND_SSH), stdin=subprocess.DEVNULL)


def sleeping(head: PracticeHost, seconds: str) -> bool:
    return f"sleep {seconds}" in head.docker("top", HEAD, "-o", "pid,args")


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < ends, "not within 15 s"
        time.sleep(0.1)
