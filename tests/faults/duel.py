"""Has random known_hosts files judged by OpenSSH and by Raydock: `python -m tests.faults.duel --help`.

Three servers of this machine show keys of other types. Whatever the files say, the user's two, the system's two and
one of RevokedHostKeys, by `[host]:port` or by an alias, both must come to the same verdict of each server, as
`ssh -o StrictHostKeyChecking=yes` does; a seed replays its files.
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import paramiko

from deploy import known_files
from deploy.errors import Failure
from deploy.inventory import Node
from deploy.known_files import load_known_hosts
from deploy.settings import Settings
from deploy.ssh import configuration, connection_to, open_connection
from tests.faults.score import Score, with_record

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


def draft(draw: random.Random, server: Server, others: dict[str, str], host: str) -> str:
    """Draw a file for a server that is known as `host`."""
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


@dataclass(frozen=True)
class Deal:
    """The files of a round, and the words of ssh_config that go with them."""

    users: tuple[Path, ...]
    systems: tuple[Path, ...]
    config: dict[str, object]

    def texts(self) -> list[str]:
        """Give what the files say, to be told."""
        return [file.read_text() if file.exists() else "" for file in (*self.users, *self.systems)]


def deal(seed: int, server: Server, others: dict[str, str], home: Path) -> Deal:
    """Draw the files of a round, and write them where they belong."""
    draw = random.Random(seed)  # noqa: S311 - a game, and one that can be played again
    alias = draw.random() < 0.25
    host = "web" if alias else f"[127.0.0.1]:{server.port}"
    users = tuple(home / ".ssh" / name for name in known_files.USER_FILES)
    systems = tuple(home / "etc" / file.name for file in known_files.SYSTEM_FILES)
    config: dict[str, object] = {"HostKeyAlias": host} if alias else {}
    for number, file in enumerate((*users, *systems)):
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        if number == 0 or draw.random() < 0.5:
            file.write_bytes(draft(draw, server, others, host).encode())
    if draw.random() < 0.25:
        keys = draw.sample([*server.keys.values(), *others.values()], 2)
        revoked = home / "revoked"
        revoked.write_text("# stolen\n" + "\n".join(keys) + "\n")
        config["RevokedHostKeys"] = revoked
    (home / ".ssh" / "config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    return Deal(users, systems, config)


def by_openssh(
    file: Path, port: int, login: Path, user: str = USER, more: Mapping[str, object] = MappingProxyType({})
) -> str:
    """Give OpenSSH's verdict, with more of ssh_config's words."""
    options: dict[str, object] = {"UserKnownHostsFile": file, "GlobalKnownHostsFile": "/dev/null"}
    options |= {"StrictHostKeyChecking": "yes", "BatchMode": "yes", "IdentitiesOnly": "yes"}
    options |= {"UpdateHostKeys": "no", "ConnectTimeout": 10, **more}
    flags = [f"-o{key}={value}" for key, value in options.items()]
    argv = ["ssh", "-F/dev/null", *flags, "-i", str(login), "-p", str(port), f"{user}@127.0.0.1", "true"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    signs = {
        "REVOKED HOST KEY DETECTED": "revoked",
        "revoked by file": "revoked",
        "REMOTE HOST IDENTIFICATION HAS CHANGED": "changed",
        "host key is known": "unknown",
    }
    refused = (verdict for sign, verdict in signs.items() if sign in ran.stderr)
    return next(refused, ran.stderr if ran.returncode else "trusted")


def by_raydock(file: Path | None, port: int, login: Path, user: str = USER) -> str:
    """Give Raydock's verdict; without a file, of those that OpenSSH would read itself."""
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


def listed(files: tuple[Path, ...]) -> str:
    """Write several files as one word of ssh_config's."""
    return " ".join(map(str, files))


def main() -> int:
    """Have as many files judged as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.duel", description=__doc__)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first file; the next ones count on")
    with_record(parser)
    asked = parser.parse_args()
    score = Score("duel", "ssh", record=asked.record, mended=asked.mended)
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
        for seed in range(asked.seed, asked.seed + asked.files):
            one = servers[seed % len(servers)]
            dealt = deal(seed, one, others, folder)
            known_files.SYSTEM_FILES = dealt.systems
            configuration.cache_clear()
            more: dict[str, object] = {
                "UserKnownHostsFile": listed(dealt.users),
                "GlobalKnownHostsFile": listed(dealt.systems),
            }
            theirs = by_openssh(Path("/dev/null"), one.port, login, more=more | dealt.config)
            ours = by_raydock(None, one.port, login)
            told = f"OpenSSH: {theirs}; Raydock: {ours}; of {dealt.config} {dealt.texts()}"
            wrong = [] if ours == theirs else [told]
            score.add(f"a server with {', '.join(SHOWN[seed % len(servers)])}", seed, wrong, verdict=theirs)
    return score.code()


if __name__ == "__main__":
    sys.exit(main())
