"""Raydock's tasks: the document's steps, by name. `invoke --list` shows them."""

from __future__ import annotations

from invoke.collection import Collection

from deploy import build, cluster, job, publish, sandbox
from deploy.early import end_quietly

end_quietly()

namespace = Collection(build, publish, cluster, job, sandbox)
