"""Verdicts on host keys, each as `ssh -o StrictHostKeyChecking=yes` gives it (OpenSSH 9.2)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.known_hosts import KEY_PARTS, Kind, KnownHosts, Verdict, entry, fingerprint

from .pace import within_seconds


def key(key_type: str, *parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in (key_type.encode(), *parts))


ED, OTHER_ED = key("ssh-ed25519", b"a" * 32), key("ssh-ed25519", b"b" * 32)
RSA, OTHER_RSA = key("ssh-rsa", b"\1\0\1", b"n" * 257), key("ssh-rsa", b"\1\0\1", b"m" * 257)
ECDSA = key("ecdsa-sha2-nistp256", b"nistp256", b"\4" + b"p" * 64)
TYPES = {ED: "ssh-ed25519", OTHER_ED: "ssh-ed25519", RSA: "ssh-rsa", OTHER_RSA: "ssh-rsa", ECDSA: "ecdsa-sha2-nistp256"}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def line(hosts: str, content: bytes, key_type: str = "") -> str:
    return f"{hosts} {key_type or TYPES[content]} {encoded(content)}\n"


def hashed(host: str, salt: bytes = b"s" * 20) -> str:
    return f"|1|{encoded(salt)}|{encoded(hmac.new(salt, host.encode(), hashlib.sha1).digest())}"


TRUSTED, UNKNOWN, CHANGED = Kind.TRUSTED, Kind.UNKNOWN, Kind.CHANGED
REVOKED, CERTIFICATE = Kind.REVOKED, Kind.CERTIFICATE

# The file, the port of the host `web`, and the verdict on its key ED.
VERDICTS = {
    "an empty file": ("", 22, UNKNOWN),
    "its name": (line("web", ED), 22, TRUSTED),
    "its name and port": (line("[web]:2222", ED), 2222, TRUSTED),
    "its name in capitals": (line("WEB", ED), 22, TRUSTED),
    "another host": (line("web2", ED), 22, UNKNOWN),
    "another port": (line("[web]:2223", ED), 2222, UNKNOWN),
    "the port where none is wanted": (line("[web]:22", ED), 22, UNKNOWN),
    "one of several names": (line("x,web,10.0.0.7", ED), 22, TRUSTED),
    "another key": (line("web", OTHER_ED), 22, CHANGED),
    "a key of another type": (line("web", RSA), 22, CHANGED),
    "another key, then this one": (line("web", OTHER_ED) + line("web", ED), 22, TRUSTED),
    "two other keys": (line("web", OTHER_ED) + line("web", RSA), 22, CHANGED),
    "the bare name, another port": (line("web", ED), 2222, TRUSTED),
    "the bare name with another key, another port": (line("web", OTHER_ED), 2222, UNKNOWN),
    "another key by port, this one by bare name": (line("[web]:2222", OTHER_ED) + line("web", ED), 2222, CHANGED),
    "this key by port, another by bare name": (line("web", OTHER_ED) + line("[web]:2222", ED), 2222, TRUSTED),
    "revoked": (line("@revoked web", ED), 22, REVOKED),
    "revoked for all, and known": (line("web", ED) + line("@revoked *", ED), 22, REVOKED),
    "revoked by bare name, another port": (line("@revoked web", ED), 2222, REVOKED),
    "revoked by bare name, known by port": (line("@revoked web", ED) + line("[web]:2222", ED), 2222, TRUSTED),
    "another key revoked": (line("@revoked web", OTHER_ED) + line("web", ED), 22, TRUSTED),
    "an authority": (line("@cert-authority *", RSA), 22, CERTIFICATE),
    "an authority with this very key": (line("@cert-authority web", ED), 22, CERTIFICATE),
    "an authority by bare name": (line("@cert-authority web", RSA), 2222, CERTIFICATE),
    "an authority, and another key": (line("@cert-authority web", RSA) + line("web", OTHER_ED), 22, CHANGED),
    "an authority, and this key": (line("@cert-authority web", RSA) + line("web", ED), 22, TRUSTED),
    "hashed": (line(hashed("web"), ED), 22, TRUSTED),
    "hashed with its port": (line(hashed("[web]:2222"), ED), 2222, TRUSTED),
    "hashed, another host": (line(hashed("db"), ED), 22, UNKNOWN),
    "hashed with a short salt": (line(hashed("web", b"s" * 10), ED), 22, UNKNOWN),
    "hashed, and a name after it": (line(hashed("db") + ",web", ED), 22, UNKNOWN),
    "any characters": (line("w*", ED), 22, TRUSTED),
    "one character each": (line("???", ED), 22, TRUSTED),
    "one character too many": (line("????", ED), 22, UNKNOWN),
    "any, but not this one": (line("*,!web", ED), 22, UNKNOWN),
    "not this one, but any": (line("!web,*", ED), 22, UNKNOWN),
    "any port": (line("[web]:*", ED), 2222, TRUSTED),
    "no pattern of a shell": (line("[vw]eb", ED), 22, UNKNOWN),
    "blanks and tabs": (f" \tweb\t \tssh-ed25519  {encoded(ED)}\t x y\n", 22, TRUSTED),
    "from Windows": (line("web", ED).replace("\n", "\r\n"), 22, TRUSTED),
    "without the last line's end": (line("web", ED).rstrip("\n"), 22, TRUSTED),
    "a comment": ("#" + line("web", ED), 22, UNKNOWN),
    "broken lines before": ("x\n@bad web\n@revoked\nweb ssh-ed25519\nweb # x\n\0\n" + line("web", ED), 22, TRUSTED),
    "a marker that there is not": (line("@trusted web", ED), 22, UNKNOWN),
    "base64 that ends early": (f"web ssh-ed25519 {encoded(ED)[:-3]}\n", 22, UNKNOWN),
    "base64 in two words": (f"web ssh-ed25519 {encoded(ED)[:32]} {encoded(ED)[32:]}\n", 22, UNKNOWN),
    "a key that is longer than it says": (f"web ssh-ed25519 {encoded(ED + b'x')}\n", 22, UNKNOWN),
    "another type's name": (line("web", ED, "ssh-rsa"), 22, UNKNOWN),
    "a type that there is not": (line("web", key("ssh-new", b"x"), "ssh-new"), 22, UNKNOWN),
    "version 1 of the protocol": ("web 1024 65537 1234567890\n" + line("web", ED), 22, TRUSTED),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_key_is_judged_as_openssh_judges_it(case: str) -> None:
    text, port, kind = VERDICTS[case]
    assert KnownHosts.parse(text, "known_hosts").verdict("web", port, ED).kind is kind


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        pytest.param(
            "# mine\n" + line("web", OTHER_ED),
            Verdict(CHANGED, "known_hosts:2", fingerprint(OTHER_ED)),
            id="changed: the key that was known",
        ),
        pytest.param(
            line("web", OTHER_ED) + line("web", RSA),
            Verdict(CHANGED, "known_hosts:2", fingerprint(RSA)),
            id="changed: the last of several, as OpenSSH",
        ),
        pytest.param(
            "\n" + line("@revoked web", ED), Verdict(REVOKED, "known_hosts:2", fingerprint(ED)), id="revoked: its line"
        ),
        pytest.param(
            line("@cert-authority web", RSA),
            Verdict(CERTIFICATE, "known_hosts:1", fingerprint(RSA)),
            id="certificate: the authority",
        ),
        pytest.param("", Verdict(UNKNOWN), id="unknown: nothing"),
    ],
)
def test_a_verdict_names_the_line_that_decided_it(text: str, verdict: Verdict) -> None:
    assert KnownHosts.parse(text, "known_hosts").verdict("web", 22, ED) == verdict


def test_the_host_is_looked_up_in_lower_case() -> None:
    assert KnownHosts.parse(line("web", ED), "k").verdict("WEB", 22, ED).kind is TRUSTED


@pytest.mark.parametrize(("port", "name"), [(22, "::1"), (2222, "[::1]:2222")])
def test_an_ipv6_address_stands_in_brackets_with_its_port_only(port: int, name: str) -> None:
    assert KnownHosts.parse(line(name, ED), "k").verdict("::1", port, ED).kind is TRUSTED


def test_several_files_are_one_list() -> None:
    both = KnownHosts.parse(line("web", OTHER_ED), "mine") + KnownHosts.parse("\n" + line("@revoked *", ED), "system")
    assert both.verdict("web", 22, ED) == Verdict(REVOKED, "system:2", fingerprint(ED))
    assert both.verdict("web", 22, OTHER_ED) == Verdict(TRUSTED, "mine:1", fingerprint(OTHER_ED))


RSA_SIGNS = ("rsa-sha2-512", "rsa-sha2-256")
USUAL = tuple(name for kind in KEY_PARTS for name in (RSA_SIGNS if kind == "ssh-rsa" else (kind,)))
ALGORITHMS = {
    "none known": ("", 22, ()),
    "one": (line("web", ECDSA), 22, (TYPES[ECDSA],)),
    "the best one": (line("web", ED), 22, USUAL),
    "RSA, which signs otherwise": (line("web", RSA), 22, ("rsa-sha2-512", "rsa-sha2-256")),
    "several, by preference": (line("web", RSA) + line("web", ECDSA), 22, (TYPES[ECDSA], *RSA_SIGNS)),
    "the best one among others, as if none were known": (line("web", RSA) + line("web", ED), 22, USUAL),
    "RSA under the signature's name": (line("web", RSA, "rsa-sha2-512"), 22, ("rsa-sha2-512", "rsa-sha2-256")),
    "not by the bare name": (line("web", RSA), 2222, ()),
    "not an authority's": (line("@cert-authority web", RSA), 22, ()),
    "not a revoked one": (line("web", RSA) + line("@revoked web", RSA) + line("web", ECDSA), 22, (TYPES[ECDSA],)),
}


@pytest.mark.parametrize("case", ALGORITHMS)
def test_a_server_is_asked_for_the_kinds_of_key_that_are_known(case: str) -> None:
    text, port, algorithms = ALGORITHMS[case]
    assert KnownHosts.parse(text, "k").algorithms("web", port) == algorithms


def test_a_fingerprint_is_shown_as_openssh_shows_it() -> None:
    # ssh-keygen -lf of this very line.
    content = base64.b64decode("AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh")
    assert content == ED
    assert fingerprint(content) == FINGERPRINT


FINGERPRINT = "SHA256:TGIk2D1DFZBKmjWssB2+Qdiona/OUK1TSuWAAHMK+n0"


@pytest.mark.parametrize(
    ("host", "port", "begins"),
    [
        ("Web", 22, "web ssh-ed25519 AAAA"),
        ("web", 2222, "[web]:2222 ssh-ed25519 AAAA"),
        ("::1", 22, "::1 ssh-ed25519 A"),
    ],
)
def test_an_entry_is_the_line_that_makes_a_key_known(host: str, port: int, begins: str) -> None:
    written = entry(host, port, "ssh-ed25519", ED)
    assert written.startswith(begins)
    assert written.endswith("\n")
    assert KnownHosts.parse(written, "k").verdict(host, port, ED).kind is TRUSTED


PIECES = st.sampled_from(
    ["web", "[web]:2222", "*", "!", ",", " ", "\t", "\n", "#", "@revoked", "@cert-authority", "|1|", hashed("web")]
    + ["ssh-ed25519", "ssh-rsa", encoded(ED), encoded(RSA), "=", "\0", "\r", "é"]
)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=15).map("".join)), st.sampled_from([22, 2222]))
def test_no_text_breaks_it_and_nothing_but_the_key_itself_is_trusted(text: str, port: int) -> None:
    known = KnownHosts.parse(text, "k")
    for content in (ED, OTHER_ED, RSA):
        if known.verdict("web", port, content).kind is TRUSTED:
            assert encoded(content) in text.replace("\r", "").replace("\f", "").replace("\v", "")


def test_a_thousand_hosts_are_judged_in_no_time() -> None:
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(1000)]
    known = KnownHosts.parse("".join(entry(host, 2222, "ssh-ed25519", ED) for host in hosts), "known_hosts")
    with within_seconds(2):
        for host in hosts[:100]:
            assert known.algorithms(host, 2222) == USUAL
            assert known.verdict(host, 2222, ED).kind is Kind.TRUSTED


@pytest.mark.parametrize("first", [b"\x7f", b"\x80"])
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_an_rsa_key_with_more_zeros_before_its_numbers_is_the_same_key(first: bytes, zeros: int) -> None:
    number = first + b"n" * 255
    needed = b"\0" if first >= b"\x80" else b""
    shown = key("ssh-rsa", b"\1\0\1", needed + number)
    written = key("ssh-rsa", bytes(zeros) + b"\1\0\1", bytes(zeros) + needed + number)
    known = KnownHosts.parse(line("web", shown, "ssh-rsa") + line("@revoked *", written, "ssh-rsa"), "")
    assert known.verdict("web", 22, shown).kind is REVOKED


def test_an_rsa_key_below_zero_is_another() -> None:
    number = b"\x80" + b"n" * 255
    known = KnownHosts.parse(line("web", key("ssh-rsa", b"\1\0\1", number), "ssh-rsa"), "")
    assert known.verdict("web", 22, key("ssh-rsa", b"\1\0\1", b"\0" + number)).kind is not TRUSTED
