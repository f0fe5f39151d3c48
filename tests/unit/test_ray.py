"""Ray's containers: what they run, which spec they have, and the line that creates one."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from deploy.plan import Late, Place, Word, parts_of, quoted
from deploy.ray import Container, all_labels, changed_keys, container_name, create_line, environment

from .fakes import bash, containers, scope, settings

# All that is usually found out is said, so that every word of a container is a literal, but for image and token.
SAID = {
    "head_address": "10.0.0.1",
    "num_workers": "8",
    "shm_size": "2G",
    "gpus": "none",
    "image": f"registry.test/my-app@sha256:{'0' * 64}",
}
WORKERS = "one  #: private=10.0.0.2\ntwo  #: private=10.0.0.3"


def container(workers: str = WORKERS, name: str = "head", **values: Any) -> Container:
    return containers(scope(workers, **values))[name]


def written(words: tuple[Word, ...]) -> list[str]:
    """Give words as bash gets them, with late values as `$name`."""
    return ["".join(f"${part.name}" if isinstance(part, Late) else part for part in parts_of(word)) for word in words]


COMMANDS: dict[str, tuple[Container, list[str]]] = {
    "the head's": (
        container(**SAID),
        [
            "ray",
            "start",
            "--head",
            "--block",
            "--port=6379",
            "--object-manager-port=8076",
            "--node-ip-address=$head_address",
            "--num-cpus=8",
            "--dashboard-host=127.0.0.1",
            "--dashboard-port=8265",
        ],
    ),
    "a worker's": (
        container(name="one", **SAID),
        [
            "ray",
            "start",
            "--block",
            "--address=$head_address:6379",
            "--object-manager-port=8076",
            "--node-ip-address=$address",
            "--num-cpus=8",
        ],
    ),
    "with ports and arguments of the operator's": (
        container(
            redis_port="7001",
            object_manager_port="7002",
            dashboard_port="7003",
            dashboard_host="0.0.0.0",  # noqa: S104 - a value as an operator may set it
            ray_start_args="--verbose --labels 'a=b c'",
        ),
        [
            "ray",
            "start",
            "--head",
            "--block",
            "--port=7001",
            "--object-manager-port=7002",
            "--node-ip-address=$head_address",
            "--num-cpus=$num_workers",
            "--dashboard-host=0.0.0.0",
            "--dashboard-port=7003",
            "--verbose",
            "--labels",
            "a=b c",
        ],
    ),
    "of a worker with options of its own": (
        container("""one  #: num_workers=2 resources='{"ssd": 1}'""", "one", num_workers="8"),
        [
            "ray",
            "start",
            "--block",
            "--address=$head_address:6379",
            "--object-manager-port=8076",
            "--node-ip-address=$address",
            "--num-cpus=2",
            '--resources={"ssd":1}',
        ],
    ),
}


@pytest.mark.parametrize(("of", "argv"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_is(of: Container, argv: list[str]) -> None:
    assert written(of.command) == argv


ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "REDIS_PORT": ("", {"redis_port": "6380"}),
    "OBJECT_MANAGER_PORT": ("", {"object_manager_port": "8077"}),
    "DASHBOARD_PORT": ("", {"dashboard_port": "8266"}),
    "DASHBOARD_HOST": ("", {"dashboard_host": "10.0.0.1"}),
    "SHM_SIZE": ("", {"shm_size": "2G"}),
    "NUM_WORKERS": ("", {"num_workers": "8"}),
    "GPUS": ("", {"gpus": "all"}),
    "VOLUMES": ("", {"volumes": "/data:/data:ro"}),
    "CONTAINER_ENV": ("", {"container_env": "A=1"}),
    "RAY_START_ARGS": ("", {"ray_start_args": "--verbose"}),
    "ALLOW_UNAUTHENTICATED": ("", {"allow_unauthenticated": "yes"}),
}


@pytest.mark.parametrize("key", ASKED)
def test_what_is_asked_otherwise_is_another_spec_and_is_named(key: str) -> None:
    workers, values = ASKED[key]
    before, after = container(workers), container(workers, **values)
    assert before.spec != after.spec
    assert changed_keys(before.asked, after.asked) == [key]


OPTIONS = {
    "NUM_WORKERS": "num_workers=2",
    "SHM_SIZE": "shm_size=1G",
    "GPUS": "gpus=all",
    "RESOURCES": """resources='{"a":1}'""",
}


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_of_workers_txt_is_another_spec_and_is_named(key: str) -> None:
    before, after = container("one", "one"), container(f"one  #: {OPTIONS[key]}", "one")
    assert before.spec != after.spec
    assert changed_keys(before.asked, after.asked) == [key]


ALIKE: dict[str, tuple[Container, Container]] = {
    "the same asked twice": (container(), container()),
    "another image": (container(), container(image="other:1")),
    "another address of the head": (container(), container(head_address="10.9.9.9")),
    "how a worker is reached": (container(name="one"), container("u@one:2222", "one:2222")),
    "who else is there": (container(name="one"), container("one", "one")),
    "how many connections at a time": (container(), container(concurrency="1")),
    "the dashboard, on a worker": (container(name="one"), container(name="one", dashboard_port="8266")),
    "a worker and one with the same options": (container(name="one"), container(name="two")),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_was_not_asked_of_the_container_is_not_in_its_spec(one: Container, other: Container) -> None:
    assert one.spec == other.spec


def test_a_spec_is_the_same_in_every_run_and_on_every_machine() -> None:
    # Literals: another spec for the same asked would refuse every cluster that runs.
    assert container().asked == (
        '{"allow_unauthenticated":false,"container_env":[],"dashboard_host":"127.0.0.1","dashboard_port":8265,'
        '"gpus":"auto","num_workers":"auto","object_manager_port":8076,"ray_start_args":[],"redis_port":6379,'
        '"resources":null,"role":"head","shm_size":"auto","volumes":[]}'
    )
    assert container().spec == "v1:5e89cda04856"
    assert container(name="one").spec == "v1:e7a1d80830b0"


CHANGED = {
    "nothing": ('{"a":1}', '{"a":1}', []),
    "a value": ('{"a":1,"b":2}', '{"a":1,"b":3}', ["B"]),
    "a key that came and one that went": ('{"a":1}', '{"b":1}', ["A", "B"]),
    "what is no label of ours": ("", '{"a":1}', []),
}


@pytest.mark.parametrize(("old", "new", "keys"), CHANGED.values(), ids=CHANGED)
def test_the_keys_that_differ_are_named(old: str, new: str, keys: list[str]) -> None:
    assert list(changed_keys(old, new)) == keys


def test_labels_say_whose_a_container_is_what_was_asked_and_what_was_found() -> None:
    labels = all_labels(container(name="one", cluster_name="blue"))
    names = dict(zip([key for key, _ in labels], written(tuple(value for _, value in labels)), strict=True))
    asked = names.pop("raydock.asked")
    assert asked.startswith('{"allow_unauthenticated":false,"container_env":[],"gpus":"auto",')
    assert names == {
        "raydock.cluster": "blue",
        "raydock.role": "worker",
        "raydock.spec": "v1:e7a1d80830b0",
        "raydock.head": "$head_address:6379",
        "raydock.run": "$run",
        "raydock.image": "$image",
    }


def test_auto_is_asked_as_auto_and_found_out_on_the_node() -> None:
    one = container(name="one")
    assert '"num_workers":"auto"' in one.asked
    assert [quoted(one.shm_size), quoted(one.gpus)] == ['"$shm_size"', '"$gpus"']
    assert isinstance(one.shm_size, Late)
    assert one.shm_size.at is Place.NODE


ENVIRONMENTS: dict[str, tuple[dict[str, str], list[tuple[str, str]]]] = {
    "a token, and where it lies": (
        {},
        [("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN_PATH", "/run/ray-token"), ("RAY_USAGE_STATS_ENABLED", "0")],
    ),
    "the operator's own come last": (
        {"container_env": "RAY_USAGE_STATS_ENABLED=1 GREETING='a = b'"},
        [
            ("RAY_AUTH_MODE", "token"),
            ("RAY_AUTH_TOKEN_PATH", "/run/ray-token"),
            ("RAY_USAGE_STATS_ENABLED", "0"),
            ("RAY_USAGE_STATS_ENABLED", "1"),
            ("GREETING", "a = b"),
        ],
    ),
    "no token where none is wanted, and the mode all the same": (
        {"allow_unauthenticated": "yes"},
        [("RAY_AUTH_MODE", "disabled"), ("RAY_USAGE_STATS_ENABLED", "0")],
    ),
}


@pytest.mark.parametrize(("values", "expected"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_the_variables_of_a_container_are(values: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert list(environment(settings(**values))) == expected


def test_the_line_that_creates_a_container_says_everything() -> None:
    line = create_line(
        container(
            "",
            **SAID
            | {
                "volumes": "/data:/data:ro 'models:/my models'",
                "container_env": """GREETING='it is "$HOME"'""",
                "gpus": "all",
            },
        )
    )
    head, asked, tail = line.partition(" --label raydock.asked=")
    assert head == (
        "docker create --name raydock-ray-head --label raydock.cluster=ray --label raydock.role=head "
        "--label raydock.spec=v1:fce3e6c6e422"
    )
    assert asked
    assert tail.partition("}' ")[2] == (
        '--label raydock.head="$head_address":6379 --label raydock.run="$run" --label raydock.image="$image" '
        "--network host --shm-size 2G --cap-drop ALL --security-opt no-new-privileges "
        "--env RAY_AUTH_MODE=token --env RAY_AUTH_TOKEN_PATH=/run/ray-token --env RAY_USAGE_STATS_ENABLED=0 "
        "--env 'GREETING=it is \"$HOME\"' --volume /data:/data:ro --volume 'models:/my models' --gpus all "
        '"$image" ray start --head --block --port=6379 --object-manager-port=8076 '
        '--node-ip-address="$head_address" --num-cpus=8 --dashboard-host=127.0.0.1 --dashboard-port=8265'
    )


GPU_WORDS = {
    "auto, with some": ("auto", "all", "--gpus all"),
    "auto, without": ("auto", "", ""),
    "none": ("none", "all", ""),
}


@pytest.mark.parametrize(("wanted", "found", "words"), GPU_WORDS.values(), ids=GPU_WORDS)
def test_gpus_are_asked_for_where_there_are_some(wanted: str, found: str, words: str) -> None:
    variables = {"gpus": found, "image": "i", "head_address": "h", "run": "r", "shm_size": "1", "num_workers": "1"}
    line = create_line(container(gpus=wanted)).replace("docker create", "printf '%s\\n'", 1)
    argv = bash(line, None, **variables).split("\n")
    at = argv.index("i", 1)
    assert " ".join(argv[:at][argv.index("RAY_USAGE_STATS_ENABLED=0") + 1 :]) == words


def test_every_word_of_the_line_reaches_docker_as_it_is() -> None:
    of = container("""one  #: resources='{"ssd": 1}'""", "one", container_env="""A='$(never) `never` "x"'""")
    variables = {"gpus": "", "image": "i", "head_address": "h", "address": "a", "run": "r", "shm_size": "1"}
    line = create_line(of).replace("docker create", "printf '%s\\0'", 1)
    argv = bash(line, None, **variables, num_workers="4").split("\0")
    assert 'A=$(never) `never` "x"' in argv
    assert f"raydock.asked={of.asked}" in argv
    assert argv[-2] == '--resources={"ssd":1}'


def test_containers_of_several_clusters_share_a_host() -> None:
    assert container_name("blue", "head") == "raydock-blue-head"
    assert len({container_name(cluster, role) for cluster in ("a", "b") for role in ("head", "worker")}) == 4


def test_the_line_is_one_line() -> None:
    assert len(shlex.split(create_line(container()), comments=False)) > 30
    assert "\n" not in create_line(container())
