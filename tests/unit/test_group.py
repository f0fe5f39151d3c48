"""The group: chains at once, what they share, and that one node's failure stays its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from deploy import group
from deploy.commands import Result
from deploy.errors import Failure, RaydockError
from deploy.hosts import Host
from deploy.inventory import Node
from deploy.plan import Chain, Late, Place, Plan, Stage, Step
from deploy.progress import Amount, News, Watch
from deploy.run import Run, without_head
from deploy.site import Found, Site
from deploy.ssh import configuration
from deploy.windows import DIALS

from .fakes import scope


class HostGroup(group.HostGroup):
    """The group; here a step that is not to be reached breaks, and a bug is never overlooked."""

    def perform(self, plan: Plan, lock: Callable[[], None] = lambda: None) -> None:
        super().perform(plan, lock)
        if self._run.bugs:
            raise self._run.bugs[0]


class FakeHost(Host):
    """A node on which nothing is, and that counts how often it was closed."""

    def __init__(self, node: Node, run: Run) -> None:
        super().__init__(node, run)
        self.closed = self.prepared = 0
        self.dials: Callable[[], None] = lambda: None

    def dial(self) -> None:
        self.dials()

    def command(self, argv: tuple[str, ...], timeout: float, *, live: bool = False, outlives: bool = False) -> Result:
        raise AssertionError((argv, timeout, live, outlives))

    def http(self, address: str, port: int) -> Any:
        raise AssertionError((address, port))

    @property
    def is_open(self) -> bool:
        return True

    def tunnel(self, address: str, port: int) -> Any:
        raise AssertionError((address, port))

    def open(self) -> None:
        """Nothing: it is played."""

    def prepare(self) -> None:
        self.prepared += 1

    def reaches(self, address: str, port: int) -> bool | None:
        raise AssertionError((address, port))

    def talk(self, command: str) -> Any:
        raise AssertionError(command)

    def close(self) -> None:
        self.closed += 1

    def cut(self) -> None:
        self.closed += 1

    @property
    def docker(self) -> Any:
        raise AssertionError

    @property
    def is_root(self) -> bool:
        raise AssertionError


@dataclass(frozen=True)
class Do(Step):
    """A step that calls a function."""

    what: Callable[[Any], object]
    name: str = "do it"
    value: Late[Any] | None = None

    @property
    def title(self) -> str:
        return self.name

    @property
    def shell(self) -> str:
        raise AssertionError

    def done(self, site: Site) -> bool:
        return site is None

    def apply(self, site: Site) -> None:
        self.what(site)


class Look(Do):
    """A step that changes nothing."""

    changes = False


class Quiet(Look):
    """One that is not told either."""

    told = False


class Done(Do):
    """A step that has nothing to do."""

    def done(self, site: Site) -> bool:
        return site is not None


def a_container(state: str) -> Found:
    """Give a head's container; one that has ended was killed."""
    code = None if state == "running" else 137
    return Found("1" * 64, "raydock-ray-head", state, {}, "my-app", exit_code=code)


class Heard(Watch):
    """Who is told of a run, and keeps it; of a step that is done not how long it took."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def stage(self, nodes: int) -> None:
        self.said.append(("all", str(nodes)))

    def begins(self, node: Node) -> None:
        self.said.append((node.name, "begins"))

    def step(self, node: Node, title: str) -> None:
        self.said.append((node.name, f"{title} …"))

    def hear(self, node: Node, news: News) -> None:
        self.said.append((node.name, str(news)))

    def did(self, node: Node, title: str, seconds: float) -> None:
        self.said.append((node.name, f"{title}: done" if seconds < 60 else title))

    def ends(self, node: Node) -> None:
        self.said.append((node.name, "ends"))


def run_of(workers: str, **values: Any) -> tuple[Run, list[tuple[str, str]]]:
    """Give a run on hosts of the tests, and what it tells."""
    heard = Heard()
    run = Run(scope(workers, **values), heard)
    run._hosts = {node: FakeHost(node, run) for node in run.scope.inventory.nodes}
    return run, heard.said


def closed(run: Run) -> dict[str, int]:
    return {node.name: host.closed for node, host in run._hosts.items() if isinstance(host, FakeHost)}


def plan(*stages: dict[Node, tuple[Step, ...]], after_head: bool = False) -> Plan:
    return Plan(tuple(Stage(tuple(Chain(*item) for item in chains.items()), after_head) for chains in stages))


def outcomes(run: Run) -> dict[str, str]:
    return {node.name: outcome.word for node, outcome in run.outcomes.items()}


def nothing(_: Any) -> None:
    """Do nothing."""


def slowly(what: Callable[[Any], object]) -> Callable[[Any], object]:
    """Take long enough for others to come first, if they do not wait."""

    def act(host: Any) -> None:
        time.sleep(0.05)
        what(host)

    return act


def fails(_: Any) -> None:
    raise Failure("DISK_FULL", "no space left")


def breaks(_: Any) -> None:
    raise ZeroDivisionError


class Elsewhere(Do):
    """A step on the operator's side."""

    where = Place.OPERATOR


FINE, HERE = Do(nothing), Elsewhere(nothing)


def test_one_nodes_failure_leaves_the_others_done() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    HostGroup(run).perform(
        plan({head: (FINE,), one: (Do(nothing, "a"), Do(fails, "b"), Do(breaks, "c")), two: (FINE,)})
    )
    assert outcomes(run) == {"head": "ok", "one": "failed", "two": "ok"}
    assert (run.outcomes[one].done, run.outcomes[one].step) == (["a"], "b")
    assert run.outcomes[two].done == ["do it"]


@dataclass(frozen=True)
class Notes(Do):
    """A step that can tell what stands."""

    stands: str = "running"

    def note_state(self, site: Site) -> None:
        if self.stands == "gone":
            raise Failure("DOCKER_DOWN", "by now")
        site.note(container=self.stands)


STANDING = {
    "a failure of its own": (Failure("DISK_FULL", "no space left"), "running", "running"),
    "a failure of its engine": (Failure("DOCKER_TIMEOUT", "no answer"), "running", "unknown"),
    "a machine on which another name goes on": (Failure("SAME_MACHINE", "as one"), "running", "unknown"),
    "a node that is not reached": (Failure("SSH_TIMEOUT", "no answer"), "running", "unknown"),
    "an engine that went meanwhile": (Failure("DISK_FULL", "no space left"), "gone", "unknown"),
}


@pytest.mark.parametrize(("failure", "stands", "told"), STANDING.values(), ids=STANDING)
def test_what_stands_on_a_node_that_failed_is_told_where_it_can_be_asked(
    failure: Failure, stands: str, told: str
) -> None:
    run, _ = run_of("one")
    one = run.scope.inventory.workers[0]

    def fail(_: Any) -> None:
        raise failure

    HostGroup(run).perform(plan({one: (Do(fail), Notes(nothing, stands=stands))}))
    assert run.outcomes[one].facts["container"] == told
    assert run.outcomes[one].problem == failure.problem


def test_a_node_that_failed_is_left_alone_by_later_stages() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    HostGroup(run).perform(plan({head: (FINE,), one: (Do(fails),)}, {head: (FINE,), one: (Do(breaks),)}))
    assert run.outcomes[head].done == ["do it", "do it"]
    assert outcomes(run) == {"head": "ok", "one": "failed"}


def test_once_a_run_is_halted_no_step_begins_anywhere() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    why, other = Failure("SSH_LOST", "the line is cut"), Failure("DISK_FULL", "later")

    def halts(_: Any) -> None:
        run.halt(why)
        run.halt(other)

    HostGroup(run).perform(plan({head: (Do(halts, "a"), Do(breaks, "b"))}, {one: (Do(breaks),)}))
    assert run.outcomes[head].done == ["a"]
    assert [outcome.problem for outcome in run.outcomes.values()] == [why.problem] * 2


INTERRUPTED = Failure("INTERRUPTED", "interrupted")


@dataclass(frozen=True)
class Watches(Do):
    """A step on one node that others are not done without."""

    nodes: tuple[Node, ...] = ()
    cut_short = "what it watched goes on"

    @property
    def watched(self) -> tuple[Node, ...]:
        return self.nodes


def errors(run: Run) -> dict[str, str]:
    return {node.name: outcome.problem.error if outcome.problem else "" for node, outcome in run.outcomes.items()}


def test_who_is_interrupted_is_told_where_and_who_was_through_is_ok() -> None:
    run, _ = run_of("one\ntwo\nthree", concurrency="1")
    head, one, two, three = run.scope.inventory.nodes
    halts = Do(lambda _: run.halt(INTERRUPTED), "b")
    HostGroup(run).perform(
        plan({head: (FINE,), one: (Do(nothing, "a"), halts, Do(breaks, "c")), two: (Do(breaks, "a"),), three: ()})
    )
    assert errors(run) == {"head": "", "one": "interrupted before `c`", "two": "interrupted before `a`", "three": ""}
    assert outcomes(run) == {"head": "ok", "one": "failed", "two": "failed", "three": "skipped"}
    assert (run.outcomes[one].done, run.outcomes[one].step) == (["a", "b"], "")


def test_who_waits_for_a_look_from_another_node_is_not_done_where_that_is_interrupted() -> None:
    run, _ = run_of("one\ntwo\nthree")
    head, one, two, three = run.scope.inventory.nodes
    run.outcomes[two].fail(Failure("DISK_FULL", "no space left"))

    def waits(host: Any) -> None:
        run.halt(INTERRUPTED)
        host.pause(60)

    begun = time.monotonic()
    HostGroup(run).perform(plan({head: (Watches(waits, "join", nodes=(head, one)), Watches(breaks, nodes=(two,)))}))
    assert time.monotonic() - begun < 5
    cause = "interrupted during `join`; what it watched goes on"
    assert errors(run) == {"head": cause, "one": cause, "two": "no space left", "three": ""}


def test_what_a_node_was_asked_for_by_another_ends_with_the_halt() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    image = Late("image", "", lambda _: "value", Place.HEAD)

    def waits(_: Any) -> None:
        time.sleep(0.3)
        run.halt(INTERRUPTED)
        time.sleep(1)

    use = Do(lambda host: host.value(image), "use it", value=image)
    HostGroup(run).perform(plan({head: (Do(waits), use), one: (use,)}))
    assert errors(run) == {"head": "interrupted before `use it`", "one": "interrupted during `use it`"}


def test_a_failure_that_we_made_by_cutting_the_line_is_told_as_the_interruption() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    run.outcomes[one].facts["container"] = "absent"

    def cut(_: Any) -> None:
        run.halt(INTERRUPTED)
        run.cut()
        raise Failure("SSH_LOST", "the connection is closed")

    HostGroup(run).perform(plan({head: (FINE,), one: (Do(cut, "start it"),)}))
    assert errors(run) == {"head": "", "one": "interrupted during `start it`"}
    assert run.outcomes[one].facts["container"] == "unknown"


def test_what_a_library_raises_whose_line_we_cut_is_no_bug() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes

    def cut(_: Any) -> None:
        run.halt(INTERRUPTED)
        run.cut()
        breaks(_)

    HostGroup(run).perform(plan({head: (FINE,), one: (Do(cut, "start it"),)}))
    assert errors(run) == {"head": "", "one": "interrupted during `start it`"}


def test_a_failure_before_the_line_is_cut_stays_what_it_is() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes

    def halted(_: Any) -> None:
        run.halt(INTERRUPTED)
        fails(_)

    HostGroup(run).perform(plan({head: (FINE,), one: (Do(halted, "start it"),)}))
    assert errors(run)["one"] == "no space left"


class Taken:
    """A lock that is gone once somebody was paused."""

    gone = False

    def lost(self) -> Failure | None:
        return Failure("LOCK_LOST", "somebody else may act") if self.gone else None

    def release(self, last_word: str) -> None:
        """Nothing is left to let go."""


@pytest.mark.parametrize(("said", "told"), [("DOCKER_TIMEOUT", "LOCK_LOST"), ("DISK_FULL", "DISK_FULL")])
def test_who_was_paused_until_the_lock_was_gone_blames_no_node_for_silence(said: str, told: str) -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    lock = Taken()
    run._lock_of_cluster = cast("Any", lock)

    def paused(_: Any) -> None:
        lock.gone = True
        raise Failure(said, "no answer in 10 s")

    HostGroup(run).perform(plan({head: (FINE,), one: (Do(paused),)}))
    problem = run.outcome(one).problem
    assert problem
    assert problem.code == told


@dataclass(frozen=True)
class Asks(Do):
    """A step whose question does something."""

    asks: Callable[[], None] = lambda: None

    def done(self, site: Site) -> bool:
        self.asks()
        return super().done(site)


def test_who_loses_the_lock_during_a_question_does_nothing_after_it() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    lock = Taken()
    run._lock_of_cluster = cast("Any", lock)
    did: list[Any] = []
    HostGroup(run).perform(plan({head: (FINE,), one: (Asks(did.append, asks=lambda: setattr(lock, "gone", True)),)}))
    problem = run.outcome(one).problem
    assert (did, problem and problem.code) == ([], "LOCK_LOST")


def test_nobody_waits_for_a_step_that_does_not_end_once_the_run_is_left() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    never = threading.Event()

    def hangs(_: Any) -> None:
        run.halt(INTERRUPTED)
        run.cut()
        run.leave()
        never.wait(30)

    begun = time.monotonic()
    HostGroup(run).perform(plan({one: (Do(hangs, "hang"),)}, {one: (FINE,), two: (Do(breaks, "break"),)}))
    assert time.monotonic() - begun < 5
    assert errors(run) == {"head": "", "one": "interrupted during `hang`", "two": "interrupted before `break`"}
    never.set()


class TellingLock:
    """A lock that keeps what it was told at its end."""

    told = ""

    def lost(self) -> None:
        """Say that it is held."""

    def release(self, last_word: str) -> None:
        self.told = last_word


def test_whoever_had_the_lock_tells_the_audit_also_of_nothing_done() -> None:
    run, _ = run_of("one")
    lock = TellingLock()
    run.task, run._lock_of_cluster = "cluster.stop", lock  # type: ignore[assignment]
    run.halt(Failure("INTERRUPTED", "interrupted"))
    run.close()
    assert (json.loads(lock.told)["task"], json.loads(lock.told)["outcome"]) == ("cluster.stop", "interrupted")


@pytest.mark.parametrize(("task", "offered"), [("cluster.stop", True), ("cluster.start", False)])
def test_only_who_stops_is_offered_to_do_it_without_the_head(task: str, offered: bool) -> None:
    told = without_head(Failure("SSH_TIMEOUT", "no answer"), task)
    assert (told.code, "cluster.stop --force" in told.cure) == ("HEAD_UNREACHABLE", offered)


def test_a_bug_in_one_chain_is_its_nodes_failure_and_ends_no_other() -> None:
    run, _ = run_of("one\ntwo\nthree", concurrency=1)
    head, one, two, three = run.scope.inventory.nodes
    first: dict[Node, tuple[Step, ...]] = {head: (FINE,), one: (Do(breaks, "break"),), two: (FINE,), three: (FINE,)}
    group.HostGroup(run).perform(plan(first, {one: (FINE,), two: (FINE,)}))
    assert outcomes(run) == {"head": "ok", "one": "failed", "two": "ok", "three": "ok"}
    assert [run.outcomes[node].done for node in (head, one, two)] == [["do it"], [], ["do it", "do it"]]
    problem = run.outcomes[one].problem
    assert problem is not None
    assert (problem.code, run.outcomes[one].step) == ("BUG", "break")
    assert problem.error == "Raydock itself failed here: ZeroDivisionError: "
    assert [type(bug) for bug in run.bugs] == [ZeroDivisionError]
    assert all(closed(run).values())


def test_a_bug_in_the_heads_chain_lets_nobody_wait() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    image = Late("image", "", lambda _: "found", Place.HEAD)
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        HostGroup(run).perform(plan({head: (Do(breaks),), one: (Do(lambda host: host.value(image)),)}))
    assert time.monotonic() - begun < 5


def test_stages_come_one_after_the_other() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    order: list[str] = []
    late = Do(slowly(lambda host: order.append(host.node.name)))
    HostGroup(run).perform(plan({one: (late,), two: (late,)}, {head: (Do(lambda host: order.append(host.node.name)),)}))
    assert order[2:] == ["head"]


@pytest.mark.parametrize("after_head", [True, False])
def test_what_comes_after_the_head_is_skipped_where_the_head_failed(after_head: bool) -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    HostGroup(run).perform(plan({head: (Do(fails),)}).then(plan({one: (FINE,)}, after_head=after_head)))
    assert outcomes(run) == {"head": "failed", "one": "skipped" if after_head else "ok"}


WAITS = str(Amount("waits for the head"))


class Ahead(Do):
    """A step that is of use whatever comes of the head."""

    ahead = True


def start_of(run: Run, on_head: tuple[Step, ...], *on_worker: Step) -> Plan:
    """Give a plan like that of a start: the head, and after it the workers."""
    head, *workers = run.scope.inventory.nodes
    return plan({head: on_head}).then(plan(dict.fromkeys(workers, on_worker), after_head=True))


def halted_while_it_waits(run: Run, said: list[tuple[str, str]]) -> None:
    """Perform such a plan, and halt it once the first worker waits for the head."""

    def until_halted(_: Any) -> None:
        while ("one", WAITS) not in said:
            time.sleep(0.01)
        run.halt(Failure("INTERRUPTED", "interrupted"))
        run.pause(10)

    HostGroup(run).perform(start_of(run, (Do(until_halted, "start"),), Ahead(nothing, "pull"), Do(breaks, "run")))


def test_workers_do_what_may_be_done_ahead_while_the_head_is_at_work_and_the_rest_once_it_is_through() -> None:
    run, said = run_of("one\ntwo")
    ahead, order = threading.Barrier(3), list[str]()
    meet = Ahead(lambda _: ahead.wait(10), "pull")
    last = Do(slowly(lambda _: order.append("the head is through")), "start")
    HostGroup(run).perform(start_of(run, (meet, last), meet, Do(lambda host: order.append(host.node.name), "run")))
    assert (order[0], sorted(order[1:])) == ("the head is through", ["one", "two"])
    assert {tuple(outcome.done) for outcome in run.outcomes.values()} == {("pull", "start"), ("pull", "run")}
    assert ("one", WAITS) in said
    assert closed(run) == {"head": 1, "one": 2, "two": 2}  # by its chain, and at the end: one connection for both parts


@pytest.mark.parametrize("early", [False, True], ids=["after the head", "begun while the head is at work"])
def test_what_is_needed_later_is_found_out_while_others_are_at_work(early: bool) -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    asked, order = threading.Event(), list[str]()

    def find(_: Any) -> str:
        order.append("found out")
        asked.set()
        return "hunter2"

    token = Late("token", "", find, Place.HEAD)
    begin = (Ahead(nothing),) if early else ()
    at_work = Do(lambda _: order.append(f"known at work: {asked.wait(5)}"))
    work = Stage((Chain(one, (*begin, at_work)),), after_head=True, meanwhile=(token,))
    started = Do(slowly(lambda _: order.append("started")))
    used = plan({head: (Look(lambda host: order.append(host.value(token))),)})
    HostGroup(run).perform(Plan((*plan({head: (started,)}).stages, work, *used.stages)))
    assert order == ["started", "found out", "known at work: True", "hunter2"]


@pytest.mark.parametrize("early", [False, True], ids=["after the head", "begun while the head is at work"])
def test_of_a_head_that_failed_nothing_is_found_out(early: bool) -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    token = Late("token", "", breaks, Place.HEAD)
    work = Stage((Chain(one, (Ahead(nothing) if early else FINE,)),), after_head=True, meanwhile=(token,))
    HostGroup(run).perform(Plan((*plan({head: (Do(fails),)}).stages, work)))
    assert run.found("token") is None
    assert "token" not in run._shared


CUT = {
    "a failure": Failure("SSH_LOST", "the line was cut"),
    "what a library raises": OSError("cut"),
}


@pytest.mark.parametrize("halts", [False, True], ids=["", "and the run is halted then"])
@pytest.mark.parametrize("raised", CUT.values(), ids=CUT)
def test_what_workers_do_ahead_ends_where_the_head_fails_and_they_are_skipped(raised: Exception, halts: bool) -> None:
    run, _ = run_of("one\ntwo\nthree")
    head, one, two, three = run.scope.inventory.nodes
    pulls = threading.Barrier(3)

    def pull(host: Any) -> None:
        pulls.wait(10)
        if host.node == two:
            fails(host)  # by itself
        while not host.closed:
            time.sleep(0.01)
        if halts:
            run.halt(Failure("LOCK_LOST", "with the head"))
        raise raised

    cast("FakeHost", run.host(three)).dials = unreached
    begun = time.monotonic()
    late_fails = Do(slowly(fails))
    HostGroup(run).perform(start_of(run, (Do(lambda _: pulls.wait(10)), late_fails), Ahead(pull), Do(breaks)))
    assert outcomes(run) == {"head": "failed", "one": "skipped", "two": "skipped", "three": "skipped"}
    assert run.outcomes[one].done == []
    assert time.monotonic() - begun < 5
    with pytest.raises(Failure, match="the head failed"):
        run.host(one).check_wanted()
    run.host(head).check_wanted()


def unreached() -> None:
    raise Failure("SSH_TIMEOUT", "no answer")


def test_who_is_not_reached_while_the_head_starts_is_told_so_where_the_run_is_halted() -> None:
    run, said = run_of("one")
    _, one = run.scope.inventory.nodes
    cast("FakeHost", run.host(one)).dials = unreached
    halted_while_it_waits(run, said)
    problem = run.outcomes[one].problem
    assert problem
    assert (problem.code, run.outcomes[one].step) == ("SSH_TIMEOUT", "connect")


def test_the_dead_keep_nobody_from_what_is_done_ahead() -> None:
    run, _ = run_of("\n".join([*(f"dead-{number}" for number in range(DIALS + 1)), "alive"]))
    head, *dead, alive = run.scope.inventory.nodes
    for node in dead:
        cast("FakeHost", run.host(node)).dials = unreached
    meet = threading.Barrier(2)
    ahead = Ahead(lambda host: meet.wait(10) if host.node in (head, alive) else None)
    HostGroup(run).perform(start_of(run, (ahead, FINE), ahead, FINE))
    assert {name for name, word in outcomes(run).items() if word == "ok"} == {"head", "alive"}


def test_a_worker_that_fails_ahead_is_told_where_the_head_is_there() -> None:
    run, _ = run_of("one\ntwo")
    _, one, two = run.scope.inventory.nodes
    pull = Ahead(lambda host: fails(host) if host.node == one else None, "pull")
    HostGroup(run).perform(start_of(run, (Do(slowly(nothing)),), pull, FINE))
    assert outcomes(run) == {"head": "ok", "one": "failed", "two": "ok"}
    assert (run.outcomes[one].step, run.outcomes[two].done) == ("pull", ["pull", "do it"])


def test_workers_that_wait_for_the_head_end_where_the_run_is_halted() -> None:
    run, said = run_of("one")
    head, one = run.scope.inventory.nodes
    halted_while_it_waits(run, said)
    assert outcomes(run) == {"head": "failed", "one": "failed"}
    problem = run.outcomes[one].problem
    assert problem
    assert problem.error == "interrupted before `run`"
    assert run.outcomes[one].done == ["pull"]


def test_a_link_that_ends_while_a_worker_waits_for_the_head_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = run_of("one")
    monkeypatch.setattr(FakeHost, "is_open", False)
    HostGroup(run).perform(start_of(run, (Do(slowly(nothing)),), Ahead(nothing), FINE))
    assert closed(run) == {"head": 1, "one": 3}  # while it waited, by its chain, and at the end


def test_with_one_node_at_a_time_the_workers_come_after_the_head() -> None:
    run, _ = run_of("one", concurrency=1)
    order: list[str] = []
    tell = slowly(lambda host: order.append(host.node.name))
    HostGroup(run).perform(start_of(run, (Do(tell), Do(tell)), Ahead(tell), Do(tell)))
    assert order == ["head", "head", "one", "one"]


def test_workers_wait_for_what_only_the_head_can_tell() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    order: list[str] = []

    def found(host: Any) -> str:
        order.append(f"found on {host.node.name}")
        return "value"

    image = Late("image", "", found, Place.HEAD)
    install = Do(slowly(lambda _: order.append("installed")))
    use = Do(lambda host: order.append(host.value(image)), value=image)
    HostGroup(run).perform(plan({one: (use,), two: (use,), head: (install, use)}))
    assert order == ["installed", "found on head", "value", "value", "value"]
    assert run.found("image") == "value"


def test_what_the_operator_has_is_found_once_on_the_heads_behalf() -> None:
    run, _ = run_of("one\ntwo")
    asked: list[str] = []
    uri = Late("uri", "", lambda host: asked.append(host.node.name), Place.OPERATOR)
    use = Do(lambda host: host.resolve(uri))
    HostGroup(run).perform(plan(dict.fromkeys(run.scope.inventory.nodes, (use,))))
    assert asked == ["head"]


def test_what_a_node_has_is_found_on_each() -> None:
    run, _ = run_of("one\ntwo")
    size = Late("size", "", lambda host: f"of {host.node.name}")
    seen: list[str] = []
    use = Do(lambda host: seen.append(host.value(size) + host.value(size)))
    HostGroup(run).perform(plan(dict.fromkeys(run.scope.inventory.nodes, (use,))))
    assert sorted(seen) == ["of headof head", "of oneof one", "of twoof two"]


def test_what_many_find_stale_is_found_again_once() -> None:
    run, _ = run_of("one\ntwo")
    asked: list[object] = []

    def ask(_: Any) -> object:
        asked.append(object())
        return asked[-1]

    login = Late("login", "", ask, Place.OPERATOR)
    both = threading.Barrier(2)

    def refused(host: Any) -> None:
        first = host.resolve(login)
        both.wait(5)
        assert host.anew(login, first) is asked[1]

    use = Do(refused)
    HostGroup(run).perform(plan(dict.fromkeys(run.scope.inventory.nodes[1:], (use,))))
    assert len(asked) == 2
    assert [outcome.problem for outcome in run.outcomes.values()] == [None] * 3


def test_a_value_that_cannot_be_found_is_looked_for_once_and_fails_whoever_needs_it() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    asked: list[int] = []

    def absent(_: Any) -> str:
        asked.append(1)
        raise Failure("IMAGE_NOT_FOUND", "nobody has it")

    image = Late("image", "", absent, Place.HEAD)
    use = Do(lambda host: host.value(image), value=image)
    HostGroup(run).perform(plan({head: (use,), one: (use,), two: (FINE,)}))
    assert asked == [1]
    problems = {node.name: outcome.problem.code for node, outcome in run.outcomes.items() if outcome.problem}
    assert problems in (
        {"head": "IMAGE_NOT_FOUND", "one": "HEAD_FAILED"},
        # Where the worker asks before the head's failure is on record.
        {"head": "IMAGE_NOT_FOUND", "one": "IMAGE_NOT_FOUND"},
    )


def test_workers_of_a_head_that_failed_say_so() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    image = Late("image", "", fails, Place.HEAD)
    lost = Do(lambda _: (_ for _ in ()).throw(Failure("SSH_LOST", "gone")), "reach it")
    use = Do(lambda host: host.value(image), value=image)
    HostGroup(run).perform(plan({head: (lost, use), one: (use,)}))
    problem = run.outcomes[one].problem
    assert problem
    assert (problem.code, problem.error) == ("HEAD_FAILED", "the head failed (SSH_LOST), and has what this node needs")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_nodes_than_asked_are_worked_on_at_once(concurrency: int) -> None:
    run, _ = run_of("\n".join(f"w{number}" for number in range(8)), concurrency=str(concurrency))
    together = threading.Barrier(concurrency)
    lock, active, most = threading.Lock(), [0], [0]

    def work(_: Any) -> None:
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        together.wait(5)
        with lock:
            active[0] -= 1

    HostGroup(run).perform(plan({node: (Do(work),) for node in run.scope.inventory.nodes}))
    assert most == [concurrency]
    assert set(outcomes(run).values()) == {"ok"}


def test_one_at_a_time_is_enough_for_workers_that_wait_for_the_head() -> None:
    run, _ = run_of("one\ntwo", concurrency="1")
    image = Late("image", "", lambda _: "value", Place.HEAD)
    use = Do(lambda host: host.value(image), value=image)
    head, *workers = run.scope.inventory.nodes
    HostGroup(run).perform(plan({**dict.fromkeys(workers, (use,)), head: (use,)}))
    assert set(outcomes(run).values()) == {"ok"}


def test_who_is_not_there_keeps_no_place_from_those_who_are() -> None:
    run, _ = run_of("\n".join(f"w{number}" for number in range(8)), concurrency="1")
    head, *workers = run.scope.inventory.nodes
    healthy = threading.Event()

    def nobody() -> None:
        assert healthy.wait(5), "the healthy nodes waited for the dead"
        raise Failure("SSH_TIMEOUT", "does not answer")

    for node in workers[:-1]:
        host = run.host(node)
        assert isinstance(host, FakeHost)
        host.dials = nobody
    HostGroup(run).perform(plan({head: (FINE,), **dict.fromkeys(workers, (Do(lambda _: healthy.set()),))}))
    assert [*outcomes(run).values()] == ["ok", *["unreachable"] * 7, "ok"]
    assert run.outcomes[workers[0]].step == "connect"


def test_a_link_that_is_lost_leaves_open_what_came_of_the_step() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    cut = Do(lambda _: (_ for _ in ()).throw(Failure("SSH_LOST", "no sign of life for 15 s")), "pull")
    HostGroup(run).perform(plan({head: (FINE,), one: (cut,)}))
    problem = run.outcomes[one].problem
    assert problem
    assert problem.error == "lost contact during `pull`; its state is unknown (no sign of life for 15 s)"


def test_a_node_that_failed_or_has_nothing_to_do_is_not_connected_to() -> None:
    run, _ = run_of("one\ntwo")
    head, one, two = run.scope.inventory.nodes
    for node in (one, two):
        host = run.host(node)
        assert isinstance(host, FakeHost)
        host.dials = lambda: fails(None)
    run.outcomes[one].fail(Failure("SSH_LOST", "gone"))
    HostGroup(run).perform(plan({head: (FINE,), one: (FINE,), two: ()}))
    assert outcomes(run) == {"head": "ok", "one": "unreachable", "two": "skipped"}


def test_a_workers_connection_ends_with_its_chain_and_the_heads_with_the_run() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    seen: list[dict[str, int]] = []
    HostGroup(run).perform(plan({head: (FINE,), one: (FINE,)}, {head: (Do(lambda _: seen.append(closed(run))),)}))
    assert seen == [{"head": 0, "one": 1}]
    assert closed(run)["head"] == 1


def test_only_what_was_changed_is_on_record() -> None:
    run, said = run_of("")
    (head,) = run.scope.inventory.nodes
    HostGroup(run).perform(plan({head: (Done(breaks, "a"), Look(nothing, "b"), Quiet(nothing, "c"), Do(nothing, "d"))}))
    assert run.outcomes[head].done == ["d"]
    assert said == [("all", "1"), *(("head", word) for word in ("begins", "b …", "d …", "d: done", "ends"))]


def test_a_node_without_steps_was_not_asked() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    HostGroup(run).perform(plan({head: (FINE,), one: ()}, {}))
    assert outcomes(run) == {"head": "ok", "one": "skipped"}


def test_a_step_may_put_a_failure_into_another_nodes_line() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    watch = Look(lambda host: host.peer(one).fail(Failure("RAY_NOT_JOINED", "no")))
    HostGroup(run).perform(plan({head: (FINE,), one: (FINE,)}, {head: (watch,)}))
    assert outcomes(run) == {"head": "ok", "one": "failed"}


@pytest.mark.parametrize(
    ("steps", "prepared"),
    [((HERE, FINE), 1), ((HERE, HERE), 0), ((FINE, HERE), 0), ((), 0)],
    ids=["then there", "never there", "there at once", "nothing"],
)
def test_a_node_is_made_ready_while_the_operators_side_is_at_work(steps: tuple[Step, ...], prepared: int) -> None:
    run, _ = run_of("one")
    HostGroup(run).perform(plan({run.scope.inventory.head: steps}))
    assert run._hosts[run.scope.inventory.head].prepared == prepared  # type: ignore[attr-defined]  # of ours


def test_who_waits_for_the_lock_makes_ready_meanwhile() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    ready = threading.Event()
    run._hosts[one].prepare = ready.set  # type: ignore[method-assign]
    taken = []
    HostGroup(run).perform(plan({head: (FINE,), one: (FINE,)}).alone(), lambda: taken.append(ready.wait(10)))
    assert taken == [True]


def test_nobody_acts_before_the_lock_is_had() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    order: list[str] = []

    def lock() -> None:
        time.sleep(0.1)
        order.append("lock")

    step = Do(lambda host: order.append(host.node.name))
    HostGroup(run).perform(plan({head: (step,), one: (step,)}).alone(), lock)
    assert order[0] == "lock"
    assert sorted(order[1:]) == ["head", "one"]


def test_who_is_refused_the_lock_touches_nothing() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes

    def lock() -> None:
        run.refused = True

    HostGroup(run).perform(plan({head: (Do(breaks),), one: (Do(breaks),)}, {head: (Do(breaks),)}).alone(), lock)
    assert outcomes(run) == {"head": "skipped", "one": "skipped"}


def test_who_waits_for_the_lock_is_interrupted_before_the_first_step() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes
    never = threading.Event()

    def lock() -> None:
        run.halt(INTERRUPTED)
        never.wait(30)

    begun = time.monotonic()
    HostGroup(run).perform(plan({head: (Do(breaks, "a"),), one: (Do(breaks, "b"),)}).alone(), lock)
    assert time.monotonic() - begun < 5
    assert errors(run) == {"head": "interrupted before `a`", "one": "interrupted before `b`"}
    never.set()


def test_a_bug_in_the_lock_is_raised_and_nothing_is_touched() -> None:
    run, _ = run_of("one")
    head, one = run.scope.inventory.nodes

    def lock() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        HostGroup(run).perform(plan({head: (Do(breaks),), one: (Do(fails),)}).alone(), lock)
    assert outcomes(run) == {"head": "failed", "one": "skipped"}


class Contained(FakeHost):
    """A node whose engine tells of a container what it is set to, or why it cannot."""

    found: Found | Failure | None = None

    @property
    def docker(self) -> Any:
        return self

    def find(self, _name: str) -> Found | None:
        if isinstance(self.found, Failure):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (a_container("running"), None),
        (a_container("exited"), "ended with 137"),
        (None, "is gone"),
        (Failure("DOCKER_TIMEOUT", "no answer"), None),
    ],
    ids=["runs", "has ended", "is gone", "nobody knows"],
)
def test_a_ray_that_does_not_answer_is_waited_for_unless_its_container_has_ended(
    found: Found | Failure | None, said: str | None
) -> None:
    run, _ = run_of("one")
    host = Contained(run.scope.inventory.head, run)
    host.found = found
    with nullcontext() if said is None else pytest.raises(Failure, match=said):
        host._see_head()


def test_fabrics_own_calls_are_refused() -> None:
    run, _ = run_of("one")
    with pytest.raises(NotImplementedError, match="perform a plan"):
        HostGroup(run).run("true")


@pytest.mark.parametrize("file", ["config", "known_hosts"])
def test_what_says_how_nodes_are_reached_is_read_before_any_is(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    configuration.cache_clear()
    (tmp_path / ".ssh" / file).mkdir(parents=True)
    run, said = run_of("one\n")
    reached: list[str] = []
    chains: dict[Node, tuple[Step, ...]] = {
        node: (Do(lambda _: reached.append("")),) for node in run.scope.inventory.workers
    }
    with pytest.raises(RaydockError, match=rf"\.ssh/{file}: cannot be read: Is a directory"):
        HostGroup(run).perform(plan(chains))
    assert (reached, said, run.bugs) == ([], [], [])
    configuration.cache_clear()
