"""What does not leave this machine with a program or a project: secrets by their names, and private keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

BY_NAME = "a file of secrets, by its name"
BY_CONTENT = "a private key"
BEGINNING = 256  # bytes of a file that are looked at
TOLD = 10  # files by name; of more, their number

# Patterns as Python and `grep -E` read them alike, of a whole path with `/`, in either case.
# A name that is secret:
NAMES = (
    r"(.*/)?([^/]*\.env|\.env\.[^/]*|\.envrc|id_[^/]*|[^/]*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)"
    r"|[._]netrc|\.git-credentials|\.npmrc|\.pypirc|\.pgpass|\.my\.cnf|\.htpasswd|\.dockercfg|\.vault-token)"
    r"(~|\.(bak|old|orig|save))*"
)
# one that only looks so:
OPEN_NAMES = r"(.*/)?(\.env\.(example|sample|template)|(example|sample|template)\.env|id_[^/]*\.(pub|py))"
# and where what looks open is secret as well: Raydock's environments, and folders in which programs keep their logins.
PLACES = r"(.*/)?(conf/[^/]*\.env(~|\.(bak|old|orig|save))*|\.(aws|azure|docker|gnupg|kube|ssh)/.*)"
# How a private key begins, but for blanks and a byte order mark.
KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-"

_NAMES, _OPEN_NAMES, _PLACES = (
    re.compile(pattern, re.IGNORECASE | re.ASCII | re.DOTALL) for pattern in (NAMES, OPEN_NAMES, PLACES)
)
_KEY = re.compile(rb"(\xef\xbb\xbf)?\s*(" + KEY.encode() + rb")")


def is_secret_name(name: str) -> bool:
    """Tell by a file's path in the folder that is shipped."""
    return bool(_PLACES.fullmatch(name) or (_NAMES.fullmatch(name) and not _OPEN_NAMES.fullmatch(name)))


def is_private_key(beginning: bytes) -> bool:
    """Tell by a file's first bytes."""
    return bool(_KEY.match(beginning[:BEGINNING]))


def told(withheld: Sequence[str], verb: str) -> Iterator[str]:
    """Give a line for each file that stays, or for the first of many."""
    yield from (f"not {verb}: {reason}" for reason in withheld[:TOLD])
    if len(withheld) > TOLD:
        yield f"not {verb}: {len(withheld) - TOLD} more"
