"""`cluster.shell` and `cluster.exec`: a program in a container of the cluster, at the operator's streams."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from invoke.exceptions import Exit

from deploy.course import Course, Signalled, ended, raise_signal
from deploy.errors import Failure, Mistake
from deploy.passing import arguments_after_dashes, writer

if TYPE_CHECKING:
    from invoke.context import Context

    from deploy.engine.attach import Program, Size
    from deploy.flags import Flags
    from deploy.hosts import Host
    from deploy.inventory import Node
    from deploy.plans import Scope

STDIN = 0
PATIENCE = 5.0  # seconds


@dataclass(frozen=True)
class Command:
    """What runs, what is typed for it, and the document's line where it is one."""

    argv: tuple[str, ...]
    typed: tuple[str, ...]
    document: str = ""


@dataclass
class ExecCourse(Course):
    """How far a program in a container came, also one that was broken off."""

    container: str = ""
    exec_exit: int | None = None
    is_gone: bool = False

    def standing(self) -> list[str]:
        """Say what stands in the container after a program of which we have no exit code."""
        if not self.changed or self.exec_exit is not None:
            return []
        return [f"the program in {self.container} " + ("was ended" if self.is_gone else "may run on")]

    def document_facts(self) -> dict[str, Any]:
        """Give the program's exit code."""
        return {"exec_exit": self.exec_exit}


# An image without bash has sh.
SHELL = Command(
    ("sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"),
    ("bash",),
    "docker exec -t -i <container-id> bash",
)


def shell(c: Context, flags: Flags) -> None:
    """Do `cluster.shell`."""
    _enter(c, "cluster.shell", lambda: SHELL, flags)


def execute(c: Context, flags: Flags) -> None:
    """Do `cluster.exec`."""
    _enter(c, "cluster.exec", lambda: command(arguments_after_dashes(sys.argv)), flags)


def command(arguments: list[str]) -> Command:
    """Give the command of what stands after ` -- `."""
    if not arguments or not arguments[0]:
        raise Mistake.of("USAGE", "there is no command", "Name it after dashes: invoke cluster.exec -- CMD ARGS")
    return Command(tuple(arguments), tuple(arguments))


def by_hand(container: str, typed: tuple[str, ...], *, terminal: bool) -> str:
    """Give the command that does the same, typed on the node."""
    return shlex.join(["docker", "exec", *(["-t"] if terminal else []), "-i", container, *typed])


def node_of(scope: Scope, only: str | None) -> Node:
    """Give the node that is meant: the head, unless another one is named."""
    named = [node for node in scope.inventory.nodes if node.name in scope.selected]
    if only is None:
        return scope.inventory.head
    if len(named) != 1:
        raise Mistake.of("USAGE", f"--only {only} names {len(named)} nodes", "Name one")
    return named[0]


def _enter(c: Context, task: str, wanted: Callable[[], Command], flags: Flags) -> None:
    from deploy.desk import dry, scope_of

    course = ExecCourse(task)
    with ended(course):
        what = wanted()
        scope = scope_of(flags)
        node = node_of(scope, flags.only)
        course.about(scope.settings)
        course.container = scope.container(node.role)
        if dry(c):
            sys.stdout.write(script(task, scope, node, what, course.container))
            return
        _run(scope, node, what, course, sys.stderr if flags.json else sys.stdout)
    course.tell(as_json=flags.json)
    if course.exit:
        raise Exit(code=course.exit)


def script(task: str, scope: Scope, node: Node, what: Command, container: str) -> str:
    """Give what `--dry` prints: a script for a line of the document, else the command that it stands for."""
    from deploy.script import terminal_script

    line = by_hand(container, what.typed, terminal=bool(what.document) or at_terminal())
    return terminal_script(task, scope, node, what.document, line) if what.document else f"{line}\n"


def at_terminal() -> bool:
    """Tell whether somebody types."""
    return os.isatty(STDIN)


def _run(scope: Scope, node: Node, what: Command, course: ExecCourse, out: TextIO) -> None:
    from deploy.desk import first_lines, kind_of_terminal, note_begun, open_node
    from deploy.engine.attach import new_mark
    from deploy.signals import on_signals

    mark, terminal = new_mark(), at_terminal() and out.isatty()
    if terminal:  # in a pipe stderr is the program's
        first_lines(scope)
    with open_node(scope, node) as host, on_signals(raise_signal, signal.SIGTERM, signal.SIGHUP):
        try:
            note_begun(scope, host, course.task)
            size = size_of_terminal() if terminal else None
            started = host.docker.attach(
                course.container, what.argv, mark, size=size, kind=kind_of_terminal(), on_silence=lambda: check(host)
            )
            course.exec_exit = converse(started, course, out, terminal=terminal)
            course.exit = course.exec_exit
        except (KeyboardInterrupt, BrokenPipeError) as broken:
            # At a terminal Ctrl-C is the program's: what ends us there is no key.
            interrupted = isinstance(broken, KeyboardInterrupt) and not isinstance(broken, Signalled) and not terminal
            with suppress(Failure):
                signals = ("INT", "HUP") if interrupted else ("HUP",)
                course.is_gone = host.docker.end_marked(course.container, mark, *signals)
            raise


def size_of_terminal() -> Size:
    """Give the size of the operator's terminal."""
    from deploy.terminal import size_of

    return size_of(STDIN)


def converse(started: AbstractContextManager[Program], course: Course, out: TextIO, *, terminal: bool) -> int:
    """Have a program at our streams until it ends, and give its exit code."""
    from deploy.engine.streams import STDERR
    from deploy.terminal import fed, raw

    write, write_error = writer(out), writer(sys.stderr)
    with started as program:
        course.changed = True
        with raw(STDIN) if terminal else nullcontext(), fed(program, STDIN, terminal=terminal):
            for stream, content in program.output():
                (write_error if stream == STDERR else write)(content)
        return program.exit_code()


def check(host: Host) -> None:
    """Have the node's engine answer; where it does not, the link is judged first: `SSH_LOST`."""
    try:
        host.docker.ping()
    except Failure as failure:
        if failure.code == "DOCKER_TIMEOUT":
            _check_link(host)
        raise


def _check_link(host: Host) -> None:
    # TCP tells of a dead peer, but not of one behind a jump host or a proxy.
    try:
        host.ask("true", timeout=PATIENCE)
    except Failure as failure:
        lost = f"lost contact with {host.node.name}: its state is unknown"
        raise Failure("SSH_LOST", lost, "Run the task again") from failure
