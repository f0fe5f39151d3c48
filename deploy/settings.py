"""What the operator has set: from `.env`, or `conf/NAME.env`, overridden by the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticUndefined

from deploy import grammar, lists, sizes
from deploy.clashes import clashes
from deploy.durations import parse_duration
from deploy.envfile import Entry, find_env, read_env
from deploy.errors import Mistake, Problem, bounded
from deploy.files import check_private, openings
from deploy.hostfile import read_workers
from deploy.image import ImageRef
from deploy.inventory import LOCAL, Inventory, Node, inventory, parse_head, parse_target
from deploy.secret import Secret

DEFAULT_WORKERS_FILE = "workers.txt"


def _checked(check: Callable[[str], object]) -> BeforeValidator:
    """Have a text checked, and turned into what it means; a value of Python's own passes as it is."""
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) else value)


def _or(word: str, check: Callable[[str], object]) -> Callable[[str], object]:
    return lambda text: text if text == word else check(text)


def _head(text: str) -> str:
    try:
        return text if text == LOCAL or parse_target(text) else ""
    except ValueError as wrong:
        raise ValueError(f"is neither local nor user@host[:port]: {wrong}") from None


def _app_tag(text: str) -> str:
    if ImageRef.parse(text).digest:
        raise ValueError("has a digest, and is a name for what is yet to be built")
    return text


def _duration(text: str) -> str:
    if not parse_duration(text):
        raise ValueError("is no time at all")
    return text


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    try:
        path = Path(grammar.one_line(value)).expanduser()
    except RuntimeError:
        raise ValueError("begins with the home of a user that there is not") from None
    return Path(info.data["root"], path)


def _relative(value: Any, info: ValidationInfo) -> Any:
    _path(value, info)
    return value


def _file(value: Any, info: ValidationInfo) -> Any:
    path = _path(value, info)
    if not isinstance(value, str):
        return path
    if not _is(Path.is_file, path):
        raise ValueError("is no file")
    return check_private(path)


def _no_folder(value: Any, info: ValidationInfo) -> Any:
    path = _path(value, info)
    if isinstance(value, str) and _is(Path.is_dir, path):
        raise ValueError("is a folder")
    return path


def _is(ask: Callable[[Path], bool], path: Path) -> bool:
    """Ask the file system; where it does not even let one look, that is what is wrong."""
    try:
        return ask(path)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


Image = Annotated[str, _checked(lambda text: str(ImageRef.parse(text)))]
Port = Annotated[int, _checked(grammar.port)]
RayPort = Annotated[int, _checked(grammar.ray_port)]
Address = Annotated[str, _checked(grammar.address)]
Words = tuple[str, ...]


class Origin(BaseModel):
    """Where the settings came from, and what is no setting of ours but came along."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    root: Path = Path()
    source: str = ""
    places: Mapping[str, str] = Field(default_factory=dict, repr=False)
    from_environment: tuple[str, ...] = ()
    aws: Mapping[str, Secret] = Field(default_factory=dict, repr=False)
    docker_host: Annotated[str | None, _checked(grammar.one_line)] = None


class Settings(Origin):
    """Every setting, under its key in lower case; None or empty where it has no default."""

    base_image: Image = "ray-project/deploy"
    ray_version: Annotated[str, _checked(grammar.RAY_VERSION)] = "2.60.0"
    my_project_url: Annotated[str | None, _checked(grammar.git_url)] = None
    my_project_ref: Annotated[str | None, _checked(grammar.GIT_REF)] = None
    my_project_source: Annotated[Literal["clone", "copy"], _checked(grammar.SOURCE)] = "clone"
    my_project_installation_script: Annotated[str | None, _checked(grammar.installation_script)] = None
    build_idle: Annotated[str, _checked(_duration)] = "30m"
    app_tag: Annotated[str, _checked(_app_tag)] = "my-app"
    repository_name: Annotated[str, _checked(grammar.ECR_NAME)] = Field(
        default_factory=lambda values: ImageRef.parse(values["app_tag"]).path
    )
    region: Annotated[str | None, _checked(grammar.REGION)] = None
    repository_uri: Annotated[str | None, _checked(grammar.REPOSITORY)] = None
    image: Image | None = None
    cluster_name: Annotated[str, _checked(grammar.CLUSTER_NAME)] = "ray"
    head: Annotated[str, _checked(_head)] = LOCAL
    head_address: Address | None = None
    workers_file: Annotated[str, BeforeValidator(_relative)] = DEFAULT_WORKERS_FILE
    shm_size: Annotated[str, _checked(_or("auto", sizes.shm_size))] = "auto"
    memory: Annotated[str | None, _checked(sizes.memory)] = None
    pids_limit: Annotated[int | None, _checked(grammar.pids_limit)] = None
    num_workers: Annotated[int | Literal["auto"], _checked(_or("auto", grammar.num_workers))] = "auto"
    redis_port: RayPort = 6379
    object_manager_port: RayPort = 8076
    dashboard_port: RayPort = 8265
    ssh_user: Annotated[str | None, _checked(grammar.USER)] = None
    ssh_key: Annotated[Path | None, BeforeValidator(_file)] = None
    ssh_port: Port | None = None
    ssh_known_hosts: Annotated[Path | None, BeforeValidator(_no_folder)] = None
    gpus: Annotated[str, _checked(grammar.GPUS)] = "auto"
    volumes: Annotated[Words, _checked(lists.volumes)] = ()
    container_env: Annotated[Words, _checked(lists.container_env)] = ()
    capabilities: Annotated[Words, _checked(lists.capabilities)] = ()
    ray_start_args: Annotated[Words, _checked(lists.ray_start_args)] = ()
    dashboard_host: Annotated[str, _checked(grammar.listening)] = "127.0.0.1"
    allow_unauthenticated: Annotated[bool, _checked(grammar.yes_no)] = False
    concurrency: Annotated[int, _checked(lambda text: grammar.whole(text, 1, 1024))] = 32

    def inventory(self) -> Inventory:
        """Give the head and the workers; a `Mistake` tells all that is wrong with their lists."""
        return inventory(self.head_node(), self.workers(), user=self.ssh_user, port=self.ssh_port)

    def head_node(self) -> Node:
        """Give the head alone."""
        return replace(parse_head(self.head, self.place("HEAD")), private=self.head_address)

    def workers(self) -> tuple[Node, ...]:
        """Give the workers alone; a `Mistake` tells all that is wrong with their list."""
        path = self.root / Path(self.workers_file).expanduser()
        if "workers_file" not in self.model_fields_set and not path.exists() and not path.is_symlink():
            return ()
        return read_workers(path, self.workers_file)

    @property
    def dashboard(self) -> tuple[str, int]:
        """Where Ray's dashboard listens, as the head itself reaches it."""
        everywhere = ip_address(self.dashboard_host).is_unspecified
        return "127.0.0.1" if everywhere else self.dashboard_host, self.dashboard_port

    def loosened(self) -> Mapping[str, str]:
        """Say which settings loosen what holds by default, each with what it opens."""
        everybody = "nobody is asked for a token: whoever reaches Ray's ports runs code"
        all_said = (
            (self.allow_unauthenticated, "ALLOW_UNAUTHENTICATED", everybody),
            (self.capabilities, "CAPABILITIES", f"containers keep {', '.join(self.capabilities)}"),
            (
                not ip_address(self.dashboard_host).is_loopback,
                "DASHBOARD_HOST",
                f"Ray's dashboard listens on {self.dashboard_host}, to others than the head itself",
            ),
        )
        return {key: said for holds, key, said in all_said if holds}

    def openings(self) -> Iterator[str]:
        """Say which files of ours somebody else can change, or read though they have a secret."""
        secrets = [key for key in SECRET_KEYS if key in self.aws and self.place(key).startswith(f"{self.source}:")]
        if self.source:
            yield from openings(self.root / self.source, self.source, " and ".join(secrets))
        yield from openings(self.root / Path(self.workers_file).expanduser(), self.workers_file)

    def place(self, key: str) -> str:
        """Give where the setting was set, or its key where it was not."""
        return self.places.get(key, key)


KEYS = tuple(name.upper() for name in Settings.model_fields if name not in Origin.model_fields)
# The first is Docker's own, the second says which file is read.
ENVIRONMENT_ONLY = ("DOCKER_HOST", "ENVIRONMENT")
ORDINARY = frozenset((*KEYS, "DOCKER_HOST"))
SECRET_KEYS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# A message does not repeat their values.
UNSAID = frozenset({"MY_PROJECT_URL", "MY_PROJECT_INSTALLATION_SCRIPT", "CONTAINER_ENV", "RAY_START_ARGS"})


@dataclass(frozen=True)
class Reading:
    """The settings as far as they are right, all that is wrong, and the fields that nobody can know for it."""

    settings: Settings
    problems: tuple[Problem, ...]
    unsure: frozenset[str]


def load(root: Path, environ: Mapping[str, str]) -> Settings:
    """Give the settings of the folder `root`. A `Mistake` has all that is wrong, each with its place."""
    reading = read(root, environ)
    Mistake.raise_any(reading.problems)
    return reading.settings


def read(root: Path, environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Reading:
    """Read the settings of the folder `root`: the environment's hold before the file's, and flags before both."""
    source = find_env(root, environ)
    in_file, misread = read_env(root / source, source) if source else ((), ())
    in_environment = [
        Entry(key, value, f"environment {key}")
        for key, value in environ.items()
        if _is_known(key) or key == "DOCKER_HOST"
    ]
    known = [entry for entry in in_file if _is_known(entry.key)]
    typed = {key: Entry(key, value, f"--{key.lower()}") for key, value in (flags or {}).items()}
    chosen = {entry.key: entry for entry in (*known, *in_environment)} | typed
    overriding = tuple(entry.key for entry in in_environment if entry.key in ORDINARY and entry.key not in typed)
    settings, wrong, misfits = _validated(chosen, {"root": root, "source": source, "from_environment": overriding})
    unknown = bounded(_unknown(entry) for entry in in_file if not _is_known(entry.key))
    # Of a file that could not be read at all nobody knows what it would have set.
    unread = {key.lower() for key in KEYS if key not in chosen} if misread and not in_file else set()
    problems = bounded(sorted([*misread, *unknown, *wrong], key=_line_number))
    return Reading(settings, tuple(problems), frozenset(misfits | unread))


def _line_number(problem: Problem) -> int:
    number = problem.place.rpartition(":")[2]
    return int(number) if number.isdecimal() else sys.maxsize


def _is_known(key: str) -> bool:
    return key in KEYS or key.startswith("AWS_")


def _unknown(entry: Entry) -> Problem:
    if entry.key in ENVIRONMENT_ONLY:
        return Problem("CONFIG", f"{entry.key} is set in the environment, not in a file", place=entry.place)
    cure = grammar.nearest(entry.key.upper(), KEYS)
    return Problem("CONFIG", f"no setting is called {entry.key}", cure, entry.place)


def _validated(chosen: Mapping[str, Entry], origin: Mapping[str, Any]) -> tuple[Settings, list[Problem], set[str]]:
    """Give the settings as far as they are right, what is wrong with the others, and the names of these."""
    values = {
        **origin,
        "places": {key: entry.place for key, entry in chosen.items()},
        "aws": {key: Secret(entry.value) for key, entry in chosen.items() if key.startswith("AWS_")},
        **{key.lower(): entry.value for key, entry in chosen.items() if key in ORDINARY and entry.value},
    }
    wrong = dict(_misfits(values))
    fitting = {name: value for name, value in values.items() if name not in wrong}
    settings = Settings.model_validate(fitting)
    misfits = [_misfit(chosen[name.upper()], why) for name, why in wrong.items()]
    empty = [problem for entry in chosen.values() if (problem := _empty(entry))]
    return settings, [*empty, *misfits, *clashes(settings, frozenset(wrong))], set(wrong)


def _misfits(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        for finding in error.errors(include_url=False, include_input=False):
            name = str(finding["loc"][0])
            if name in values:
                yield name, str(finding.get("ctx", {}).get("error", finding["msg"]))


def _misfit(entry: Entry, why: str) -> Problem:
    said = entry.key if entry.key in UNSAID else f"{entry.key}={grammar.shown(entry.value)}"
    return Problem("CONFIG", f"{said} {why}", place=entry.place)


def _empty(entry: Entry) -> Problem | None:
    field = Settings.model_fields.get(entry.key.lower())
    if entry.value or entry.key not in KEYS or field is None or field.default in (None, (), PydanticUndefined):
        return None
    cure = f"Leave it out for {field.default}" if field.default is not False else "Leave it out for no"
    return Problem("CONFIG", f"{entry.key} is empty", cure, entry.place)
