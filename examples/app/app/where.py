"""Where a task runs."""

from __future__ import annotations

import socket


def here() -> dict[str, str]:
    """Give the name of this host, and its address as Ray knows it."""
    import ray

    return {"host": socket.gethostname(), "address": str(ray.util.get_node_ip_address())}
