"""What Ray knew before anything was started."""

from __future__ import annotations

from deploy.plan import Late, Place

# Not for the script, which waits for a number of nodes.
FORMER: Late[frozenset[str]] = Late(
    "former", "", lambda site: frozenset(node.node_id for node in site.ray.nodes() if node.alive), Place.HEAD
)
