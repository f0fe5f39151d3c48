"""Images of an engine: had, pulled, pushed, built."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from deploy import grammar
from deploy.durations import say_duration
from deploy.engine import calls
from deploy.engine.archive import context as packed_context
from deploy.engine.calls import Calls
from deploy.engine.failures import ANY, BASE, IMAGE, REGISTRY, auth_config, failure, told, words_of
from deploy.engine.streams import BuildLog, Progress, error_of
from deploy.errors import Failure
from deploy.image import ImageRef
from deploy.reading import Fields, Odd, described
from deploy.site import Weight

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.progress import Say
    from deploy.site import Credentials

COMMIT_DEADLINE = 900.0  # seconds: the engine reads all that was changed, and tells of no progress
PUSH_STALL = 180.0  # seconds without a word of a push: a registry stores a great layer in silence
# Options of a build: what the API calls them, and how it wants their values.
BUILD_OPTIONS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "buildargs": ("buildargs", json.dumps),
    "labels": ("labels", json.dumps),
    "cache_from": ("cachefrom", json.dumps),
    "network_mode": ("networkmode", str),
    "dockerfile": ("dockerfile", str),
    "target": ("target", str),
    "nocache": ("nocache", bool),
    "pull": ("pull", bool),
}


class Images(Calls):
    """What steps ask of an engine about images."""

    def has(self, image: str) -> bool:
        """Tell whether the image is in the engine."""
        return self.image_id(image) is not None

    def image_id(self, image: str) -> str | None:
        """Give the image's id (`sha256:…`), None where it is absent."""
        return self._image(image, lambda found: digest_of(found.text("Id")))

    def image_labels(self, image: str) -> Mapping[str, str]:
        """Give the image's labels, none where it is absent."""
        return self._image(image, lambda found: found.inner("Config").pairs("Labels")) or {}

    def image_command(self, image: str) -> Sequence[str]:
        """Give what a container of the image runs where nothing is said; nothing where the image is absent."""
        return self._image(image, lambda found: found.inner("Config").texts("Cmd")) or ()

    def image_user(self, image: str) -> str:
        """Give the user that the image's programs run as, as its maker named them; empty for root or no such image."""
        return self._image(image, lambda found: found.inner("Config").text("User", "")) or ""

    def image_digests(self, image: str) -> Sequence[str]:
        """Give the `repository@sha256:…` under which registries know the image."""
        return self._image(image, names_of) or ()

    def commit(self, name: str, image: str, changes: Sequence[str]) -> None:
        """Make an image of a container; `changes` are lines of a Dockerfile."""
        repository, tag = split(image)
        params = {"container": name, "repo": repository, "tag": tag, "changes": "\n".join(changes)}
        with told(f"commit {name}", IMAGE):
            self.post("commit", params=params, timeout=COMMIT_DEADLINE)

    def image_weight(self, image: str) -> Weight:
        """Give what the image weighs here; nothing where it is absent."""
        if (found := self._image(image, lambda found: (digest_of(found.text("Id")), weight_of(found)))) is None:
            return Weight()
        id, weight = found
        return replace(weight, sizes=self._sizes(id, len(weight.layers)))

    def _sizes(self, id: str, layers: int) -> tuple[int, ...]:
        """Give the bytes of each layer of an image; nothing where its history does not tell, as of empty ones."""
        with told("ask for the image's history"):
            history = self.answers("images", id, "history")
            sizes = tuple(size for entry in reversed(history) if (size := entry.number("Size")))
        return sizes if len(sizes) == layers else ()

    def shared_with(self, weight: Weight) -> int:
        """Give how much of such an image the engine may have already, in bytes, as parts of others."""
        with told("list the images"):
            ids = [digest_of(one.text("Id")) for one in self.answers("images", "json")]
        found = filter(None, (self._image(id, weight_of) for id in ids))
        return max((weight.shared_with(one) for one in found), default=0)

    def image_platform(self, image: str) -> str:
        """Give what the image is for, as `linux/amd64`; nothing where it is absent."""
        return self._image(image, lambda found: f"{found.text('Os')}/{found.text('Architecture')}") or ""

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give the image another name."""
        with told(f"tag {image}", IMAGE):
            self.post("images", image, "tag", params={"repo": repository, "tag": tag})

    def pull(self, image: str, credentials: Credentials | None, say: Say) -> None:
        """Pull the image, reading every line, and see that it is the one that was wanted."""
        repository, tag = split(image)
        digest = ""
        progress, action, registry = Progress(say), f"pull {image}", ImageRef.parse(image).registry
        told_all = told(action, REGISTRY, otherwise="PULL_FAILED", login=credentials)
        with interrupted(action, progress), told_all, self.asking(registry, action):
            params, headers = {"fromImage": repository, "tag": tag}, header(image, credentials)
            stalled = partial(self.stalled, "PULL_FAILED", action, progress, calls.QUIET)
            how: dict[str, Any] = {"params": params, "headers": headers, "timeout": calls.ASKED}
            for record in self.lines("images/create", on_silence=stalled, **how):
                if error := error_of(record):
                    raise failure(action, error, REGISTRY, otherwise="PULL_FAILED")
                if found := record.text("status", "").partition("Digest: ")[2]:
                    digest = digest_of(found)
                progress.see(record)
            progress.tell()
        self._check_pulled(image, tag if tag.startswith("sha256:") else digest)

    def stalled(self, code: str, action: str, progress: Progress, seconds: float) -> None:
        """Give up what stands still for so long: a living engine would wait for the registry for ever."""
        self.alive()
        if progress.at_work or progress.silent < seconds:
            return
        error = f"{action}: nothing came from the registry for {seconds:g} s"
        raise Failure(code, error, "Check the way from the node to the registry; what it has is kept")

    def _check_pulled(self, image: str, wanted: str) -> None:
        if not self.has(image):
            raise Failure("PULL_FAILED", f"pull {image}: the engine does not have it after the pull")
        known = {name.partition("@")[2] for name in self.image_digests(image)}
        if wanted and wanted not in known:
            raise Failure(
                "DIGEST_MISMATCH", f"pull {image}: wanted {wanted}, the engine has {', '.join(known) or 'none'}"
            )

    def push(self, repository: str, tag: str, credentials: Credentials | None, say: Say) -> str:
        """Push a tag and give the digest that the registry has for it."""
        name, digest = f"{repository}:{tag}", ""
        progress, registry = Progress(say), ImageRef.parse(name).registry
        refused = told(f"push {name}", REGISTRY, otherwise="PUSH_FAILED", login=credentials)
        with refused, self.asking(registry, f"push {name}"):
            stalled = partial(self.stalled, "PUSH_FAILED", f"push {name}", progress, PUSH_STALL)
            how: dict[str, Any] = {"headers": header(name, credentials), "timeout": calls.ASKED}
            for record in self.lines("images", repository, "push", params={"tag": tag}, on_silence=stalled, **how):
                if error := error_of(record):
                    raise failure(f"push {name}", error, REGISTRY, otherwise="PUSH_FAILED")
                if found := record.inner("aux").text("Digest", ""):
                    digest = digest_of(found)
                progress.see(record)
            progress.tell()
        if not digest:
            raise Failure("PUSH_FAILED", f"push {name}: the engine tells no digest")
        if (there := self.published(name, credentials)) != digest:
            raise Failure("DIGEST_MISMATCH", f"push {name}: pushed {digest}, the registry has {there}")
        return digest

    def published(self, image: str, credentials: Credentials | None) -> str | None:
        """Ask the image's registry, through the engine, for its digest; None where it has no such tag."""
        action, registry = f"ask for {image}", ImageRef.parse(image).registry
        with told(action, REGISTRY, login=credentials), self.asking(registry, action):
            try:
                how: dict[str, Any] = {"timeout": calls.ASKED, "headers": header(image, credentials)}
                answer = self.answer("distribution", image, "json", **how)
            except APIError as error:
                found = failure(action, words_of(error), REGISTRY)
                if found.code == "IMAGE_NOT_FOUND":
                    return None
                raise found from error
            return digest_of(answer.inner("Descriptor").text("digest"))

    def login(self, credentials: Credentials) -> None:
        """Have the engine check the login; nothing is stored."""
        action = f"log in to {credentials.registry}"
        with told(action, REGISTRY, login=credentials), self.asking(credentials.registry, action):
            self.post("auth", timeout=calls.ASKED, json=auth_config(credentials))

    def build(
        self,
        context: Mapping[str, bytes],
        tag: str,
        options: Mapping[str, Any],
        say: Say,
        *,
        tree: Path | None = None,
        idle: float = 1800,
    ) -> str:
        """Build an image of a context and give its id. A step that fails is `BUILD_FAILED`, with its last lines.

        Args:
            context: files (name: content).
            tag: the image's name.
            options: those of the Docker SDK's `build`.
            say: who hears its output.
            tree: an archive of further files; the others are added to it.
            idle: seconds for which a step may say nothing before it is given up.
        """
        params = {"t": tag, "rm": True, "forcerm": True}
        params |= {BUILD_OPTIONS[key][0]: BUILD_OPTIONS[key][1](value) for key, value in options.items()}
        headers = {"Content-Type": "application/x-tar"}
        log, image, heard = BuildLog(say), "", time.monotonic()

        def still() -> None:
            self.alive()
            if time.monotonic() - heard >= idle:
                raise build_failure(log, tag, f"it said nothing for {say_duration(int(idle))} (BUILD_IDLE)")

        how: dict[str, Any] = {"params": params, "headers": headers, "on_silence": still}
        with packed_context(context, tree) as body, told(f"build {tag}", otherwise="BUILD_FAILED"):
            for record in self.lines("build", body=body, quiet=min(calls.QUIET, idle), **how):
                heard = time.monotonic()
                if error := error_of(record):
                    raise build_failure(log, tag, error)
                log.see(record)
                if found := record.inner("aux").text("ID", ""):
                    image = digest_of(found)
            log.end()
        if not (built := image or self.image_id(tag)):
            raise Failure("BUILD_FAILED", f"build {tag}: the engine tells no image")
        return built


@contextmanager
def interrupted(action: str, progress: Progress) -> Iterator[None]:
    """Have an engine that ends in the block, where layers were on their way, be told as what it broke off."""
    try:
        yield
    except Failure as failure:
        if failure.code != "DOCKER_DOWN" or not progress.begun:
            raise
        cure = f"{failure.cure}; then run the task again: it goes on with the layers that are missing"
        raise Failure("PULL_INTERRUPTED", f"{action}: the Docker engine ended in the middle of it", cure) from failure


def digest_of(text: str) -> str:
    """Give the digest that a text is."""
    if not grammar.DIGEST.matches(text):
        raise Odd(f"{described(text)} where a digest was due")
    return text


def names_of(found: Fields) -> tuple[str, ...]:
    """Give the names by digest that an image has; an old engine has `<none>` among them."""
    return tuple(name for name in found.texts("RepoDigests") if grammar.IMAGE.matches(name))


def weight_of(found: Fields) -> Weight:
    """Give what an image weighs, and its layers by the digests of what is in them; not what each of these does."""
    return Weight(found.number("Size"), found.inner("RootFS").texts("Layers"))


def build_failure(log: BuildLog, tag: str, error: str) -> Failure:
    """Give the failure of a build's step: its number, its command, and the last lines of its output."""
    log.end()
    if not log.step:
        return failure(f"build {tag}", error, otherwise="BUILD_FAILED")
    action = f"Step {log.step} : {log.command}"
    signs = BASE if log.command.upper().startswith("FROM ") else ANY
    ended = re.search(r"returned a non-zero code: \d+", error)
    known = failure(action, ended.group() if ended else error, signs, otherwise="BUILD_FAILED")
    return Failure(known.code, "\n".join((known.error, *log.tail)), known.cure)


def split(image: str) -> tuple[str, str]:
    """Give repository and tag, or digest, of a name; `latest` where it has neither."""
    repository, at, digest = image.partition("@")
    before, colon, tag = repository.rpartition(":")
    tagged = bool(colon) and "/" not in tag
    if at:
        return (before if tagged else repository), digest
    return (before, tag) if tagged else (repository, "latest")


def header(image: str, credentials: Credentials | None) -> dict[str, str]:
    """Give the login as the header of one request; without one the engine is told that there is none."""
    # A head may run an image of a registry that is not the one of this login.
    meant = credentials and credentials.registry == ImageRef.parse(image).registry
    config = auth_config(credentials) if credentials and meant else {}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(config).encode()).decode()}
