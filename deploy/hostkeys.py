"""Host keys, checked on every hop: Fabric's own policy, which accepts any, is never in effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import paramiko

from deploy.errors import Failure
from deploy.known_files import Trust, trust_of
from deploy.known_hosts import Kind, KnownHosts, fingerprint
from deploy.pulse import HeardPacketizer

if TYPE_CHECKING:
    from fabric import Connection

    from deploy.settings import Settings


class HostKeyRefused(Failure):
    """A host key that known_hosts does not vouch for, with the key itself, for who is asked to trust it.

    The client is the hop's whose key it is.
    """

    def __init__(
        self, code: str, error: str, cure: str, *, trust: Trust, key: paramiko.PKey, client: paramiko.SSHClient
    ) -> None:
        super().__init__(code, error, cure)
        self.trust, self.key, self.client = trust, key, client


class CheckedPolicy(paramiko.MissingHostKeyPolicy):
    """Judges the key of one hop. The client's own lists stay empty, so paramiko asks for every key."""

    def __init__(self, trust: Trust, name: str) -> None:
        self._trust, self._name = trust, name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Accept a trusted key; refuse any other before a byte of authentication is sent."""
        of = f"{self._trust.host}:{self._trust.port}"
        size = key.get_bits()
        if key.get_name() == "ssh-rsa" and size < self._trust.rsa_size:
            cure = "Give the host a longer key, or one of another kind: ssh-keygen -A"
            said = f"{of} shows an RSA key of {size} bits, and RequiredRSASize of ssh_config is {self._trust.rsa_size}"
            raise Failure("CONFIG", said, cure)
        verdict = self._trust.verdict(key.asbytes())
        if verdict.kind is Kind.TRUSTED:
            return
        shown, trust = fingerprint(key.asbytes()), f"invoke cluster.trust --only {self._name}"
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
        raise HostKeyRefused(code, error, cure, trust=self._trust, key=key, client=client)


def hops(connection: Connection) -> Iterator[Connection]:
    """Give a connection and each jump host before it; a ProxyCommand is no hop of ours."""
    hop: Any = connection
    while hop is not None and not isinstance(hop, str):
        yield hop
        hop = hop.gateway


def check_host_keys(connection: Connection, settings: Settings, usual: KnownHosts, name: str) -> None:
    """Have every hop of a connection judged by what is known for it, and asked for the keys that are known first.

    Args:
        connection: not yet open.
        settings: say which file is the user's.
        usual: what is known where ssh_config names no other files.
        name: the node's.
    """
    for hop in hops(connection):
        trust = trust_of(hop, settings, usual)
        hop.client.set_missing_host_key_policy(CheckedPolicy(trust, name))
        hop.connect_kwargs["transport_factory"] = _transport_factory(trust)


def _transport_factory(trust: Trust) -> Any:
    def factory(sock: Any, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, packetizer_class=HeardPacketizer, **options)
        security = transport.get_security_options()
        offered = tuple(name for name in security.key_types if trust.accepts(name))
        if not offered:
            said = f"HostKeyAlgorithms of ssh_config for {trust.host} has none that is known here: {trust.accepted}"
            raise Failure("CONFIG", said, f"Add one there: {', '.join(security.key_types)}")
        first = tuple(name for name in trust.algorithms if name in offered)
        security.key_types = first + tuple(name for name in offered if name not in first)
        return transport

    return factory
