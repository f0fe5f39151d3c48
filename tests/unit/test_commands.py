"""Commands on this machine, whatever the operator's own Invoke is told to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.commands import run_here
from deploy.errors import Failure
from deploy.progress import News, Output


def test_output_and_errors_are_apart_and_the_code_is_the_commands() -> None:
    done = run_here(("sh", "-c", "echo out; echo err >&2; exit 3"), 10, None)
    assert (done.code, done.output, done.errors) == (3, "out\n", "err\n")


def test_words_stay_words() -> None:
    assert run_here(("printf", "%s|", "two words", "$HOME", "it's"), 10, None).output == "two words|$HOME|it's|"


def test_a_command_that_asks_gets_no_answer() -> None:
    assert run_here(("cat",), 10, None).output == ""


def test_an_absent_command_is_127() -> None:
    assert run_here(("raydock-no-such-command",), 10, None).code == 127


def test_lines_are_told_while_they_come() -> None:
    said: list[News] = []
    run_here(("printf", "10%%\\r50%%\\r\\nGr\\303\\274n\\n"), 10, said.append)
    assert said == [Output("10%"), Output("50%"), Output("Grün")]


def test_a_command_that_does_not_end_is_given_up() -> None:
    with pytest.raises(Failure, match="was not done within 1 s"):
        run_here(("sleep", "30"), 1, None)


def test_the_operators_own_invoke_settings_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".invoke.yaml").write_text("run:\n  echo: true\n  pty: true\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_here(("sh", "-c", "test -t 1 || echo no terminal"), 10, None)
    assert done.output == "no terminal\n"
    assert capfd.readouterr().out == ""
