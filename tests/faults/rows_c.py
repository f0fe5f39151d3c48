"""C: inputs. Nothing is contacted before all of them are good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.row import Fault, row
from tests.hosts.observer import TOP

WRONG = {"running": None, "exit": 2, "told_of": "nobody", "within": 2, "bench": "B", "converge": ()}


@contextmanager
def listed(bench: Bench, content: bytes) -> Iterator[None]:
    """Have another list of workers."""
    file = bench.folder / "other-workers.txt"
    file.write_bytes(content)
    with bench.settings(WORKERS_FILE=str(file)):
        yield


def untouched(number: str, title: str, content: bytes, *said: str, **how: object) -> None:
    """Enter a list of workers that is refused, with what must be said of it."""

    @row(number, title, code="INVENTORY", **{**WRONG, **how})
    def refused(bench: Bench) -> Fault:
        logins = login_lines(bench)
        with listed(bench, content):
            done = yield
        for words in said:
            assert words in done.err, done.err
        assert login_lines(bench) == logins


def login_lines(bench: Bench) -> list[int]:
    """Count what each sshd let in."""
    return [host.box.logs().count(b"Accepted publickey") for host in bench.hosts]


FOUR = (":1", ":2", ":3", ":4")
untouched("C4", "NUL, and letters that no host has", "10.0.0.1\n10.0.0.ü\x002\n".encode(), ":2")
untouched("C5", "a host twice, in other letters and forms", b"Node.a\nnode.a.\n[::1]\n[0:0::1]\n", ":2", ":4")
untouched("C6", "ports that no port can be, and half an address", b"a:65536\n[::1]:0\nb:abc\n[fe80::1\n", *FOUR)
untouched("C7", "a range", b"10.0.0.[1-50]\n", ":1", "range", quick=True)
untouched("C8", "what a shell or ssh would take for more", b"a;reboot\n$(x)\n`y`\n-oProxyCommand=z\n", *FOUR)


@row("C1", "a list of workers that is not there", code="INVENTORY", **WRONG)
def no_list(bench: Bench) -> Fault:
    logins = login_lines(bench)
    with bench.settings(WORKERS_FILE=str(bench.folder / "nowhere.txt")):
        done = yield
    assert "nowhere.txt" in done.err
    assert login_lines(bench) == logins


def accepted(number: str, title: str, form: str) -> None:
    """Enter a list of workers that is as good as the plain one."""

    @row(number, title, bench="B", within=10, converge=())
    def good(bench: Bench) -> Fault:
        names = [f"ubuntu@{host.address}" for host in bench.workers]
        with listed(bench, form.format(*names).encode()):
            done = yield
        assert [node["outcome"] for node in done.report["nodes"]] == ["ok"] * 3


accepted("C2", "blank lines, comments, tabs, no end of line", "\n\n# x\n\t{} # y\n\n  {}\t")
accepted("C3", "CRLF, a byte order mark, mixed ends of line", "\ufeff{}\r\n{}\n")


@row("C9", "10,000 lines, the last one as the first", code="INVENTORY", **{**WRONG, "within": 3})
def many_lines(bench: Bench) -> Fault:
    lines = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(10_000)]
    with listed(bench, "\n".join([*lines, lines[0]]).encode()):
        done = yield
    assert ":10001" in done.err


def setting(number: str, title: str, **values: str) -> None:
    """Enter settings that are refused, each by its name."""

    @row(number, title, code="CONFIG", **WRONG)
    def refused(bench: Bench) -> Fault:
        with bench.settings(**values):
            done = yield
        for name in values:
            assert name in done.err, done.err


setting("C14", "names that AWS and Docker do not take", REPOSITORY_NAME="a; rm -rf /", REGION="no where")
setting("C16", "numbers out of range and in other digits", NUM_WORKERS="-1", REDIS_PORT="８", SHM_SIZE="8GB;x")
setting("D11", "shared memory of a size that cannot be", SHM_SIZE="0")


@row("C12", "settings missing, empty, twice and misspelt: all told at once", code="CONFIG", **WRONG)
def all_at_once(bench: Bench) -> Fault:
    env: Path = bench.env
    text = env.read_text()
    env.write_text(text + "NUM_WORKERS=\nCLUSTER_NAM=x\nHEAD=a\nHEAD=b\n")
    try:
        done = yield
    finally:
        env.write_text(text)
    for words in ("NUM_WORKERS", "CLUSTER_NAME", "HEAD"):
        assert words in done.err, done.err


@row("C10", "the head is in the list of workers", code="INVENTORY", **WRONG)
def head_among_workers(bench: Bench) -> Fault:
    with listed(bench, f"ubuntu@{bench.head.address}\n".encode()):
        done = yield
    assert "head" in done.err


@row("C11", "a name that has no address", exit=4, code="DNS_FAIL", told_of="nobody", bench="B", within=8, converge=())
def no_address(bench: Bench) -> Fault:
    with listed(bench, f"ubuntu@{bench.other.address}\nubuntu@no-such-host.invalid\n".encode()):
        done = yield
    assert done.node(bench.other.node)["outcome"] == "ok"
    assert done.node("no-such-host.invalid")["code"] == "DNS_FAIL"


LITERAL = "A=${HOME}$(touch${IFS}/srv/executed)`id`"


@row("C13", "a value that a shell would expand", task=("cluster.start",), running=False, bench="B", within=30)
def literally(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV=LITERAL):
        yield
        for host in bench.hosts:
            assert LITERAL in host.containers()[bench.container(host)]["Config"]["Env"]
            assert host.attempt("test", "-e", "/srv/executed").code
        assert not Path("/srv/executed").exists()
        bench.invoke("cluster.stop", exit=0)


@row("C15", "values that would add lines to the Dockerfile", code="CONFIG", **{**WRONG, "task": ("build",)})
def more_lines(bench: Bench) -> Fault:
    with bench.settings(BASE_IMAGE='"a\nRUN id"', MY_PROJECT_INSTALLATION_SCRIPT='"x\nRUN id"'):
        done = yield
    assert "BASE_IMAGE" in done.err
    assert "MY_PROJECT_INSTALLATION_SCRIPT" in done.err


@row("C17", "settings and a key that others may read", bench="B", within=10, converge=())
def readable_by_others(bench: Bench) -> Fault:
    bench.env.chmod(0o644)
    done = yield
    assert f"chmod 600 {bench.env.relative_to(TOP)}" in done.err
