"""S: reaching nodes."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.bench import Bench, FaultyHost, host_key
from tests.faults.row import SLACK, Fault, row

EVIL_PORT = 2222
# Says that it is SSH, and nothing more.
BEGINS = """
import socket, threading
server, ends = socket.create_server(("", 2222)), []
while True:
    ends.append(server.accept()[0])
    ends[-1].sendall(b"SSH-2.0-OpenSSH_9.2\\r\\n")
"""


@contextmanager
def unplugged(host: FaultyHost) -> Iterator[None]:
    """Have a host's cable out: our end of it is down."""
    index = host.run("cat", "/sys/class/net/eth0/iflink").strip()
    (ours,) = (
        path.parent.name for path in Path("/sys/class/net").glob("*/ifindex") if path.read_text().strip() == index
    )
    subprocess.run(["ip", "link", "set", ours, "down"], check=True)
    # As if we had never spoken with it: what was heard a while ago is believed for seconds.
    subprocess.run(["ip", "neigh", "flush", "to", host.address], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "set", ours, "up"], check=True)


@contextmanager
def sshd_with(host: FaultyHost, *lines: str) -> Iterator[None]:
    """Have a host's sshd configured otherwise: what comes first holds."""
    file = "/etc/ssh/sshd_config.d/00-fault.conf"
    reload = "pkill -HUP -f '^sshd: /usr/sbin/sshd'; sleep 1"
    host.shell(f"printf '%s\\n' {shlex.join(lines)} > {file}; {reload}")
    try:
        yield
    finally:
        host.shell(f"rm {file}; {reload}")


@contextmanager
def elsewhere(host: FaultyHost, *argv: str) -> Iterator[None]:
    """Have another program answer where a host's sshd did."""
    process = host.shell(f"setsid {shlex.join(argv)} >/dev/null 2>&1 </dev/null & echo $!").strip()
    try:
        with host.rule("PREROUTING", "-t", "nat", "-p", "tcp", "--dport", "22", "-j", "REDIRECT", "--to-ports", "2222"):
            time.sleep(1)
            yield
    finally:
        host.run("kill", "--", f"-{process}")


@contextmanager
def variables(**changes: str | None) -> Iterator[None]:
    """Have the operator's environment otherwise; None takes a variable away."""
    before = {name: os.environ.get(name) for name in changes}

    def put(values: dict[str, str | None]) -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})

    put(changes)
    try:
        yield
    finally:
        put(before)


@contextmanager
def known_hosts(bench: Bench, text: str) -> Iterator[None]:
    """Have known_hosts say something else."""
    before = bench.known_hosts.read_text()
    bench.known_hosts.write_text(text)
    try:
        yield
    finally:
        bench.known_hosts.write_text(before)


def new_key(folder: Path, name: str, passphrase: str = "") -> Path:
    """Make a key."""
    path = folder / name
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@row("S1", "a node without a cable", task=("cluster.start",), code="SSH_UNREACHABLE", exit=4, within=25)
def no_route(bench: Bench) -> Fault:
    with unplugged(bench.worker):
        done = yield
    assert "Is it up" in done.err
    assert f"again: ENVIRONMENT={bench.env.stem} invoke cluster.start --only {bench.worker.node}" in done.err


@row("S2", "sshd does not listen", code="SSH_REFUSED", exit=4, within=1, quick=True)
def no_sshd(bench: Bench) -> Fault:
    with bench.worker.refuses(22):
        done = yield
    assert "Is sshd running" in done.err


@row("S3", "packets to sshd vanish", code="SSH_TIMEOUT", exit=4, within=5)
def blackhole(bench: Bench) -> Fault:
    with bench.worker.drops(22):
        yield


@row("S4", "sshd takes connections and never says a word", code="SSH_NO_BANNER", exit=4, within=10)
def no_banner(bench: Bench) -> Fault:
    with bench.worker.paused("^sshd: /usr/sbin/sshd"):
        yield


@row("S5", "sshd stands still in the login, and in the key exchange", code="SSH_STALLED", exit=4, within=15)
def stalled(bench: Bench) -> Fault:
    slow = ("AuthorizedKeysFile none", "AuthorizedKeysCommand /bin/sleep 60", "AuthorizedKeysCommandUser nobody")
    with sshd_with(bench.worker, *slow):
        done = yield
    assert "login (auth)" in done.node(bench.worker.node)["error"]
    with elsewhere(bench.worker, "python3", "-c", BEGINS):
        begun = time.monotonic()
        done = bench.invoke("cluster.status", "--json", exit=4)
        bench.in_time("stalled in the key exchange", begun, 15 + SLACK)
    assert "key exchange (kex)" in done.node(bench.worker.node)["error"]


@row(
    "S6",
    "the link dies while a container is being stopped",
    task=("cluster.stop",),
    code="SSH_LOST",
    exit=4,
    within=20,
    bench="B",
    converge=("cluster.stop",),
)
def link_dies(bench: Bench) -> Fault:
    worker = bench.worker

    def cut() -> None:
        time.sleep(2)  # the container ignores for 45 s that it is asked to end
        link.enter_context(worker.cut_off())

    with (
        worker.paused("ray start"),
        ExitStack() as link,
        bench.meanwhile(lambda: worker.attempt("pgrep", "-f", "dial-stdio").code == 0, cut),
    ):
        done = yield
    told = done.node(worker.node)
    assert told["container"] == "unknown"
    assert told["error"].startswith("lost contact during `stop the container`; its state is unknown")


@row("S7", "a node that does not know our key", code="SSH_AUTH_REFUSED", exit=6, within=8)
def key_refused(bench: Bench) -> Fault:
    with sshd_with(bench.worker, "AuthorizedKeysFile none"):
        done = yield
    assert "refuses ubuntu with" in done.node(bench.worker.node)["error"]
    assert "authorized_keys" in done.err


@row("S8", "an agent with ten keys", code="SSH_AUTH_REFUSED", exit=6, told_of="all", within=10)
def too_many_keys(bench: Bench) -> Fault:
    place = bench.folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    try:
        with variables(SSH_AUTH_SOCK=str(place)), bench.settings(SSH_KEY=None):
            time.sleep(0.5)
            for number in range(10):
                subprocess.run(["ssh-add", "-q", new_key(bench.folder, f"agent-{number}")], check=True)
            done = yield
    finally:
        agent.terminate()
        agent.wait()
        place.unlink(missing_ok=True)
    assert "too many keys" in done.err
    assert "set SSH_KEY" in done.err


@row("S9", "a key with a passphrase, and nobody to ask", code="KEY_ENCRYPTED", exit=6, told_of="all", within=8)
def encrypted_key(bench: Bench) -> Fault:
    key = new_key(bench.folder, "encrypted", "a passphrase")
    with bench.settings(SSH_KEY=str(key)), variables(SSH_AUTH_SOCK=None):
        done = yield
    assert f"ssh-add {key}" in done.err


@row("S10", "a host key that nobody knows", code="HOST_KEY_UNKNOWN", exit=6, within=8)
def unknown_key(bench: Bench) -> Fault:
    lines = bench.known_hosts.read_text().splitlines(keepends=True)
    with known_hosts(bench, "".join(line for line in lines if not line.startswith(f"{bench.worker.address} "))):
        done = yield
    assert "SHA256:" in done.node(bench.worker.node)["error"]
    assert f"invoke cluster.trust --only {bench.worker.node}" in done.err


@row("S11", "another host answers in a node's place", code="HOST_KEY_CHANGED", exit=6, within=8)
def changed_key(bench: Bench) -> Fault:
    worker = bench.worker
    worker.shell("rm -f /root/mitm*; ssh-keygen -q -t ed25519 -N '' -f /root/mitm")
    options = ("-o", "LogLevel=DEBUG1", "-o", "PidFile=none", "-E", "/root/mitm.log", "-h", "/root/mitm")
    with elsewhere(worker, "/usr/sbin/sshd", "-D", *options, "-p", "2222"):
        done = yield
        log = worker.run("cat", "/root/mitm.log")
    worker.shell("rm -f /root/mitm*")
    told = done.node(worker.node)["error"]
    assert f"{bench.known_hosts}:" in told, told
    assert told.count("SHA256:") == 2
    assert "Connection from" in log
    assert "userauth" not in log


@row("S11b", "another host answers in a jump host's place", code="HOST_KEY_CHANGED", exit=6, within=8)
def changed_jump_host(bench: Bench) -> Fault:
    head, home = bench.head, bench.folder / "home"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    jump = f"{head.address}:2222"
    (home / ".ssh/config").write_text(f"Host {bench.worker.address}\n  ProxyJump ubuntu@{jump}\n")
    other = new_key(bench.folder, "former").with_suffix(".pub").read_text()
    head.box.exec_run(["/usr/sbin/sshd", "-D", "-o", "PidFile=none", "-p", "2222"], detach=True)
    try:
        with (
            variables(HOME=str(home)),
            known_hosts(bench, f"{bench.known_hosts.read_text()}[{head.address}]:2222 {other}"),
        ):
            time.sleep(1)
            done = yield
    finally:
        head.attempt("pkill", "-f", "PidFile=none")
    assert f"for {jump}" in done.node(bench.worker.node)["error"]


@row("S12", "known_hosts in all of its forms, one key of which is revoked", code="HOST_KEY_REVOKED", exit=6, within=8)
def forms_of_known_hosts(bench: Bench) -> Fault:
    head, other, worker = bench.head, bench.other, bench.worker
    text = (
        f"# a comment\n{head.address} {host_key(head)}\n"
        f"@cert-authority *.example {host_key(head)}\n"
        f"{other.address},elsewhere.example {host_key(head)}\n{other.address} {host_key(other)}\n"
        f"@revoked * {host_key(worker)}\n{worker.address} {host_key(worker)}\n"
    )
    hashed = bench.folder / "hashed"
    hashed.write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hashed], check=True, capture_output=True)
    assert "|1|" in hashed.read_text()
    with known_hosts(bench, hashed.read_text()):
        done = yield
        for host in bench.hosts:
            options = ("StrictHostKeyChecking=yes", "BatchMode=yes", f"UserKnownHostsFile={bench.known_hosts}")
            words = [word for option in options for word in ("-o", option)]
            line = ["ssh", *words, "-i", bench.values["SSH_KEY"], f"ubuntu@{host.address}", "true"]
            accepted = subprocess.run(line, capture_output=True, check=False).returncode == 0
            assert accepted == (done.node(host.node)["outcome"] == "ok"), host.name


@row("S13", "sshd drops connections, for it has too many logins", code="SSH_BUSY", exit=4, within=10)
def busy(bench: Bench) -> Fault:
    with (
        sshd_with(bench.worker, "MaxStartups 1:100:1"),
        socket.create_connection((bench.worker.address, 22)) as one,
    ):
        one.recv(20)
        done = yield
    assert "MaxStartups" in done.err


@row("S14", "sudo wants a password", task=("cluster.install",), code="SUDO_PASSWORD_NEEDED", exit=3, within=15)
def sudo_asks(bench: Bench) -> Fault:
    with bench.worker.file("/etc/sudoers.d/ubuntu", "ubuntu ALL=(ALL) ALL\n"):
        done = yield
    assert "NOPASSWD" in done.err
    assert done.node(bench.worker.node)["changed"] is False


@row("S15", "a login shell that ends at once, and one that chatters", code="SHELL_UNUSABLE", exit=3, within=10)
def hostile_shell(bench: Bench) -> Fault:
    with bench.worker.file("/home/ubuntu/.bashrc", "exit 0\n"):
        yield
    with bench.worker.file(
        "/home/ubuntu/.bashrc", "echo Welcome; echo 'to this' >&2; printf 'HTTP/1.1 200 OK\\r\\n'\n"
    ):
        bench.invoke("cluster.status", exit=0)


@row("S16", "sshd allows one session", task=("cluster.start",), within=40)
def one_session(bench: Bench) -> Fault:
    with sshd_with(bench.worker, "MaxSessions 1"):
        yield
    with sshd_with(bench.worker, "MaxSessions 0"):
        done = bench.invoke("cluster.status", "--json", exit=3)
    assert done.node(bench.worker.node)["code"] == "SSH_NO_CHANNEL"


@row(
    "S17",
    "a node that is there for three seconds, and away for three",
    task=("cluster.start",),
    bench="B",
    running=False,
    within=90,
)
def flapping(bench: Bench) -> Fault:
    over = threading.Event()

    def flap() -> None:
        while not over.is_set():
            with bench.worker.cut_off():
                over.wait(3)
            over.wait(3)

    thread = threading.Thread(target=flap, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert len(bench.sight(bench.worker).ours) == 1


@row(
    "S18",
    "a node restarts between two steps",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="NODE_RESTARTED",
    bench="B",
    within=60,
    blind=(("O2", "what is in a practice host's memory, images among it, goes with a restart"),),
)
def restarts_between_steps(bench: Bench) -> Fault:
    # It has sent its container's start, and waits for the others.
    def container_runs() -> bool:
        return bench.container(bench.worker) in bench.worker.containers(running=True)

    with bench.settings(CONTAINER_ENV="STUB_LATE=6"):
        with bench.meanwhile(container_runs, lambda: bench.worker.box.restart(timeout=1)):
            yield
        bench.comes_back(bench.worker)
        bench.invoke("cluster.stop", exit=0)


@row(
    "S19",
    "two names lead to one machine",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="SAME_MACHINE",
    told_of="nobody",
    sick=("worker",),
    bench="B",
    within=20,
)
def two_names(bench: Bench) -> Fault:
    worker, second = bench.worker, bench.worker.address.rpartition(".")[0] + ".77"
    worker.run("ip", "addr", "add", f"{second}/24", "dev", "eth0")
    lines = bench.workers_file.read_text()
    bench.workers_file.write_text(f"{lines}ubuntu@{second}\n")
    try:
        with known_hosts(bench, f"{bench.known_hosts.read_text()}{second} {host_key(worker)}\n"):
            done = yield
    finally:
        bench.workers_file.write_text(lines)
        worker.run("ip", "addr", "del", f"{second}/24", "dev", "eth0")
    told = {done.node(name)["code"] for name in (worker.node, second)}
    assert told == {None, "SAME_MACHINE"}
    assert len(bench.sight(worker).ours) == 1
