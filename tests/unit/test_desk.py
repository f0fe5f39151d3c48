"""The desk: whose head takes programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from invoke.context import Context

from deploy import desk
from deploy.errors import Failure

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
