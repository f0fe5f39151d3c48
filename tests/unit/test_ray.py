"""Ray's containers: what they run, which spec they have, and the line that creates one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.engine.containers import config
from deploy.plan import Late, Place, Word, argument, argv, lates, parts_of, quoted
from deploy.ray import (
    Container,
    all_labels,
    changed_keys,
    container_name,
    create_line,
    environment,
    is_mute,
    mute_shell,
)

from .fakes import bash, containers, program, scope, settings, site_of

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


FOUND = {
    "image": "i",
    "run": "r",
    "head_address": "10.0.0.1",
    "address": "10.0.0.2",
    "num_workers": "4",
    "shm_size": "1",
    "gpus": "",
}


def by_the_run(of: Container, version: str) -> list[str]:
    """Give the command that the run starts where the image has this version of Ray."""
    site = site_of()
    site.know(**FOUND, ray_version=version)
    return argv(of.command, site.value)


def by_the_script(of: Container, version: str) -> list[str]:
    """Give the command that the script starts, as bash makes it."""
    flags = next(late for late in lates(of.command) if late.name == "ray_flags")
    line = f"ray_flags=$({flags.shell})\nprintf '%s\\n' {' '.join(map(argument, of.command))}"
    return bash(line, None, **FOUND, ray_version=version).split("\n")


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
            "--node-ip-address=10.0.0.1",
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
            "--address=10.0.0.1:6379",
            "--object-manager-port=8076",
            "--node-ip-address=10.0.0.2",
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
            "--node-ip-address=10.0.0.1",
            "--num-cpus=4",
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
            "--address=10.0.0.1:6379",
            "--object-manager-port=8076",
            "--node-ip-address=10.0.0.2",
            "--num-cpus=2",
            '--resources={"ssd":1}',
        ],
    ),
}


BOTH = pytest.mark.parametrize("face", [by_the_run, by_the_script], ids=["the run", "the script"])


@BOTH
@pytest.mark.parametrize(("of", "argv"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_is(of: Container, argv: list[str], face: Callable[[Container, str], list[str]]) -> None:
    assert face(of, "2.60.0") == argv


# The flags of a head, and of a worker, that are not the same in every Ray; `--block` always is.
FIRST = ("--redis-port=6379 --num-workers=4", "--redis-address=10.0.0.1:6379 --num-workers=4")
REDIS = ("--redis-port=6379 --num-cpus=4", "--redis-address=10.0.0.1:6379 --num-cpus=4")
EARLY = ("--redis-port=6379 --num-cpus=4", "--address=10.0.0.1:6379 --num-cpus=4")
PORT = ("--port=6379 --num-cpus=4", "--address=10.0.0.1:6379 --num-cpus=4")
TODAY = (f"{PORT[0]} --dashboard-host=127.0.0.1 --dashboard-port=8265", PORT[1])
SPOKEN = {
    "0.1.0": FIRST,
    "0.3.1": FIRST,
    "0.5.3": FIRST,
    "0.6.0": REDIS,
    "0.6.0.dev0": REDIS,
    "0.7.7": REDIS,
    "0.8.0": EARLY,
    "0.8.0.dev6": EARLY,
    "0.8.5": EARLY,
    "0.8.6": PORT,
    "0.8.7": TODAY,
    "1.0.0rc2": TODAY,
    "1.13.0": TODAY,
    "2.0.0": TODAY,
    "2.60.0": TODAY,
    "2.60.0+cu12.1": TODAY,
    "3.0.0.dev0": TODAY,
    "10.5.0": TODAY,
}


@BOTH
@pytest.mark.parametrize("version", SPOKEN)
def test_each_ray_is_told_in_its_own_dialect(version: str, face: Callable[[Container, str], list[str]]) -> None:
    usual = "--object-manager-port=8076 --node-ip-address="
    for name, which, flags in zip(("head", "one"), ("--head --block", "--block"), SPOKEN[version], strict=True):
        first, *others = flags.split()
        address = "10.0.0.1" if name == "head" else "10.0.0.2"
        of = container(name=name)
        assert face(of, version) == [*f"ray start {which} {first} {usual}{address}".split(), *others]


MUTE = {
    "0.5.3": True,
    "0.8.0.dev6": True,
    "1.13.0": True,
    "2.0.0": False,
    "2.60.0": False,
    "3.0.0.dev0": False,
    "10.5.0": False,
    "": False,
}


@pytest.mark.parametrize("version", MUTE)
def test_a_ray_below_2_tells_nothing_of_its_nodes(version: str, tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "docker", f'[ "${{!#}}" = the-head ] && echo "true {version}"')
    assert is_mute({"raydock.ray": version} if version else {}) is MUTE[version]
    assert bash(f"{mute_shell('the-head')} && echo mute || echo talks", path) == ("mute" if MUTE[version] else "talks")


def test_a_head_that_does_not_run_tells_nothing_at_all(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "docker", 'echo "false 0.5.3"')
    assert bash(f"{mute_shell('the-head')} || echo not running", path) == "not running"


ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "REDIS_PORT": ("", {"redis_port": "6380"}),
    "OBJECT_MANAGER_PORT": ("", {"object_manager_port": "8077"}),
    "DASHBOARD_PORT": ("", {"dashboard_port": "8266"}),
    "DASHBOARD_HOST": ("", {"dashboard_host": "10.0.0.1"}),
    "SHM_SIZE": ("", {"shm_size": "2G"}),
    "MEMORY": ("", {"memory": "8G"}),
    "PIDS_LIMIT": ("", {"pids_limit": "4096"}),
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
        "raydock.address": "$address",
        "raydock.run": "$run",
        "raydock.image": "$image",
        "raydock.ray": "$ray_version",
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
        '--label raydock.head="$head_address":6379 --label raydock.address="$head_address" '
        '--label raydock.run="$run" --label raydock.image="$image" '
        '--label raydock.ray="$ray_version" '
        "--network host --shm-size 2G --cap-drop ALL --security-opt no-new-privileges "
        "--env RAY_AUTH_MODE=token --env RAY_AUTH_TOKEN_PATH=/run/ray-token --env RAY_USAGE_STATS_ENABLED=0 "
        "--env 'GREETING=it is \"$HOME\"' --volume /data:/data:ro --volume 'models:/my models' --gpus all "
        '"$image" ray start $ray_flags'
    )


def test_capabilities_that_the_operator_names_are_kept_and_are_in_the_spec() -> None:
    kept = container(capabilities="SYS_PTRACE IPC_LOCK")
    words = "--cap-drop ALL --cap-add CAP_IPC_LOCK --cap-add CAP_SYS_PTRACE --security-opt no-new-privileges"
    assert words in create_line(kept)
    assert '"capabilities":["IPC_LOCK","SYS_PTRACE"]' in kept.asked
    assert kept.spec != container().spec


def created(**values: Any) -> dict[str, Any]:
    """Give what the engine is told of a container's host."""
    site = site_of()
    site.know(**FOUND, ray_version="2.60.0")
    told: dict[str, Any] = config(container(**values), site.value)["HostConfig"]
    return told


def test_limits_that_the_operator_sets_hold_for_the_container() -> None:
    line = create_line(container(memory="1.5g", pids_limit="4096", shm_size="1G"))
    assert "--network host --shm-size 1G --memory 1.5g --memory-swap 1.5g --pids-limit 4096 --cap-drop ALL" in line
    made = created(memory="1.5g", pids_limit="4096")
    assert (made["Memory"], made["MemorySwap"], made["PidsLimit"]) == (3 * 2**29, 3 * 2**29, 4096)


def test_without_a_limit_there_is_none() -> None:
    made = created()
    assert (made["Memory"], made["MemorySwap"], made["PidsLimit"]) == (0, 0, None)
    assert "--memory" not in create_line(container())


GPU_WORDS = {
    "auto, with some": ("auto", "all", "--gpus all"),
    "auto, without": ("auto", "", ""),
    "none": ("none", "all", ""),
}


@pytest.mark.parametrize(("wanted", "found", "words"), GPU_WORDS.values(), ids=GPU_WORDS)
def test_gpus_are_asked_for_where_there_are_some(wanted: str, found: str, words: str) -> None:
    variables = FOUND | {"gpus": found, "ray_version": "2.60.0", "ray_flags": ""}
    line = create_line(container(gpus=wanted)).replace("docker create", "printf '%s\\n'", 1)
    argv = bash(line, None, **variables).split("\n")
    at = argv.index("i", 1)
    assert " ".join(argv[:at][argv.index("RAY_USAGE_STATS_ENABLED=0") + 1 :]) == words


def test_every_word_of_the_line_reaches_docker_as_it_is() -> None:
    of = container("""one  #: resources='{"ssd": 1}'""", "one", container_env="""A='$(never) `never` "x"'""")
    variables = FOUND | {"ray_version": "2.60.0", "ray_flags": "--head --block"}
    line = create_line(of).replace("docker create", "printf '%s\\0'", 1)
    argv = bash(line, None, **variables).split("\0")
    assert 'A=$(never) `never` "x"' in argv
    assert f"raydock.asked={of.asked}" in argv
    assert argv[-4:-1] == ["--head", "--block", '--resources={"ssd":1}']


def test_containers_of_several_clusters_share_a_host() -> None:
    assert container_name("blue", "head") == "raydock-blue-head"
    assert len({container_name(cluster, role) for cluster in ("a", "b") for role in ("head", "worker")}) == 4


def test_the_line_is_one_line() -> None:
    assert len(shlex.split(create_line(container()), comments=False)) > 30
    assert "\n" not in create_line(container())
