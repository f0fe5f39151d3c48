"""C: inputs. Nothing is contacted before all of them are good."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.row import Fault, row
from tests.hosts.observer import TOP

RESOLVER = "127.9.9.9"
WRONG = {"running": None, "exit": 2, "told_of": "nobody", "within": 2, "bench": "B"}


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
untouched(
    "C6",
    "ports, brackets and zones that there are not",
    b"a:0\nb:65536\nc:abc\n[::1]:0\n[fe80::1\nfe80::1%a/b\n[10.0.0.1]:22\nu@v@w\nu:secret@h\n",
    *(f":{line}" for line in range(1, 10)),
)
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

    @row(number, title, bench="B", within=10)
    def good(bench: Bench) -> Fault:
        names = [f"ubuntu@{host.address}" for host in bench.workers]
        with listed(bench, form.format(*names).encode()):
            done = yield
        assert [node["outcome"] for node in done.report["nodes"]] == ["ok"] * 3


accepted("C2", "blank lines, comments, tabs, no end of line", "\n\n# x\n\t{} # y\n\n  {}\t")
accepted("C3", "CRLF, a byte order mark, mixed ends of line", "\ufeff{}\r\n{}\n")


@row("C9", "10,000 lines, the last one as the first; a line of 10 MB", code="INVENTORY", **{**WRONG, "within": 3})
def many_lines(bench: Bench) -> Fault:
    lines = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(10_000)]
    with listed(bench, "\n".join([*lines, lines[0]]).encode()):
        done = yield
    assert ":10001" in done.err
    with listed(bench, b"10.0.0.1\n" + b"x" * 10_000_000 + b"\n"):
        begun = time.monotonic()
        long = bench.invoke("cluster.status", "--json", exit=2)
        bench.in_time("a line of 10 MB", begun, 3)
    assert ":2" in long.err
    assert len(long.err) < 2000, "the whole line is told"


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
    logins = login_lines(bench)
    with listed(bench, f"ubuntu@{bench.worker.address}\nubuntu@{bench.head.address}:22\n".encode()):
        done = yield
    assert ":2" in done.err
    assert "is the head" in done.err
    assert login_lines(bench) == logins


@contextmanager
def silent_resolver(bench: Bench) -> Iterator[None]:
    """Have the operator's name server take every question and answer none."""
    file = bench.folder / "resolv.conf"
    file.write_text(f"nameserver {RESOLVER}\n")
    mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind((RESOLVER, 53))
        bench.around = ("unshare", "-m", "--propagation", "private", "sh", "-c", mount, str(file))
        try:
            yield
        finally:
            bench.around = ()


@row(
    "C11",
    "twenty names, and a name server that does not answer",
    code="DNS_FAIL",
    exit=4,
    told_of="nobody",
    within=8,
    bench="B",
    sick=(),
)
def slow_names(bench: Bench) -> Fault:
    well = f"ubuntu@{bench.worker.address}\n"
    names = "".join(f"ubuntu@worker-{number}.example.com\n" for number in range(20))
    with listed(bench, (names + well).encode()), silent_resolver(bench):
        done = yield
    codes = [node["code"] for node in done.report["nodes"] if node["role"] == "worker"]
    assert codes == ["DNS_FAIL"] * 20 + [None]


LITERAL = ("A=${HOME}", "B=$(touch /srv/executed)", "C=`touch /srv/executed`", "D=it's", "E=x=y;z#")


@row(
    "C13",
    "values that a shell would expand",
    task=("cluster.start",),
    running=False,
    bench="B",
    converge=("cluster.stop",),
)
def literally(bench: Bench) -> Fault:
    with bench.settings(CONTAINER_ENV=shlex.join(("Z=1", *LITERAL))):
        yield
    for host in bench.hosts:
        assert set(LITERAL) <= set(host.containers()[bench.container(host)]["Config"]["Env"])
        assert host.attempt("test", "-e", "/srv/executed").code
    assert not Path("/srv/executed").exists()


@row("C15", "values that would make the Dockerfile another one", code="CONFIG", **{**WRONG, "task": ("build",)})
def another_dockerfile(bench: Bench) -> Fault:
    wrong = {
        "BASE_IMAGE": '"a\\nFROM b"',
        "MY_PROJECT_INSTALLATION_SCRIPT": '"true\\nRUN id"',
        "MY_PROJECT_REF": "'--upload-pack=id'",
        "MY_PROJECT_URL": "ext::sh",
    }
    with bench.settings(**wrong):
        done = yield
    for name in wrong:
        assert name in done.err, done.err


@row("C17", "a secret and a key that everybody can read", code="CONFIG", **WRONG)
def open_to_all(bench: Bench) -> Fault:
    key = bench.folder / "open-key"
    shutil.copy(TOP / bench.values["SSH_KEY"], key)
    bench.env.chmod(0o644)
    warned = bench.invoke("cluster.status")
    told = rf"which has AWS_SECRET_ACCESS_KEY\b.*: chmod 600 {bench.env.relative_to(TOP)}"
    assert re.search(told, warned.err), warned.err
    bench.env.chmod(0o600)
    key.chmod(0o644)
    with bench.settings(SSH_KEY=str(key)):
        done = yield
    assert f"chmod 600 {key}" in done.err
