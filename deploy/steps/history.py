"""What was done to the cluster: the audit on the head, shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.audit import FILE, entries
from deploy.plan import Step

if TYPE_CHECKING:
    from deploy.site import Site


@dataclass(frozen=True)
class ShowHistory(Step):
    """Show who did what to the cluster, the newest last. The document keeps no such record."""

    changes: ClassVar[bool] = False
    told: ClassVar[bool] = False

    folder: str
    lines: int

    @property
    def title(self) -> str:
        return "show the history"

    @property
    def shell(self) -> str:
        file = f"{self.folder}/{FILE}"
        return f"[ ! -e {file} ] || tail -n {self.lines} {file}"

    def done(self, site: Site) -> bool:
        """Note it."""
        site.made(history=[entry.json() for entry in entries(site.run("sh", "-c", self.shell))])
        return True

    def apply(self, site: Site) -> None:
        """Nothing: see `done`."""
