"""Where a task meets the operator: settings in, plan performed or printed, report and exit code out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit

from deploy.errors import Failure, RaydockError

if TYPE_CHECKING:
    from deploy.hosts import Host
    from deploy.plans import Planner, Scope
    from deploy.ray_api import RayApi
    from deploy.report import Report
    from deploy.run import Run
    from deploy.settings import Settings
    from deploy.show import Screen

ROOT = Path(__file__).resolve().parent.parent
# What is most likely typed next, after a task that went well.
NEXT = {
    "build": "invoke publish",
    "build.image": "invoke publish",
    "build.base": "invoke build",
    "publish": "invoke cluster.setup cluster.start",
    "publish.image": "invoke cluster.setup cluster.start",
    "cluster.install": "invoke build.base build publish, or with an image published before: invoke cluster.pull",
    "cluster.pull": "invoke cluster.start",
    "cluster.setup": "invoke cluster.start",
    "cluster.start": "invoke job.run FILE",
    "cluster.start-head": "invoke cluster.start-workers",
    "cluster.start-workers": "invoke job.run FILE",
    "cluster.trust": "invoke cluster.install",
}


@dataclass(frozen=True)
class Flags:
    """What every task of a plan can be told."""

    only: str | None = None
    json: bool = False
    image: str = ""


def scope_of(flags: Flags) -> Scope:
    """Read settings and inventory; every mistake is told before anything is contacted."""
    from deploy.plans import Scope
    from deploy.settings import load

    environ = dict(os.environ)
    if flags.image:
        environ["IMAGE"] = flags.image
    settings = load(ROOT, environ)
    inventory = settings.inventory()
    return Scope(settings, inventory, inventory.select(flags.only))


def dry(c: Context) -> bool:
    """Tell whether nothing shall be done: `--dry` is looked at here only."""
    return bool(c.config.run.dry)


def perform(c: Context, task: str, planner: Planner, flags: Flags = Flags()) -> None:  # noqa: B008 - frozen
    """Perform a task's plan, or with `--dry` print it as a script; ends the process where it did not go well.

    Args:
        c: Invoke's context.
        task: the task's name, for the report.
        planner: what makes the plan.
        flags: what the task was told.
    """
    from deploy.report import Report

    report = Report(task)
    try:
        scope = scope_of(flags)
        report.cluster = scope.settings.cluster_name
        plan = planner(scope)
        if dry(c):
            from deploy.script import script

            sys.stdout.write(script(task, scope, plan))
            return
        run_plan(scope, plan, report)
    except RaydockError as error:
        report.problems = error.problems
    tell(report, flags)


def run_plan(scope: Scope, plan: Any, report: Report) -> None:
    """Have the group perform the plan, and fill the report."""
    from deploy.group import HostGroup
    from deploy.run import Run
    from deploy.show import Screen

    screen = Screen()
    first_lines(screen, scope)
    run = Run(scope, screen.progress)
    try:
        HostGroup(run).perform(plan)
    except KeyboardInterrupt:
        report.interrupted = True
        screen.line("interrupted: what a node was doing may go on there", "red")
    report.outcomes = [run.outcomes[node] for node in scope.inventory.nodes]
    report.seconds = time.monotonic() - run.begun
    report.image = run.found("image")
    head = run.outcomes[scope.inventory.head].facts
    report.facts = {
        key: head[key] for key in ("digest", "uri") if report.task.startswith(("build", "publish")) and head.get(key)
    }


def first_lines(screen: Screen, scope: Scope) -> None:
    """Say what the run is about that its command line does not."""
    settings = scope.settings
    if settings.from_environment:
        screen.line(f"from the environment: {', '.join(settings.from_environment)}", "dim")
    if scope.alone:
        screen.line("no workers.txt: one machine, the head alone", "dim")


def tell(report: Report, flags: Flags) -> None:
    """Give the report, in the form that was asked for, and its exit code."""
    from deploy.show import Screen

    if flags.json:
        sys.stdout.write(json.dumps(report.json()) + "\n")
        sys.stdout.flush()
    screen = Screen()
    screen.report(report)
    if report.exit:
        raise Exit(code=report.exit)
    if report.task in NEXT and sys.stderr.isatty():
        screen.line(f"next: {NEXT[report.task]}", "dim")


@contextmanager
def mistakes_told(task: str) -> Iterator[None]:
    """Tell what an operator can mend in the block as every report does, and end with its exit code."""
    from deploy.report import Report

    try:
        yield
    except RaydockError as error:
        tell(Report(task, problems=error.problems), Flags())


@dataclass
class Head:
    """The running head of the cluster."""

    settings: Settings
    host: Host

    @property
    def ray(self) -> RayApi:
        """Ray's API, with the token."""
        return self.host.ray


@contextmanager
def open_head(c: Context) -> Iterator[Head]:  # noqa: ARG001 - every task has one
    """Give the head of the running cluster; `HEAD_NOT_RUNNING` where there is none."""
    from deploy.ray import container_name
    from deploy.run import Run
    from deploy.show import Screen

    scope = scope_of(Flags())
    run: Run = Run(scope, Screen().progress)
    try:
        host = run.host(scope.inventory.head)
        found = host.docker.find(container_name(scope.settings.cluster_name, "head"))
        if found is None or not found.running:
            raise Failure("HEAD_NOT_RUNNING", "no head of this cluster runs", "Start it: invoke cluster.start")
        yield Head(scope.settings, host)
    finally:
        run.close()
