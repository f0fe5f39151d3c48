"""P: environment and scale."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tests.faults.bench import Bench, FaultyHost
from tests.faults.bench_c import Many, dead, living
from tests.faults.row import Fault, row
from tests.faults.rows_s import elsewhere, variables
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, command

MANY = 200
MEGABYTES = 150
DIAL = 5  # seconds to a dead host
GRACE = 10  # seconds that a run may take beyond them for its dead half
STOP = {"task": ("cluster.stop",), "converge": ("cluster.stop",), "running": False, "bench": "C"}
# Each would do something to a terminal: its title, its clipboard, a link, colours, and one by a single byte.
ESCAPES = "\x1b]0;owned\x07\x1b]52;c;Y2FuYXJ5\x07\x1b]8;;http://canary\x07here\x1b]8;;\x07\x1b[31m\x9b2J\x08\r"


@row("P1", "200 nodes with 256 files", told_of="nobody", within=90, **STOP)
def few_files(bench: Bench) -> Fault:
    many = cast("Many", bench)
    many.populate(living(MANY), running=True)
    many.limit = "-n 256"
    done = yield
    assert {node["container"] for node in done.report["nodes"]} == {"absent"}


def ended(done: Done, nodes: set[str]) -> float:
    """Give the seconds after which the last of these nodes was done."""
    return max(float(node["timings"][-1]["end"]) for node in done.report["nodes"] if node["node"] in nodes)


HALF_DEAD = {**STOP, "task": ("cluster.stop", "--timings")}
PAIRS = 3  # of a run of the living half alone and one beside the dead
AS_ALONE = 1.10  # times its own time alone that the living half may take beside the dead; the median of three


def pair(many: Many, alone: list[str], all_of_them: list[str]) -> float:
    """Stop the living half alone and then beside the dead, and say how many times as long it took there."""
    nodes, seconds = {many.endpoints.node(address) for address in alone}, []
    for workers, code in ((alone, 0), (all_of_them, 4)):
        many.populate(workers, running=True)
        seconds.append(ended(many.invoke("cluster.stop", "--timings", "--json", exit=code), nodes))
    return seconds[1] / seconds[0]


@row(
    "P2",
    "200 nodes, half of which are dead",
    code="SSH_TIMEOUT",
    exit=4,
    told_of="nobody",
    sick=("dead",),
    within=90,
    **HALF_DEAD,
)
def half_dead(bench: Bench) -> Fault:
    many = cast("Many", bench)
    well, gone = living(MANY // 2), dead(MANY // 2)
    all_of_them = [address for pair in zip(gone, well, strict=True) for address in pair]
    many.populate(well, running=True)
    many.invoke("cluster.stop", exit=0)
    assert many.ran
    alone = many.ran.seconds
    with many.endpoints.dead():
        times = sorted(pair(many, well, all_of_them) for _ in range(PAIRS))
        many.populate(all_of_them, running=True)
        done = yield
        assert many.ran.seconds <= alone + DIAL + GRACE, f"alone {alone:.1f} s, with the dead {many.ran.seconds:.1f} s"
    bench.figures["beside the dead, in times of its own time alone (median of three)"] = times[PAIRS // 2]
    assert times[PAIRS // 2] <= AS_ALONE, times
    told = {node["node"]: node for node in done.report["nodes"]}
    assert {told[many.endpoints.node(address)]["container"] for address in well} == {"absent"}
    assert {told[many.endpoints.node(address)]["code"] for address in gone} == {"SSH_TIMEOUT"}


# Each byte comes half a second late, both ways together.
LAGS = """
import asyncio
async def late(reader, writer):
    loop = asyncio.get_running_loop()
    while data := await reader.read(65536):
        loop.call_later(0.25, writer.write, data)
    loop.call_later(0.25, writer.close)
async def comes(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", 22)
    await asyncio.gather(late(reader, there[1]), late(there[0], writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(comes, "", 2222) as server:
        await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def slow(host: FaultyHost) -> Iterator[None]:
    """Have a host whose line is narrow, loses every fifth packet, and takes half a second there and back."""
    host.shell("tc qdisc add dev eth0 root tbf rate 256kbit burst 10kb latency 800ms")
    loses = ("-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP")
    try:
        # What was led elsewhere comes to the other port.
        with host.rule("INPUT", "-p", "tcp", "--dport", "2222", *loses), elsewhere(host, "python3", "-c", LAGS):
            yield
    finally:
        host.shell("tc qdisc del dev eth0 root")


@row("P3", "a slow line that lags and loses packets", task=("cluster.start",), running=False, bench="B", within=75)
def slow_line(bench: Bench) -> Fault:
    with slow(bench.worker):
        done = yield
    assert done.node(bench.worker.node)["ray"] == "alive"


PLACES: tuple[dict[str, str | None], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "tr_TR.UTF-8"},
    {"LANG": None, "LC_ALL": None},
    {"HOME": "/nonexistent"},
    {"TERM": None},
)


@row("P4", "no locale, no home, a dumb terminal", told_of="nobody", within=10)
def bare_environment(bench: Bench) -> Fault:
    with variables(LC_ALL="POSIX", LANG=None, HOME=None, TERM="dumb", NO_COLOR="1"):
        done = yield
    bare: dict[str, str | None] = {"ENVIRONMENT": bench.env.stem, **NO_ENGINE}
    for place in PLACES:
        other = bench.invoke("cluster.status", "--json", env=place, exit=0)
        assert other.report == done.report, place
    # Nobody can write there, not even root.
    words = (INVOKE, "--search-root", TOP, "cluster.status", "--json")
    assert command(words, bare, folder=Path("/proc")).report == done.report


HUGE = "target.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 999999999999\\r\\n\\r\\n'); "
ENDLESS = HUGE + "exec('while True: target.write(b\"x\" * 1048576)')"
LONG_LINE = "yes $(printf '%1000s' | tr ' ' x) | tr -d '\\n' | head -c 50000000"


@row("P5", "engines and commands whose output does not end", code="DOCKER_FAILED", exit=3, within=30, **STOP)
def endless_output(bench: Bench) -> Fault:
    many = cast("Many", bench)
    many.populate(living(3), running=True)
    worker = many.nodes[-1]
    with many.endpoints.plays(worker.address, ENDLESS):
        done = yield
        assert many.ran
        assert many.ran.megabytes < MEGABYTES, many.ran.megabytes
    assert "more than 16 MB" in done.node(worker.node)["error"]
    for plays in (LONG_LINE, "yes | head -c 100000000", "printf '\\351\\377\\376'; yes '\\376'"):
        file = worker.file("ip")
        file.write_text(f"{plays}\n")
        many.populate(living(3), running=True)
        many.invoke("cluster.status", "--json", timeout=60)
        file.unlink()
        assert many.ran.megabytes < MEGABYTES, (plays, many.ran.megabytes)


@row("P6", "a node that writes escape sequences", code="DOCKER_FAILED", exit=3, within=20, quick=True, **STOP)
def escape_sequences(bench: Bench) -> Fault:
    many = cast("Many", bench)
    many.populate(living(3), running=True)
    worker = many.nodes[-1]
    body = json.dumps({"message": ESCAPES})
    answer = f"HTTP/1.1 500 no\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()
    refuses = f"if path.endswith('/containers/json'): target.write({answer!r}); target.flush()"
    with many.endpoints.plays(worker.address, refuses):
        done = yield
    strange = {letter for letter in done.err + done.out if not letter.isprintable()} - {"\n"}
    assert strange == set()
    assert "\\x1b]0;owned" in done.err


@row("P7", "nodes whose clocks are an hour wrong", told_of="nobody", within=20, **STOP)
def wrong_clocks(bench: Bench) -> Fault:
    many = cast("Many", bench)
    many.populate(living(3), running=True)
    for number, host in enumerate(many.nodes):
        file = host.file("json")
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + (3600 if number % 2 else -3600)))
        file.write_text(file.read_text().replace("2026-01-01T00:00:00Z", moment))
    done = yield
    assert {node["container"] for node in done.report["nodes"]} == {"absent"}


@row(
    "P8",
    "a thousand nodes",
    told_of="nobody",
    within=240,
    blind=(("O4", "each further run on a thousand nodes takes minutes; P1 has it for 200"),),
    **{**STOP, "converge": ()},
)
def a_thousand(bench: Bench) -> Fault:
    many = cast("Many", bench)
    many.populate(living(1000), running=True)
    many.invoke("--dry", "cluster.start", exit=0)
    assert many.ran
    assert (many.ran.seconds < 30, many.ran.megabytes < MEGABYTES) == (True, True)
    done = yield
    assert many.ran.megabytes < 2 * MEGABYTES
    assert {node["container"] for node in done.report["nodes"]} == {"absent"}
