"""The head's port, and who it is that may join there."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Step, Word, quoted
from deploy.reading import Fields, Odd, parsed
from deploy.steps.containers import exited, note_container

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.ports import Claim
    from deploy.site import Listed, Site
from deploy.timings import Phase

GCS_DEADLINE = 30  # seconds from the head's start to its open port
POLL = 0.1  # seconds between two looks at it


# What asks a port, given as two more words. They are never a part of what a shell reads: a node may have said them.
ASK_PORT = """timeout 3 bash -c '</dev/tcp/"$0"/"$1"'"""


def port_open(site: Site, host: str, port: int) -> bool:
    """Tell whether a connection from the node comes through within 3 s."""
    reached = site.reaches(host, port)
    return site.ask(*shlex.split(ASK_PORT), host, str(port)) if reached is None else reached


# Prints those of its addresses, each followed by a port, that do not answer within 3 s. There may be a thousand: each is
# asked by a process of this shell, and not by three programs.
SILENT = """\
declare -A asked
while [ $# -gt 0 ]; do (: <"/dev/tcp/$1/$2") 2>/dev/null & asked[$!]=$1; shift 2; done
end=$((SECONDS + 3))
for one in "${!asked[@]}"; do
  while kill -0 "$one" 2>/dev/null && [ "$SECONDS" -le "$end" ]; do sleep 0.05; done
  kill "$one" 2>/dev/null
  wait "$one" 2>/dev/null || echo "${asked[$one]}"
done
"""


def ports_shut(site: Site, places: Sequence[tuple[str, int]]) -> set[str]:
    """Give the addresses whose port does not answer a node within 3 s; all are asked at once."""
    return set(site.run("bash", "-c", SILENT, "bash", *(str(word) for place in places for word in place)).split())


def port_shell(host: Word, port: int) -> str:
    """Write the same question."""
    return f"{ASK_PORT} {quoted(host)} {port} 2>/dev/null"


@dataclass(frozen=True)
class AwaitGcs(Step):
    """Have the head's port open, at which workers join. Document: `<head-node-private-ip>:6379`."""

    phase: ClassVar[Phase | None] = Phase.JOIN
    document: ClassVar[str] = "<redis-address>: <head-node-private-ip>:6379"
    changes: ClassVar[bool] = False

    name: str
    address: Word
    port: int

    @property
    def title(self) -> str:
        return "wait for the head's port"

    @property
    def shell(self) -> str:
        ask = port_shell(self.address, self.port)
        return f"for _ in {{1..{GCS_DEADLINE / POLL:.0f}}}; do {ask} && break; sleep {POLL}; done; {ask}"

    def done(self, site: Site) -> bool:
        return port_open(site, site.value(self.address), self.port)

    def apply(self, site: Site) -> None:
        """Wait; `RAY_EXITED` as soon as the container ends, `HEAD_FAILED` after 30 s."""
        end = time.monotonic() + GCS_DEADLINE
        while time.monotonic() < end:
            if self.done(site):
                return
            found = site.docker.find(self.name)
            if found is None or not found.running:
                raise exited(site, found) if found else Failure("HEAD_FAILED", f"{self.name} is gone")
            site.pause(POLL)
        raise Failure(
            "HEAD_FAILED",
            f"port {self.port} is not open after {GCS_DEADLINE} s",
            f"See docker logs {self.name}",
        )


@dataclass(frozen=True)
class ReachGcs(Step):
    """Check from a worker that the head's port can be reached, before anything is started there."""

    phase: ClassVar[Phase | None] = Phase.JOIN
    changes: ClassVar[bool] = False

    address: Word
    port: int

    @property
    def title(self) -> str:
        return "reach the head's port"

    @property
    def shell(self) -> str:
        return (
            f"{port_shell(self.address, self.port)} || {{ echo 'the head cannot be reached from here' >&2; exit 1; }}"
        )

    def done(self, site: Site) -> bool:
        return port_open(site, site.value(self.address), self.port)

    def apply(self, site: Site) -> None:
        """Tell which address was tried."""
        raise Failure(
            "GCS_UNREACHABLE",
            f"the head's {site.value(self.address)}:{self.port} cannot be reached from this node",
            "Open the port between them, or set HEAD_ADDRESS to an address that the workers reach",
        )


# As `ss -p` writes it: users:(("name",pid=1,fd=2)).
_LISTENER = re.compile(r'users:\(\("([^"]+)",pid=(\d+)')


def asked_ports(labels: Mapping[str, str]) -> set[int]:
    """Give the ports that a container of ours was asked to listen on; none where its label is unreadable."""
    try:
        wanted = Fields.read(parsed(labels.get("raydock.asked", "")))
    except Odd:
        return set()
    return {port for key, port in wanted.of.items() if key.endswith("_port") and isinstance(port, int)}


@dataclass(frozen=True)
class FreePorts(Step):
    """Have no other listen on Ray's ports: a second Ray would share some of them silently, and start without others."""

    changes: ClassVar[bool] = False

    name: str
    claims: tuple[Claim, ...]

    @property
    def title(self) -> str:
        return "find the ports free"

    @property
    def asked(self) -> tuple[str, ...]:
        """The command that prints a line for each of the ports that somebody listens on."""
        return ("ss", "-Hltn", " or ".join(f"sport = :{claim.ports[0]}" for claim in self.claims))

    @property
    def shell(self) -> str:
        return (
            f"[ \"$(docker inspect -f '{{{{.State.Running}}}}' {self.name} 2>/dev/null)\" = true ] || "
            f'[ -z "$({shlex.join(self.asked)})" ] || {{ echo "a port of Ray\'s is taken" >&2; exit 1; }}'
        )

    def taken(self, site: Site) -> list[Claim]:
        """Give those of the ports that somebody listens on."""
        listed = [line.split() for line in site.run(*self.asked).splitlines()]
        ports = {words[3].rpartition(":")[2] for words in listed if len(words) > 3}
        return [claim for claim in self.claims if str(claim.ports[0]) in ports]

    def other(self, site: Site, taken: list[Claim]) -> Listed | None:
        """Give the container of another cluster that was asked to listen on one of the ports."""
        ports = {claim.ports[0] for claim in taken}
        known = (found for role in ("head", "worker") for found in site.docker.listed({"raydock.role": role}))
        return next((one for one in known if one.running and ports & asked_ports(one.labels)), None)

    def listener(self, site: Site, taken: list[Claim]) -> str:
        """Name who listens on the first of the ports, where we may know."""
        try:
            said = site.run("ss", "-Hltnp", f"sport = :{taken[0].ports[0]}", root=True)
        except Failure as failure:
            if failure.code != "COMMAND_FAILED":
                raise
            return "something else"
        found = _LISTENER.search(said)
        return f"{found[1]} (pid {found[2]})" if found else "something else"

    def done(self, site: Site) -> bool:
        found = site.docker.seen(self.name)
        return (found is not None and found.running) or not self.taken(site)

    def apply(self, site: Site) -> None:
        """Name the ports, what decides each, and who listens there: perhaps another cluster of ours."""
        taken = self.taken(site)
        if other := self.other(site, taken):
            raise Failure(
                "FOREIGN_CLUSTER",
                f"{other.name} of the cluster {other.labels.get('raydock.cluster', '?')} listens on {', '.join(map(str, taken))}",
                "Give this cluster ports of its own, see docs/ports.md; or stop that one with its own settings",
            )
        raise Failure(
            "PORT_IN_USE",
            f"{self.listener(site, taken)} listens on {', '.join(map(str, taken))}",
            "Give this cluster ports of its own, see docs/ports.md; or end what listens there: sudo ss -ltnp",
        )


@dataclass(frozen=True)
class HeadRuns(Step):
    """Check that the cluster's head runs. Document: `docker ps`."""

    document: ClassVar[str] = "docker ps"
    changes: ClassVar[bool] = False

    name: str

    @property
    def title(self) -> str:
        return "find the running head"

    @property
    def shell(self) -> str:
        return f"[ -n \"$(docker ps -q --filter name=^/{self.name}$)\" ] || {{ echo 'the head does not run' >&2; exit 1; }}"

    def done(self, site: Site) -> bool:
        found = site.docker.find(self.name)
        note_container(site, found)
        return found is not None and found.running

    def apply(self, site: Site) -> None:
        raise Failure("HEAD_NOT_RUNNING", f"no running container {self.name}", "Start it: invoke cluster.start")


@dataclass(frozen=True)
class FindAddress(Step):
    """Find the node's address for Ray on its own connection, before the head is asked about it; it is nobody else's."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False
    ahead: ClassVar[bool] = True

    address: Word

    @property
    def title(self) -> str:
        return "find the address"

    @property
    def shell(self) -> str:
        return f"echo address {quoted(self.address)}"

    def done(self, site: Site) -> bool:
        address = site.value(self.address)
        site.note(address=address)
        if (other := site.first_at(address)) != site.node:
            error = f"{other.name} and it lead to one machine: {address} is the address of both"
            raise Failure("SAME_MACHINE", error, "Take one of the two out of the list")
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""
