"""The desk: whose head takes programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from deploy import desk
from deploy.errors import Failure
from deploy.settings import load

from .fakes import FakeSite, scope, site_of


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> FakeSite:
    """A head that runs, behind the desk."""
    site = site_of()

    @contextmanager
    def open_node(*_: Any) -> Iterator[FakeSite]:
        yield site

    monkeypatch.setattr(desk, "scope_of", lambda _: scope("one"))
    monkeypatch.setattr(desk, "open_node", open_node)
    return site


@pytest.mark.parametrize("version", ["2.0.0", "2.60.0", "3.0.0.dev0", ""])
def test_a_head_takes_programs(version: str, head: FakeSite) -> None:
    head.docker.hold("raydock-ray-head", **({"raydock_ray": version} if version else {}))
    with desk.open_head(Context()) as opened:
        assert opened.settings.cluster_name == "ray"


@pytest.mark.parametrize("version", ["0.5.3", "0.8.0.dev6", "1.13.0"])
def test_a_head_below_2_takes_none(version: str, head: FakeSite) -> None:
    head.docker.hold("raydock-ray-head", raydock_ray=version)
    with pytest.raises(Failure, match=f"^Ray {version} takes no programs") as caught, desk.open_head(Context()):
        pass
    assert caught.value.code == "DIALECT_TOO_OLD"


FILES: dict[str, tuple[int, int, str, list[str]]] = {
    "both are open": (0o644, 0o644, "AWS_SECRET_ACCESS_KEY=x\n", [".env", "key"]),
    "the group may read the key": (0o600, 0o640, "AWS_SECRET_ACCESS_KEY=x\n", ["key"]),
    "both are closed": (0o600, 0o400, "AWS_SESSION_TOKEN=x\n", []),
    "the settings have no secret": (0o644, 0o600, "AWS_PROFILE=x\n", []),
}


@pytest.mark.parametrize(("settings_mode", "key_mode", "text", "told"), FILES.values(), ids=FILES)
def test_files_with_secrets_that_others_may_read_are_told(
    settings_mode: int, key_mode: int, text: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content, mode in ((".env", f"{text}SSH_KEY=key\n", settings_mode), ("key", "a key", key_mode)):
        (tmp_path / name).write_text(content, encoding="utf-8")
        (tmp_path / name).chmod(mode)
    found = [str(path) for path in desk.exposed(load(tmp_path, {}))]
    assert found == told
