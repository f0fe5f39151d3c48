"""Canaries: what proves that the search for secrets finds one at each place that it looks at."""

from __future__ import annotations

import base64
import secrets

from tests.faults.bench import Bench, image_of
from tests.faults.oracles import SEARCHED, processes, shown_anywhere, shown_by_image


def find_canaries(bench: Bench) -> None:
    """Plant one at each place on the worker, see that it is found there, and take it away."""
    host, canary = bench.worker, f"canary-{secrets.token_hex(16)}"
    folders = [place for place in SEARCHED if host.attempt("test", "-d", place).code == 0]
    assert len(folders) > len(SEARCHED) - 2
    with processes() as seen:
        host.box.exec_run(["sh", "-c", f": {canary}; sleep 0.5"])
        host.box.exec_run(["sleep", "0.5"], environment={"PLANTED": canary})
    files = [f"{place}/canary" for place in folders]
    # As a login keeps a password.
    kept = base64.b64encode(f"AWS:{canary}".encode()).decode()
    host.shell("".join(f"echo {kept} >{file}; " for file in files))
    label = ("--label", f"planted={canary}", "--entrypoint", "echo")
    logged = host.docker("run", "-d", *label, image_of(host), f"log {canary}")
    try:
        host.docker("wait", logged)
        said = {"argv": "\n".join(seen.argv), "an environment": "\n".join(seen.environ)}
        said["inspection"] = str(host.containers())
        found = list(shown_anywhere(bench, {"it": canary}, said))
    finally:
        host.docker("rm", "-f", logged)
        host.shell(f"rm {' '.join(files)}")
    find_in_an_image(bench)
    *shown, on_disk = found
    assert shown == [f"it shows in {place}" for place in said]
    assert [file for file in [*files, f"{logged}-json.log"] if file not in on_disk] == []


def find_in_an_image(bench: Bench) -> None:
    """Build an image on the head with one in its history and one in a layer, and see that both are found."""
    told, kept = (f"canary-{secrets.token_hex(16)}" for _ in range(2))
    lines = f"printf 'FROM scratch\\nENV A={told}\\nCOPY f /f\\n' >Dockerfile; echo {kept} >f"
    image = bench.head.shell(f"cd $(mktemp -d) && {lines} && docker build -q . && rm -r $PWD").strip()
    try:
        found = list(shown_by_image(bench.head, image, {"what is told": told, "what is kept": kept}))
    finally:
        bench.head.docker("rmi", image)
    assert [line.partition(" of ")[0] for line in found] == [
        "what is told shows in the history", "what is told shows in the layers", "what is kept shows in the layers"
    ]  # fmt: skip
