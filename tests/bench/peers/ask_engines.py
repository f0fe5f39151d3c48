"""A command on every host at once by asyncssh; the connections alone, where it is empty.

`ask_engines.py KEY KNOWN_HOSTS COMMAND HOST:PORT…`
"""

import asyncio
import sys

import asyncssh

KEY, KNOWN_HOSTS, COMMAND, *PLACES = sys.argv[1:]
KEYS, KNOWN = [asyncssh.read_private_key(KEY)], asyncssh.read_known_hosts(KNOWN_HOSTS)


async def ask(place: str) -> str:
    """Connect, run the command if there is one, and give what it wrote."""
    host, _, port = place.rpartition(":")
    async with asyncssh.connect(
        host, int(port), username="ubuntu", client_keys=KEYS, known_hosts=KNOWN, agent_path=None
    ) as there:
        return str((await there.run(COMMAND, check=True)).stdout) if COMMAND else ""


async def main() -> None:
    """Ask all."""
    print(*await asyncio.gather(*map(ask, PLACES)), sep="\n")


asyncio.run(main())
