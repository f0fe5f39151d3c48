"""The keys that are offered at a login, each once; what is not taken is told by its name."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko.agent import AgentSSH
from paramiko.pkey import UnknownKeyType

from deploy.dial import within
from deploy.errors import Failure
from deploy.files import check_private, usual_keys
from deploy.known_files import named

if TYPE_CHECKING:
    from fabric import Connection

USUAL_AGENT = "SSH_AUTH_SOCK"
AGENT_TIMEOUT = 5.0  # seconds for an agent to say what it has; one that is forwarded may be gone
OPENSSH_BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----"
OPENSSH_MARK = b"openssh-key-v1\0"
ADD = "Load it: ssh-add {file}"


@dataclass(frozen=True)
class Identity:
    """A key that may be offered: how it is named, and how it is had."""

    name: str
    load: Callable[[], paramiko.PKey]


@dataclass
class Tried:
    """What came of the keys."""

    refused: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    # What is open to others, with the line that closes it.
    opened: list[str] = field(default_factory=list)


class OpenKeyError(Exception):
    """A key that others can read, with what to do."""


class Identities:
    """Logs in by key.

    A node is offered `key` and no other where it is set, as OpenSSH does with IdentitiesOnly. To a jump host it is one
    more, behind its own IdentityFile: ssh offers it none that is meant for a node, so what suffices there does here.
    """

    def __init__(self, hop: Connection, key: Path | None, *, jump: bool) -> None:
        self._user, self._where = hop.user, f"{hop.host}:{hop.port}"
        only = key is not None and not jump
        own = [] if only else [named(name, "IdentityFile", hop) for name in hop.ssh_config.get("identityfile", ())]
        self._named = [*own, *([key] if key else ())]
        self._usual = not own and not only
        self._agent = str(hop.ssh_config.get("identityagent", USUAL_AGENT))
        if re.search(r"[%$]", self._agent):
            cure = "Write the path of its socket there, SSH_AUTH_SOCK, or none"
            raise Failure("CONFIG", f"IdentityAgent of ssh_config for {hop.host}: variables are not read here", cure)
        self._only = only or hop.ssh_config.get("identitiesonly", "no").lower() == "yes"
        self.tried = Tried()

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Offer one key after the other until one is taken."""
        offered: set[bytes] = set()
        with closing(Held(self._agent)) as held:
            for identity in self.identities(held):
                key = self._loaded(identity)
                if key is None or key.asbytes() in offered:
                    continue
                offered.add(key.asbytes())
                if self._taken(transport, identity.name, key):
                    return
        raise self.refusal()

    def identities(self, held: Held) -> Iterator[Identity]:
        """Give the keys in the order in which they are offered: the named, the agent's, or else the usual."""
        yield from (_of_file(path, held) for path in self._named)
        if not self._only:
            yield from (_of_agent(key) for key in held.keys)
        if self._usual:
            yield from (_of_file(path, held) for path in usual_keys())

    def _loaded(self, identity: Identity) -> paramiko.PKey | None:
        try:
            return identity.load()
        except paramiko.PasswordRequiredException:
            self.tried.encrypted.append(identity.name)
        except OpenKeyError as error:
            self.tried.opened.append(f"{identity.name} {error}")
        except (paramiko.SSHException, UnknownKeyType, OSError, ValueError):
            self.tried.unreadable.append(identity.name)
        return None

    def _taken(self, transport: paramiko.Transport, name: str, key: paramiko.PKey) -> bool:
        try:
            wanted = transport.auth_publickey(self._user, key)
        except paramiko.BadAuthenticationType as error:
            kinds = ", ".join(error.allowed_types)
            raise self._failure(f"takes no keys, but {kinds}", "Allow keys there: PubkeyAuthentication") from error
        except paramiko.AuthenticationException as error:
            self.tried.refused.append(name)
            if transport.is_active():
                return False
            # Beyond MaxAuthTries sshd does not say no, it hangs up.
            if len(self.tried.refused) > 1:
                raise self._failure(
                    f"hung up on {self._user} after {len(self.tried.refused)} keys: too many keys",
                    "Say which is the right one: set SSH_KEY",
                ) from error
            raise paramiko.SSHException("closed in the login") from error
        if wanted:
            raise self._failure(
                f"takes {self._user}'s key, and wants {', '.join(wanted)} as well", "Let a key suffice there"
            )
        return True

    def refusal(self) -> Failure:
        """Say why no key was taken."""
        tried = self.tried
        if tried.encrypted and not tried.refused:
            file = tried.encrypted[0]
            cure = f"{ADD.format(file=file)}, or set SSH_KEY to a key without one"
            return Failure("KEY_ENCRYPTED", f"{file} has a passphrase, and no agent has the key", cure)
        left = [f"{name} has a passphrase and was not tried" for name in tried.encrypted]
        left += [f"{name} cannot be read" for name in tried.unreadable]
        left += tried.opened
        if not tried.refused:
            why = "; ".join(left) or "there is none in ~/.ssh, and no agent has one"
            return self._failure(f"wants a key of {self._user}: {why}", "Set SSH_KEY, or make one: ssh-keygen")
        said = f"refuses {self._user} with {', '.join(tried.refused)}"
        cure = "Set SSH_USER and SSH_KEY, or add the key to its authorized_keys"
        return self._failure("; ".join([said, *left]), cure)

    def _failure(self, error: str, cure: str) -> Failure:
        return Failure("SSH_AUTH_REFUSED", f"{self._where} {error}", cure)


class AgentAt(AgentSSH):
    """An agent at another socket than SSH_AUTH_SOCK's."""

    def __init__(self, place: Path) -> None:
        """Connect; an `OSError` where nobody answers."""
        super().__init__()
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(place.expanduser()))
            self._connect(sock)  # type: ignore[attr-defined]  # not in its stubs
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Let it go."""
        self._close()  # type: ignore[attr-defined]  # as above


class Held:
    """The keys that the operator's agent holds, which is asked where one of them is wanted.

    `place` is as IdentityAgent of ssh_config has it: the socket's path, `SSH_AUTH_SOCK`, or `none`.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._agent: paramiko.Agent | AgentAt | None = None
        self._keys: Sequence[paramiko.AgentKey] | None = None

    @property
    def keys(self) -> Sequence[paramiko.AgentKey]:
        """The keys; none where there is no agent, or none that answers."""
        # Not a cached_property: until Python 3.12 that has one lock for all logins, and a slow agent would add up.
        if self._keys is None:
            self._keys = self._ask()
        return self._keys

    def _ask(self) -> Sequence[paramiko.AgentKey]:
        if self._place.lower() == "none":
            return ()
        agent: Callable[[], paramiko.Agent | AgentAt] = paramiko.Agent
        if self._place != USUAL_AGENT:
            agent = partial(AgentAt, Path(self._place))
        try:
            found = self._agent = within(AGENT_TIMEOUT, agent)
        except (TimeoutError, paramiko.SSHException, OSError):
            return ()
        return found.get_keys()

    def close(self) -> None:
        """Let the agent go."""
        if self._agent:
            self._agent.close()


def _of_agent(key: paramiko.AgentKey) -> Identity:
    return Identity(f"the agent's {_called(key)}", lambda: key)


@lru_cache(maxsize=16)
def _key_of(path: Path, changed: int) -> paramiko.PKey:  # noqa: ARG001 - a file that is written anew is read anew
    """Read a key, once for all nodes: that takes longer than a login's own arithmetic."""
    return paramiko.PKey.from_path(path)


def _of_file(path: Path, held: Held) -> Identity:
    def load() -> paramiko.PKey:
        try:
            return _private(path)
        except (OpenKeyError, paramiko.SSHException, UnknownKeyType, OSError, ValueError):
            # As OpenSSH: the agent is asked for the very key, of which the public half is there, or is what is named.
            mine = {_public(path), _public(path.with_name(f"{path.name}.pub")), _public_half(path)} - {None}
            for key in held.keys if mine else ():
                if key.asbytes() in mine:
                    return key
            raise

    return Identity(_shown(path), load)


def _private(path: Path) -> paramiko.PKey:
    """Give the key in a file that nobody else may read."""
    try:
        check_private(path)
    except ValueError as others_can:
        if not _public(path):
            raise OpenKeyError(str(others_can)) from None
    try:
        return _key_of(path, path.stat().st_mtime_ns)
    except TypeError as error:
        raise paramiko.PasswordRequiredException(str(path)) from error


def _public(path: Path) -> bytes | None:
    """Give the key in a file of a public one; None where it is none."""
    try:
        kind, blob, *_ = path.read_text(encoding="utf-8").split()
        return paramiko.PKey.from_type_string(kind, base64.b64decode(blob)).asbytes()
    except (OSError, ValueError, UnknownKeyType, paramiko.SSHException):
        return None


def _public_half(path: Path) -> bytes | None:
    """Give the public half of OpenSSH's own form of a private key, where it stands open; None of what is none.

    The form: a mark, the cipher, the way from a passphrase to its key and that way's values, how many keys, the first.
    """
    try:
        begin, *body, _ = path.read_text(encoding="ascii").strip().splitlines()
        content = base64.b64decode("".join(body))
    except (OSError, ValueError):
        return None
    if begin != OPENSSH_BEGIN or not content.startswith(OPENSSH_MARK):
        return None
    parts = paramiko.Message(content.removeprefix(OPENSSH_MARK))
    for _ in range(3):
        parts.get_string()
    return parts.get_string() if parts.get_int() == 1 else None


def _shown(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _called(key: paramiko.AgentKey) -> str:
    return str(getattr(key, "comment", "") or f"{key.get_name()} {key.fingerprint}")
