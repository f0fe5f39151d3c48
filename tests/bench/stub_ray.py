"""Plays Ray for the endpoints of bench C, all of which it is: `stub_ray.py STATE GCS_PORT NODE_PORT DASHBOARD_PORT`.

A node is alive while the file is there that its stub of Docker keeps for a running container of Ray's.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path


def nodes(state: Path) -> list[dict[str, object]]:
    """Give the nodes as Ray's API has them; a node that was started anew has another id."""
    alive = [entry for entry in os.scandir(state) if entry.name.endswith(".ray")]
    return [
        {
            "node_id": f"{entry.name.removesuffix('.ray')}-{entry.stat().st_mtime_ns}",
            "node_ip": entry.name.removesuffix(".ray"),
            "is_head_node": False,
            "state": "ALIVE",
            "state_message": None,
        }
        for entry in alive
    ]


async def joined(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a port that is open."""
    writer.close()


async def serve(state: Path, gcs: int, node: int, dashboard: int) -> None:
    """Listen for all of them, until the end."""

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            body = json.dumps({"result": True, "data": {"result": {"result": nodes(state)}}}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    # Every node looks at ports of all others at once.
    for port in (gcs, node):
        await asyncio.start_server(joined, "0.0.0.0", port, backlog=4096)  # noqa: S104 - all of 127.0.0.0/8
    await asyncio.start_server(api, "127.0.0.1", dashboard)
    print("listens", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
