"""Which known_hosts files have a say in a hop's key: those that have one with `ssh`, and none that has not."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from deploy import known_files, ssh
from deploy.errors import Failure
from deploy.inventory import Node
from deploy.known_files import load_known_hosts
from deploy.known_hosts import Kind, KnownHosts, entry
from deploy.settings import Settings
from deploy.ssh import close_connection, connection_to, open_connection

from . import played_sshd
from .played_sshd import KEY, Server, listening

OTHER = paramiko.ECDSAKey.generate()
NAME = "[127.0.0.1]:{port}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have an operator with nothing in ~/.ssh, on a machine whose own files are in etc/."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for folder in (".ssh", "etc"):
        (tmp_path / folder).mkdir()
    system = tuple(tmp_path / "etc" / file.name for file in known_files.SYSTEM_FILES)
    monkeypatch.setattr(known_files, "SYSTEM_FILES", system)
    ssh.configuration.cache_clear()
    return tmp_path


def written(key: paramiko.PKey, name: str = NAME) -> str:
    return f"{name} {key.get_name()} {key.get_base64()}\n".lstrip()


GOOD, WRONG, REVOKED = written(KEY), written(OTHER), "@revoked " + written(KEY, "*")
BARE = written(KEY, "")


def judged(home: Path, files: dict[str, str], **settings: object) -> str:
    """Give the verdict on the played server's key: files are written with its port in the place of `{port}`."""
    server = Server()
    with listening(server.serve) as port:
        for name, text in files.items():
            (home / name).write_text(text.replace("{port}", str(port)).replace("{home}", str(home)))
        given = Settings.model_validate(settings)
        node = Node("one", "127.0.0.1", role="worker", user="ubuntu", port=port)
        try:
            connection = connection_to(node, given, load_known_hosts(given))
        except Failure as failure:
            return f"{failure.code} {failure.error}".replace(str(home), "~")
        with pytest.raises(Failure) as told:
            open_connection(connection)
        close_connection(connection)
    # There is no key that it would take: whoever gets as far as to be refused has trusted it.
    verdict = told.value.code.replace("SSH_AUTH_REFUSED", "TRUSTED").removeprefix("HOST_KEY_")
    assert (server.offered, verdict) == ([], verdict)
    return verdict


CONFIG = ".ssh/config"
VERDICTS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "none at all": ({}, {}, "UNKNOWN"),
    "the user's first": ({".ssh/known_hosts": GOOD}, {}, "TRUSTED"),
    "the user's second": ({".ssh/known_hosts2": GOOD}, {}, "TRUSTED"),
    "the system's first": ({"etc/ssh_known_hosts": GOOD}, {}, "TRUSTED"),
    "the system's second": ({"etc/ssh_known_hosts2": GOOD}, {}, "TRUSTED"),
    "revoked in the user's second": ({".ssh/known_hosts": GOOD, ".ssh/known_hosts2": REVOKED}, {}, "REVOKED"),
    "revoked in the system's second": ({".ssh/known_hosts": GOOD, "etc/ssh_known_hosts2": REVOKED}, {}, "REVOKED"),
    "SSH_KNOWN_HOSTS in the place of the user's": (
        {".ssh/known_hosts": GOOD, ".ssh/known_hosts2": REVOKED, "mine": WRONG},
        {"ssh_known_hosts": "mine"},
        "CHANGED",
    ),
    "SSH_KNOWN_HOSTS beside the system's": (
        {"mine": GOOD, "etc/ssh_known_hosts": REVOKED},
        {"ssh_known_hosts": "mine"},
        "REVOKED",
    ),
    "UserKnownHostsFile in the place of the user's": (
        {CONFIG: "UserKnownHostsFile ~/a %d/b\n", ".ssh/known_hosts": REVOKED, "b": GOOD},
        {},
        "TRUSTED",
    ),
    "UserKnownHostsFile beside the system's": (
        {CONFIG: "UserKnownHostsFile ~/a\n", "a": GOOD, "etc/ssh_known_hosts": REVOKED},
        {},
        "REVOKED",
    ),
    "UserKnownHostsFile, none": ({CONFIG: "UserKnownHostsFile none\n", ".ssh/known_hosts": GOOD}, {}, "UNKNOWN"),
    "UserKnownHostsFile of another host": (
        {CONFIG: "Host other\n  UserKnownHostsFile ~/a\n", ".ssh/known_hosts": GOOD, "a": REVOKED},
        {},
        "TRUSTED",
    ),
    "SSH_KNOWN_HOSTS before UserKnownHostsFile": (
        {CONFIG: "UserKnownHostsFile ~/a\n", "a": REVOKED, "mine": GOOD},
        {"ssh_known_hosts": "mine"},
        "TRUSTED",
    ),
    "UserKnownHostsFile, each in quotes": (
        {CONFIG: 'UserKnownHostsFile "~/a" "{home}/b"\n', "a": GOOD, "b": REVOKED},
        {},
        "REVOKED",
    ),
    "UserKnownHostsFile with a space": (
        {CONFIG: 'UserKnownHostsFile "~/my known"\n', "my known": REVOKED, "etc/ssh_known_hosts": GOOD},
        {},
        "REVOKED",
    ),
    "GlobalKnownHostsFile with what is no token there": (
        {CONFIG: "GlobalKnownHostsFile ~/%h\n", "%h": REVOKED, ".ssh/known_hosts": GOOD},
        {},
        "REVOKED",
    ),
    "GlobalKnownHostsFile in the place of the system's": (
        {CONFIG: "GlobalKnownHostsFile ~/a\n", "etc/ssh_known_hosts": GOOD, "a": WRONG},
        {},
        "CHANGED",
    ),
    "RevokedHostKeys": (
        {CONFIG: "RevokedHostKeys ~/bad\n", ".ssh/known_hosts": GOOD, "bad": f"# stolen\n\n{BARE}"},
        {},
        "REVOKED",
    ),
    "RevokedHostKeys with another's": (
        {CONFIG: "RevokedHostKeys ~/bad\n", ".ssh/known_hosts": GOOD, "bad": written(OTHER, "")},
        {},
        "TRUSTED",
    ),
    "RevokedHostKeys in quotes": (
        {CONFIG: "RevokedHostKeys '~/my bad'  # ones\n", ".ssh/known_hosts": GOOD, "my bad": BARE},
        {},
        "REVOKED",
    ),
    "RevokedHostKeys, none": ({CONFIG: "RevokedHostKeys none\n", ".ssh/known_hosts": GOOD}, {}, "TRUSTED"),
    "a remark with a lone CR in it": ({".ssh/known_hosts": f"# old\r{GOOD}"}, {}, "UNKNOWN"),
    "HostKeyAlias": ({CONFIG: "HostKeyAlias web\n", ".ssh/known_hosts": written(KEY, "web")}, {}, "TRUSTED"),
    "HostKeyAlias, and another name": ({CONFIG: "HostKeyAlias web\n", ".ssh/known_hosts": GOOD}, {}, "UNKNOWN"),
    "HostKeyAlgorithms with its kind": (
        {CONFIG: "HostKeyAlgorithms ec*,rsa* # x\n", ".ssh/known_hosts": GOOD},
        {},
        "TRUSTED",
    ),
    "HostKeyAlgorithms without its kind": (
        {CONFIG: "HostKeyAlgorithms ssh-ed25519\n", ".ssh/known_hosts": GOOD},
        {},
        "SSH_STALLED",
    ),
    "HostKeyAlgorithms less its kind": (
        {CONFIG: "HostKeyAlgorithms -ecdsa-sha2-nistp*\n", ".ssh/known_hosts": GOOD},
        {},
        "SSH_STALLED",
    ),
    "HostKeyAlgorithms and another kind": (
        {CONFIG: "HostKeyAlgorithms +ssh-rsa\n", ".ssh/known_hosts": GOOD},
        {},
        "TRUSTED",
    ),
    "HostKeyAlgorithms, another kind first": (
        {CONFIG: "HostKeyAlgorithms ^ssh-ed25519\n", ".ssh/known_hosts": GOOD},
        {},
        "TRUSTED",
    ),
    "HostKeyAlgorithms of none that is known": (
        {CONFIG: "HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG",
    ),
    "RequiredRSASize for a key that is none": (
        {CONFIG: "RequiredRSASize 4096\n", ".ssh/known_hosts": GOOD},
        {},
        "TRUSTED",
    ),
    "RequiredRSASize that is no number": (
        {CONFIG: "RequiredRSASize x\n"},
        {},
        "CONFIG RequiredRSASize of ssh_config for 127.0.0.1: it is no number",
    ),
    "CheckHostIP": (
        {CONFIG: "CheckHostIP true\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG CheckHostIP of ssh_config for 127.0.0.1: addresses are not checked beside names",
    ),
    # What ssh would read and we do not is told: passed over it could let in whom ssh keeps out.
    "RevokedHostKeys that is not there": (
        {CONFIG: "RevokedHostKeys ~/bad\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG RevokedHostKeys of ssh_config for 127.0.0.1: ~/bad cannot be read: No such file or directory",
    ),
    "RevokedHostKeys in a form of its own": (
        {CONFIG: "RevokedHostKeys ~/bad\n", ".ssh/known_hosts": GOOD, "bad": "SSHKRL\n\0\0\1"},
        {},
        "CONFIG RevokedHostKeys of ssh_config for 127.0.0.1: ~/bad is a KRL, which is not read here",
    ),
    "RevokedHostKeys with a line that is no key": (
        {CONFIG: "RevokedHostKeys ~/bad\n", ".ssh/known_hosts": GOOD, "bad": f"{BARE}serial: 7\n"},
        {},
        "CONFIG RevokedHostKeys of ssh_config for 127.0.0.1: ~/bad:2 has no key that is known here",
    ),
    "a token that is not known": (
        {CONFIG: "UserKnownHostsFile ~/%C\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG UserKnownHostsFile of ssh_config for 127.0.0.1: %C in it is not known here",
    ),
    "a home of nobody": (
        {CONFIG: "UserKnownHostsFile ~nonesuch/a\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG UserKnownHostsFile of ssh_config for 127.0.0.1: there is no user for ~nonesuch/a",
    ),
    "KnownHostsCommand": (
        {CONFIG: "KnownHostsCommand /usr/bin/keys %H\n", ".ssh/known_hosts": GOOD},
        {},
        "CONFIG KnownHostsCommand of ssh_config for 127.0.0.1: it is not run here",
    ),
}


@pytest.mark.parametrize(("files", "settings", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_the_files_that_count(files: dict[str, str], settings: dict[str, str], verdict: str, home: Path) -> None:
    given = {key: home / value for key, value in settings.items()}
    assert judged(home, files, **given) == verdict


def test_a_file_that_changes_is_read_anew(home: Path) -> None:
    file = home / ".ssh" / "known_hosts"
    file.write_text(GOOD.replace("{port}", "1"))
    assert len(load_known_hosts(Settings()).lines) == 1
    file.write_text("")
    assert load_known_hosts(Settings()) == KnownHosts()


def test_a_file_that_cannot_be_read_is_told(home: Path) -> None:
    (home / ".ssh" / "known_hosts2").mkdir()
    with pytest.raises(Failure) as told:
        load_known_hosts(Settings())
    assert "known_hosts2: cannot be read: Is a directory" in str(told.value)


@pytest.mark.parametrize(("config", "file"), [("", ".ssh/known_hosts"), ("UserKnownHostsFile ~/a ~/b\n", "a")])
def test_a_new_key_is_recorded_in_the_first_of_the_users_files(config: str, file: str, home: Path) -> None:
    (home / CONFIG).write_text(config)
    connection = connection_to(Node("one", "127.0.0.1", role="worker", user="u", port=9), Settings(), KnownHosts())
    assert known_files.trust_of(connection, Settings(), KnownHosts()).file == home / file


def test_what_is_revoked_in_a_file_of_its_own_does_not_change_which_kind_of_key_is_asked_for(home: Path) -> None:
    (home / CONFIG).write_text("RevokedHostKeys ~/bad\n")
    (home / "bad").write_text(BARE)
    (home / ".ssh" / "known_hosts").write_text(GOOD.format(port=9))
    connection = connection_to(Node("one", "127.0.0.1", role="worker", user="u", port=9), Settings(), KnownHosts())
    trust = known_files.trust_of(connection, Settings(), KnownHosts())
    assert trust.algorithms == (KEY.get_name(),)
    assert trust.verdict(KEY.asbytes()).kind is Kind.REVOKED


def test_many_revoked_keys_are_read_once_for_all_hops_until_their_file_changes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Counted(KnownHosts):
        @classmethod
        def parse(cls, text: str, source: str) -> KnownHosts:
            read.append(source)
            return KnownHosts.parse(text, source)

    monkeypatch.setattr(known_files, "KnownHosts", Counted)
    file, line, node = home / "bad", written(OTHER, ""), Node("one", "127.0.0.1", role="worker", user="u", port=9)
    (home / CONFIG).write_text("RevokedHostKeys ~/bad\n")
    file.write_text(f"# stolen\n{line * 1500}{BARE}{line}{BARE}")
    for _ in range(3):
        connection = connection_to(node, Settings(), KnownHosts())
        verdict = known_files.trust_of(connection, Settings(), KnownHosts()).verdict(KEY.asbytes())
        assert (verdict.kind, verdict.place) == (Kind.REVOKED, f"{file}:1502")
    assert read == [str(file)]
    file.write_text(line)
    assert known_files.trust_of(connection, Settings(), KnownHosts()).verdict(KEY.asbytes()).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("bits", "config", "code"),
    [
        (1024, "", "SSH_AUTH_REFUSED"),
        (1024, "RequiredRSASize 2048", "CONFIG"),
        (2048, "RequiredRSASize 2048", "SSH_AUTH_REFUSED"),
    ],
)
def test_an_rsa_key_is_as_long_as_ssh_config_wants_it(
    bits: int, config: str, code: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = paramiko.RSAKey.generate(bits)
    monkeypatch.setattr(played_sshd, "KEY", key)
    (home / CONFIG).write_text(config)
    with listening(Server().serve) as port:
        known = KnownHosts.parse(entry("127.0.0.1", port, key.get_name(), key.asbytes()), "")
        connection = connection_to(Node("one", "127.0.0.1", role="worker", user="u", port=port), Settings(), known)
        with pytest.raises(Failure) as told:
            open_connection(connection)
    assert told.value.code == code
