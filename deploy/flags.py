"""What a task can be told: each flag's meaning once, whichever tasks take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Any

from invoke.context import Context
from invoke.tasks import Task, task

from deploy.durations import parse_duration
from deploy.errors import Problem
from deploy.grammar import shown


@dataclass(frozen=True)
class Flags:
    """What was told; each flag as it is where nothing was."""

    only: str | None = None
    json: bool = False
    verbose: bool = False
    image: str | None = None
    replace: bool = False
    yes: bool = False
    container: str = ""
    wait: str | None = None
    steal: bool = False
    force: bool = False

    @property
    def patience(self) -> int:
        """Seconds to wait for somebody else's lock; a `ValueError` if nobody can say how many."""
        return 0 if self.wait is None else parse_duration(self.wait)

    def problems(self) -> Iterator[Problem]:
        """Tell what is wrong with the flags that settings and inventory have no part in."""
        if self.image == "":
            yield Problem("USAGE", "names no image", "Leave it out, or say which", "--image")
        try:
            self.patience  # noqa: B018 - it is asked for what it refuses
        except ValueError as wrong:
            yield Problem("USAGE", f"{shown(self.wait or '')} {wrong}", "Say for instance --wait 5m", "--wait")


MEANING = {
    "only": "NAME[,NAME]: change only these nodes, named as in workers.txt; the head is `head`",
    "json": "print one JSON document on stdout, whatever happens",
    "verbose": "show what the nodes print, line by line",
    "image": "run this image (a tag or @sha256:) instead of the published one",
    "replace": "replace containers that run otherwise than wanted; says what dies, and asks",
    "yes": "answer the question with yes",
    "wait": "30s, 5m, 1h: wait so long for somebody else who is at work on the cluster",
    "steal": "end what somebody else is doing on the cluster; says who, and asks",
    "force": "where the head cannot be reached, stop the workers without its lock",
    "container": "the container's id or name, as build.containers lists it",
}
DEFAULTS = {field.name: field.default for field in fields(Flags)}


class OwnTask(Task):  # type: ignore[type-arg]  # generic for checkers only
    """A task that is equal to itself alone.

    Invoke takes two for one, and runs it once, where their names and their functions' code are the same: `build.image`
    and `publish.image` are not.
    """

    def __eq__(self, other: object) -> bool:
        """Tell whether it is this very task."""
        return self is other

    def __hash__(self) -> int:
        """Give what goes with it."""
        return id(self)


def flagged(
    *names: str, needs: Sequence[str] = (), meaning: Mapping[str, str] = MEANING, **options: Any
) -> Callable[[Callable[[Context, Flags], None]], Any]:
    """Make a task of a function that takes the flags of these names.

    What it `needs` are words, each in its place; `meaning` is for what they mean to it alone.
    """

    def decorate(body: Callable[[Context, Flags], None]) -> Any:
        @wraps(body)
        def told(c: Context, **given: Any) -> None:
            body(c, Flags(**given))

        # Invoke makes its command line of a function's parameters.
        flags = (Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=DEFAULTS[name]) for name in names)
        words = (Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("c", *needs))
        signature = Signature([*words, *flags])
        told.__signature__ = signature  # type: ignore[attr-defined]  # what inspect looks for
        return task(
            told, klass=OwnTask, help={name: {**MEANING, **meaning}[name] for name in (*needs, *names)}, **options
        )

    return decorate
