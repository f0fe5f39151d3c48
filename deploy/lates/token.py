"""Ray's token, and the fingerprint by which containers of one head are known."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from deploy.plan import Late, Place
from deploy.ray import RUN, TOKEN_PATH, container_name

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Site

FINGERPRINT = re.compile("[0-9a-f]{12}")


def token(settings: Settings) -> Late[str]:
    """Give Ray's token: that of the running head, else a new one. It is written nowhere but into containers."""
    head = container_name(settings.cluster_name, "head")

    def resolve(site: Site) -> str:
        found = site.docker.seen(head)
        kept = site.docker.laid_file(found, TOKEN_PATH) if found and found.running else None
        return kept.decode("ascii", "replace") if kept else secrets.token_hex(32)

    return Late(
        "token",
        f"[ \"$(docker inspect -f '{{{{.State.Running}}}}' {head} 2>/dev/null)\" = true ] && "
        f"docker cp {head}:{TOKEN_PATH} - | tar -xO || head -c 32 /dev/urandom | sha256sum | cut -c1-64",
        resolve,
        Place.HEAD,
    )


def run_id(settings: Settings, of: Late[str]) -> Late[str]:
    """Give the token's fingerprint, by which a worker of a former head is known; a running head bears it."""
    head = container_name(settings.cluster_name, "head")

    def resolve(site: Site) -> str:
        found = site.docker.seen(head)
        borne = found.labels.get(RUN, "") if found and found.running else ""
        return borne if FINGERPRINT.fullmatch(borne) else hashlib.sha256(site.value(of).encode()).hexdigest()[:12]

    return Late(
        "run",
        f'printf %s "${of.name}" | sha256sum | cut -c1-12',
        resolve,
        Place.OPERATOR,
        needs=(of,),
    )
