"""The desk: whose head takes programs, and what is said before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from invoke.context import Context

from deploy import desk
from deploy.errors import Failure
from deploy.flags import Flags
from deploy.plans import cluster as cluster_plans
from deploy.report import Report
from deploy.ssh_hosts import SshHost

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


LOOSENED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "the dashboard on another address of loopback": ({"dashboard_host": "127.0.0.3"}, []),
    "no token": (
        {"allow_unauthenticated": True},
        ["ALLOW_UNAUTHENTICATED: nobody is asked for a token: whoever reaches Ray's ports runs code"],
    ),
    "capabilities": (
        {"capabilities": "SYS_PTRACE NET_RAW"},
        ["CAPABILITIES: containers keep NET_RAW, SYS_PTRACE"],
    ),
    "the dashboard for others": (
        {"dashboard_host": "0.0.0.0"},  # noqa: S104 - it is never listened on
        ["DASHBOARD_HOST: Ray's dashboard listens on 0.0.0.0, to others than the head itself"],
    ),
}


@pytest.mark.parametrize(("given", "said"), LOOSENED.values(), ids=LOOSENED)
def test_what_is_loosened_is_told_to_people_and_to_programs(
    given: dict[str, Any], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    of = scope("one", **given)
    desk.first_lines(of)
    assert [
        line for line in capsys.readouterr().err.splitlines() if line.partition(":")[0].replace("_", "").isupper()
    ] == said
    report = Report("cluster.start")
    report.about(of.settings)
    assert report.json()["loosened"] == [line.partition(":")[0] for line in said]


@pytest.mark.parametrize(
    ("steal", "order"), [(False, ["reach out to one", "say"]), (True, ["say", "ask"])], ids=["usual", "--steal"]
)
def test_nodes_are_reached_out_to_before_anything_is_said_but_not_before_somebody_agreed(
    steal: bool, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(SshHost, "prepare", lambda host: done.append(f"reach out to {host.node.name}"))
    monkeypatch.setattr(desk, "first_lines", lambda _: done.append("say"))
    monkeypatch.setattr(desk, "steal", lambda *_: done.append("ask"))
    of = scope("one")  # the head is this machine
    desk.begun(of, cluster_plans.stop(of), "cluster.stop", Flags(steal=steal))
    assert done == order
