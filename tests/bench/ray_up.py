"""Ray's own launcher on the practice hosts, by its local provider, with the image that ours runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO, Any

from deploy.practice.files import KEY
from tests.bench.three_hosts import seen
from tests.hosts.observer import PracticeHost, Sandbox

TEMPLATE = Path(__file__).with_name("peers") / "ray_up.yaml"
IMAGE = "raydock-bench-ray-up"
CONTAINER = "ray-bench"
LIMIT = 180  # seconds after which it is taken for one that never gets there
# What it copies its files with, and reaches the workers by from within the head's container.
WANTED = ("openssh-client", "rsync")
INSTALL = "apt-get update -q && apt-get install -qy --no-install-recommends"


@dataclass(frozen=True)
class RayUp:
    """The launcher, with what it finds on the hosts."""

    python: Path
    sandbox: Sandbox
    folder: Path

    @classmethod
    def prepared(cls, python: Path, sandbox: Sandbox, shown: Mapping[str, Any], folder: Path) -> RayUp:
        """Have what it wants on the hosts and in the image; `shown` is a container of ours, as inspected."""
        made = cls(python, sandbox, folder)
        with ThreadPoolExecutor(len(sandbox.hosts)) as pool:
            list(pool.map(lambda host: prepare(host, shown["Config"]["Image"]), sandbox))
        cpus = next(word for word in shown["Config"]["Cmd"] if word.startswith("--num-cpus="))
        values = {
            "head": sandbox.head.address,
            "workers": ", ".join(host.address for host in sandbox.workers),
            "key": KEY,
            "image": IMAGE,
            "container": CONTAINER,
            "shm_size": shown["HostConfig"]["ShmSize"],
            "num_cpus": cpus.partition("=")[2],
        }
        # What is none of ours stays, for the launcher's own shell.
        made.config.write_text(Template(TEMPLATE.read_text()).safe_substitute(values))
        return made

    @property
    def config(self) -> Path:
        """What it is told."""
        return self.folder / "ray_up.yaml"

    def seconds(self) -> float:
        """Give how long it takes until Ray has every node alive; the whole limit where it never gets there."""
        line = [str(self.python.with_name("ray")), "up", "--yes", "--no-config-cache", str(self.config)]
        env = {**os.environ, "RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        try:
            with seen(self.sandbox.head, None) as moment, (self.folder / "ray_up.log").open("w") as log:
                begun = time.monotonic()
                with launched(line, env, log) as process:
                    try:
                        return moment.result(LIMIT) - begun
                    except TimeoutError:
                        if process.poll():
                            raise RuntimeError(Path(log.name).read_text()[-3000:]) from None
                        return float(LIMIT)
        finally:
            self.clear()

    def clear(self) -> None:
        """Take away what it left: containers, its files on the hosts, and what it remembers of them here."""
        self.sandbox.clear()
        for host in self.sandbox:
            host.run("rm", "-rf", "/tmp/ray_tmp_mount")  # noqa: S108 - its own folder there
        shutil.rmtree(self.folder / "ray", ignore_errors=True)


@contextmanager
def launched(line: Sequence[str], env: Mapping[str, str], log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Have it run for a block; what it has begun ends with it."""
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
    with subprocess.Popen(line, env=env, **how) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def prepare(host: PracticeHost, image: str) -> None:
    """Have on a host what the launcher wants there, and the image with what it wants in it."""
    host.shell(f"command -v rsync || {{ {INSTALL} rsync; }}")
    lines = f"FROM {image}\\nRUN {INSTALL} {' '.join(WANTED)}\\n"
    host.shell(f"printf '{lines}' | docker build -q -t {IMAGE} -")
