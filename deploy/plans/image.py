"""The image: built on the head's engine, published."""

from __future__ import annotations

import functools
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import grammar, lates
from deploy.errors import Failure, Mistake
from deploy.image import render
from deploy.plan import Late, Place, Plan, Word
from deploy.plans.scope import Scope, on_head
from deploy.steps.building import Build, HaveBase, MakeRoot
from deploy.steps.manual import LIST, Commit, ShowLeft
from deploy.steps.publishing import CheckLogin, CreateRepository, Push, ShowPublished, ShowRepository, Tag

if TYPE_CHECKING:
    from deploy.settings import Settings
    from deploy.site import Site

ROOT_IMAGE = "raydock/python-root"
PYTHON_IMAGE = "python:3.11-slim-bookworm"
NO_COMMIT = "0" * 40  # stands in the Dockerfile until the commit is known


def recipe(name: str, *parts: Word) -> Late[str]:
    """Give the fingerprint of what an image is built of."""
    needs = tuple(part for part in parts if isinstance(part, Late))
    shell = "".join(f'"${part.name}"' if isinstance(part, Late) else shlex.quote(str(part)) for part in parts)

    def resolve(site: Site) -> str:
        return hashlib.sha256("".join(site.value(part) for part in parts).encode()).hexdigest()[:12]

    return Late(name, f"printf %s {shell} | sha256sum | cut -c1-12", resolve, Place.OPERATOR, needs=needs)


def image_id(name: str, image: str) -> Late[str]:
    """Give the id of an image that is in the head's engine."""
    shell = f"docker image inspect -f '{{{{.Id}}}}' {shlex.quote(image)}"
    return Late(name, shell, lambda site: site.docker.image_id(image) or "", Place.HEAD)


def project_commit(settings: Settings, image: str) -> Late[str]:
    """Give the commit that the project's ref stands for now, as git in the base image sees it."""
    url, ref = str(settings.my_project_url), settings.my_project_ref or "HEAD"
    if len(ref) == len(NO_COMMIT) and set(ref) <= set("0123456789abcdef"):
        return Late("commit", f"echo {ref}", lambda _: ref, Place.HEAD)
    names = ref_names(ref)
    ask = ("env", "GIT_TERMINAL_PROMPT=0", "git", "ls-remote", "--", url, *names)
    line = shlex.join(ask)
    cases = "|".join(map(shlex.quote, names))
    # git on the head, and where it has none, the base image's: what asks must stand where the build will clone.
    shell = (
        f"if command -v git >/dev/null; then {line}; "
        f"else docker run --rm --network host {shlex.quote(image)} {line}; fi | "
        f'while read -r commit name; do case "$name" in {cases}) echo "$commit";; esac; done '
        "| tail -n 1 | grep ."
    )
    return Late("commit", shell, lambda site: last_commit(refs(site, image, ask), names, url), Place.HEAD)


def ref_names(ref: str) -> tuple[str, ...]:
    """Give the full names that a ref may mean, the strongest last; what a tag stands for has a name of its own."""
    if ref == "HEAD":
        return (ref,)
    if ref.startswith("refs/"):
        return (ref, f"{ref}^{{}}")
    return (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}")


def refs(site: Site, image: str, ask: tuple[str, ...]) -> str:
    """Give what `git ls-remote` tells; `PROJECT_UNREACHABLE` where it tells nothing."""
    try:
        if site.ask("sh", "-c", "command -v git"):
            return site.run(*ask)
        return site.docker.run_once(image, ask)
    except Failure as failure:
        if failure.code != "COMMAND_FAILED":
            raise
        raise Failure("PROJECT_UNREACHABLE", failure.error, "Check MY_PROJECT_URL as seen from the head") from failure


def last_commit(lines: str, names: tuple[str, ...], url: str) -> str:
    """Give the commit of the last line with one of the names: git shows all that end like them, in their order."""
    found = (line.split() for line in lines.splitlines())
    commits = [words[0] for words in found if len(words) == 2 and words[1] in names]
    if not commits:
        raise Failure("PROJECT_UNREACHABLE", f"{url} has none of {', '.join(names)}", "Correct MY_PROJECT_REF")
    return commits[-1]


def dockerfile(scope: Scope) -> tuple[str, Late[str]]:
    """Give the application's Dockerfile without its commit, and with it."""
    settings = scope.settings
    template = (settings.root / "Dockerfile.template").read_text(encoding="utf-8")
    text = render(
        template,
        {
            "base-image": settings.base_image,
            "my-project-url": required(settings.my_project_url, "MY_PROJECT_URL"),
            "my-project-installation-script": settings.my_project_installation_script or "",
            "my-project-commit": NO_COMMIT,
        },
    ).rstrip("\n")
    commit = project_commit(settings, settings.base_image)
    late = Late(
        "dockerfile",
        f'text={shlex.quote(text)}; printf %s "${{text//{NO_COMMIT}/${commit.name}}}"',
        lambda site: text.replace(NO_COMMIT, site.value(commit)),
        Place.OPERATOR,
        needs=(commit,),
    )
    return text, late


def required(value: str | None, key: str) -> str:
    """Give a setting that this task cannot do without."""
    if not value:
        raise Mistake.of("CONFIG", f"{key} is not set", f"Write {key}=… into .env (see .env.example)")
    return value


def build_image(scope: Scope) -> Plan:
    """Build the application's image on the head's engine."""
    settings = scope.settings
    _, text = dockerfile(scope)
    base_id = image_id("base_id", settings.base_image)
    return on_head(
        scope,
        HaveBase(settings.base_image),
        Build(settings.app_tag, text, recipe("recipe", text, base_id)),
    )


def build_base(scope: Scope) -> Plan:
    """Make `ray-project/deploy` on the head's engine."""
    settings = scope.settings
    path: Path = settings.root / "conf" / "base" / "Dockerfile"
    text = path.read_text(encoding="utf-8").replace("<ray-version>", settings.ray_version).rstrip("\n")
    return on_head(
        scope,
        MakeRoot(ROOT_IMAGE, PYTHON_IMAGE),
        Build(
            settings.base_image,
            text,
            recipe("recipe", text, image_id("root_id", ROOT_IMAGE)),
            with_ca_bundle=True,
        ),
    )


def build_containers(scope: Scope) -> Plan:
    """List the containers that shells were left in."""
    return on_head(scope, ShowLeft(scope.settings.cluster_name))


def build_commit(scope: Scope, container: str) -> Plan:
    """Make the application's image of a container that a shell was left in."""
    try:
        grammar.CONTAINER(container)
    except ValueError as wrong:
        raise Mistake.of("USAGE", f"{container[:80]!r} {wrong}", LIST) from wrong
    return on_head(scope, Commit(container, scope.settings.cluster_name, scope.settings.app_tag, lates.BY, lates.NOW))


def publish_repository(scope: Scope) -> Plan:
    """Have the repository, and show it."""
    name, region = scope.settings.repository_name, scope.settings.region
    if scope.settings.repository_uri:
        return on_head(scope)
    return on_head(scope, CreateRepository(name, region), ShowRepository(name, region))


def publish_tag(scope: Scope) -> Plan:
    """Tag the image with the repository: by what it is, and as the latest."""
    app, uri = scope.settings.app_tag, lates.repository_uri(scope.settings)
    return on_head(scope, Tag(app, uri, lates.image_tag(app)), Tag(app, uri, "latest"))


def publish_login(scope: Scope) -> Plan:
    """Have the registry accept the login."""
    uri, login = lates.repository_uri(scope.settings), lates.registry_password(scope.settings)
    return on_head(scope, CheckLogin(uri, login))


def publish_push(scope: Scope) -> Plan:
    """Push both tags, the latest last."""
    settings = scope.settings
    uri, short = lates.repository_uri(settings), lates.image_tag(settings.app_tag)
    login = lates.registry_password(settings)
    return on_head(
        scope, CheckLogin(uri, login), Push(uri, short, login), Push(uri, "latest", login), ShowPublished(uri, short)
    )


def publish_image(scope: Scope) -> Plan:
    """Create the repository, tag the image, log in and push."""
    parts = (publish_tag(scope), publish_login(scope), publish_push(scope))
    return functools.reduce(Plan.along, parts, publish_repository(scope))
