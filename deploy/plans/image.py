"""The image: built on the head's engine, published."""

from __future__ import annotations

import functools
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import grammar, lates
from deploy.errors import Mistake
from deploy.image import BASE_DOCKERFILE, NO_OWNER, copied, read_template, render
from deploy.lates.project import FOLDER, project_commit, project_tree, source
from deploy.plan import Late, Place, Plan, Word
from deploy.plans.scope import Scope, on_head
from deploy.steps.building import RECIPE_LABEL, Build, HaveBase, MakeRoot, recipe_of
from deploy.steps.manual import LIST, Commit, ShowLeft
from deploy.steps.publishing import CheckLogin, CreateRepository, Push, PushLatest, ShowPublished, ShowRepository, Tag

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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


def dockerfile(scope: Scope) -> tuple[str, Late[str]]:
    """Give the application's Dockerfile without its commit, and with it."""
    settings = scope.settings
    url = required(settings.my_project_url, "MY_PROJECT_URL")
    template = read_template(settings.root)
    text = render(
        copying(template, settings) if settings.my_project_source == "copy" else template,
        {
            "base-image": settings.base_image,
            "my-project-url": url,
            "my-project-installation-script": settings.my_project_installation_script or "",
            "my-project-commit": NO_COMMIT,
        },
    ).rstrip("\n")
    commit, owner = project_commit(settings, settings.base_image), image_owner(settings.base_image)
    needs = (commit, owner) if NO_OWNER in text else (commit,)
    owned = f'text="${{text/{NO_OWNER}/${owner.name}}}"; ' if owner in needs else ""

    def resolve(site: Site) -> str:
        known = text.replace(NO_OWNER, site.value(owner), 1) if owner in needs else text
        return known.replace(NO_COMMIT, site.value(commit))

    shell = f'text={shlex.quote(text)}; {owned}printf %s "${{text//{NO_COMMIT}/${commit.name}}}"'
    return text, Late("dockerfile", shell, resolve, Place.OPERATOR, needs=needs)


def copying(template: str, settings: Settings) -> str:
    """Give the template for a tree that the operator's side brings; where that has a folder is nobody's business."""
    text = copied(template, FOLDER)
    return text.replace("<my-project-url>", "''") if source(settings).folder else text


def image_owner(image: str) -> Late[str]:
    """Give the flag of COPY by which files belong to the user of an image in the head's engine; nothing for root."""
    shell = f"docker image inspect -f '{{{{with .Config.User}}}} --chown={{{{.}}}}{{{{end}}}}' {shlex.quote(image)}"

    def resolve(site: Site) -> str:
        user = site.docker.image_user(image)
        return f" --chown={user}" if user else ""

    return Late("owner", shell, resolve, Place.HEAD)


def required(value: str | None, key: str) -> str:
    """Give a setting that this task cannot do without."""
    if not value:
        raise Mistake.of("CONFIG", f"{key} is not set", f"Write {key}=… into .env (see .env.example)")
    return value


def build_image(scope: Scope) -> Plan:
    """Build the application's image on the head's engine."""
    settings = scope.settings
    _, text = dockerfile(scope)
    wanted = recipe("recipe", text, image_id("base_id", settings.base_image))
    project = project_copy(settings, wanted) if settings.my_project_source == "copy" else None
    return on_head(
        scope,
        HaveBase(settings.base_image),
        Build(settings.app_tag, text, wanted, project=project, idle=settings.build_idle),
    )


def project_copy(settings: Settings, wanted: Late[str]) -> Late[AbstractContextManager[Path]]:
    """Give the project's tree; the script asks before it fetches one."""
    tag = settings.app_tag
    built = Late(
        "built",
        f"{recipe_of(tag)} 2>/dev/null || true",
        lambda site: site.docker.image_labels(tag).get(RECIPE_LABEL, ""),
        Place.HEAD,
    )
    commit = project_commit(settings, settings.base_image)
    return project_tree(settings, commit, f'[ "${built.name}" = "${wanted.name}" ]', wanted, built)


def build_base(scope: Scope) -> Plan:
    """Make `ray-project/deploy` on the head's engine."""
    settings = scope.settings
    text = read_template(settings.root, BASE_DOCKERFILE).replace("<ray-version>", settings.ray_version).rstrip("\n")
    return on_head(
        scope,
        MakeRoot(ROOT_IMAGE, PYTHON_IMAGE),
        Build(
            settings.base_image,
            text,
            recipe("recipe", text, image_id("root_id", ROOT_IMAGE)),
            with_ca_bundle=True,
            idle=settings.build_idle,
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
    settings = scope.settings
    name, region = settings.repository_name, settings.region
    if settings.repository_uri:
        return on_head(scope, ShowRepository(name, region, str(settings.repository_uri)))
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
        scope,
        CheckLogin(uri, login),
        Push(uri, short, login),
        PushLatest(uri, "latest", login, short),
        ShowPublished(uri, short),
    )


def publish_image(scope: Scope) -> Plan:
    """Create the repository, tag the image, log in and push."""
    parts = (publish_tag(scope), publish_login(scope), publish_push(scope))
    return functools.reduce(Plan.along, parts, publish_repository(scope))
