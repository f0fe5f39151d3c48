"""All that an operator says before anything is contacted: settings and inventory, their mistakes in one message."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.clashes import of_workers
from deploy.errors import Mistake, bounded
from deploy.inventory import Inventory
from deploy.settings import Reading, Settings, read


def read_inputs(
    root: Path, environ: Mapping[str, str], flags: Mapping[str, str] | None = None
) -> tuple[Settings, Inventory]:
    """Give the settings of the folder `root`, and the cluster that they name.

    A `Mistake` has all that is wrong with both: the settings' first, each in its file's order.
    """
    reading = read(root, environ, flags)
    try:
        inventory = _inventory(reading)
    except Mistake as mistake:
        raise Mistake(*reading.problems, *mistake.problems) from None
    Mistake.raise_any([*reading.problems, *bounded(of_workers(reading.settings, inventory.workers))])
    return reading.settings, inventory


def _inventory(reading: Reading) -> Inventory:
    """Read the inventory as far as the settings say which one it is."""
    settings = reading.settings
    if "workers_file" in reading.unsure:
        return Inventory(settings.head_node())
    if reading.unsure & {"head", "ssh_port"}:
        # Nobody can say whether a worker is the head as well, or at the same port as another.
        return Inventory(settings.head_node(), settings.workers())
    return settings.inventory()
