"""A plan as the manual would type it: a bash script, host by host, that calls nothing of ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deploy.lates.project import ASK_NOBODY
from deploy.plan import Late, Place, lates
from deploy.shell import AS_ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.inventory import Node
    from deploy.plan import Chain, Plan, Step
    from deploy.plans import Scope

PRELUDE = r"""
# plain WORD…: go on if these are plain words, and no option among them. What the head says of itself goes into command
# lines of other nodes.
plain() {
  local word
  for word; do
    case " $word" in
      (*" -"* | *[!][A-Za-z0-9_./:@+\ -]*) echo 'the head says something else than it was asked' >&2; exit 1 ;;
    esac
  done
}

# to HOST [NAME…]: run the lines of the standard input on HOST, with these variables. Script and values go
# through the connection's input, so none of them is seen in a process list.
to() {
  local host=$1
  shift
  {
    echo 'set -euo pipefail'
    [ $# = 0 ] || declare -p "$@"
    echo '<as-root>'
    echo 'memory=$(mktemp -d -p /dev/shm) && trap '\''rm -rf "$memory"'\'' EXIT'
    echo '{'
    cat
    echo '} </dev/null'
  } | "$host"
}
""".strip().replace("<as-root>", AS_ROOT)


# AWS settings that are no secret.
OPEN_KEYS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass
class Script:
    """The script while it is written: its lines, and the variables that the operator's side has so far."""

    scope: Scope
    lines: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    # Those of them that the head said, and that no other node was told yet.
    said: set[str] = field(default_factory=set)

    @cached_property
    def numbers(self) -> dict[Node, int]:
        """The number of each node."""
        return {node: number for number, node in enumerate(self.scope.inventory.nodes)}

    def write(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def host(self, node: Node) -> str:
        """Give the function that reaches a node."""
        return f"on_{self.numbers[node]}"

    def assign(self, late: Late[Any]) -> None:
        """Have the operator's side find out a value, once."""
        if late.name in self.known or late.at is Place.NODE or not late.shell:
            return
        if late.at is Place.OPERATOR:
            self.write(f"{late.name}=$({late.shell})")
        else:
            variables = [needed.name for needed in lates(late.needs) if needed.name in self.known]
            call = " ".join(("to", self.host(self.scope.inventory.head), *variables))
            self.write(f"{late.name}=$({call} <<'LINES'", late.shell, "LINES", ")")
            self.said.add(late.name)
        self.known.add(late.name)

    def block(self, node: Node, steps: Sequence[Step]) -> None:
        """Send the lines of some steps to a node."""
        values = [(step, tuple(lates(step))) for step in steps]
        found = list(dict.fromkeys(late for _, needed in values for late in needed))
        for late in found:
            self.assign(late)
        variables = sorted({late.name for late in found} & self.known)
        if node != self.scope.inventory.head and (said := sorted(self.said & set(variables))):
            self.write(" ".join(("plain", *(f'"${name}"' for name in said))))
            self.said -= set(said)
        self.write(" ".join(("to", self.host(node), *variables)) + " <<'LINES'")
        assigned: set[str] = set()
        for step, needed in values:
            for late in needed:
                if late.at is Place.NODE and late.name not in assigned:
                    assigned.add(late.name)
                    self.write(f"{late.name}=$({late.shell})")
            self.write(f"# {step.document or step.title}", step.shell)
        self.write("LINES")

    def chain(self, chain: Chain) -> None:
        """Write what one node has to do."""
        self.write("", f"# --- {chain.node.name}")
        for place, steps in sessions(chain.steps):
            if place is Place.OPERATOR:
                for step in steps:
                    self.write(f"# {step.document or step.title}", step.shell)
                continue
            for part in self.parts(steps):
                self.block(chain.node, part)

    def parts(self, steps: Sequence[Step]) -> Iterator[list[Step]]:
        """Cut before each step with values that are yet to be found out: what comes before may be what gives them."""
        part: list[Step] = []
        known = set(self.known)
        for step in steps:
            new = {late.name for late in lates(step) if late.at is not Place.NODE and late.shell} - known
            if part and new:
                yield part
                part = []
            part.append(step)
            known |= new
        if part:
            yield part


def sessions(steps: Sequence[Step]) -> Iterator[tuple[Place, list[Step]]]:
    """Cut a chain where another side acts, or where a new session is needed."""
    run: list[Step] = []
    for step in steps:
        if run and run[-1].where is not step.where:
            yield run[-1].where, run
            run = []
        run.append(step)
        if step.ends_session:
            yield step.where, run
            run = []
    if run:
        yield run[-1].where, run


def reach(scope: Scope, node: Node) -> str:
    """Write the command that gives a shell on a node."""
    return "bash -s" if node.local else shlex.join(ssh_words(scope, node))


def ssh_words(scope: Scope, node: Node) -> list[str]:
    """Give the words of `reach` for a node behind SSH."""
    settings = scope.settings
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    if settings.ssh_known_hosts:
        words += ["-o", f"UserKnownHostsFile={file_of_option(settings.ssh_known_hosts)}"]
    if settings.ssh_key:
        words += ["-i", str(settings.ssh_key).replace("%", "%%"), "-o", "IdentitiesOnly=yes"]
    if node.port:
        words += ["-p", str(node.port)]
    user = f"{node.user}@" if node.user else ""
    return [*words, f"{user}{node.address}", "bash", "-s"]


def file_of_option(file: Path) -> str:
    """Write a file's name as an option of ssh takes it, which splits it at blanks and fills in what begins with `%`."""
    name = str(file).replace("%", "%%")
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"' if re.search(r"[\s\"'\\#]", name) else name


def reach_terminal(scope: Scope, node: Node, line: str) -> str:
    """Write the command that has a line's program on a node at this terminal."""
    if node.local:
        return line
    *words, _, _ = ssh_words(scope, node)
    return shlex.join([words[0], "-t", *words[1:], line])


def tools(text: str) -> list[str]:
    """Name what the script calls on the operator's side."""
    # Where a command begins: the manual's own words, in comments, name them as well.
    called = [tool for tool in ("ssh", "aws") if re.search(rf"^(\w+=\$\(|\w+\(\) {{ )?{tool} ", text, re.MULTILINE)]
    # The head's own git is none of the operator's.
    return [*called, "git"] if ASK_NOBODY in text else called


def script(task: str, scope: Scope, plan: Plan) -> str:
    """Give the plan of a task as a bash script."""
    body = Script(scope)
    for stage in plan.stages:
        for chain in stage.chains:
            body.chain(chain)
    nodes = {chain.node: None for stage in plan.stages for chain in stage.chains}
    nodes.setdefault(scope.inventory.head)
    hosts = [f"{body.host(node)}() {{ {reach(scope, node)}; }}  # {node.name}" for node in nodes]
    text = "\n".join((*hosts, *body.lines))
    aws = [
        f"export {key}={shlex.quote(value.reveal())}" for key, value in scope.settings.aws.items() if key in OPEN_KEYS
    ]
    return "\n".join((*opening(task, text), *aws, "", PRELUDE, "", text)) + "\n"


def opening(task: str, text: str) -> tuple[str, ...]:
    """Write how a script begins: what it is, and the check that what it calls is there."""
    return (
        "#!/usr/bin/env bash",
        f"# {task}: what Raydock does, typed by hand. It holds no secret.",
        "set -euo pipefail",
        "",
        f"for tool in {' '.join(['bash', *tools(text)])}; do",
        '  command -v "$tool" >/dev/null || { echo "$tool is not installed here" >&2; exit 1; }',
        "done",
    )


def terminal_script(task: str, scope: Scope, node: Node, document: str, line: str) -> str:
    """Give a task that has the operator's terminal as a bash script."""
    text = "\n".join((f"# --- {node.name}", f"# {document}", reach_terminal(scope, node, line)))
    return "\n".join((*opening(task, text), "", text)) + "\n"
