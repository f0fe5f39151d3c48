"""`cluster.start --replace`: what runs otherwise than wanted is shown, and gives way when somebody says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.errors import RaydockError
from deploy.flags import Flags
from deploy.plans import cluster as plans
from deploy.report import Outcome, Report

if TYPE_CHECKING:
    from invoke.context import Context

    from deploy.plan import Plan
    from deploy.plans import Scope

CURE = "Say --yes to have them replaced"


def start_replacing(c: Context, flags: Flags) -> None:
    """Look at what runs, ask once about what has to go, then start with its names free."""
    from deploy.desk import perform, scope_of, signals_told, tell

    report = Report("cluster.start")
    with signals_told(report):
        try:
            others = _others(scope_of(flags), report)
            if not report.interrupted:
                _ask(others, flags)
        except RaydockError as error:
            report.problems = error.problems
        except KeyboardInterrupt:
            report.interrupted = True
        if report.exit:
            tell(report, flags)
            return
    going = frozenset(outcome.node.name for outcome in others)
    perform(c, "cluster.start", flags, planner=lambda scope: _make_room(scope, going).then(plans.start(scope)))


def _others(scope: Scope, report: Report) -> list[Outcome]:
    """Give the nodes on which one of ours runs otherwise than wanted; who cannot be asked is for the start to tell."""
    from deploy.desk import run_plan
    from deploy.run import Run

    report.about(scope.settings)
    looked = Report(report.task)
    run_plan(Run(scope, task=report.task), plans.compare(scope), looked, Flags())
    report.interrupted = looked.interrupted
    return [outcome for outcome in looked.outcomes if outcome.facts.get("differs")]


def _ask(others: list[Outcome], flags: Flags) -> None:
    from deploy.desk import agree
    from deploy.show import Screen

    if not others:
        return
    screen = Screen()
    for outcome in others:
        differs = ", ".join(outcome.facts["differs"])
        screen.line(f"{outcome.node.name}: {outcome.facts['container_id']} runs with another {differs}")
    head = any(outcome.node.role == "head" for outcome in others)
    dies = "The whole cluster ends with its head, and every job on it." if head else "What runs on these nodes ends."
    agree(f"{dies} Replace?", CURE, yes=flags.yes)


def _make_room(scope: Scope, going: frozenset[str]) -> Plan:
    """Stop what has to go; with the head, which takes them along, all workers."""
    if scope.inventory.head.name in going:
        return plans.stop(scope)
    return plans.stop_workers(scope.only(going))
