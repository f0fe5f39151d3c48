"""Host keys, checked on every hop: Fabric's own policy, which accepts any, is never in effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from deploy.errors import Failure, Mistake
from deploy.known_hosts import Kind, KnownHosts, fingerprint
from deploy.pulse import HeardPacketizer

if TYPE_CHECKING:
    from fabric import Connection

    from deploy.settings import Settings

SYSTEM_FILES = (Path("/etc/ssh/ssh_known_hosts"),)


class HostKeyRefused(Failure):
    """A host key that known_hosts does not vouch for, with the key itself, for who is asked to trust it."""

    def __init__(self, code: str, error: str, cure: str, *, host: str, port: int, key: paramiko.PKey) -> None:
        super().__init__(code, error, cure)
        self.host, self.port, self.key = host, port, key


def known_hosts_file(settings: Settings) -> Path:
    """Give the file that records trust: SSH_KNOWN_HOSTS, else the user's own."""
    return Path(settings.ssh_known_hosts or Path.home() / ".ssh" / "known_hosts")


def load_known_hosts(settings: Settings) -> KnownHosts:
    """Read every known_hosts file there is."""
    files = (known_hosts_file(settings), *(() if settings.ssh_known_hosts else SYSTEM_FILES))
    known = KnownHosts()
    for file in files:
        try:
            known += KnownHosts.parse(file.read_text(encoding="utf-8", errors="replace"), str(file))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Mistake.of("CONFIG", f"{file} cannot be read: {error.strerror}", "Correct SSH_KNOWN_HOSTS") from error
    return known


class CheckedPolicy(paramiko.MissingHostKeyPolicy):
    """Judges the key of one hop. The client's own lists stay empty, so paramiko asks for every key."""

    def __init__(self, known: KnownHosts, host: str, port: int, name: str) -> None:
        self._known, self._host, self._port, self._name = known, host, port, name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Accept a trusted key; refuse any other before a byte of authentication is sent."""
        verdict = self._known.verdict(self._host, self._port, key.asbytes())
        if verdict.kind is Kind.TRUSTED:
            return
        shown, trust = fingerprint(key.asbytes()), f"invoke cluster.trust --only {self._name}"
        of = f"{self._host}:{self._port}"
        code, error, cure = {
            Kind.UNKNOWN: (
                "HOST_KEY_UNKNOWN",
                f"{of} shows {key.get_name()} {shown}, which no known_hosts has",
                f"Compare it with the host's own, then: {trust}",
            ),
            Kind.CHANGED: (
                "HOST_KEY_CHANGED",
                f"{verdict.place} has {verdict.fingerprint} for {of}, the host shows {shown}",
                f"If it was reinstalled: {trust}",
            ),
            Kind.REVOKED: (
                "HOST_KEY_REVOKED",
                f"{verdict.place} revokes {shown}, which {of} shows",
                "Do not connect to it; find out who answers there",
            ),
            Kind.CERTIFICATE: (
                "HOST_KEY_CERTIFICATE",
                f"{verdict.place} vouches for {of} by certificate, which is not verified here; the host shows {shown}",
                f"Record its key: {trust}",
            ),
        }[verdict.kind]
        raise HostKeyRefused(code, error, cure, host=self._host, port=self._port, key=key)


def hops(connection: Connection) -> Iterator[Connection]:
    """Give a connection and each jump host before it; a ProxyCommand is no hop of ours."""
    hop: Any = connection
    while hop is not None and not isinstance(hop, str):
        yield hop
        hop = hop.gateway


def check_host_keys(connection: Connection, known: KnownHosts, name: str) -> None:
    """Have every hop of a connection judged by `known`, and asked for the keys that are known first."""
    for hop in hops(connection):
        hop.client.set_missing_host_key_policy(CheckedPolicy(known, hop.host, hop.port, name))
        hop.connect_kwargs["transport_factory"] = _transport_factory(known.algorithms(hop.host, hop.port))


def _transport_factory(preferred: tuple[str, ...]) -> Any:
    def factory(sock: Any, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, packetizer_class=HeardPacketizer, **options)
        security = transport.get_security_options()
        offered = tuple(security.key_types)
        first = tuple(name for name in preferred if name in offered)
        security.key_types = first + tuple(name for name in offered if name not in first)
        return transport

    return factory
