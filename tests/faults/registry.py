"""The practice registry with a proxy before it, as one node sees it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.faults.bench import Bench, FaultyHost

PROGRAM = Path(__file__).resolve().parent / "programs" / "registry_proxy.py"
PLACE = "/srv/registry-proxy"
TLS = "/srv/tls"
PORT = "8443"
# What ECR says where a tag may not move, by its own form and code.
IMMUTABLE = "The image tag 'latest' already exists, and cannot be overwritten because the tag is immutable."


@dataclass(frozen=True)
class RegistryProxy:
    """What stands before the registry."""

    services: FaultyHost

    def answers(self, method: str, path: str, status: int, code: str, said: str) -> None:
        """Have it answer such requests so from now on, in the registry's form of an error; `path` is a pattern."""
        body = json.dumps({"errors": [{"code": code, "message": said}]})
        lay(self.services, "rule", json.dumps((method, path, status, body)).encode())

    def dawdles(self, path: str) -> None:
        """Have it answer what is got at such a path with ten megabytes a second."""
        lay(self.services, "rule", json.dumps(("GET", path, 0, "")).encode())

    def shows(self, host: str, *, ends: timedelta) -> None:
        """Have it show a certificate of our authority's for a host, that ends so long from now."""
        for name, content in zip(("crt", "key"), certificate(self.services, host, ends), strict=True):
            lay(self.services, name, content)
        self.restart()

    def restart(self) -> None:
        """Have it run, with the files that are there."""
        listens = f"true < /dev/tcp/127.0.0.1/{PORT}"
        self.services.attempt("bash", "-c", f"kill $(cat {PLACE}/pid)")
        self.services.box.exec_run(["python3", f"{PLACE}/registry_proxy.py", PORT], detach=True)
        for _ in range(50):
            time.sleep(0.1)
            if self.services.attempt("bash", "-c", listens).code == 0:
                return
        raise AssertionError("the registry's proxy does not listen")


def lay(services: FaultyHost, name: str, content: bytes) -> None:
    """Have a file beside the proxy."""
    text = base64.b64encode(content).decode()
    services.shell(f"mkdir -p {PLACE} && echo {text} | base64 -d > {PLACE}/{name}")


def certificate(services: FaultyHost, host: str, ends: timedelta) -> tuple[bytes, bytes]:
    """Make a certificate by the registry's own authority, and its key."""
    authority = x509.load_pem_x509_certificate(services.run("cat", f"{TLS}/ca.crt").encode())
    signs = serialization.load_pem_private_key(services.run("cat", f"{TLS}/ca.key").encode(), None)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(signs, hashes.SHA256())  # type: ignore[arg-type]  # of any kind
    )
    form, nothing = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem), key.private_bytes(pem, form, nothing)


@contextmanager
def registry_proxy(bench: Bench, host: FaultyHost) -> Iterator[RegistryProxy]:
    """Have a proxy between a host and the registry, that passes everything on until it is told otherwise."""
    services = bench.services
    lay(services, "registry_proxy.py", PROGRAM.read_bytes())
    lay(services, "rule", json.dumps(("", "", 1, "")).encode())
    services.shell(f"cp {TLS}/registry.crt {PLACE}/crt; cp {TLS}/registry.key {PLACE}/key")
    proxy = RegistryProxy(services)
    to = ("OUTPUT", "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", f"{services.address}:{PORT}")
    try:
        proxy.restart()
        with host.rule("-t", "nat", *to):
            yield proxy
    finally:
        services.attempt("bash", "-c", f"kill $(cat {PLACE}/pid); rm -r {PLACE}")
