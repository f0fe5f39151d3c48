"""Three commands on every worker, as three steps of a plan: `python -m tests.bench.three_steps`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from deploy.desk import run_plan, scope_of
from deploy.flags import Flags
from deploy.plan import Chain, Plan, Stage, Step
from deploy.report import Report
from deploy.run import Run
from deploy.site import Site


@dataclass(frozen=True)
class Type(Step):
    """Run a command that does nothing."""

    number: int

    @property
    def title(self) -> str:
        return f"step {self.number}"

    @property
    def shell(self) -> str:
        return "true"

    def done(self, site: Site) -> bool:  # noqa: ARG002 - nothing tells that it was done
        return False

    def apply(self, site: Site) -> None:
        """Run it."""
        site.run("true")


def main() -> int:
    """Have every worker do them; the exit code tells how it went."""
    flags = Flags(json=True)
    scope = scope_of(flags)
    chains = tuple(Chain(node, (Type(1), Type(2), Type(3))) for node in scope.inventory.workers)
    report = Report("three.steps")
    run_plan(Run(scope, task=report.task), Plan((Stage(chains),)), report, flags)
    changed = sum(len(outcome.done) for outcome in report.outcomes)
    return report.exit or changed != 3 * len(chains)


if __name__ == "__main__":
    sys.exit(main())
