"""Practice hosts on one machine, with a registry, an ECR endpoint and a git server beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploy.desk import dry


@task(
    help={
        "workers": "How many workers stand beside the head.",
        "prepared": "Hosts that have Docker already.",
    }
)
def up(c: Context, workers: str = "2", prepared: bool = False) -> None:
    """Have practice hosts on this machine, and what a cluster finds around it."""
    from deploy.practice import operate

    if _dry(c):
        return
    changed = _perform(operate.up, workers=workers, prepared=prepared)
    _say(f"the sandbox is up: head and {workers} workers" if changed else "the sandbox is up already: nothing to do")
    step = "build.base" if prepared else "cluster.install"
    _say(f"next: ENVIRONMENT=sandbox invoke {step}")


@task
def down(c: Context) -> None:
    """Remove the practice hosts and all that came with them; images stay."""
    from deploy.practice import operate

    if _dry(c):
        return
    _say("the sandbox is gone" if _perform(operate.down) else "there is no sandbox: nothing to do")
    _say("next: invoke sandbox.up")


def _dry(c: Context) -> bool:
    """Say what a dry run of practice hosts can say."""
    if dry(c):
        _say("practice hosts stand for no line of the document: there is no script, and nothing was done")
    return dry(c)


def _perform(operation: Callable[..., bool], **wanted: Any) -> bool:
    from deploy.errors import RaydockError

    try:
        return operation(say=_say, **wanted)
    except RaydockError as error:
        raise Exit(str(error), error.problems[0].kind.value) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
