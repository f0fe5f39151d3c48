"""Three commands on every host by asyncssh: `three_steps.py HOSTS PORT USER KEY KNOWN_HOSTS WINDOW`."""

import asyncio
import sys
from pathlib import Path

import asyncssh

HOSTS, PORT, USER, KEY, KNOWN_HOSTS, WINDOW = sys.argv[1:]
# Read once: by their names they would be read anew for each connection.
KEYS, KNOWN = [asyncssh.read_private_key(KEY)], asyncssh.read_known_hosts(KNOWN_HOSTS)


async def three_steps(host: str, window: asyncio.Semaphore) -> int:
    """Do them on one connection, and give how many went well."""
    async with (
        window,
        asyncssh.connect(host, int(PORT), username=USER, client_keys=KEYS, known_hosts=KNOWN, agent_path=None) as there,
    ):
        done = [await there.run("true", check=True) for _ in range(3)]
    return len(done)


async def main() -> int:
    """Have every host do them."""
    hosts = Path(HOSTS).read_text().split()
    window = asyncio.Semaphore(int(WINDOW))
    done = await asyncio.gather(*(three_steps(host, window) for host in hosts))
    return sum(done) != 3 * len(hosts)


sys.exit(asyncio.run(main()))
