"""What does not leave this machine with a program or a project: secrets by their names, and private keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

BY_NAME = "a file of secrets, by its name"
BY_CONTENT = "a private key"
FIRST = 256  # bytes in which a key begins, or what may have one further on
BEGINNING = 64 << 10  # bytes of a file that are looked at
TOLD = 10  # files by name; of more, their number

# Patterns as Python and `grep -E` read them alike, of a whole path with `/`, in either case.
# A name that is secret:
NAMES = (
    r"(.*/)?([^/]*\.env|\.env[._][^/]*|\.envrc|id_[^/]*|[^/]*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)"
    r"|(application_default_)?credentials\.json|[^/]*\.tfstate|kubeconfig|secrets\.ya?ml|\.s3cfg"
    r"|[._]netrc|\.git-credentials|\.npmrc|\.pypirc|\.pgpass|\.my\.cnf|\.htpasswd|\.dockercfg|\.vault-token)"
    r"(~|\.(bak|backup|old|orig|save))*"
)
# one that only looks so:
OPEN_NAMES = r"(.*/)?(\.env[._](example|sample|template)|(example|sample|template)\.env|id_[^/]*\.(pub|py))"
# and where what looks open is secret as well: Raydock's environments, and folders in which programs keep their logins.
PLACES = r"(.*/)?(conf/[^/]*\.env(~|\.(bak|backup|old|orig|save))*|\.(aws|azure|docker|gnupg|kube|ssh)/.*)"
# How a line begins that is looked past: a key's own comment. A script has more than these before a key that it quotes.
COMMENT = "[ \t]*#"
# How a private key begins, but for comments, blanks and a byte order mark; RFC 4716's has four dashes and a blank.
KEY = r"----+ ?BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-"
# How a file begins that may have a key on a line further on: OpenSSL's, with certificates or what it tells of them and
# of the key. Others only quote one.
BUNDLE = (
    r"----+ ?BEGIN |Bag Attributes|Certificate( Request)?:|[A-Za-z0-9 -]*Private-Key:|(EC|DSA)-Parameters:"
    r"|([A-Za-z0-9]+ Fingerprint|subject|issuer|serial|notBefore|notAfter)="
)

_NAMES, _OPEN_NAMES, _PLACES = (
    re.compile(pattern, re.IGNORECASE | re.ASCII | re.DOTALL) for pattern in (NAMES, OPEN_NAMES, PLACES)
)
_KEY, _BUNDLE = (re.compile(rb"(\xef\xbb\xbf)?\s*(" + one.encode() + rb")") for one in (KEY, BUNDLE))
_COMMENTS = re.compile(rb"^(\xef\xbb\xbf)?" + COMMENT.encode() + rb".*\n?", re.MULTILINE)
_LINE = re.compile(rb"^(" + KEY.encode() + rb")", re.MULTILINE)


def is_secret_name(name: str) -> bool:
    """Tell by a file's path in the folder that is shipped."""
    return bool(_PLACES.fullmatch(name) or (_NAMES.fullmatch(name) and not _OPEN_NAMES.fullmatch(name)))


def is_private_key(beginning: bytes) -> bool:
    """Tell by a file's first `BEGINNING` bytes."""
    beginning = beginning[:BEGINNING]
    first = _COMMENTS.sub(b"", beginning)[:FIRST]
    return bool(_KEY.match(first) or (_BUNDLE.match(first) and _LINE.search(beginning)))


def told(withheld: Sequence[str], verb: str) -> Iterator[str]:
    """Give a line for each file that stays, or for the first of many."""
    yield from (f"not {verb}: {reason}" for reason in withheld[:TOLD])
    if len(withheld) > TOLD:
        yield f"not {verb}: {len(withheld) - TOLD} more"
