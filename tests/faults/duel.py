"""Has random known_hosts files judged by OpenSSH and by Raydock: `python -m tests.faults.duel --help`.

Three servers of this machine show keys of other types. Whatever a file says, both must come to the same verdict of
each, as `ssh -o StrictHostKeyChecking=yes` does; a seed replays its file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from deploy.errors import Failure
from deploy.hostkeys import load_known_hosts
from deploy.inventory import Node
from deploy.settings import Settings
from deploy.ssh import connection_to, open_connection
from tests.faults.score import Score

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "sshd"
USER = "root"
KINDS = ("ed25519", "ecdsa", "rsa")
# What each server shows.
SHOWN = (KINDS, ("rsa",), ("ecdsa", "rsa"))
# Of a line: who it is about, a marker, a key. HOST is the server's name with its port, BARE without.
NAMES = (
    *("HOST", "HOST", "HOST", "HASHED", "BARE", "HASHED_BARE", "HOST,192.0.2.1", "example.com,HOST", "[127.0.?.*]:*"),
    *("*", "*,!HOST", "!HOST,*", "[127.0.0.1]:1", "example.com", "[LOCALHOST]:PORT", "127.0.0.*", "[127.0.0.1]:*"),
)
MARKERS = ("", "", "", "", "", "@revoked ", "@cert-authority ", "@nonsense ")
KEYS = ("ED", "ED", "EC", "RSA", "OTHER_ED", "OTHER_EC", "OTHER_RSA", "ssh-ed25519 AAAA!!!", "ssh-rsa ED_BASE64", "")
FRAMES = ("{}\n", "{}\n", "{}\n", " {}\n", "\t{} \n", "{} a comment\n", "{}\r\n", "#{}\n", "{}", "\n{}\n")


@dataclass(frozen=True)
class Server:
    """A server: its port, and the public keys that it shows, by their kind."""

    port: int
    keys: dict[str, str]


@contextmanager
def server(folder: Path, kinds: tuple[str, ...], login: Path) -> Iterator[Server]:
    """Have a server that shows keys of these kinds, and takes our login."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    keys = {kind: made_key(folder / kind, kind) for kind in kinds}
    Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        f"MaxStartups 100\nAuthorizedKeysFile {login.with_suffix('.pub')}\n"
        + "".join(f"HostKey {folder / kind}\n" for kind in kinds)
    )
    with (folder / "log").open("wb") as log, subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log) as sshd:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield Server(port, keys)
        finally:
            sshd.terminate()


def made_key(path: Path, kind: str) -> str:
    """Make a key, and give its public part: type and base64."""
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def draft(seed: int, server: Server, others: dict[str, str]) -> str:
    """Draw a file for a server."""
    draw = random.Random(seed)  # noqa: S311 - a game, and one that can be played again
    host = f"[127.0.0.1]:{server.port}"
    known = {kind: server.keys.get(kind, others[kind]) for kind in KINDS}
    words = {
        "HOST": host,
        "HASHED": paramiko.HostKeys.hash_host(host),
        "BARE": "127.0.0.1",
        "HASHED_BARE": paramiko.HostKeys.hash_host("127.0.0.1"),
        "LOCALHOST": "localhost",
        "PORT": str(server.port),
        **{"ED": known["ed25519"], "EC": known["ecdsa"], "RSA": known["rsa"]},
        **{"OTHER_ED": others["ed25519"], "OTHER_EC": others["ecdsa"], "OTHER_RSA": others["rsa"]},
        "ED_BASE64": known["ed25519"].split()[1],
    }

    def line() -> str:
        text = f"{draw.choice(MARKERS)}{draw.choice(NAMES)} {draw.choice(KEYS)}"
        return draw.choice(FRAMES).format(re.sub(r"[A-Z_]+", lambda word: words.get(word[0], word[0]), text))

    return "".join(line() for _ in range(draw.randint(0, 5)))


def by_openssh(file: Path, port: int, login: Path, user: str = USER) -> str:
    """Give OpenSSH's verdict."""
    options = {"StrictHostKeyChecking": "yes", "UserKnownHostsFile": file, "GlobalKnownHostsFile": "/dev/null"}
    options |= {"BatchMode": "yes", "IdentitiesOnly": "yes", "UpdateHostKeys": "no", "ConnectTimeout": 10}
    flags = [f"-o{key}={value}" for key, value in options.items()]
    argv = ["ssh", "-F/dev/null", *flags, "-i", str(login), "-p", str(port), f"{user}@127.0.0.1", "true"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    signs = {
        "REVOKED HOST KEY DETECTED": "revoked",
        "REMOTE HOST IDENTIFICATION HAS CHANGED": "changed",
        "host key is known": "unknown",
    }
    refused = (verdict for sign, verdict in signs.items() if sign in ran.stderr)
    return next(refused, ran.stderr if ran.returncode else "trusted")


def by_raydock(file: Path, port: int, login: Path, user: str = USER) -> str:
    """Give Raydock's verdict."""
    settings = Settings(ssh_key=login, ssh_known_hosts=file)
    node = Node("node", "127.0.0.1", role="worker", user=user, port=port)
    connection = connection_to(node, settings, load_known_hosts(settings))
    try:
        open_connection(connection)
    except Failure as failure:
        # To OpenSSH a host of which only an authority is known is an unknown one.
        return failure.code.removeprefix("HOST_KEY_").lower().replace("certificate", "unknown")
    else:
        return "trusted"
    finally:
        connection.close()


def main() -> int:
    """Have as many files judged as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.duel", description=__doc__)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first file; the next ones count on")
    parser.add_argument("--record", action="store_true", help="write docs/faults/games/duel-ssh.json")
    asked = parser.parse_args()
    score = Score("duel", "ssh", record=asked.record)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        os.environ["HOME"] = place  # nobody's own ~/.ssh has a say
        login = folder / "login"
        made_key(login, "ed25519")
        others = {kind: made_key(folder / "others" / kind, kind) for kind in KINDS}
        servers = []
        for number, kinds in enumerate(SHOWN):
            (folder / f"{number}").mkdir()
            servers.append(stack.enter_context(server(folder / f"{number}", kinds, login)))
        file = folder / "known_hosts"
        for seed in range(asked.seed, asked.seed + asked.files):
            one = servers[seed % len(servers)]
            file.write_bytes(draft(seed, one, others).encode())
            theirs, ours = by_openssh(file, one.port, login), by_raydock(file, one.port, login)
            wrong = [] if ours == theirs else [f"OpenSSH: {theirs}; Raydock: {ours}; of {file.read_text()!r}"]
            score.add(f"a server with {', '.join(SHOWN[seed % len(servers)])}", seed, wrong, verdict=theirs)
    return score.code()


if __name__ == "__main__":
    sys.exit(main())
