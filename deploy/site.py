"""What a step may touch: the node's engine, its shell, the registry. Protocols only; the IO floor fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from deploy.errors import Failure
    from deploy.inventory import Node
    from deploy.lates.project import Source
    from deploy.plan import Word
    from deploy.progress import News, Say
    from deploy.ray import Container
    from deploy.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True)
class Credentials:
    """A login for a registry: who, the password or token, and the registry's host."""

    user: str
    password: Secret
    registry: str
    # Seconds since 1970; None where nobody tells.
    expires: float | None = None
    # Whether it is a registry's token for this identity, and no password.
    identity: bool = False


@dataclass(frozen=True)
class Weight:
    """What an image weighs in an engine: its bytes, its layers from the lowest up, where known the bytes of each."""

    size: int = 0
    layers: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def shared_with(self, other: Weight) -> int:
        """Give how many of its bytes another image has, too; at most so many where its layers' sizes are not known."""
        pairs = zip(self.layers, other.layers, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if self.sizes:
            return sum(self.sizes[:same])
        return other.size if same else 0


@dataclass(frozen=True)
class Listed:
    """A container as a list of the engine's shows it."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]

    @property
    def running(self) -> bool:
        """Tell whether its program runs."""
        return self.state == "running"


@dataclass(frozen=True)
class Found(Listed):
    """A container as the engine shows it by itself."""

    image: str
    user: str = ""
    exit_code: int | None = None
    image_id: str = ""
    # As the engine writes times: RFC 3339, in UTC.
    created: str = ""
    finished: str = ""


class Docker(Protocol):
    """The node's engine. Errors are `Failure`; times are seconds."""

    def has(self, image: str) -> bool:
        """Tell whether the image is in the engine."""

    def image_id(self, image: str) -> str | None:
        """Give the image's id (`sha256:…`), None where it is absent."""

    def image_labels(self, image: str) -> Mapping[str, str]:
        """Give the image's labels, none where it is absent."""

    def image_command(self, image: str) -> Sequence[str]:
        """Give what a container of the image runs where nothing is said; nothing where the image is absent."""

    def image_user(self, image: str) -> str:
        """Give the user that the image's programs run as, as its maker named them; empty for root or no such image."""

    def image_digests(self, image: str) -> Sequence[str]:
        """Give the `repository@sha256:…` under which registries know the image."""

    def image_weight(self, image: str) -> Weight:
        """Give what the image weighs here; nothing where it is absent."""

    def shared_with(self, weight: Weight) -> int:
        """Give how much of such an image the engine may have already, in bytes, as parts of others."""

    def pull(self, image: str, credentials: Credentials | None, say: Say) -> None:
        """Pull the image, reading every line of the stream."""

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give the image another name."""

    def push(self, repository: str, tag: str, credentials: Credentials | None, say: Say) -> str:
        """Push a tag and give the digest that the registry has for it."""

    def published(self, image: str, credentials: Credentials | None) -> str | None:
        """Ask the image's registry, through the engine, for its digest; None where it has no such tag."""

    def login(self, credentials: Credentials) -> None:
        """Have the engine check the login; nothing is stored."""

    def build(
        self,
        context: Mapping[str, bytes],
        tag: str,
        options: Mapping[str, Any],
        say: Say,
        *,
        tree: Path | None = None,
        idle: float = ...,
    ) -> str:
        """Build an image of a context of files (name: content), and of those in an archive, and give its id."""

    def image_platform(self, image: str) -> str:
        """Give what the image is for, as `linux/amd64`; nothing where it is absent."""

    def platform(self) -> str:
        """Give what the engine runs, as `linux/amd64`."""

    def run_once(self, image: str, argv: Sequence[str], *, entrypoint: str = "", network: str = "none") -> str:
        """Run a command in a container that is removed after it, and give its output."""

    def facts(self) -> Mapping[str, Any]:
        """Give what `docker info` tells."""

    def find(self, name: str) -> Found | None:
        """Give the container of this name."""

    def seen(self, name: str) -> Found | None:
        """Give the container of this name as it was last looked at, if nothing was done here since; else look.

        One that was just created is known by what was asked for; but not when that was.
        """

    def listed(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        """Give what a list shows of the containers, stopped ones too, that bear all these labels."""

    def seen_in_list(self, labels: Mapping[str, str]) -> Sequence[Listed]:
        """Give what such a list showed the last time, if nothing was done here since; else list."""

    def containers(self, labels: Mapping[str, str]) -> Sequence[Found]:
        """Give the containers, stopped ones too, that bear all these labels."""

    def create(self, container: Container, words: Callable[[Word], str]) -> None:
        """Create the container; `words` gives the late values their literal form."""

    def put_file(self, name: str, path: str, content: bytes, uid: int) -> None:
        """Lay a file of mode 0600 that belongs to `uid` into a container."""

    def get_file(self, name: str, path: str) -> bytes | None:
        """Give a file of a container; None where it is absent."""

    def laid_file(self, container: Found, path: str) -> bytes | None:
        """Give a file that stays as it was laid into a container; None where it is absent. It is read once."""

    def has_file(self, name: str, path: str) -> bool:
        """Tell whether a container has a file."""

    def has_laid(self, name: str, path: str) -> bool:
        """Tell whether a file was laid into a container; what the image of a new one brought is none."""

    def user_id(self, name: str) -> int:
        """Give the uid of the user that a created container runs as."""

    def start(self, name: str) -> None:
        """Start a container that was created."""

    def stop(self, name: str, grace: int) -> None:
        """Ask the container to end, and kill it after `grace` seconds."""

    def remove(self, name: str) -> None:
        """Remove a container that does not run."""

    def diff(self, name: str) -> Sequence[str]:
        """Give what differs from a container's image, as `docker diff` writes it: `A /path`, sorted by the path."""

    def commit(self, name: str, image: str, changes: Sequence[str]) -> None:
        """Make an image of a container; `changes` are lines of a Dockerfile."""

    def logs(self, name: str, lines: int) -> Sequence[str]:
        """Give the last lines of a container's output."""

    def exec(self, name: str, argv: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run a command in a container and give its exit code and output."""


class Registry(Protocol):
    """Where images are published. Called on the operator's side."""

    @property
    def cure(self) -> str:
        """The next move where it refuses the login; empty where nothing better is known than the engine's."""

    def exists(self) -> bool:
        """Tell whether the repository is there."""

    def create(self) -> None:
        """Create it."""

    def differences(self) -> Iterable[str]:
        """Tell where it is not as `create` makes it, each with what would change it."""

    def uri(self) -> str:
        """Give the repository's URI."""

    def shown(self) -> Mapping[str, str]:
        """Give what is known of the repository, by the names that AWS has for it."""

    def credentials(self, host: str) -> Credentials | None:
        """Give a login for a registry of its kind; None where none is needed."""


class Git(Protocol):
    """The operator's own git. Called on the operator's side; what goes wrong is `PROJECT_UNREACHABLE`."""

    def ask(self, source: Source) -> str:
        """Give what git tells of the project's ref: of a folder the commit, of a URL lines of refs."""

    def uncommitted(self, source: Source) -> int:
        """Count the files of a folder that are not as they were committed."""

    def tree(self, source: Source, commit: str, say: Say) -> AbstractContextManager[Path]:
        """Have the tree at a commit for a block, as an archive in a file that may be added to; say what is left out."""


class RayNode(Protocol):
    """A row of Ray's node list."""

    @property
    def address(self) -> str:
        """The address that the node was started with."""

    @property
    def node_id(self) -> str:
        """The id of this life of it."""

    @property
    def alive(self) -> bool:
        """Whether the head counts it."""

    @property
    def why(self) -> str:
        """What Ray says of its end; empty where it says nothing."""


class Ray(Protocol):
    """The head's REST API."""

    def nodes(self) -> Sequence[RayNode]:
        """Give Ray's node list; empty while nothing answers."""


class Site(Protocol):
    """One node, as the steps of its chain see it."""

    @property
    def node(self) -> Node:
        """The node."""

    @property
    def docker(self) -> Docker:
        """Its engine."""

    @property
    def registry(self) -> Registry:
        """The registry of this run."""

    @property
    def git(self) -> Git:
        """The operator's git."""

    @property
    def ray(self) -> Ray:
        """Ray's API on this node (the head's)."""

    @property
    def is_root(self) -> bool:
        """Whether the login user is root."""

    def run(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> str:
        """Run a command and give its output; `COMMAND_FAILED` where it fails.

        With `live` its lines are progress; one that `outlives` us goes on where the connection ends.
        """

    def ask(
        self, *argv: str, root: bool = False, timeout: float = 30, live: bool = False, outlives: bool = False
    ) -> bool:
        """Tell whether a command succeeds."""

    def reaches(self, address: str, port: int) -> bool | None:
        """Tell whether a connection from the node comes through within 3 s; None where a command has to be asked."""

    def value(self, word: Word) -> str:
        """Give a word with its late values found out."""

    def resolve(self, late: Any) -> Any:
        """Give a late value as it was found, of its own type."""

    def first_at(self, address: str) -> Node:
        """Give the node that was first found at an address for Ray in this run: this one, or another name of it."""

    def anew(self, late: Any, former: Any) -> Any:
        """Give a value that all nodes share, found out again, unless somebody did since it was `former`."""

    def reconnect(self) -> None:
        """Have the next command run in a new session."""

    def peer(self, node: Node) -> Site:
        """Give the site of another node of this run."""

    def at_once(self, do: Callable[[T], object], items: Iterable[T]) -> None:
        """Do the same to several, some at a time; the first failure is raised once all have ended."""

    def pause(self, seconds: float) -> None:
        """Let time pass between two looks at something; what halts the run ends it with a Failure."""

    def say(self, news: News) -> None:
        """Tell the operator about progress."""

    def note(self, **facts: Any) -> None:
        """Put facts into this node's line of the report."""

    def made(self, **facts: Any) -> None:
        """Put what the node made into the report: `image`, `digest`, `uri`, `tags`, `revision`."""

    @property
    def started(self) -> bool:
        """Whether its container was started in this run."""

    @property
    def started_for(self) -> float:
        """For how many seconds, as we count them, it is so; 0 where it was not."""

    @property
    def standing(self) -> bool:
        """Whether nothing failed on this node so far."""

    def fail(self, failure: Failure) -> None:
        """Put a failure into this node's line of the report."""
