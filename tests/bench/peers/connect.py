"""A connection to every host by asyncssh, on which its engine may be asked: see `--help`."""

import argparse
import asyncio
import sys
from pathlib import Path

import asyncssh

ASKED = b"GET /containers/json?all=1 HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"

parser = argparse.ArgumentParser(description=__doc__)
for name in ("hosts", "port", "user", "key", "known_hosts", "window"):
    parser.add_argument(name)
parser.add_argument("--engine", action="store_true", help="ask each host's engine for its containers")
given = parser.parse_args()
# Read once: by their names they would be read anew for each connection.
KEYS, KNOWN = [asyncssh.read_private_key(given.key)], asyncssh.read_known_hosts(given.known_hosts)


async def containers(there: asyncssh.SSHClientConnection) -> bool:
    """Ask for them, and tell whether there was an answer."""
    async with there.create_process("docker system dial-stdio", encoding=None) as dialled:
        dialled.stdin.write(ASKED)
        said: bytes = await dialled.stdout.readline()
    return said.startswith(b"HTTP/1.1 200")


async def connect(host: str, window: asyncio.Semaphore) -> bool:
    """Connect, do what is to be done, and tell whether it went well."""
    async with (
        window,
        asyncssh.connect(
            host,
            int(given.port),
            username=given.user,
            client_keys=KEYS,
            known_hosts=KNOWN,
            agent_path=None,
        ) as there,
    ):
        return not given.engine or await containers(there)


async def main() -> int:
    """Have every host do it."""
    hosts = Path(given.hosts).read_text().split()
    window = asyncio.Semaphore(int(given.window))
    return not all(await asyncio.gather(*(connect(host, window) for host in hosts)))


sys.exit(asyncio.run(main()))
