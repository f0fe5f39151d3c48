"""What a task can be told: each flag's meaning once, whichever tasks take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Any

from invoke.context import Context
from invoke.tasks import Task, task

from deploy.audit import MOST, SHOWN
from deploy.durations import parse_duration
from deploy.errors import Problem
from deploy.grammar import shown, whole


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
    last: str | None = None
    port: str | None = None
    timings: bool = False

    @property
    def own_port(self) -> int | None:
        """The port of this machine that was asked for; a `ValueError` if it is none."""
        return None if self.port is None else CHECKED["port"][0](self.port)

    @property
    def lines(self) -> int:
        """How many lines to show; a `ValueError` if it is no number of them."""
        return SHOWN if self.last is None else CHECKED["last"][0](self.last)

    @property
    def patience(self) -> int:
        """Seconds to wait for somebody else's lock; a `ValueError` if nobody can say how many."""
        return 0 if self.wait is None else CHECKED["wait"][0](self.wait)

    def problems(self) -> Iterator[Problem]:
        """Tell what is wrong with the flags that settings and inventory have no part in."""
        if self.image == "":
            yield Problem("USAGE", "names no image", "Leave it out, or say which", "--image")
        for name, (check, example) in CHECKED.items():
            if (text := getattr(self, name)) is None:
                continue
            try:
                check(text)
            except ValueError as wrong:
                yield Problem("USAGE", f"{shown(text)} {wrong}", f"Say for instance --{name} {example}", f"--{name}")


# What a flag's text means, with an example.
CHECKED: Mapping[str, tuple[Callable[[str], int], str]] = {
    "wait": (parse_duration, "5m"),
    "last": (lambda text: whole(text, 1, MOST), "50"),
    "port": (lambda text: whole(text, 1, 65535), "9000"),
}
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
    "last": f"show so many tasks, the newest last (default: {SHOWN})",
    "port": "the port of this machine, instead of DASHBOARD_PORT",
    "timings": "show where each node's time went, as bars; with --json as the nodes' `timings`",
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
