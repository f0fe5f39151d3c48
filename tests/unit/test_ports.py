"""The ports: which a cluster has, and what docs/ports.md says of them."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from deploy.inventory import Role
from deploy.ports import OF_HEAD, OF_RAY, OF_SETTINGS, WORKERS, claims, listening, options
from deploy.settings import Settings, load

ROLES: tuple[Role, ...] = ("head", "worker")
TEXT = (Path(__file__).resolve().parents[2] / "docs/ports.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param((), {}, id="none"),
        pytest.param(("--a=1", "--b=2=3"), {"--a": "1", "--b": "2=3"}, id="with a sign"),
        pytest.param(("--a", "1", "--b", "2"), {"--a": "1", "--b": "2"}, id="with a blank"),
        pytest.param(("--a", "--b"), {"--a": "", "--b": ""}, id="without a value"),
    ],
)
def test_the_options_among_words_are_found(words: tuple[str, ...], found: dict[str, str]) -> None:
    assert options(words) == found


def test_a_cluster_has_the_ports_of_its_settings_and_those_that_ray_has_by_default() -> None:
    assert [str(claim) for claim in claims(Settings())] == [
        "REDIS_PORT=6379",
        "OBJECT_MANAGER_PORT=8076",
        "DASHBOARD_PORT=8265",
        "--ray-client-server-port=10001",
        "--dashboard-agent-listen-port=52365",
        "the ports of tasks=10002-19999",
    ]


def test_a_worker_listens_on_none_of_the_heads_ports() -> None:
    ports = {role: {claim.name for claim in listening(Settings(), role)} for role in ROLES}
    assert ports["worker"] == {"OBJECT_MANAGER_PORT", "--dashboard-agent-listen-port"}
    assert ports["head"] == ports["worker"] | OF_HEAD


def test_the_manual_has_a_row_for_every_port_with_its_default() -> None:
    told = {name: row[0] for row in ROWS for name in re.findall(r"`([A-Z_]+|--[a-z-]+)`", row[4])}
    defaults = {key: str(getattr(Settings(), key.lower())) for key in OF_SETTINGS}
    defaults |= {flag: str(port or "any free one") for flag, port in OF_RAY.items()}
    defaults |= dict.fromkeys(WORKERS, "-".join(map(str, WORKERS.values())))
    assert {name: told.get(name) for name in defaults} == defaults


def test_the_manuals_second_cluster_has_no_port_of_the_first(tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / ".env").write_text(block)
    second, first = load(tmp_path, {}), Settings()
    assert second.cluster_name != first.cluster_name
    assert len(list(claims(second))) == len(list(claims(first)))
    for one, other in product(claims(first), claims(second)):
        assert set(one.ports).isdisjoint(other.ports), (one, other)
    assert {key.upper() for key in second.model_fields_set} >= {*OF_SETTINGS, "CLUSTER_NAME", "RAY_START_ARGS"}


def test_the_manuals_other_arguments_are_taken(tmp_path: Path) -> None:
    (line,) = re.findall(r"(?m)^    (RAY_START_ARGS=.*)$", TEXT)
    (tmp_path / ".env").write_text(line)
    assert len(list(claims(load(tmp_path, {})))) == len(OF_SETTINGS) + len(OF_RAY) + 1
