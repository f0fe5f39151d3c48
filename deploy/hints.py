"""What is most likely typed next: after a task that went well, and after one that did not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.report import Report

AFTER = {
    "build.image": "publish",
    "build.base": "build",
    "build.commit": "publish",
    "publish.tag": "publish.push",
    "publish.login": "publish.push",
    "publish.push": "cluster.setup cluster.start",
    "publish.image": "cluster.setup cluster.start",
    "job.run": "cluster.stop",
    "job.list": "job.logs ID",
    "job.stop": "job.list",
    "publish.repository": "publish",
    "cluster.install": "build.base build publish",
    "cluster.pull": "cluster.start",
    "cluster.setup": "cluster.start",
    "cluster.start": "job.run FILE",
    "cluster.start-head": "cluster.start-workers",
    "cluster.start-workers": "job.run FILE",
    "cluster.status": "job.run FILE",
    "cluster.stop": "cluster.start",
    "cluster.stop-workers": "cluster.stop-head",
    "cluster.stop-head": "cluster.start",
    "cluster.trust": "cluster.install",
}
# What people type for it.
SHORT = {"build.image": "build", "publish.image": "publish"}
COMMAND = re.compile(r"\binvoke (?=(build|publish|cluster|job|sandbox)\b)")
# Typed again, these would only find the same.
LOOKING = frozenset({"cluster.status"})


def next_command(task: str, words: Sequence[str], *, image: str = "") -> str:
    """Give what follows a task; nothing where it follows on the command line, of which these are the words, already.

    Args:
        task: the one that went well.
        words: those of the command line.
        image: the one to be run, where it is not what the settings say.
    """
    names = {name: name for name in AFTER} | {short: name for name, short in SHORT.items()}
    said = [names[word] for word in words if word in names]
    if task not in AFTER or (said and said[-1] != task):
        return ""
    following = f"invoke {AFTER[task]}"
    return f"IMAGE={shlex.quote(image)} {following}" if image else following


def unlike_latest(report: Report) -> str:
    """Give the image that was published where `latest` stayed another; nothing where it is the same."""
    return "" if "latest" in report.facts.get("tags", ("latest",)) else str(report.facts.get("uri") or "")


def again(report: Report, *, only: str | None, image: str | None, container: str = "") -> tuple[str, str]:
    """Give what failed, and the command that does the rest; none where a task only looked, or nothing was begun."""
    if report.problems or not report.outcomes or report.task in LOOKING:
        return "", ""
    failed = [outcome.node.name for outcome in report.failed]
    asked = sum(outcome.asked for outcome in report.outcomes)
    command = ["invoke", SHORT.get(report.task, report.task), *([container] if container else [])]
    if 0 < len(failed) < asked and not report.head_failed and not report.interrupted:
        command += ["--only", ",".join(failed)]
    elif only:
        command += ["--only", only]
    command += ["--image", image] if image else []
    how = "are not done" if report.interrupted else "failed"
    told = f"{len(failed)} of {asked} nodes {how}" if failed and asked > 1 else ""
    return told, shlex.join(command)


def typed(text: str, environment: str | None) -> str:
    """Give a text in which each command of ours has the environment that the last one was typed with."""
    return COMMAND.sub(f"ENVIRONMENT={shlex.quote(environment)} \\g<0>", text) if environment else text
