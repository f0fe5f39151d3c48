"""Containers of an engine: found, created, filled, run, ended."""

from __future__ import annotations

import base64
import contextlib
import json
import posixpath
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from deploy.channel.http import wire_of
from deploy.engine.archive import only_file, secret_file
from deploy.engine.calls import Calls
from deploy.engine.failures import CONTAINER, overdue, told
from deploy.engine.seen import Seen
from deploy.engine.streams import STDERR, frames, plain, records
from deploy.errors import Failure
from deploy.output import Kept
from deploy.plan import argv as argv_of
from deploy.ray import all_labels
from deploy.reading import Fields, Odd, described, listed, parsed
from deploy.site import Found, Listed
from deploy.sizes import parse_size

if TYPE_CHECKING:
    import requests
    from docker import DockerClient

    from deploy.plan import Word
    from deploy.ray import Container

ONCE = {"raydock.once": "1"}
ONCE_DEADLINE = 120  # seconds
CONFLICT = 409  # the engine is removing it already
LAST_LINES = 10
CREATED = "created"  # and never started
NEW = "new"  # a key, with the name of a container that was just created, of the paths that were laid into it
LOGS_DEADLINE = 30  # seconds
STOP_MARGIN = 30  # seconds that an engine may take beyond a container's grace
# The bits of Go's FileMode for folders, links, devices, pipes, sockets and the rest.
NO_FILE = sum(1 << bit for bit in (31, 27, 26, 25, 24, 21, 19))
PATH_STAT = "X-Docker-Container-Path-Stat"
KINDS = "CAD"  # changed, added, deleted, as the engine numbers them
ENDED = frozenset({"exited", "dead"})
HARDENED = {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}


class Containers(Calls):
    """What steps ask of an engine about containers."""

    def __init__(self, client: DockerClient) -> None:
        super().__init__(client)
        # Containers by their names, lists of them by the labels that were asked for, and what was laid into new ones.
        self._seen = Seen()
        # Files that stay as they were laid into a container, by its id and their path.
        self._files: dict[tuple[str, str], bytes] = {}
        self._reading = threading.Lock()

    def facts(self) -> Mapping[str, Any]:
        """Give what `docker info` tells of the node's size and its engine's folder and runtimes."""
        if self._facts is None:
            with told("ask the engine"):
                info = self.answer("info")
                sizes = {key: info.number(key) for key in ("MemTotal", "NCPU")}
                runtimes = info.inner("Runtimes").of
                self._facts = {**sizes, "DockerRootDir": info.text("DockerRootDir", ""), "Runtimes": runtimes}
        return self._facts

    def platform(self) -> str:
        """Give what the engine runs, as `linux/amd64`."""
        with told("ask the engine"):
            version: Fields = self.api.versions  # type: ignore[attr-defined]  # of ours
            return f"{version.text('Os')}/{version.text('Arch')}"

    def find(self, name: str) -> Found | None:
        """Give the container of this name."""
        return self._seen.look(name, partial(self._find, name))

    def seen(self, name: str) -> Found | None:
        """Give the container of this name as it was last looked at, if nothing was done here since; else look."""
        return self._seen.last(name, partial(self._find, name))

    def _find(self, name: str) -> Found | None:
        with told(f"inspect {name}"):
            try:
                return found(self.answer("containers", name, "json"))
            except NotFound:
                return None

    def listed(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        """Give what a list shows of the containers, stopped ones too, that bear all these labels."""
        return self._seen.look(frozenset(labels.items()), partial(self._listed, labels))

    def seen_in_list(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        """Give what such a list showed the last time, if nothing was done here since; else list."""
        return self._seen.last(frozenset(labels.items()), partial(self._listed, labels))

    def _listed(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        with told("list containers"):
            return tuple(map(shown_in_list, self._list(label=bearing(labels))[0]))

    def containers(self, labels: Mapping[str, str]) -> Sequence[Found]:
        """Give the containers, stopped ones too, that bear all these labels."""
        with told("list containers"):
            ids = [shown.text("Id") for shown in self._list(label=bearing(labels))[0]]
        # One may be gone since it was listed.
        return tuple(one for id in ids if (one := self.find(id)))

    def _list(self, **filters: Sequence[str]) -> tuple[list[Fields], float | None]:
        """List containers, stopped ones too; and give when that was by the engine's clock."""
        answer = self.get("containers/json", params={"all": 1, "filters": json.dumps(filters)})
        return listed(parsed(answer.content)), time_of(answer)

    def create(self, container: Container, words: Callable[[Word], str]) -> None:
        """Create the container as the line of the script does; `words` gives the late values.

        It needs no look to be seen: it is as it was asked for, and has the rest from its image.
        """
        asked = config(container, words)
        image = self._image(asked["Image"], lambda shown: shown) or Fields()
        with self._seen.changing() as known, told(f"create {container.name}", CONTAINER):
            made = self.made("containers/create", params={"name": container.name}, json=asked)
            known[container.name] = new(made, container.name, asked, image)
            known[NEW, container.name] = frozenset()

    def put_file(self, name: str, path: str, content: bytes, uid: int) -> None:
        """Lay a file of mode 0600 that belongs to `uid` into a container."""
        folder, file = posixpath.split(path)
        with secret_file(file, content, uid) as archive, told(f"lay {path} into {name}"):
            self.put("containers", name, "archive", params={"path": folder}, data=archive.read())
        if (laid := self._seen.get((NEW, name))) is not None:
            self._seen.keep((NEW, name), laid | {path})

    def get_file(self, name: str, path: str) -> bytes | None:
        """Give a file of a container; None where it, or the container, is absent."""
        with told(f"read {path} of {name}"):
            try:
                answer = self.get("containers", name, "archive", params={"path": path})
            except NotFound:
                return None
            return only_file([answer.content])

    def laid_file(self, container: Found, path: str) -> bytes | None:
        """Give a file that stays as it was laid into a container; None where it is absent.

        Of each container it is read once, however many ask meanwhile: an engine starts a process of its own to give
        a file.
        """
        with self._reading:
            if (key := (container.id, path)) not in self._files:
                content = self.get_file(container.id, path)  # its name may be another's by now
                if content is None:
                    return None
                self._files[key] = content
            return self._files[key]

    def has_file(self, name: str, path: str) -> bool:
        """Tell whether a container has a file, without having the engine give it."""
        with told(f"look for {path} in {name}"):
            try:
                answer = self.head("containers", name, "archive", params={"path": path})
            except NotFound:
                return False
            return is_file(answer.headers.get(PATH_STAT, ""))

    def has_laid(self, name: str, path: str) -> bool:
        """Tell whether a file was laid into a container; of one that was just created it is known what was."""
        if (laid := self._seen.get((NEW, name))) is not None:
            return path in laid
        return self.has_file(name, path)

    def user_id(self, name: str) -> int:
        """Give the uid of the user that a container runs as, by its own /etc/passwd."""
        if (shown := self.seen(name)) is None:
            raise Failure("DOCKER_FAILED", f"there is no container {name}")
        user = shown.user.partition(":")[0]
        if not user or user.isdecimal():
            return int(user or 0)
        passwd = (self.get_file(name, "/etc/passwd") or b"").decode(errors="replace")
        for line in passwd.splitlines():
            fields = line.split(":")
            if fields[0] == user and len(fields) > 2:
                return int(fields[2])
        raise Failure("DOCKER_FAILED", f"{name}: its user {user} is not in the image's /etc/passwd")

    def start(self, name: str) -> None:
        """Start a container that was created."""
        with self._seen.changing(), told(f"start {name}", CONTAINER):
            self.post("containers", name, "start")

    def stop(self, name: str, grace: int) -> None:
        """Ask the container to end, and kill it after `grace` seconds; one that is gone has ended."""
        with self._seen.changing(), told(f"stop {name}"), contextlib.suppress(NotFound):
            self.post("containers", name, "stop", params={"t": grace}, timeout=grace + STOP_MARGIN)

    def remove(self, name: str) -> None:
        """Remove a container that does not run; one that is gone is removed."""
        with self._seen.changing(), told(f"remove {name}"), contextlib.suppress(NotFound):
            self.delete("containers", name)

    def diff(self, name: str) -> Sequence[str]:
        """Give what differs from a container's image, as `docker diff` writes it."""
        with told(f"compare {name} with its image"):
            changes = self.answers("containers", name, "changes")
            return tuple(f"{kind_of(change.number('Kind'))} {change.text('Path')}" for change in changes)

    def logs(self, name: str, lines: int) -> Sequence[str]:
        """Give the last lines of a container's output."""
        kept = Kept()
        asked = {"stdout": 1, "stderr": 1, "tail": lines}
        with (
            told(f"read the output of {name}"),
            closing(self.get("containers", name, "logs", params=asked, stream=True)) as response,
        ):
            wire_of(response).deadline = time.monotonic() + LOGS_DEADLINE
            for _, content in frames(response):
                kept.add(content)
        return tuple(plain(line) for line in kept.text.split("\n") if line)

    def exec(self, name: str, argv: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run a command in a container and give its exit code and output: of one that fails stderr too.

        After `timeout` seconds it is `COMMAND_FAILED`; the command may run on, for the engine cannot end it. Its input
        is empty, and ends when nobody waits for the command any more.
        """
        body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": list(argv)}
        with told(f"run {argv[0]} in {name}"):
            made = self.made("containers", name, "exec", json=body)
            with overdue(f"{argv[0]} in {name}", timeout), self.until(timeout, "exec", made, "start", body={}) as out:
                wrote, whole = gathered(out)
            code = self.answer("exec", made, "json").number("ExitCode")
        return code, (whole if code else wrote).text

    def run_once(self, image: str, argv: Sequence[str], *, entrypoint: str = "", network: str = "none") -> str:
        """Run a command in a container that is removed after it, and give its standard output.

        It has no capability, and no network that is not asked for. An entrypoint given here stands in the place of the
        image's own.
        """
        command = f"{entrypoint or argv[0]} in {image}"
        # The engine removes it, also where nobody waits for it any more.
        host = {"NetworkMode": network, "AutoRemove": True, **HARDENED}
        wanted = {"Image": image, "Cmd": list(argv), "Labels": ONCE, "HostConfig": host, "OpenStdin": True}
        wanted |= {"Entrypoint": [entrypoint]} if entrypoint else {}
        with told(f"run {command}", CONTAINER):
            self._clear_once()
            # From here to its start it stands there as long as it takes to ask: for that the connections are open.
            self.warm(3)
            made = self.made("containers/create", json=wanted)
        try:
            with told(f"run {command}", CONTAINER), overdue(command, ONCE_DEADLINE):
                code, output = self._run_once(made)
        finally:
            self._gone(made)
        if code:
            last = "\n".join(output.strip().splitlines()[-LAST_LINES:])
            raise Failure("COMMAND_FAILED", f"{command} ended with {code}: {last}")
        return output

    def _gone(self, made: str) -> None:
        """Have a container gone that the engine may be removing by itself."""
        with told(f"remove {made[:12]}"), contextlib.suppress(NotFound):
            try:
                self.delete("containers", made, params={"force": 1, "v": 1})
            except APIError as error:
                if error.status_code != CONFLICT:
                    raise

    def _run_once(self, made: str) -> tuple[int, str]:
        """Start a container that is removed at its end, and give its exit code and output: if it fails stderr too."""
        ends = time.monotonic() + ONCE_DEADLINE
        # With its input, which nothing is written to: else the engine would wait with us, where we are gone before its
        # start, for as long as it lives, and so would what carries this on the node.
        asked = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
        with (
            self.stream("containers", made, "attach", params=asked) as output,
            self.stream("containers", made, "wait", params={"condition": "removed"}) as ended,
        ):
            for response in (output, ended):
                wire_of(response).deadline = ends
            self.post("containers", made, "start")
            wrote, whole = gathered(output)
            code = next(records(ended), Fields()).number("StatusCode")
            return code, (whole if code else wrote).text

    def _clear_once(self) -> None:
        """Remove those that were created long ago, by the engine's clock, and never started: whoever did so is gone."""
        shown, now = self._list(label=bearing(ONCE), status=[CREATED])
        for one in shown:
            if now is not None and one.number("Created") < now - ONCE_DEADLINE:
                with contextlib.suppress(NotFound):
                    self.delete("containers", one.text("Id"), params={"v": 1})


def time_of(answer: requests.Response) -> float | None:
    """Give when an engine answered by its own clock, in seconds since 1970; None where it tells no time."""
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def gathered(response: requests.Response) -> tuple[Kept, Kept]:
    """Give what a command wrote on stdout, and what on both, as far as it can be kept."""
    wrote, whole = Kept(), Kept()
    for stream, piece in frames(response):
        whole.add(piece)
        if stream != STDERR:
            wrote.add(piece)
    return wrote, whole


def shown_in_list(shown: Fields) -> Listed:
    """Give a container of what a list of the engine's shows."""
    name = next(iter(shown.texts("Names")), "").removeprefix("/")
    return Listed(shown.text("Id"), name, shown.text("State"), shown.pairs("Labels"))


def new(id: str, name: str, asked: Mapping[str, Any], image: Fields) -> Found:
    """Give a container that was just created, of what was asked for and its image; when that was is not known."""
    config = image.inner("Config")
    return Found(
        id=id,
        name=name,
        state=CREATED,
        labels={**config.pairs("Labels"), **asked["Labels"]},
        image=asked["Image"],
        user=config.text("User", ""),
        image_id=image.text("Id", ""),
    )


def found(shown: Fields) -> Found:
    """Give a container of what the engine shows."""
    state, asked = shown.inner("State"), shown.inner("Config")
    status = state.text("Status")
    return Found(
        id=shown.text("Id"),
        name=shown.text("Name").removeprefix("/"),
        state=status,
        labels=asked.pairs("Labels"),
        image=asked.text("Image"),
        user=asked.text("User", ""),
        exit_code=state.number("ExitCode") if status in ENDED else None,
        image_id=shown.text("Image"),
        created=shown.text("Created"),
        finished=state.text("FinishedAt"),
    )


def is_file(shown: str) -> bool:
    """Tell of what an engine shows of a path whether it is a file."""
    try:
        text = base64.b64decode(shown, validate=True)
    except ValueError as error:
        raise Odd(f"{described(shown)} where a path was to be shown") from error
    return not Fields.read(parsed(text)).number("mode") & NO_FILE


def bearing(labels: Mapping[str, str]) -> list[str]:
    """Give the filter for what bears all these labels."""
    return [f"{key}={value}" for key, value in labels.items()]


def kind_of(number: int) -> str:
    """Give the letter of a kind of change."""
    if not 0 <= number < len(KINDS):
        raise Odd(f"{number} where a kind of change was due")
    return KINDS[number]


def config(container: Container, words: Callable[[Word], str]) -> dict[str, Any]:
    """Give the API's form of what `deploy.ray.create_line` writes."""
    memory = parse_size(container.memory) if container.memory else 0
    binds = [volume for volume in container.volumes if ":" in volume]
    return {
        "Image": words(container.image),
        "Cmd": argv_of(container.command, words),
        "Env": [f"{key}={value}" for key, value in container.environment],
        "Labels": {key: words(value) for key, value in all_labels(container)},
        "Volumes": {volume: {} for volume in container.volumes if ":" not in volume},
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": "host",
            "RestartPolicy": {"Name": "no"},
            "ShmSize": parse_size(words(container.shm_size)),
            "Memory": memory,
            "MemorySwap": memory,  # memory and swap together, so no swap
            "PidsLimit": container.pids_limit,
            **HARDENED,
            # In whole, as the command line of today writes them too.
            "CapAdd": [f"CAP_{name}" for name in container.capabilities] or None,
            "Binds": binds or None,
            "DeviceRequests": devices(words(container.gpus)),
        },
    }


def devices(gpus: str) -> list[dict[str, Any]] | None:
    """Give what `--gpus` asks for: `all`, a number, or nothing."""
    if not gpus:
        return None
    count = -1 if gpus == "all" else int(gpus)
    return [{"Driver": "", "Count": count, "Capabilities": [["gpu"]], "Options": {}}]
