"""A small part of the campaign of generated inputs, and that it would see what it looks for."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from deploy import hostfile
from tests.faults import drafts
from tests.faults.campaign import Campaign, campaign


def test_no_generated_file_comes_to_a_traceback_a_second_or_a_shell() -> None:
    found = campaign(150, 7, printed=5, run=40)
    assert found.violations == []
    assert all(count == 150 for count in found.files.values())
    assert all(30 < count < 120 for count in found.taken.values()), "neither all nor nothing is taken"
    assert found.run


GOOD = b"ubuntu@10.9.0.2\nnode-3:2222 bob #: resources='{\"ssd\": 1}'\n"


def violations(folder: Path, content: bytes) -> list[str]:
    made = Campaign(folder, 1)
    made.try_file("workers.txt", "x", content)
    return made.found.violations


def test_what_is_right_is_run_to_its_end_and_not_objected_to(tmp_path: Path) -> None:
    assert violations(tmp_path, GOOD) == []


def test_a_host_that_gets_out_of_its_quotes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfile, "_target", lambda _: (None, f"$({drafts.PAYLOAD})", None))
    monkeypatch.setattr("deploy.script.shlex.join", " ".join)
    assert any(f"ran ['{drafts.PAYLOAD}']" in line for line in violations(tmp_path, b"a\n"))


def test_a_host_that_ssh_takes_for_an_option_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfile, "_target", lambda _: (None, f"-oProxyCommand={drafts.PAYLOAD}", None))
    assert any("ran ['pwned', '-oProxyCommand=pwned']" in line for line in violations(tmp_path, b"a\n"))


def test_a_traceback_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfile, "_split", lambda _: 1 // 0)
    assert any("ZeroDivisionError" in line for line in violations(tmp_path, GOOD))


def test_a_name_that_is_looked_up_while_reading_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(line: str) -> tuple[str, str]:
        socket.getaddrinfo("localhost", 22)
        return line, ""

    monkeypatch.setattr(hostfile, "_split", ask)
    assert any("came to ['socket.getaddrinfo'" in line for line in violations(tmp_path, b"a\n"))


@pytest.mark.parametrize("kind", ["workers", "settings"])
def test_a_seed_gives_the_same_file_again(kind: str) -> None:
    draft = getattr(drafts, kind)

    def drafted(number: int) -> bytes:
        content: bytes = draft(random.Random(f"1-{number}"))  # noqa: S311 - no secret
        return content

    assert drafted(5) == drafted(5)
    assert len({drafted(number) for number in range(100)}) > 80
