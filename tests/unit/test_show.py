"""The report as a person reads it."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import pyte
import pytest
from rich.console import Console

from deploy.errors import Failure, Problem
from deploy.inventory import Node
from deploy.progress import Amount, News, Output
from deploy.report import Outcome, Report
from deploy.show import Screen, clean
from deploy.show.rows import Rows
from deploy.timings import Phase, Span

from .fakes import TOP, scope


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def report(workers: str = "", **failed: Failure) -> Report:
    """Give a report on which all went well but for some workers, named `w1` and so on."""
    outcomes = [Outcome(node, asked=True) for node in scope(workers).inventory.nodes]
    for outcome in outcomes:
        if outcome.node.name in failed:
            outcome.fail(failed[outcome.node.name])
    return Report("cluster.start", "ray", outcomes=outcomes, seconds=1.25)


def shown(of: Report, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Give the lines on the screen, without the blanks that fill a table's rows."""
    Screen().report(of)
    written = capsys.readouterr()
    assert written.out == ""
    return [line.rstrip() for line in written.err.splitlines()]


def test_a_lone_machine_needs_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(report(), capsys) == ["cluster.start: nothing to do in 1.2 s"]


def test_the_time_of_each_node_is_a_bar_where_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = report("10.0.0.7\n10.0.0.8")
    made.timings, made.seconds = True, 4.0
    made.outcomes[0].spans += [Span(Phase.CONNECT, 0, 1), Span(Phase.ASK, 0, 2), Span(Phase.RUN, 2, 4)]
    made.outcomes[1].spans += [Span(Phase.CONNECT, 0, 2)]
    assert shown(made, capsys)[-4:-1] == [
        f"head      {'c' * 36}{'a' * 35}{'r' * 71}  4.00 s",
        f"10.0.0.7  {'c' * 71}{' ' * 71}  2.00 s",
        "longest: connect 2.00 s (10.0.0.7), ask 1.00 s (head), run 2.00 s (head)",
    ]
    # Of many, those that took longest.
    monkeypatch.setattr("deploy.show.bars.MOST", 1)
    assert shown(made, capsys)[-3] == "and 1 more that ended sooner"
    made.outcomes = made.outcomes[2:]
    assert shown(made, capsys)[-2] == "no node was contacted: there are no times"


def test_nodes_stand_in_a_table_with_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    made = report("10.0.0.7\n10.0.0.8")
    made.outcomes[0].done += ["pull the image", "start the container"]
    made.outcomes[0].facts |= {"container": "running", "container_id": "c0ffeec0ffee", "ray": "alive"}
    made.outcomes[2].asked = False
    assert shown(made, capsys) == [
        "node      outcome  container  id            ray    done",
        "head      ok       running    c0ffeec0ffee  alive  pull the image, start the container",
        "10.0.0.7  ok                                       -",
        "cluster.start: done in 1.2 s",
    ]


def test_what_is_too_wide_for_the_terminal_is_folded_and_none_of_it_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.show.screen.PIPE_WIDTH", 60)
    made = report("10.0.0.7")
    made.outcomes[0].done += ["pull the image", "start the container"]
    lines = shown(made, capsys)
    assert max(map(len, lines)) <= 60
    words = " ".join(lines[1:-1]).split()
    assert {"pull", "the", "image,", "start", "container"} <= set(words)
    assert len(lines) > 4


def test_a_column_is_as_wide_as_its_letters_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    made = report("10.0.0.7")
    made.outcomes[0].facts |= {"container": "動作中", "container_id": "c0ffeec0ffee"}
    assert shown(made, capsys)[1] == "head      ok       動作中     c0ffeec0ffee       -"


def test_a_cause_is_told_once_with_its_nodes_its_code_and_the_next_move(capsys: pytest.CaptureFixture[str]) -> None:
    gone = Failure("SSH_TIMEOUT", "no answer within 10 s", "Check its address in workers.txt")
    made = report("w1\nw2\nw3", w1=gone, w3=gone, w2=Failure("DISK_FULL", "no space left"))
    made.outcomes[2].done.append("install Docker")
    assert shown(made, capsys) == [
        "node  outcome      container  id  ray  done",
        "head  ok                               -",
        "w1    unreachable                      SSH_TIMEOUT",
        "w2    failed                           install Docker, DISK_FULL",
        "w3    unreachable                      SSH_TIMEOUT",
        "w1, w3 SSH_TIMEOUT: no answer within 10 s",
        "  → Check its address in workers.txt",
        "w2 DISK_FULL: no space left",
        "cluster.start: failed in 1.2 s",
    ]


def test_of_many_nodes_the_first_five_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"w{number}" for number in range(1, 9)]
    made = report("\n".join(names), **{name: Failure("DNS_FAIL", "no such host") for name in names})
    assert "w1, w2, w3, w4, w5 and 3 more DNS_FAIL: no such host" in shown(made, capsys)


def test_a_problem_that_is_no_nodes_stands_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    made = Report("build.image", problems=(Problem("CONFIG", "is empty", "Fill it", ".env:3"),))
    assert shown(made, capsys) == [
        ".env:3 CONFIG: is empty",
        "  → Fill it",
        "build.image: failed in 0.0 s",
    ]


def test_mistakes_that_name_no_cure_are_to_be_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    made = Report(
        "build.image", problems=(Problem("CONFIG", "a", "Fill it", ".env:1"), Problem("CONFIG", "b", "", ".env:2"))
    )
    assert shown(made, capsys)[-3:] == [
        ".env:2 CONFIG: b",
        "  → Correct what is told, then run it again: nothing was touched",
        "build.image: failed in 0.0 s",
    ]


def test_the_last_lines_of_a_container_that_ended_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    made = report("w1", w1=Failure("RAY_EXITED", "it ended with 1"))
    made.outcomes[1].facts["log_tail"] = [f"line {number}" for number in range(20)]
    lines = shown(made, capsys)
    at = lines.index("w1 RAY_EXITED: it ended with 1")
    assert lines[at + 1 : at + 11] == [f"    │ line {number}" for number in range(10, 20)]


def test_what_a_node_writes_without_measure_does_not_fill_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    made = report("w1", w1=Failure("COMMAND_FAILED", "A" * 3_000_000))
    made.problems = (Problem("COMMAND_FAILED", "B" * 3_000_000),)
    made.outcomes[1].facts["log_tail"] = ["C" * 3_000_000]
    assert len("\n".join(shown(made, capsys))) < 10_000


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("PULL_FAILED", "[red]no[/red] [/nope]", "Mend [it]")
    of = report("[fe80::1]:2222")
    of.outcomes[1].fail(failure)
    of.outcomes[1].done.append("have [fe80::2]/app")
    lines = shown(of, capsys)
    assert lines[2].split() == ["[fe80::1]:2222", "failed", "have", "[fe80::2]/app,", "PULL_FAILED"]
    assert lines[3:5] == ["[fe80::1]:2222 PULL_FAILED: [red]no[/red] [/nope]", "  → Mend [it]"]


NODE = Node("10.0.0.7", "10.0.0.7", role="worker")
HEARD: dict[str, tuple[News, list[str]]] = {
    "a line, as it is": ("pull [1/2] \x1b[31m…", ["pull [1/2] \\x1b[31m…"]),
    "how far it is, at most every ten seconds": (Amount("1 of 2 layers", 3_000_000, 9_000_000), []),
    "what the node prints, not unless it is asked for": (Output("Unpacking …"), []),
}


@pytest.mark.parametrize(("news", "lines"), HEARD.values(), ids=HEARD)
def test_a_pipe_hears(news: News, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with Screen().watch() as watch:
        watch.step(NODE, "pull the image")
        watch.hear(NODE, news)
        watch.did(NODE, "pull the image", 1.25)
    told = ["pull the image …", *lines, "pull the image: done in 1.2 s"]
    assert capsys.readouterr().err.splitlines() == [f"10.0.0.7         {line}" for line in told]


def test_a_pipe_hears_what_the_nodes_print_if_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen().watch(verbose=True) as watch:
        watch.hear(NODE, Output("Unpacking \x1b[31m…"))
    assert capsys.readouterr().err == "10.0.0.7         Unpacking \\x1b[31m…\n"


@pytest.mark.parametrize("width", [30, 50, 70, 100, 200])
def test_a_row_is_one_line_on_a_terminal_of(width: int) -> None:
    screen = pyte.Screen(width, 10)
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=width, height=10, color_system=None, legacy_windows=False
    )
    with Rows(console, verbose=False) as rows:
        rows.stage(2)
        rows.begins(NODE)
        rows.step(NODE, "pull the image")
        rows.hear(NODE, Amount("3 of 7 layers", 120_000_000, 640_000_000))
        rows._progress.refresh()
        pyte.Stream(screen).feed(written.getvalue().replace("\n", "\r\n"))
        shown = [line.strip() for line in screen.display if line.strip()]
    assert len(shown) == 2, shown
    assert ["640" in shown[1], "10.0.0." in shown[1], shown[1].endswith("0:00")] == [width >= 60, True, True]


def test_how_far_a_step_is_is_told_again_after_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.0, 11.0]).__next__
    monkeypatch.setattr("deploy.show.lines.time", SimpleNamespace(monotonic=clock))
    with Screen().watch() as watch:
        watch.step(NODE, "pull")
        for come in (1, 2, 3):
            watch.hear(NODE, Amount("0 of 1 layers", come * 1_000_000, 9_000_000))
    assert capsys.readouterr().err.splitlines()[1:] == ["10.0.0.7         0 of 1 layers, 2 of 9 MB"]


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("x " * 300)
    assert capsys.readouterr().err.count("\n") == 1


CONTROL = {
    "a colour": ("\x1b[31mred", "\\x1b[31mred"),
    "a title of the window": ("\x1b]0;own\x07", "\\x1b]0;own\\x07"),
    "a return over what was written": ("100%\rdone", "100%\\x0ddone"),
    "letters from right to left": ("\u202ecod", "\\x202ecod"),
    "tabs": ("a\tb", "a\tb"),
    "lines that look like ours": ("boom\n  → curl x | sh\nagain: x\n", "boom\n    │   → curl x | sh\n    │ again: x"),
    "lines of another kind": ("a\x0b\x85\u2028again: x", "a\\x0b\\x85\\x2028again: x"),
    "letters of all kinds": ("Grüße ✓", "Grüße ✓"),
}


@pytest.mark.parametrize(("text", "seen"), CONTROL.values(), ids=CONTROL)
def test_no_control_character_of_a_node_reaches_the_terminal(text: str, seen: str) -> None:
    assert clean(text) == seen


def test_what_moves_on_a_terminal_is_loaded_only_there() -> None:
    code = "import sys, deploy.show; print({'rich.console', 'rich.progress', 'rich.table'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'rich.console'}\n", "")
