"""What the benchmarks on real hosts make of what an engine and Ray show."""

from __future__ import annotations

from string import Template
from typing import Any

from tests.bench import ray_up
from tests.bench.start import Life, asked_of, create_line, series
from tests.bench.three_hosts import alive


def shown(**host: object) -> dict[str, Any]:
    """A container, as an engine shows it."""
    config = {
        "Image": "shop/app@sha256:ab",
        "Cmd": ["ray", "start", "--head"],
        "Env": ["RAY_AUTH_MODE=token", "PATH=/opt/ray/bin"],
        "Labels": {"raydock.asked": '{"gpus":"auto"}'},
    }
    usual = {"NetworkMode": "host", "ShmSize": 64, "CapDrop": ["ALL"], "CapAdd": None, "SecurityOpt": [], "Binds": None}
    return {"Name": "/raydock-x-head", "Config": config, "HostConfig": {**usual, **host}}


def test_the_floor_asks_for_the_container_that_ours_is() -> None:
    assert create_line(shown(SecurityOpt=["no-new-privileges"], Binds=["/data:/data"])) == (
        "docker create --name raydock-x-head --network host --shm-size 64 --cap-drop ALL "
        "--security-opt no-new-privileges --volume /data:/data --env RAY_AUTH_MODE=token --env PATH=/opt/ray/bin "
        '--label \'raydock.asked={"gpus":"auto"}\' shop/app@sha256:ab ray start --head'
    )


def test_a_container_that_was_asked_otherwise_is_told_apart_and_an_empty_list_is_none() -> None:
    assert asked_of(shown()) == asked_of(shown(SecurityOpt=None, CapAdd=[]))
    assert asked_of(shown()) != asked_of(shown(CapDrop=None))


def test_a_node_that_was_started_again_counts_once_and_a_dead_one_not_at_all() -> None:
    rows = [("10.0.0.1", "ALIVE"), ("10.0.0.1", "ALIVE"), ("10.0.0.2", "DEAD"), ("10.0.0.3", "ALIVE")]
    assert alive([{"node_ip": address, "state": state} for address, state in rows]) == {"10.0.0.1", "10.0.0.3"}
    assert alive(None) == set()


def test_each_part_of_a_clusters_life_is_a_series_of_its_own() -> None:
    taken = [(Life(1, 2, 3), Life(4, 5, 6)), (Life(7, 8, 9), Life(10, 11, 12))]
    assert [one.values for one in series(taken, "rest")] == [(2, 8), (5, 11)]


def test_the_launcher_is_told_all_but_what_its_own_shell_knows() -> None:
    known = dict.fromkeys(("head", "workers", "key", "image", "container", "shm_size", "num_cpus"), "x")
    assert "$" not in Template(ray_up.TEMPLATE.read_text()).safe_substitute(known).replace("$RAY_HEAD_IP", "")
