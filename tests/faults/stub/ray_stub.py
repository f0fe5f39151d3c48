"""Plays Ray for faults that have nothing to do with Ray itself: `ray start`, its node list, and a task on a node.

It is both the program `ray` and the module `ray` of its image, starts in a tenth of a second, and wants the token. The
variable STUB_EXIT_AFTER ends a worker after so many seconds, STUB_STUBBORN has it ignore SIGTERM, STUB_LATE has a
worker wait for so many seconds before it joins.
"""

import argparse
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
import types
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

VERSION = "2.60.0"
DASHBOARD = Path("/tmp/stub-dashboard")  # noqa: S108 - in a container of its own


def token() -> str:
    """Give the cluster's token; nothing where there is none."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(path).read_text().strip() if path else ""


class Nodes:
    """The head's list of nodes, and the lines to the workers."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, object]] = {}
        self.lines: dict[str, object] = {}
        self.lock = threading.Lock()

    def joins(self, address: str, line: object, is_head: bool = False) -> str:
        """Enter a node, and give its id."""
        name = (uuid.uuid4().hex * 2)[:56]
        self.rows[name] = {
            "node_id": name, "node_ip": address, "is_head_node": is_head, "state": "ALIVE", "state_message": None,
        }  # fmt: skip
        self.lines[name] = line
        return name

    def leaves(self, name: str) -> None:
        """Have a node dead."""
        self.rows[name]["state"] = "DEAD"
        self.lines.pop(name, None)

    def runs(self, name: str) -> bool:
        """Tell whether a node runs a task."""
        line = self.lines.get(name)
        if line is None or self.rows[name]["is_head_node"]:
            return line is not None
        with self.lock:
            line.sendall(b"run\n")  # type: ignore[attr-defined]
            line.settimeout(3)  # type: ignore[attr-defined]
            try:
                return bool(line.recv(16))  # type: ignore[attr-defined]
            except OSError:
                return False


NODES = Nodes()


class Joining(socketserver.BaseRequestHandler):
    """A worker's line to the head, for as long as both live."""

    def handle(self) -> None:
        """Take the worker in where its token is ours, and look after its line."""
        said = self.request.makefile().readline()
        if not said.strip():
            return None
        hello = json.loads(said)
        if hello["token"] != token():
            self.request.sendall(b"refused\n")
            return None
        self.request.sendall(b"welcome\n")
        name = NODES.joins(hello["address"], self.request)
        while True:
            time.sleep(0.2)
            with NODES.lock:
                self.request.settimeout(0.01)
                try:
                    gone = not self.request.recv(1, socket.MSG_PEEK)
                except TimeoutError:
                    gone = False
                except OSError:
                    gone = True
            if gone:
                return NODES.leaves(name)


class Dashboard(BaseHTTPRequestHandler):
    """The part of Ray's REST API that says who is there."""

    def do_GET(self) -> None:  # noqa: N802 - so it is called
        """Answer with the nodes, or run a task on one."""
        if token() and self.headers.get("Authorization") != f"Bearer {token()}":
            return self.answer(401, {"error": "no token"})
        if self.path.startswith("/api/v0/nodes"):
            rows = list(NODES.rows.values())
            return self.answer(200, {"result": True, "data": {"result": {"total": len(rows), "result": rows}}})
        if self.path.startswith("/run/"):
            return self.answer(200, {"ran": NODES.runs(self.path.removeprefix("/run/"))})
        return self.answer(404, {"error": "the stub has no such thing"})

    def answer(self, code: int, said: object) -> None:
        """Send JSON."""
        body = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def start(given: argparse.Namespace) -> None:
    """Be a head or a worker until SIGTERM."""
    if given.head:
        DASHBOARD.write_text(str(given.dashboard_port))
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        gcs = socketserver.ThreadingTCPServer((given.node_ip_address, given.port), Joining)
        api = ThreadingHTTPServer(("127.0.0.1", given.dashboard_port), Dashboard)
        for server in (gcs, api):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        NODES.joins(given.node_ip_address, object(), is_head=True)
        print("head started", flush=True)
        while True:
            time.sleep(1)
    time.sleep(float(os.environ.get("STUB_LATE", "0")))
    host, _, port = given.address.rpartition(":")
    line = socket.create_connection((host, int(port)), timeout=20)
    line.sendall(json.dumps({"address": given.node_ip_address, "token": token()}).encode() + b"\n")
    if line.recv(16) != b"welcome\n":
        sys.exit("the head refuses this token")
    print("joined", flush=True)
    line.settimeout(None)
    while line.recv(16):
        line.sendall(b"done")
    sys.exit("the head is gone")


def main() -> None:
    """Be `ray`."""
    parser = argparse.ArgumentParser(prog="ray", allow_abbrev=False)
    parser.add_argument("command", choices=["start"])
    for flag in ("--head", "--block"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--port", "--dashboard-port"):
        parser.add_argument(flag, type=int)
    for flag in ("--address", "--node-ip-address"):
        parser.add_argument(flag)
    given, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("STUB_STUBBORN") else lambda *_: os._exit(0))
    if not given.head and (after := os.environ.get("STUB_EXIT_AFTER")):
        threading.Timer(float(after), lambda: os._exit(1)).start()
    start(given)


# ---- the module, as far as Raydock's own programs use it


def asked(path: str) -> dict[str, object]:
    """Ask the head that runs beside."""
    call = Request(f"http://127.0.0.1:{DASHBOARD.read_text()}{path}", headers={"Authorization": f"Bearer {token()}"})  # noqa: S310
    with urlopen(call, timeout=20) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)
    return found


def init(**_: object) -> None:
    """Do nothing: each call asks the head."""


def nodes() -> list[dict[str, object]]:
    """Give the nodes as `ray.nodes()` has them."""
    listed: list[dict[str, object]] = asked("/api/v0/nodes")["data"]["result"]["result"]  # type: ignore[index]
    return [
        {"NodeID": row["node_id"], "NodeManagerAddress": row["node_ip"], "Alive": row["state"] == "ALIVE"}
        for row in listed
    ]


class Task:
    """A remote function, which always tells on which node it ran."""

    node = ""

    def options(self, scheduling_strategy: str) -> "Task":
        """Give it a node."""
        task = Task()
        task.node = scheduling_strategy
        return task

    def remote(self) -> tuple[str, bool]:
        """Run it there."""
        return self.node, bool(asked(f"/run/{self.node}")["ran"])


def remote(**_: object) -> object:
    """Make a remote function of any."""
    return lambda _: Task()


def wait(refs: list[tuple[str, bool]], **_: object) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Tell which have run."""
    return [ref for ref in refs if ref[1]], [ref for ref in refs if not ref[1]]


def get(ref: tuple[str, bool]) -> str:
    """Give on which node it ran."""
    return ref[0]


class RayError(Exception):
    """No task raises it here."""


def _modules() -> None:
    exceptions, strategies = types.ModuleType("ray.exceptions"), types.ModuleType("ray.util.scheduling_strategies")
    exceptions.RayError = RayError  # type: ignore[attr-defined]
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node  # type: ignore[attr-defined]  # noqa: ARG005
    sys.modules |= {"ray.exceptions": exceptions, "ray.util": types.ModuleType("ray.util")}
    sys.modules["ray.util.scheduling_strategies"] = strategies
    sys.modules["ray"].exceptions = exceptions  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
elif __name__ == "ray":
    __path__: list[str] = []
    _modules()
