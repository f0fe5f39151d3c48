"""Who acts, and when: what the operator's side knows."""

from __future__ import annotations

import os
import pwd
import time

from deploy.plan import Late, Place


def user() -> str:
    """Give the user's name, or number where it has none: a container's user may be in no list."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


BY: Late[str] = Late(
    "by",
    'echo "$(id -un 2>/dev/null || id -u)@$(uname -n)"',
    lambda _: f"{user()}@{os.uname().nodename}",
    Place.OPERATOR,
)
NOW: Late[str] = Late(
    "now", "date -u +%FT%TZ", lambda _: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), Place.OPERATOR
)
