"""What a value may look like: the grammars of SSH, OCI, AWS, git and Ray, as tables.

Each check gives the value back, or raises a `ValueError` that goes on where the value's own name stops:
`is not …`, `has …`. Nothing here repeats a value that could hold a secret.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

SHOWN = 60
LISTED = 10
# What a terminal, a shell or a Dockerfile may take for something else than text.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


# A login's password, as in user:password@host; a tag before a digest stands in the same place.
_PASSWORD = re.compile(r":[^/\s]+@(?!sha256)")


def shown(text: str) -> str:
    """Quote a value for a message: escaped, cut where it is long, and without the password of a login."""
    text = _PASSWORD.sub(":[secret]@", text)
    return ascii(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


# Linux capabilities, by their bit in CapBnd; engine 20.10 knows none of the later ones.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK"),
    *("IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN"),
    *("SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE"),
    *("AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND"),
    "AUDIT_READ",
)


def plain(text: str, longest: int = 80) -> str:
    """Give what somebody else wrote, short, and without what could move a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:longest])


def nearest(word: str, known: Iterable[str]) -> str:
    """Give the move for an unknown word: the nearest known one, or the first of those there are."""
    words = list(known)
    if near := difflib.get_close_matches(word, words, n=1, cutoff=0.6):
        return f"Did you mean {near[0]}?"
    return f"There are: {', '.join(words[:LISTED])}{', ...' if len(words) > LISTED else ''}"


@dataclass(frozen=True)
class Form:
    """A grammar that one regular expression tells, and what it is called."""

    pattern: re.Pattern[str]
    meaning: str

    def __call__(self, text: str) -> str:
        """Give the text, if it is of this form."""
        if not self.matches(text):
            raise ValueError(f"is not {self.meaning}")
        return text

    def matches(self, text: str) -> bool:
        """Tell whether the text is of this form."""
        return bool(self.pattern.fullmatch(text))


def _form(pattern: str, meaning: str) -> Form:
    return Form(re.compile(pattern), meaning)


# OCI: a name is path components of lower case, after a registry's host where there is one.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"(?:(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?/)?"
_NAME = rf"{_REGISTRY}{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_ECR_PART = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"

CLUSTER_NAME = _form(r"[a-z0-9][a-z0-9-]{0,30}", "a cluster name: at most 31 of a-z, 0-9 and '-', no '-' first")
ENVIRONMENT_NAME = _form(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "the name of an environment: letters, digits, '-', '_'")
USER = _form(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "a user name")
IMAGE = _form(
    rf"(?=.{{1,512}}\Z)(?P<repository>{_NAME})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?",
    "an image reference such as my-app, registry.example.com/team/app:1.0 or app@sha256:…",
)
REPOSITORY = _form(
    rf"(?=.{{1,255}}\Z){_NAME}",
    "a repository such as registry.example.com/team/app, without scheme, tag or digest",
)
ECR_NAME = _form(
    rf"(?=.{{2,256}}\Z)(?:{_ECR_PART}/)*{_ECR_PART}",
    "an ECR repository name: 2 to 256 of a-z, 0-9, single '.', '_' or '-' inside, and '/'",
)
REGION = _form(r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}", "an AWS region such as us-west-2")
RAY_VERSION = _form(r"2\.[0-9]{1,3}\.[0-9]{1,3}", "a Ray version such as 2.60.0")
DIGEST = _form(_DIGEST, "a digest such as sha256:…")
COMMIT = _form(r"[0-9a-f]{40}|[0-9a-f]{64}", "a commit's full id")
# A part of what git allows: nothing that git, a shell or a Dockerfile reads as more than a name.
GIT_REF = _form(
    r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|\Z)))[A-Za-z0-9_](?:[A-Za-z0-9_./+@=#-]{0,253}[A-Za-z0-9_+@=#-])?",
    "a branch, tag or commit",
)
VARIABLE = _form(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of a variable")
CONTAINER = _form(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", "a container's id or name")
GPUS = _form(r"auto|all|none|[1-9][0-9]{0,2}", "auto, all, none, or a number from 1 to 999")
SOURCE = _form(r"clone|copy", "clone or copy")
_YES_NO = _form(r"yes|no", "yes or no")

_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_HOST_LABEL}(?:\.{_HOST_LABEL})*\.?")
# What ends in a number is an address to every resolver, or nothing.
_NUMBER_LAST = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_NO_HOST = "is neither a host name nor an address"


def host(text: str) -> str:
    """Give the host, if it is a host name or an address: IPv6 without brackets, a zone may follow."""
    if ":" in text:
        return _ipv6(text)
    if _NUMBER_LAST.fullmatch(text):
        return _ipv4(text)
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(_NO_HOST)
    return text


def _ipv4(text: str) -> str:
    try:
        IPv4Address(text)
    except AddressValueError:
        raise ValueError(_NO_HOST) from None
    return text


def _ipv6(text: str) -> str:
    address, percent, zone = text.partition("%")
    try:
        IPv6Address(address)
    except AddressValueError:
        raise ValueError(_NO_HOST) from None
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(_NO_HOST)
    return text


def same_host(text: str) -> str:
    """Give the one form that all spellings of a host share: case, last dot, forms of an IPv6 address."""
    if ":" not in text:
        return text.lower().removesuffix(".")
    address, percent, zone = text.partition("%")
    six = IPv6Address(address)
    return str(six.ipv4_mapped or six) + percent + zone


def address(text: str) -> str:
    """Give the address, if it is one that a network interface can have."""
    found = _ip(text)
    if found.is_unspecified or found.is_multicast:
        raise ValueError("is not the address of one interface")
    return str(found)


def listening(text: str) -> str:
    """Give the address, if it is one to listen on: an interface's, or 0.0.0.0 for all of them."""
    found = _ip(text)
    return str(found) if found.is_unspecified else address(text)


def _ip(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address("" if "%" in text else text)
    except ValueError:
        raise ValueError("is not an IP address") from None


def whole(text: str, low: int, high: int) -> int:
    """Give the number, if it is a whole one of plain digits from `low` to `high`."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text) or not low <= int(text) <= high:
        raise ValueError(f"is not a whole number from {low} to {high}")
    return int(text)


def port(text: str) -> int:
    """Give the port's number."""
    return whole(text, 1, 65535)


def ray_port(text: str) -> int:
    """Give the number of a port that a container without capabilities may listen on."""
    return whole(text, 1024, 65535)


def pids_limit(text: str) -> int:
    """Give how many processes and threads a container may have: Ray alone has some hundred."""
    return whole(text, 256, 4_194_304)


def num_workers(text: str) -> int:
    """Give how many tasks a node runs at once."""
    return whole(text, 1, 10_000)


def yes_no(text: str) -> bool:
    """Give whether it is yes."""
    return _YES_NO(text) == "yes"


def one_line(text: str) -> str:
    """Give the text, if it is one line without control characters."""
    if any(unicodedata.category(character) in HIDDEN for character in text):
        raise ValueError("has a line break or a control character")
    return text


# What would end, continue or multiply the instruction that a shell line stands in.
_LEAVES_ITS_LINE = (
    (re.compile(r"\s*-"), "begins with '-'"),
    (re.compile(r".*\\\s*\Z"), "ends in a backslash, which would swallow the next instruction"),
    (re.compile(r".*<<"), "has '<<', which would begin a here-document"),
)


def shell_line(text: str) -> str:
    """Give the shell line, if it stays the one line of a Dockerfile that it is put in."""
    one_line(text)
    for pattern, wrong in _LEAVES_ITS_LINE:
        if pattern.match(text):
            raise ValueError(wrong)
    return text


# In a URL: a password, or whoever logs in by HTTP; what a variable gives is not in the text.
_LOGIN = re.compile(r"https?://[^\s/@'\"$]+@|://[^\s/@:'\"]*:[^\s/@'\"$]+@", re.IGNORECASE)


def has_login(text: str) -> bool:
    """Tell whether a URL in a text has a password or token in it."""
    return bool(_LOGIN.search(text))


def installation_script(text: str) -> str:
    """Give the shell line, if nothing in it is secret."""
    if has_login(shell_line(text)):
        raise ValueError(
            "has a URL with a user, password or token in it, and an image shows it to everybody: leave it out, and "
            "have what needs it come with the project, by MY_PROJECT_SOURCE=copy"
        )
    return text


_URL = re.compile(r"[A-Za-z0-9._~/:@%+,=\[\]?#&-]+")
_SCHEMES = ("https", "http", "ssh", "git", "file")
# git runs a program for `ext::COMMAND` and its like.
_REMOTE_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_UNSAFE = (
    "has a user, password or token in it, and an image shows it to everybody: leave it out and set "
    "MY_PROJECT_SOURCE=copy, by which your own git clones it, with your credential helper or SSH agent"
)


def git_url(text: str) -> str:
    """Give the project's URL or folder, if git reads it as that and nothing in it is secret."""
    if text.startswith("-") or not _URL.fullmatch(text):
        raise ValueError("is not a URL or a folder that git can clone")
    if _REMOTE_HELPER.match(text):
        raise ValueError("names a remote helper of git")
    if "://" in text:
        _check_url(text)
    elif not is_folder(text) and "@" in text and ":" in text.partition("@")[0]:
        raise ValueError(_UNSAFE)
    return text


def _check_url(text: str) -> None:
    scheme = text.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"is not of {', '.join(_SCHEMES)}")
    try:
        url = urlsplit(text)
        secret = url.username if scheme.startswith("http") else url.password
    except ValueError:
        raise ValueError("is not a URL") from None
    if secret is not None or url.query or url.fragment:
        raise ValueError(_UNSAFE)
    if scheme != "file" and not url.hostname:
        raise ValueError("has no host")


def is_folder(url: str) -> bool:
    """Tell whether what `git_url` took is a folder of this machine."""
    if "://" in url:
        return url.lower().startswith("file:")
    # git's own rule: a colon before the first slash makes it host:path.
    return ":" not in url.partition("/")[0]
