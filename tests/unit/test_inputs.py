"""Settings and inventory together: what is wrong with both is told in one message, and nothing that is not wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.errors import Mistake
from deploy.inputs import read_inputs


def mistakes(root: Path, environ: Mapping[str, str], **files: str) -> list[str]:
    for name, text in files.items():
        (root / {"env": ".env", "workers": "workers.txt"}[name]).write_text(text)
    with pytest.raises(Mistake) as caught:
        read_inputs(root, environ)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_right_is_given(tmp_path: Path) -> None:
    (tmp_path / "workers.txt").write_text("10.0.0.7\n")
    settings, inventory = read_inputs(tmp_path, {"HEAD": "u@h"}, {"IMAGE": "app:1"})
    assert settings.image == "app:1"
    assert [node.name for node in inventory.nodes] == ["head", "10.0.0.7"]


def test_the_mistakes_of_both_files_and_of_the_environment_are_told_at_once(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path,
        {"CONCURRENCY": "0"},
        env="GPU=1\nREDIS_PORT=x\n",
        workers="10.0.0.300\n\nweb #: gpu=1\n",
    )
    assert [line.partition(": ")[0] for line in told] == [
        ".env:1",
        ".env:2",
        "environment CONCURRENCY",
        "workers.txt:1",
        "workers.txt:3",
    ]
    assert told[0] == ".env:1: no setting is called GPU. Did you mean GPUS?"
    assert told[4].endswith("no option is called 'gpu'. Did you mean gpus?")


# What cannot be known for one mistake is not told as another.
UNSURE = {
    "a head that cannot be read is no worker": ({"HEAD": "x:y:z"}, "localhost\n"),
    "ports that cannot be known are not the same": ({"HEAD": "h:2222", "SSH_PORT": "x"}, "h\n"),
    "an engine is not asked for where the head is unknown": ({"HEAD": "a b", "DOCKER_HOST": "tcp://h:1"}, "w\n"),
}


@pytest.mark.parametrize("case", UNSURE)
def test_one_mistake_is_told_as_one(case: str, tmp_path: Path) -> None:
    environ, workers = UNSURE[case]
    assert len(mistakes(tmp_path, environ, workers=workers)) == 1


def test_without_the_settings_nobody_knows_which_workers_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "workers.txt").write_text("10.0.0.300\n")
    (tmp_path / ".env").mkdir()
    assert mistakes(tmp_path, {}) == [".env: cannot be read: it is not a file"]
    assert len(mistakes(tmp_path, {"WORKERS_FILE": "workers.txt"})) == 2


def test_a_worker_with_the_heads_address_is_told(tmp_path: Path) -> None:
    told = mistakes(tmp_path, {"HEAD": "h", "HEAD_ADDRESS": "10.0.0.5"}, workers="a #: private=10.0.0.5\n")
    assert told == [
        "workers.txt:1: private=10.0.0.5 is the head (environment HEAD) already. Keep one of the two",
    ]


def test_a_workers_shared_memory_is_a_part_of_its_memory(tmp_path: Path) -> None:
    workers = "a #: shm_size=2G\nb #: shm_size=2049m\nc\nd #: shm_size=16G\n"
    told = mistakes(tmp_path, {"MEMORY": "2G", "CONCURRENCY": "0"}, workers=workers)
    assert told[1:] == [
        f"workers.txt:{line}: shm_size={size} is not from 64M to MEMORY=2G, of which it is a part. "
        "Lower shm_size=, or raise MEMORY"
        for line, size in ((2, "2049m"), (4, "16G"))
    ]
    assert len(mistakes(tmp_path, {"MEMORY": "1", "SHM_SIZE": "1G"}, workers=workers)) == 1
    assert read_inputs(tmp_path, {"SHM_SIZE": "1G"})[1].workers[3].options.shm_size == "16G"
