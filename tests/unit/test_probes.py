"""The program that has every node run a task, on a Ray that a test plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deploy import probes


def play(monkeypatch: pytest.MonkeyPatch, rows: dict[str, str], running: set[str]) -> None:
    """Have Ray list these rows, id by address, as alive, of which only some still run tasks."""

    class Remote:
        def options(self, scheduling_strategy: str, **_: object) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda: scheduling_strategy)

    ray: Any = ModuleType("ray")
    ray.init = lambda **_: None
    ray.nodes = lambda: [{"NodeID": one, "NodeManagerAddress": at, "Alive": True} for one, at in rows.items()]
    ray.remote = lambda **_: lambda _task: Remote()
    ray.wait = lambda refs, **_: ([ref for ref in refs if ref in running], [])
    ray.get = lambda ref: ref
    ray.exceptions = SimpleNamespace(RayError=RuntimeError)
    strategies: Any = ModuleType("strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, **_: node
    for name, module in {
        "ray": ray,
        "ray.util": ModuleType("ray.util"),
        "ray.util.scheduling_strategies": strategies,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)


# What is alive, which of them run tasks, which ran one before; then the addresses of which none came back.
PROBED: dict[str, tuple[dict[str, str], set[str], str, list[str]]] = {
    "all answer": ({"a": "1", "b": "2"}, {"a", "b"}, "", []),
    "one is silent": ({"a": "1", "b": "2"}, {"a"}, "", ["2"]),
    "what answered before is not asked again": ({"a": "1", "b": "2"}, {"b"}, "a", []),
    "a new life is silent whose former one ran a task": ({"a": "1", "old": "2", "new": "2"}, {"a"}, "a\nold", ["2"]),
    "a new life answers whose former one is silent": ({"a": "1", "old": "2", "new": "2"}, {"new"}, "a", []),
}


@pytest.mark.parametrize(("rows", "running", "recorded", "silent"), PROBED.values(), ids=PROBED)
def test_the_probe_names_where_no_task_ran(
    rows: dict[str, str],
    running: set[str],
    recorded: str,
    silent: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    play(monkeypatch, rows, running)
    record = tmp_path / "probed"
    record.write_text(recorded, encoding="utf-8")
    program = probes.PROBE.replace(repr(probes.PROBED_PATH), repr(str(record)))
    exec(compile(program, "probe", "exec"), {})  # noqa: S102 - it is ours
    assert json.loads(capsys.readouterr().out) == silent
    done = set(recorded.split()) | running
    assert set(record.read_text(encoding="utf-8").split()) == done
    monkeypatch.setattr(probes, "PROBED_PATH", str(record))
    assert Path(probes.all_probed_path(rows)).exists() is (rows.keys() <= done)


SLOW_RAY = """
import sys, time, types
ray = types.ModuleType("ray")
ray.init = lambda **_: (print("begun", flush=True), time.sleep(2))
ray.nodes = lambda: []
ray.remote = lambda **_: lambda task: task
strategies = types.ModuleType("strategies")
strategies.NodeAffinitySchedulingStrategy = None
sys.modules |= {"ray": ray, "ray.util": types.ModuleType("u"), "ray.util.scheduling_strategies": strategies}
"""


@pytest.mark.parametrize(
    ("attended", "code"), [((), 0), ((probes.ATTENDED,), 1)], ids=["in a script", "where somebody waits for it"]
)
def test_the_probe_ends_with_its_input_where_somebody_waits_for_it(
    attended: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    program = SLOW_RAY + probes.PROBE.replace(repr(probes.PROBED_PATH), repr(str(tmp_path / "probed")))
    argv = [sys.executable, "-c", program, *attended]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asked:
        assert asked.stdin
        assert asked.stdout
        assert asked.stdout.readline() == b"begun\n"
        asked.stdin.close()
        assert asked.wait(10) == code


def test_the_probe_goes_on_while_its_input_is_open(tmp_path: Path) -> None:
    program = SLOW_RAY + probes.PROBE.replace(repr(probes.PROBED_PATH), repr(str(tmp_path / "probed")))
    with subprocess.Popen(
        [sys.executable, "-c", program, probes.ATTENDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asked:
        assert asked.stdin
        assert asked.stdout
        assert asked.stdout.read() == "begun\n[]\n"
        assert asked.wait(10) == 0
