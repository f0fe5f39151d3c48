"""Images: what their references say, and the Dockerfile that the template makes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import grammar
from deploy.errors import Mistake, Problem
from deploy.files import KB, read_text

HUB = "docker.io"
HUB_HOSTS = (HUB, "index.docker.io")  # of old, one for the other


@dataclass(frozen=True)
class ImageRef:
    """An image as Docker names it: `repository[:tag][@digest]`."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageRef:
        """Take a reference apart; a `ValueError` if it is none."""
        grammar.IMAGE(text)
        name, _, digest = text.partition("@")
        # A colon before the last slash is the registry's port.
        slash = name.rfind("/")
        colon = name.find(":", slash + 1)
        repository, tag = (name, None) if colon < 0 else (name[:colon], name[colon + 1 :])
        return cls(repository, tag, digest or None)

    @property
    def registry(self) -> str:
        """The registry's host, `docker.io` where none is named."""
        host, slash, _ = self.repository.partition("/")
        return host if slash and _is_host(host) and host not in HUB_HOSTS else HUB

    @property
    def path(self) -> str:
        """The repository without its registry."""
        host, slash, rest = self.repository.partition("/")
        return rest if slash and _is_host(host) else self.repository

    @property
    def listed(self) -> str:
        """The repository as an engine lists it: Docker's own hub goes without saying, and so does its `library`."""
        if self.registry != HUB:
            return self.repository
        folder, _, name = self.path.rpartition("/")
        return name if folder == "library" else self.path

    def at(self, digest: str) -> ImageRef:
        """Give exactly this content of the repository, whatever its tags are."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> ImageRef:
        """Give another tag of the repository."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def _is_host(part: str) -> bool:
    # Docker's rule: `ray-project/deploy` is a name, `localhost/deploy` and `host.example/deploy` are not.
    return part == "localhost" or "." in part or ":" in part or part != part.lower()


@dataclass(frozen=True)
class Placeholder:
    """One `<…>` of Dockerfile.template: whose setting it shows, what may stand there, and in which words."""

    setting: str
    check: Callable[[str], object]
    words: Callable[[str], str]


def _installation(script: str) -> str:
    """Give the command that runs the script, one shell line, whatever shell the base image prefers."""
    return shlex.join(("/bin/sh", "-e", "-c", script or ":"))


PLACEHOLDERS: Mapping[str, Placeholder] = {
    "base-image": Placeholder("BASE_IMAGE", ImageRef.parse, shlex.quote),
    "my-project-url": Placeholder("MY_PROJECT_URL", grammar.git_url, shlex.quote),
    "my-project-commit": Placeholder("MY_PROJECT_REF", grammar.COMMIT, shlex.quote),
    "my-project-installation-script": Placeholder(
        "MY_PROJECT_INSTALLATION_SCRIPT", grammar.installation_script, _installation
    ),
}
_MARK = re.compile(r"<(" + "|".join(PLACEHOLDERS) + ")>")
_LIKE_ONE = re.compile(r"<((?:my|base)-[A-Za-z-]*)>")


TEMPLATE = "Dockerfile.template"
BASE_DOCKERFILE = "conf/base/Dockerfile"
LARGEST_TEMPLATE = 64 * KB


def read_template(root: Path, name: str = TEMPLATE) -> str:
    """Give what a Dockerfile is made of, a file of the folder `root`; a `Mistake` where it cannot be read, or tells."""
    try:
        text = read_text(root / name, LARGEST_TEMPLATE).replace("\r\n", "\n")
    except ValueError as why:
        cure = f"Take Raydock's own again: git checkout -- {name}"
        raise Mistake.of("TEMPLATE", f"cannot be read: {why}", cure, place=name) from None
    Mistake.raise_any(_secrets(text, name))
    return text


# Names of what is secret, but for those of the file that has it.
_SECRET = re.compile(r"(?i)(?!.*_(?:PATH|FILE|DIR)$)(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)S?(?:_.*)?")
_ASSIGNED = re.compile(r"""(\w+)=("(?:[^"\\]|\\.)*"|'[^']*'|\S*)""")


def _secrets(template: str, name: str) -> Iterator[Problem]:
    """Find what an image's history would show to everybody."""
    for where, text in _instructions(template.split("\n")):
        shown = [f"{key} has a value" for key in _given(text) if _SECRET.fullmatch(key)]
        shown += ["a URL has a user, password or token"] if grammar.has_login(text) else []
        for what in shown:
            yield Problem(
                "TEMPLATE",
                f"{what}, and an image shows it to everybody",
                "Leave it out, and have what needs it come with the project: MY_PROJECT_SOURCE=copy",
                f"{name}:{where.start + 1}",
            )


def _given(instruction: str) -> list[str]:
    """Name what an ARG or ENV gives a value to that stands there."""
    word, _, rest = instruction.replace("\t", " ").partition(" ")
    if word.upper() not in ("ARG", "ENV"):
        return []
    given = _ASSIGNED.findall(rest)
    if word.upper() == "ENV" and not _ASSIGNED.match(rest.lstrip()):
        given = [tuple(rest.split(None, 1))]  # of old: ENV NAME value
    return [key for key, *values in given for value in values if value.strip("\"'").strip() and "$" not in value[:2]]


NO_OWNER = " --chown=<user>"  # stands in a COPY until the base image's user is known


def copied(template: str, folder: str) -> str:
    """Give the template with a COPY of a folder of the context where its RUN clones <my-project-url>.

    What is copied belongs to the user that would have cloned it. A `Mistake` where there is no such RUN, or more.
    """
    lines, owner = template.split("\n"), ""
    clones: list[tuple[slice, str]] = []
    for where, text in _instructions(lines):
        word, _, rest = text.partition(" ")
        if word.upper() == "FROM":
            owner = NO_OWNER if "<base-image>" in rest else ""
        elif word.upper() == "USER":
            owner = f" --chown={rest.strip()}"
        elif word.upper() == "RUN" and "<my-project-url>" in rest:
            clones.append((where, owner))
    if len(clones) != 1:
        found = f"{len(clones) or 'no'} RUN instruction{'s' if clones else ''} with <my-project-url>"
        cure = "MY_PROJECT_SOURCE=copy puts a COPY in the place of one; see the Dockerfile.template that Raydock has"
        raise Mistake.of("TEMPLATE", f"Dockerfile.template has {found}", cure)
    ((where, owner),) = clones
    lines[where] = [f"COPY{owner} {folder}/ ./"]
    return "\n".join(lines)


def _instructions(lines: Sequence[str]) -> Iterator[tuple[slice, str]]:
    """Give where each instruction of a Dockerfile stands, and its text, as the classic builder reads it."""
    first, text = 0, ""
    for number, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = first if text else number
        text += line.strip()
        if text.endswith("\\"):
            text = text[:-1] + " "
            continue
        yield slice(first, number + 1), text
        text = ""


def render(template: str, values: Mapping[str, str]) -> str:
    """Put the values, by placeholder, into the template, each as the shell's words.

    A `Mistake` tells each value that is missing or would change the instruction it stands in, by its
    setting, and each placeholder that there is not. There are as many instructions as in the template.
    """
    Mistake.raise_any([*_unknown(template), *_wrong_values(template, values)])
    return _MARK.sub(lambda mark: PLACEHOLDERS[mark[1]].words(values[mark[1]]), template)


def _unknown(template: str) -> list[Problem]:
    return [
        Problem("TEMPLATE", f"<{name}> is no placeholder", grammar.nearest(name, PLACEHOLDERS))
        for name in dict.fromkeys(_LIKE_ONE.findall(template))
        if name not in PLACEHOLDERS
    ]


def _wrong_values(template: str, values: Mapping[str, str]) -> list[Problem]:
    return [
        Problem("TEMPLATE", f"{PLACEHOLDERS[name].setting} {wrong}")
        for name in dict.fromkeys(_MARK.findall(template))
        if (wrong := _wrong(name, values))
    ]


def _wrong(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        return f"is not set, and the template has <{name}>"
    try:
        PLACEHOLDERS[name].check(values[name])
    except ValueError as wrong:
        return str(wrong)
    return ""
