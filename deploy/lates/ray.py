"""What the image's Ray is, and what the head's knew before anything was started."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from deploy.errors import Failure
from deploy.plan import Late, Place, quoted
from deploy.ray import HARDENED, RAY, container_name, is_mute

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Site

NO_SHELL = "executable file not found"
VERSION = "[0-9]+[.][0-9]+[0-9A-Za-z.+-]*"
# `ray --version` would import Ray, which takes seconds: the Python that runs it knows what is installed. An old one
# does not.
ASK = """\
ray=$(command -v ray) || { echo "no ray on its PATH" >&2; exit 1; }
read -r first <"$ray"
case $first in
("#!"*python*) python=${first#??} ;;
(*) python=${ray%/*}/python ;;
esac
cd / && exec $python - <<END
import platform
try:
    from importlib.metadata import version
    ray = version("ray")
except ImportError:
    import ray
    ray = ray.__version__
print(ray, platform.python_version())
END
"""


def ask_shell(image: str) -> str:
    """Write the question to an image (a shell word) for its versions of Ray and Python."""
    return f"docker run --rm {HARDENED} --network none --entrypoint sh {image} -c {shlex.quote(ASK)} | tail -n 1"


def ray_version(settings: Settings, image: Late[str], *, anew: bool = False) -> Late[str]:
    """Give the version of Ray that every node shall run: the running head's, unless it shall run anew; else the image's.

    `IMAGE_NO_RAY` where the image does not tell.
    """
    head = container_name(settings.cluster_name, "head")
    ask = (
        f"{{ {ask_shell(quoted(image))} | grep -xE '{VERSION}( {VERSION})?' | cut -d' ' -f1; }} "
        f'|| {{ echo "${image.name} tells no version of Ray" >&2; exit 1; }}'
    )
    fields = f'{{{{if .State.Running}}}}{{{{index .Config.Labels "{RAY}"}}}}{{{{end}}}}'
    running = f"docker inspect -f '{fields}' {head} 2>/dev/null | grep . || "

    def resolve(site: Site) -> str:
        found = None if anew else site.docker.seen(head)
        kept = found.labels.get(RAY) if found and found.running else None
        return kept or asked_of(site, site.value(image)).split()[0]

    return Late("ray_version", ask if anew else running + ask, resolve, Place.HEAD, needs=(image,))


def asked_of(site: Site, image: str) -> str:
    """Ask an image that the engine has for its versions of Ray and of Python, as `2.60.0 3.12.3`."""
    cure = "Take an image in which `ray` runs: set BASE_IMAGE or IMAGE"
    try:
        lines = site.docker.run_once(image, ("-c", ASK), entrypoint="sh").splitlines()
    except Failure as failure:
        if failure.code != "COMMAND_FAILED" and NO_SHELL not in failure.error:
            raise
        said = failure.error.splitlines()[-1]
        raise Failure("IMAGE_NO_RAY", f"{image} tells no version of Ray: {said}", cure) from failure
    told = lines[-1].strip() if lines else ""
    if not re.fullmatch(f"{VERSION}( {VERSION})?", told):
        raise Failure("IMAGE_NO_RAY", f"{image} tells no version of Ray: {told[:80]!r}", cure)
    return told


def heads_versions(head: str, image: Late[str]) -> Late[str]:
    """Give the versions of Ray and of Python that the running head has; nothing where it was started with this image."""
    fields = '{{index .Config.Labels "raydock.image"}}'
    same = f"[ \"$(docker inspect -f '{fields}' {head})\" = {quoted(image)} ]"

    def resolve(site: Site) -> str:
        found = site.docker.find(head)
        other = found is not None and found.labels.get("raydock.image") != site.value(image)
        return asked_of(site, found.image_id) if found and other else ""

    ask = ask_shell(f"\"$(docker inspect -f '{{{{.Image}}}}' {head})\"")
    return Late("heads_versions", f"{same} || {ask}", resolve, Place.HEAD, needs=(image,))


def versions(image: Late[str], heads: Late[str]) -> Late[str]:
    """Give the versions of Ray and of Python in an image, as a node's engine has it; nothing where the head's is the same."""

    def resolve(site: Site) -> str:
        return asked_of(site, site.value(image)) if site.value(heads) else ""

    ask = f'[ -z "${heads.name}" ] || {ask_shell(quoted(image))}'
    return Late("versions", ask, resolve, needs=(image, heads))


def former(head: str) -> Late[frozenset[str]]:
    """Give the nodes that Ray takes for alive before a worker is started."""

    def resolve(site: Site) -> frozenset[str]:
        if site.started:
            return frozenset()  # a new head knows nobody yet, and may take long to say so
        found = site.docker.seen(head)
        if found and is_mute(found.labels):
            return frozenset()
        return frozenset(node.node_id for node in site.ray.nodes() if node.alive)

    # Not for the script, which waits for a number of nodes.
    return Late("former", "", resolve, Place.HEAD)
