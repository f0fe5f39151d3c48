"""The audit on the head: a line for each task that acted, with who, when, on what, and what came of it.

Whoever holds the cluster's lock has its holder write the line, so that a task that was cut off has one, too; a task
without the lock has it written by a line of shell. No error's text and no setting goes into it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.errors import Kind
from deploy.grammar import plain
from deploy.reading import Fields, Odd, moment, parsed

if TYPE_CHECKING:
    from deploy.report import Outcome

FILE = "audit"
SHOWN = 20  # lines, where nobody says how many
MOST = 10_000
LONGEST = 2000  # characters of a line: it goes through a pipe in one piece, and into the file likewise
NAMED = 5  # nodes that failed
# Writes a line behind what the head itself knows: by whose login it came. `$d` is the folder.
NOTE = 'note() { printf \'{"as": "%s", %s\\n\' "${SUDO_USER:-$(id -un)}" "${1#?}" >>"$d/' + FILE + '"; } 2>/dev/null'
CUT_OFF = ', "outcome": "cut off"}'
STOLEN = ', "outcome": "stolen"}'


@dataclass(frozen=True)
class Entry:
    """A task that acted.

    Attributes:
        when: its begin, in seconds since 1970, by the operator's clock.
        who: `user@machine`, as the operator's side says.
        login: whose login on the head it came by, as the head says.
        task: its name.
        outcome: ok, failed or interrupted; cut off or stolen, where its lock ended before it.
        seconds: how long it took; None where nobody knows.
        image: the digest of its image, where it was found out.
        codes: the codes of what went wrong.
        nodes: the nodes on which it did, the first few.
    """

    when: float
    who: str
    login: str
    task: str
    outcome: str
    seconds: float | None = None
    image: str = ""
    codes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """Give the entry's object in the JSON document."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.when))
        named = {"codes": list(self.codes), "nodes": list(self.nodes), "image": self.image or None}
        return {"when": when, "who": self.who, "login": self.login, "task": self.task, "outcome": self.outcome} | {
            "seconds": self.seconds,
            **named,
        }


def line(who: str, task: str, since: float, outcomes: Sequence[Outcome], image: str, *, interrupted: bool) -> str:
    """Write what came of a task.

    Args:
        who: `user@machine`.
        task: the task's name.
        since: its begin, in seconds since 1970.
        outcomes: what came of each node.
        image: the image's digest, nothing where it is not known.
        interrupted: whether the operator ended it.
    """
    failed = [(one.node.name, one.problem) for one in outcomes if one.problem]
    told = {
        "who": who,
        "task": task,
        "since": since,
        "seconds": round(time.time() - since, 1),
        "outcome": "interrupted" if interrupted else "failed" if failed else "ok",
        "image": image,
        "codes": sorted({problem.code for _, problem in failed}),
        "nodes": [name for name, _ in failed[:NAMED]],
    }
    text = json.dumps(told)
    return text if len(text) <= LONGEST else json.dumps(told | {"nodes": []})


def acted(outcomes: Sequence[Outcome]) -> bool:
    """Tell whether a task came as far as to act: bad input and a held lock keep it from that."""
    kinds = {one.problem.kind for one in outcomes if one.problem}
    return any(one.asked for one in outcomes) and not kinds & {Kind.LOCKED, Kind.INPUT}


def entries(text: str) -> Iterator[Entry]:
    """Read the audit: others can write into it, and whatever is no entry is passed over."""
    for written in text.splitlines():
        try:
            yield entry(Fields.read(parsed(written)))
        except Odd:
            continue


def entry(found: Fields) -> Entry:
    """Read one line of it."""
    return Entry(
        moment(found.of.get("since")),
        plain(found.text("who")),
        plain(found.text("as")),
        plain(found.text("task")),
        plain(found.text("outcome")),
        moment(found.of["seconds"]) if "seconds" in found.of else None,
        plain(found.text("image", "")),
        tuple(map(plain, found.texts("codes"))),
        tuple(map(plain, found.texts("nodes"))),
    )
