"""`build.shell`: the base image at the operator's terminal, and the container that it leaves."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from invoke.exceptions import Exit

from deploy.course import Course, ended, raise_signal
from deploy.errors import Failure
from deploy.inside import SHELL, at_terminal, check, converse, size_of_terminal
from deploy.steps.manual import BY_LABEL, MANUAL_LABEL

if TYPE_CHECKING:
    from invoke.context import Context

    from deploy.flags import Flags
    from deploy.hosts import Host
    from deploy.plans import Scope

TASK = "build.shell"
DOCUMENT = "docker run -t -i ray-project/deploy"
GRACE = 5  # seconds for what a broken-off shell is doing


@dataclass
class ShellCourse(Course):
    """How far a shell in a new container came, also one that was broken off."""

    container: str = ""
    shell_exit: int | None = None

    def standing(self) -> list[str]:
        """Say what the shell left."""
        if not self.container:
            return []
        if self.problems:
            return [f"its container {self.container} stays, and may run on: invoke build.containers"]
        return [f"its container {self.container} stays; make the image of it: invoke build.commit {self.container}"]

    def document_facts(self) -> dict[str, Any]:
        """Give the container, and the shell's exit code."""
        return {"container": self.container or None, "exec_exit": self.shell_exit}


def shell(c: Context, flags: Flags) -> None:
    """Do `build.shell`."""
    from deploy.desk import dry, first_lines, scope_of
    from deploy.script import terminal_script

    course = ShellCourse(TASK)
    with ended(course):
        scope = scope_of(flags)
        course.about(scope.settings)
        if dry(c):
            print(terminal_script(TASK, scope, scope.inventory.head, DOCUMENT, by_hand(scope)), end="")
            return
        first_lines(scope)
        _run(scope, course, sys.stderr if flags.json else sys.stdout)
    course.tell(as_json=flags.json)
    if course.exit:
        raise Exit(code=course.exit)


def by_hand(scope: Scope) -> str:
    """Give the command that does the same, typed on the head."""
    settings = scope.settings
    label = f"{MANUAL_LABEL}={settings.cluster_name}"
    return shlex.join(["docker", "run", "-t", "-i", "--label", label, settings.base_image, *SHELL.typed])


def _run(scope: Scope, course: ShellCourse, out: TextIO) -> None:
    from deploy.desk import note_begun, open_host
    from deploy.lates import BY
    from deploy.signals import on_signals
    from deploy.steps.building import HaveBase

    terminal = at_terminal() and out.isatty()
    with open_host(scope, scope.inventory.head) as host, on_signals(raise_signal, signal.SIGTERM, signal.SIGHUP):
        base = HaveBase(scope.settings.base_image)
        if not base.done(host):
            base.apply(host)
        labels = {MANUAL_LABEL: scope.settings.cluster_name, BY_LABEL: host.value(BY)}
        note_begun(scope, host, course.task)
        made = host.docker.new_container(scope.settings.base_image, SHELL.argv, labels, terminal=terminal)
        course.container, course.changed = made[:12], True
        size = size_of_terminal() if terminal else None
        started = host.docker.start_attached(made, size=size, on_silence=lambda: check(host))
        try:
            course.shell_exit = course.exit = converse(started, course, out, terminal=terminal)
        except (KeyboardInterrupt, BrokenPipeError):
            _end(host, made)
            raise


def _end(host: Host, container: str) -> None:
    """Have the shell end that nobody speaks with any more; what it did stays in its container."""
    with suppress(Failure):
        host.docker.stop(container, GRACE)
