"""The project: the commit that its ref stands for now, and with `MY_PROJECT_SOURCE=copy` the tree at that commit."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from deploy import grammar, withheld
from deploy.errors import Failure, Mistake
from deploy.plan import Late, Place
from deploy.ray import HARDENED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from deploy.settings import Settings
    from deploy.site import Site

COMMIT_DIGITS = 40
# Where the tree stands in a build's context.
FOLDER = "project"
# On the side that clones. Nobody is there who could answer ssh, either.
ASK = ("env", "GIT_TERMINAL_PROMPT=0", "GIT_SSH_COMMAND=ssh -o BatchMode=yes", "git")
# On the operator's side git has all that the operator has given it, but nobody to ask. A hook of git's runs with the
# first three, and they would say which repository is meant.
ASK_NOBODY = (
    "unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE; export LC_ALL=C GIT_TERMINAL_PROMPT=0 "
    'GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-$(git config core.sshCommand || echo ssh)} -o BatchMode=yes"'
)
# What a plain clone has, for an archive leaves out or fills in what these attributes say, and filters of the
# operator's would run.
ATTRIBUTES = "* -export-ignore -export-subst -filter"
INIT = ("init", "--quiet", "--bare", "--template=")
FETCH = ("fetch", "--quiet", "--no-tags", "--no-auto-gc")
ONE = ("--depth", "1")
# As a clone would, for a server that refuses a bare commit.
ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
# Files and folders have the modes that they have in a clone by root.
ARCHIVE = ("-c", "tar.umask=022", "-c", "core.autocrlf=false", "archive")
# Before a file's own name, whatever is in it.
LEAVE_OUT = ":(exclude,literal)"
# Files that may have a key in them, as `commit:name`.
HAVE_KEYS = ("grep", "-z", "-l", "--text", "--no-color", "--no-recurse-submodules", "-E", "-e", withheld.KEY)
COMMENT = shlex.quote(withheld.COMMENT)
KEY_LINE = shlex.quote(f"^({withheld.KEY})")
# What Git.tree leaves out and tells, in bash: in `left` as git's words. What only quotes a key is not left out.
SECRETS = f"""found() {{ "$@" || [ $? = 1 ]; }}
begins() {{ head -c {withheld.FIRST} "$folder/bare" | tr '\\n\\v\\f\\r' '\\t' | grep -qaE $'^(\\357\\273\\277)?[ \\t]*'"($1)"; }}
declare -A reasons=() && left=() &&
git -C "$folder" ls-tree -r -z --name-only "$commit" >"$folder/names" &&
found grep -zixE {shlex.quote(withheld.NAMES)} "$folder/names" >"$folder/named" &&
found grep -zivxE {shlex.quote(withheld.OPEN_NAMES)} "$folder/named" >"$folder/secrets" &&
found grep -zixE {shlex.quote(withheld.PLACES)} "$folder/names" >>"$folder/secrets" &&
found git -C "$folder" {shlex.join(HAVE_KEYS)} "$commit" >"$folder/keys" &&
while IFS= read -rd '' name; do
  git -C "$folder" cat-file blob "$name" >"$folder/file" || exit 1
  head -c {withheld.BEGINNING} "$folder/file" >"$folder/beginning" || exit 1
  found grep -avE $'^(\\357\\273\\277)?'{COMMENT} "$folder/beginning" >"$folder/bare" || exit 1
  if begins {shlex.quote(withheld.KEY)} || {{ begins {shlex.quote(withheld.BUNDLE)} && grep -qaE {KEY_LINE} "$folder/beginning"; }}; then
    reasons[$name]={shlex.quote(withheld.BY_CONTENT)}
  fi
done <"$folder/keys" &&
while IFS= read -rd '' name; do reasons[$commit:$name]={shlex.quote(withheld.BY_NAME)}; done <"$folder/secrets" &&
for name in "${{!reasons[@]}}"; do
  left+=("{LEAVE_OUT}${{name#*:}}")
  printf 'not copied: %q: %s\\n' "${{name#*:}}" "${{reasons[$name]}}" >&2
done"""


@dataclass(frozen=True)
class Source:
    """A project as the operator's git is told of it: a URL or a folder's own path, and a ref."""

    url: str
    ref: str
    folder: bool

    @property
    def status(self) -> tuple[str, ...]:
        """The words by which git lists what is not committed, a file a line."""
        return ("--no-optional-locks", "-C", self.url, "status", "--porcelain", "--untracked-files=all")

    @property
    def ask(self) -> tuple[str, ...]:
        """The words by which git tells the commit: of a URL as a list of refs."""
        if self.folder:
            return ("-C", self.url, "rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}")
        return ("ls-remote", "--", self.url, *ref_names(self.ref))

    @property
    def warning(self) -> str:
        """What is said of changes that are not committed, before their number."""
        return f"{self.url} has uncommitted changes, which are not in the image; files: "


def source(settings: Settings) -> Source:
    """Give what the operator's git shall copy; a `Mistake` where that is a folder without a repository."""
    url, ref = str(settings.my_project_url), settings.my_project_ref or "HEAD"
    if not grammar.is_folder(url):
        return Source(url, ref, folder=False)
    named = unquote(urlsplit(url).path) if "://" in url else os.path.expanduser(url)  # noqa: PTH111 - does not raise
    folder = Path(settings.root, named)
    # As git itself tells a work tree or a bare repository.
    if not ((folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())):
        error = "MY_PROJECT_URL is a folder of this machine without a git repository"
        cure = "Name the folder that has .git in it; a new one wants git init, git add and git commit"
        raise Mistake.of("CONFIG", error, cure, place=settings.place("MY_PROJECT_URL"))
    return Source(str(folder), ref, folder=True)


def project_commit(settings: Settings, image: str) -> Late[str]:
    """Give the commit that the project's ref stands for now, as the side sees it that clones."""
    if settings.my_project_source == "copy":
        return operators_commit(source(settings))
    return heads_commit(str(settings.my_project_url), settings.my_project_ref or "HEAD", image)


def is_commit(ref: str) -> bool:
    """Tell whether a ref is a commit's full id, which stands for itself."""
    return len(ref) == COMMIT_DIGITS and set(ref) <= set("0123456789abcdef")


def heads_commit(url: str, ref: str, image: str) -> Late[str]:
    """Give the commit as git on the head, or in the base image, sees it."""
    if is_commit(ref):
        return Late("commit", f"echo {ref}", lambda _: ref, Place.HEAD)
    names = ref_names(ref)
    ask = (*ASK, "ls-remote", "--", url, *names)
    line = shlex.join(ask)
    # git on the head, and where it has none, the base image's: what asks must stand where the build will clone.
    shell = (
        f"if command -v git >/dev/null; then {line}; "
        f"else docker run --rm {HARDENED} --network host {shlex.quote(image)} {line}; fi | {last_shell(names)}"
    )
    return Late("commit", shell, lambda site: last_commit(refs(site, image, ask), names, url), Place.HEAD)


def operators_commit(of: Source) -> Late[str]:
    """Give the commit as the operator's git sees it, and warn of what a folder has beside it."""
    if is_commit(of.ref) and not of.folder:
        return Late("commit", f"echo {of.ref}", lambda _: of.ref, Place.OPERATOR)
    ask = f"{ASK_NOBODY}; {shlex.join(('git', *of.ask))}"
    if not of.folder:
        names = ref_names(of.ref)
        shell = f"{ask} | {last_shell(names)}"
        return Late("commit", shell, lambda site: last_commit(site.git.ask(of), names, of.url), Place.OPERATOR)

    def resolve(site: Site) -> str:
        if files := site.git.uncommitted(of):
            site.say(f"{of.warning}{files}")
        return site.git.ask(of).strip()

    # A bare repository has no status.
    changes = f"files=$(git {shlex.join(of.status)} 2>/dev/null | wc -l) || true"
    warn = f'[ "$files" = 0 ] || echo {shlex.quote(of.warning)}"$files" >&2'
    shell = "\n".join((ASK_NOBODY, changes, warn, shlex.join(("git", *of.ask))))
    return Late("commit", shell, resolve, Place.OPERATOR)


def project_tree(
    settings: Settings, commit: Late[str], unless: str, *needs: Late[str]
) -> Late[AbstractContextManager[Path]]:
    """Give the tree at a commit, as an archive in a file that lasts for its block; in the script packed, as text.

    Args:
        settings: say where the project is.
        commit: the one.
        unless: a question of the shell's; where the answer is yes, the script needs no tree.
        needs: the late values that the question asks of.
    """
    of = source(settings)
    there, fetch = 'git -C "$folder"', shlex.join(FETCH)
    shell = f"""{unless} || {{
{ASK_NOBODY}
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT &&
git {shlex.join(INIT)} "$folder" && mkdir -p "$folder/info" &&
echo {shlex.quote(ATTRIBUTES)} >"$folder/info/attributes" &&
{{ {there} {fetch} {shlex.join((*ONE, "--", of.url))} "$commit" 2>/dev/null ||
  {there} {fetch} {shlex.join(("--", of.url, *ALL))}; }} &&
{SECRETS} &&
{there} {shlex.join(ARCHIVE)} --format=tar.gz "$commit" ${{left[@]+"${{left[@]}}"}} | base64 -w0
}}"""
    return Late(
        "project",
        shell,
        lambda site: site.git.tree(of, site.value(commit), site.say),
        Place.OPERATOR,
        needs=(commit, *needs),
    )


def ref_names(ref: str) -> tuple[str, ...]:
    """Give the full names that a ref may mean, the strongest last; what a tag stands for has a name of its own."""
    if ref == "HEAD":
        return (ref,)
    if ref.startswith("refs/"):
        return (ref, f"{ref}^{{}}")
    return (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}")


def last_shell(names: tuple[str, ...]) -> str:
    """Write what `last_commit` does."""
    cases = "|".join(map(shlex.quote, names))
    return f'while read -r commit name; do case "$name" in {cases}) echo "$commit";; esac; done | tail -n 1 | grep .'


def last_commit(lines: str, names: tuple[str, ...], url: str) -> str:
    """Give the commit of the last line with one of the names: git shows all that end like them, in their order."""
    found = (line.split() for line in lines.splitlines())
    commits = [
        words[0] for words in found if len(words) == 2 and words[1] in names and grammar.COMMIT.matches(words[0])
    ]
    if not commits:
        raise Failure("PROJECT_UNREACHABLE", f"{url} has none of {', '.join(names)}", "Correct MY_PROJECT_REF")
    return commits[-1]


def refs(site: Site, image: str, ask: tuple[str, ...]) -> str:
    """Give what `git ls-remote` tells; `PROJECT_UNREACHABLE` where it tells nothing."""
    try:
        if site.ask("sh", "-c", "command -v git"):
            return site.run(*ask)
        return site.docker.run_once(image, ask, network="host")
    except Failure as failure:
        if failure.code != "COMMAND_FAILED":
            raise
        cure = "Check MY_PROJECT_URL as seen from the head; what only you may read wants MY_PROJECT_SOURCE=copy"
        raise Failure("PROJECT_UNREACHABLE", said(failure.error), cure) from failure


def said(words: str) -> str:
    """Give git's words without what stands before a host: an `insteadOf` of somebody's may have put a token there."""
    return re.sub(r"(?<=://)[^/@\s]+@", "…@", words)
