"""A node's Docker engine, as the steps use it: `Docker` of `deploy.site` on a client of `deploy.channel`."""

from __future__ import annotations

from deploy.engine.attach import Attach
from deploy.engine.images import Images


class Engine(Images, Attach):
    """The engine behind a client. Every error is a `Failure`, and no call waits for ever."""
