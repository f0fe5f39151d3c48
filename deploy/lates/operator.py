"""Who acts, and when: what the operator's side knows."""

from __future__ import annotations

import os
import pwd
import time

from deploy.plan import Late, Place

BY: Late[str] = Late(
    "by",
    'echo "$(id -un)@$(uname -n)"',
    lambda _: f"{pwd.getpwuid(os.geteuid()).pw_name}@{os.uname().nodename}",
    Place.OPERATOR,
)
NOW: Late[str] = Late(
    "now", "date -u +%FT%TZ", lambda _: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), Place.OPERATOR
)
