"""Where a task meets the operator: settings in, plan performed or printed, report and exit code out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit

from deploy.early import tidy_seldom
from deploy.errors import INTERRUPTED, Failure, Mistake, RaydockError
from deploy.flags import Flags
from deploy.hints import again, next_command, typed, unlike_latest

if TYPE_CHECKING:
    from deploy.hosts import Host
    from deploy.inventory import Node
    from deploy.plan import Plan
    from deploy.plans import Planner, Scope
    from deploy.ray_api import RayApi
    from deploy.report import Report
    from deploy.run import Run
    from deploy.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def scope_of(flags: Flags) -> Scope:
    """Read settings, inventory and flags; every mistake is told before anything is contacted."""
    from deploy.inputs import read_inputs
    from deploy.plans import Scope

    wrong = tuple(flags.problems())
    try:
        settings, inventory = read_inputs(ROOT, os.environ, {"IMAGE": flags.image} if flags.image else {})
        selected = inventory.select(flags.only)
    except Mistake as mistake:
        raise Mistake(*mistake.problems, *wrong) from None
    Mistake.raise_any(wrong)
    return Scope(settings, inventory, selected, flags.replace)


def dry(c: Context) -> bool:
    """Tell whether nothing shall be done: `--dry` is looked at here only."""
    return bool(c.config.run.dry)


def perform(
    c: Context,
    task: str,
    flags: Flags,
    *,
    planner: Planner | None = None,
    show: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> None:
    """Perform a task's plan, or with `--dry` print it as a script; ends the process where it did not go well.

    Args:
        c: Invoke's context.
        task: the task's name, for the report.
        flags: what the task was told.
        planner: what makes the plan, where that is not the one of the task's name alone.
        show: prints the facts that were asked for, where they were found and no program reads them.
    """
    from deploy.plans import planner_of
    from deploy.report import Report

    report = Report(task, timings=flags.timings)
    with signals_told(report):
        try:
            scope = scope_of(flags)
            report.about(scope.settings)
            plan = (planner or planner_of(task))(scope)
            if dry(c):
                from deploy.script import script

                write(script(task, scope, plan))
                return
            run_plan(begun(scope, plan, task, flags), plan, report, flags)
        except RaydockError as error:
            report.problems = error.problems
        except KeyboardInterrupt:
            report.interrupted = True
        if not flags.json and report.exit == 0:
            show(report.facts)
        tell(report, flags)


@contextmanager
def signals_told(report: Report) -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGHUP be an interruption for the block; its report is written in peace after one."""
    from deploy.signals import ENDING, heed_no_more, on_signals

    def interrupt(_number: int, _frame: object) -> None:
        if not report.interrupted:
            raise KeyboardInterrupt

    try:
        with on_signals(interrupt, *ENDING):
            yield
    except KeyboardInterrupt:
        report.interrupted = True
        raise Exit(code=INTERRUPTED) from None
    finally:
        # Invoke would give one that comes now another code.
        if report.interrupted:
            heed_no_more(*ENDING)


def begun(scope: Scope, plan: Plan, task: str, flags: Flags) -> Run:
    """Give the run of a plan; nodes are connected to while we say what it is about, and load what speaks to them.

    With `--steal` not before somebody has agreed to it.
    """
    from deploy.run import Run

    if plan.locked and flags.steal:
        first_lines(scope)
        steal(scope, flags)
        return Run(scope, task=task)
    run = Run(scope, task=task)
    run.reach_out(plan.first_reached())
    first_lines(scope)
    return run


def run_plan(run: Run, plan: Plan, report: Report, flags: Flags) -> None:
    """Have the group perform the plan, and fill the report."""
    from deploy.group import HostGroup
    from deploy.interruption import heard
    from deploy.show import Screen

    tidy_seldom()
    screen, patience = Screen(), flags.patience
    signals = heard(run, lambda line: screen.line(line, "bold"))
    with screen.watch(verbose=flags.verbose) as run.watch, signals as interruption:
        try:
            HostGroup(run).perform(plan, lambda: run.lock(report.task, patience, forced=flags.force))
        except KeyboardInterrupt:
            run.leave()
        report.interrupted = run.left.is_set() or interruption.signals > 0
    if run.left.is_set():
        screen.line("what a node was doing may go on there", "red")
    inventory = run.scope.inventory
    report.outcomes = [run.outcomes[node] for node in inventory.nodes]
    report.bugs = run.bugs
    report.seconds = time.monotonic() - run.begun
    report.facts = dict(run.outcomes[inventory.head].made)
    report.image = report.facts.pop("image", None) or run.found("image")


def steal(scope: Scope, flags: Flags) -> None:
    """Say who is at work on the cluster, ask, and end it; nothing where nobody is."""
    from deploy.lock import end_holder, who_holds

    with open_host(scope, scope.inventory.head) as host:
        if held := who_holds(host, scope.settings.cluster_name):
            what = f"somebody else holds the lock of {scope.settings.cluster_name}: {held}"
            agree(f"{what}. End what they do?", "Say --yes to end it", yes=flags.yes)
            end_holder(host, scope.settings.cluster_name, held)


def first_lines(scope: Scope) -> None:
    """Say what the run is about that its command line does not."""
    from deploy.files import open_keys
    from deploy.show import Screen

    screen, settings = Screen(), scope.settings
    if settings.from_environment:
        screen.line(f"from the environment: {', '.join(settings.from_environment)}", "dim")
    for opening in settings.openings():
        screen.line(opening, "yellow")
    if not settings.ssh_key and not all(node.local for node in scope.inventory.nodes):
        for opening in open_keys():
            screen.line(opening, "yellow")
    for key, said in settings.loosened().items():
        screen.line(f"{key}: {said}", "yellow")
    if scope.alone:
        screen.line("no workers.txt: one machine, the head alone", "dim")


def tell(report: Report, flags: Flags) -> None:
    """Give the report, in the form that was asked for, and its exit code."""
    from deploy.show import Screen

    if flags.json:
        write_json(report)
    environment = os.environ.get("ENVIRONMENT")
    screen = Screen(environment)
    screen.report(report)
    screen.bugs(report.bugs)
    if report.exit:
        told, command = again(report, only=flags.only, image=flags.image, container=flags.container)
        if command:
            screen.line(f"{told}; again: {typed(command, environment)}".removeprefix("; "))
        raise Exit(code=report.exit)
    image = unlike_latest(report) if report.task.startswith("publish.") else ""
    if not flags.json and (command := next_command(report.task, sys.argv[1:], image=image)):
        screen.line(f"next: {typed(command, environment)}", "dim")


def say(line: str) -> None:
    """Tell the operator something, at once; what a program or Ray says is in it."""
    from deploy.outlet import Outlet
    from deploy.show import clean

    Outlet(sys.stderr).write(typed(clean(line), os.environ.get("ENVIRONMENT")) + "\n")


def write_json(report: Report) -> None:
    """Write the one document that a program reads."""
    write(json.dumps(report.json()) + "\n")


def write(text: str) -> None:
    """Write to stdout at once; a reader who has gone misses it."""
    from deploy.outlet import Outlet

    Outlet(sys.stdout).write(text)


def agree(question: str, cure: str, *, yes: bool, no: str = "nothing was done") -> None:
    """Ask once; without a terminal and `--yes`, or where the answer is no, nothing is done, or what `no` says."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Mistake.of("USAGE", "nobody is there to be asked", cure)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    said = ""
    try:
        said = sys.stdin.readline()
    finally:
        if not said.endswith("\n"):
            sys.stderr.write("\n")
    if said.strip().lower() not in ("y", "yes"):
        raise Mistake.of("USAGE", f"the answer was no: {no}", "Answer y to go on")


@contextmanager
def answer(task: str, flags: Flags) -> Iterator[Report]:
    """Give the report of a task that only answers: it tells what goes wrong, and in JSON the answer."""
    from deploy.report import Report

    report = Report(task)
    with signals_told(report):
        try:
            yield report
        except RaydockError as error:
            report.problems = error.problems
        except KeyboardInterrupt:
            report.interrupted = True
        if report.exit:
            tell(report, flags)
        if flags.json:
            write_json(report)


@dataclass
class Head:
    """The running head of the cluster."""

    settings: Settings
    host: Host

    @property
    def ray(self) -> RayApi:
        """Ray's API, with the token."""
        return self.host.ray

    def note(self, task: str) -> None:
        """Have the audit say that a task acts now; where it cannot be written, that is told."""
        from deploy.run import note

        note(self.host, self.settings.cluster_name, task)


def note_begun(scope: Scope, host: Host, task: str) -> None:
    """Have the audit on the head say that a task acts now, whatever node it acts on; where it cannot, that is told."""
    from deploy.run import note

    note(host.peer(scope.inventory.head), scope.settings.cluster_name, task)


@contextmanager
def open_head(c: Context) -> Iterator[Head]:  # noqa: ARG001 - every task has one
    """Give the head of the running cluster: `HEAD_NOT_RUNNING` where there is none, `DIALECT_TOO_OLD` below Ray 2.0."""
    from deploy.ray import RAY, is_mute

    scope = scope_of(Flags())
    first_lines(scope)
    with open_node(scope, scope.inventory.head) as host:
        found = host.docker.find(scope.container("head"))
        if found and is_mute(found.labels):
            raise Failure(
                "DIALECT_TOO_OLD",
                f"Ray {found.labels[RAY]} takes no programs from outside, as Ray does from 2.0 on",
                "Run it in the head's container: invoke cluster.exec -- python FILE",
            )
        yield Head(scope.settings, host)


@contextmanager
def open_host(scope: Scope, node: Node) -> Iterator[Host]:
    """Give a node, and close its connection after the block."""
    from deploy.run import Run
    from deploy.show import Screen

    tidy_seldom()
    with closing(Run(scope, Screen().lines())) as run:
        yield run.host(node)


@contextmanager
def open_node(scope: Scope, node: Node) -> Iterator[Host]:
    """Give a node on which the cluster's container runs; `HEAD_NOT_RUNNING` or `NOT_RUNNING` where it does not."""
    with open_host(scope, node) as host:
        found = host.docker.find(scope.container(node.role))
        if found is None or not found.running:
            code = "HEAD_NOT_RUNNING" if node.role == "head" else "NOT_RUNNING"
            raise Failure(code, f"no {node.role} of this cluster runs", "Start it: invoke cluster.start")
        yield host


def kind_of_terminal() -> str:
    """Give what programs call the operator's terminal, as `TERM` has it; nothing where it is not set."""
    return os.environ.get("TERM", "")
