"""Practice hosts on one machine, with a registry, an ECR endpoint and a git server beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from deploy.desk import answer, dry
from deploy.flags import MEANING, Flags


@task(
    help={
        "workers": "how many workers stand beside the head",
        "prepared": "hosts that have Docker already",
        "json": MEANING["json"],
    }
)
def up(c: Context, workers: str = "2", prepared: bool = False, json: bool = False) -> None:
    """Have practice hosts on this machine, and what a cluster finds around it."""
    from deploy.practice import operate

    if _dry(c):
        return
    changed = _perform("sandbox.up", operate.up, json=json, workers=workers, prepared=prepared)
    _say(f"the sandbox is up: head and {workers} workers" if changed else "the sandbox is up already: nothing to do")
    step = "build.base" if prepared else "cluster.install"
    _say(f"next: ENVIRONMENT=sandbox invoke {step}")


@task(help={"json": MEANING["json"]})
def down(c: Context, json: bool = False) -> None:
    """Remove the practice hosts and all that came with them; images stay."""
    from deploy.practice import operate

    if _dry(c):
        return
    changed = _perform("sandbox.down", operate.down, json=json)
    _say("the sandbox is gone" if changed else "there is no sandbox: nothing to do")
    _say("next: invoke sandbox.up")


def _dry(c: Context) -> bool:
    """Say what a dry run of practice hosts can say."""
    if dry(c):
        _say("practice hosts stand for no line of the document: there is no script, and nothing was done")
    return dry(c)


def _perform(name: str, operation: Callable[..., bool], *, json: bool, **wanted: Any) -> bool:
    with answer(name, Flags(json=json)) as report:
        changed = operation(say=_say, **wanted)
        report.facts["changed"] = changed
    return changed


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
