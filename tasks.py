"""Raydock's tasks: the document's steps, by name. `invoke --list` shows them."""

from __future__ import annotations

from invoke.collection import Collection

from deploy.early import end_quietly, keep_plugins_out, tidy_later

tidy_later()
keep_plugins_out()

from deploy import build, cluster, job, publish, sandbox  # noqa: E402 - what makes the objects

end_quietly()

namespace = Collection(build, publish, cluster, job, sandbox)
