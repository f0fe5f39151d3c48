"""Set up, start, look at and stop the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invoke.context import Context

from deploy.desk import dry, perform, say
from deploy.flags import Flags, flagged

USUAL = ("only", "json", "verbose", "timings")
# What waits for others, and others wait for.
ACTING = (*USUAL, "wait", "steal", "yes")
INSIDE = {
    "only": "NAME: in the container of this node, named as in workers.txt, instead of the head's",
    "json": "print one JSON document on stdout; the program's output goes to stderr",
}


def show_history(facts: Mapping[str, Any]) -> None:
    """Print a line for each task."""
    from deploy.show.jobs import listing

    if found := facts.get("history"):
        listing(("when", "who", "task", "outcome", "took", "what"), [history_row(one) for one in found])
    else:
        say("nothing was done to this cluster yet")


def history_row(entry: Mapping[str, Any]) -> list[str]:
    """Give the cells of a task that acted."""
    took = "" if entry["seconds"] is None else f"{entry['seconds']:.1f} s"
    wrong = f"{', '.join(entry['codes'])} on {', '.join(entry['nodes'])}" if entry["codes"] else ""
    who = f"{entry['who']} as {entry['login']}"
    return [entry["when"], who, entry["task"], entry["outcome"], took, wrong or entry["image"] or ""]


@flagged(*ACTING)
def install(c: Context, flags: Flags) -> None:
    """Install Docker on the head and on every worker, and start it."""
    perform(c, "cluster.install", flags)


@flagged(*ACTING, "image")
def pull(c: Context, flags: Flags) -> None:
    """Pull the published image onto every node, by its digest."""
    perform(c, "cluster.pull", flags)


@flagged(*ACTING, "image")
def setup(c: Context, flags: Flags) -> None:
    """Install Docker and pull the image, on all nodes at once."""
    perform(c, "cluster.setup", flags)


@flagged(*ACTING, "image", "replace")
def start(c: Context, flags: Flags) -> None:
    """Start Ray on the head and the workers, until every node ran a task."""
    from deploy.replace import start_replacing

    if flags.replace and not dry(c):
        start_replacing(c, flags)
    else:
        perform(c, "cluster.start", flags)


@flagged(*ACTING, "image")
def start_head(c: Context, flags: Flags) -> None:
    """Start Ray on the head."""
    perform(c, "cluster.start-head", flags)


@flagged(*ACTING, "image")
def start_workers(c: Context, flags: Flags) -> None:
    """Start Ray on the workers of a running head."""
    perform(c, "cluster.start-workers", flags)


@flagged(*USUAL)
def status(c: Context, flags: Flags) -> None:
    """Show each node's container, and whether Ray has the node alive."""
    perform(c, "cluster.status", flags)


@flagged(*ACTING)
def stop_workers(c: Context, flags: Flags) -> None:
    """Stop this cluster's containers on the workers."""
    perform(c, "cluster.stop-workers", flags)


@flagged(*ACTING)
def stop_head(c: Context, flags: Flags) -> None:
    """Stop this cluster's container on the head."""
    perform(c, "cluster.stop-head", flags)


@flagged(*ACTING, "force")
def stop(c: Context, flags: Flags) -> None:
    """Stop this cluster's containers: the workers', then the head's."""
    perform(c, "cluster.stop", flags)


@flagged("json", "port")
def dashboard(c: Context, flags: Flags) -> None:
    """Open Ray's dashboard at a port of this machine, through SSH, until Ctrl-C."""
    from deploy.dashboard import show_dashboard

    show_dashboard(c, flags)


@flagged("json", "last", "timings")
def history(c: Context, flags: Flags) -> None:
    """Show who did what to the cluster, when, and what came of it.

    From the audit on the head: a line for each task that acted, also for one that was cut off.
    """
    from deploy.plans import cluster as plans

    perform(c, "cluster.history", flags, planner=lambda scope: plans.history(scope, flags.lines), show=show_history)


@flagged("only", "yes", "json")
def trust(c: Context, flags: Flags) -> None:
    """Show the host keys that known_hosts does not vouch for, and record them."""
    from deploy.trust import trust_hosts

    trust_hosts(c, flags)


@flagged("only", "json", meaning=INSIDE)
def shell(c: Context, flags: Flags) -> None:
    """Open a shell in the head's container.

    Document: `docker exec -t -i <container-id> bash`, and `sh` where the image has no bash. It has this terminal:
    each key is the shell's, Ctrl-C too, and `exit` ends it. Where stdin or stdout is no terminal, it reads a script
    from stdin. Exit codes, and what becomes of one that is broken off: invoke --help cluster.exec
    """
    from deploy import inside

    inside.shell(c, flags)


@flagged("only", "json", meaning=INSIDE, name="exec")
def execute(c: Context, flags: Flags) -> None:
    """Run a command in the head's container: `cluster.exec -- CMD ARGS`.

    Document: `docker exec -t -i <container-id> CMD ARGS`. With a terminal on stdin and stdout, the command has it.
    Without, it reads stdin to its end, and stdout and stderr are apart; in a loop that reads stdin itself, say
    `</dev/null`.

    The exit code is the command's: 128+N for a signal, 127 where the image does not have it. 125 is our own
    failure, and 2 says that there is no command.

    What is broken off here is ended, with all that it started: by SIGINT for Ctrl-C without a terminal, and by
    SIGHUP, which it may ignore, for what is left of it, or where our terminal is closed, nobody reads on, or SIGTERM
    ends us. Where the link is lost, or SIGKILL ends us, nobody can tell it: it runs on in the container until it
    ends, or the cluster is stopped.
    """
    from deploy import inside

    inside.execute(c, flags)
