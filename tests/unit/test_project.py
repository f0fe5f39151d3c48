"""`MY_PROJECT_SOURCE=copy`: the operator's git tells the commit and brings the tree, in the run and in the script."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import run_here
from deploy.errors import Failure, Mistake
from deploy.git import Git
from deploy.lates.project import Source, last_commit, project_commit, ref_names, said
from deploy.plans import Scope
from deploy.plans import image as image_plans
from deploy.script import script
from tests.project import ALONE, Project

from .fakes import IMAGE_ID, TOP, Cluster, FakeSite, Image, bash, program, scope, settings, site_of

# A URL that is a folder here alone, and a filter that no clone in a build would have.
OPERATORS = """\
[url "file://{folder}/"]
\tinsteadOf = https://git.test/
[filter "never"]
\tsmudge = false
\trequired = true
"""


@pytest.fixture(autouse=True)
def gits_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the operator's git settings of its own, and say what a hook would say: another repository."""
    config = tmp_path / "gitconfig"
    config.write_text(OPERATORS.format(folder=tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "app~1")
    made.folder.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit(file="first")
    return made


def copy(project: Project, **values: Any) -> Scope:
    return scope(my_project_url=str(project.folder), my_project_source="copy", **values)


def commit_of(of: Scope, one: FakeSite | None = None) -> str:
    return (one or site_of()).value(project_commit(of.settings, "base"))


def commit_in_bash(of: Scope) -> str:
    return bash(project_commit(of.settings, "base").shell, None, GIT_CONFIG_GLOBAL="/dev/null")


# --- the commit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["", "main", "v1", "refs/heads/main", "short", "whole"])
def test_both_faces_find_a_folders_commit(ref: str, project: Project) -> None:
    commit = project.git("rev-parse", "HEAD")
    project.git("tag", "-a", "v1", "-m", "a tag with an object of its own")
    named = {"short": commit[:10], "whole": commit}.get(ref, ref)
    of = copy(project, **({"my_project_ref": named} if named else {}))
    assert (commit_of(of), commit_in_bash(of)) == (commit, commit)


@pytest.mark.parametrize(
    ("ref", "at"), [("HEAD", "main"), ("main", "main"), ("v1", "v1^{}"), ("refs/tags/v1", "v1^{}")]
)
def test_git_tells_the_refs_of_a_url(ref: str, at: str, project: Project) -> None:
    project.git("tag", "-a", "v1", "-m", "a tag with an object of its own")
    project.git("branch", "other/main")
    project.commit(file="second")
    told = Git().ask(Source(project.url, ref, folder=False))
    assert last_commit(told, ref_names(ref), project.url) == project.git("rev-parse", at)


@pytest.mark.parametrize("told", ["--upload-pack=x", "c" * 39, "C" * 40, "$(id)"])
def test_what_is_no_commits_id_is_no_commit(told: str) -> None:
    with pytest.raises(Failure) as caught:
        last_commit(f"{told}\tHEAD\n", ("HEAD",), "https://git.test/a")
    assert caught.value.code == "PROJECT_UNREACHABLE"


def test_a_commit_of_a_url_is_not_asked_for() -> None:
    of = scope(my_project_url="https://git.test/a", my_project_source="copy", my_project_ref="c" * 40)
    assert (commit_of(of), commit_in_bash(of)) == ("c" * 40, "c" * 40)


@pytest.mark.parametrize("url", ["file", "relative", "home"])
def test_a_folder_is_found_by(url: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    there = project.folder
    monkeypatch.setenv("HOME", str(there.parent))
    named = {"file": f"file://{there}", "relative": os.path.relpath(there, TOP), "home": "~/app~1"}[url]
    assert commit_of(scope(my_project_url=named, my_project_source="copy")) == project.git("rev-parse", "HEAD")


def test_uncommitted_changes_are_told_once_with_their_number(project: Project) -> None:
    of, one = copy(project), site_of()
    project.write(file="changed", folder__one="new", folder__two="new")
    late = project_commit(of.settings, "base")
    assert [one.value(late), one.value(late)] == [project.git("rev-parse", "HEAD")] * 2
    (said,) = one.said
    assert str(said).endswith("/app~1 has uncommitted changes, which are not in the image; files: 3")
    shown = subprocess.run(("bash", "-c", late.shell), env=ALONE, capture_output=True, text=True, check=True)
    assert shown.stderr.strip() == said


@pytest.mark.parametrize("bare", [False, True])
def test_a_clean_repository_is_no_reason_for_a_word(bare: bool, project: Project, tmp_path: Path) -> None:
    if bare:
        project.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
        project.write(file="changed")
    of, one = copy(Project(tmp_path / "bare") if bare else project), site_of()
    assert commit_of(of, one) == commit_in_bash(of)
    assert one.said == []


# --- what cannot be copied -------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["empty", "nowhere", "app~1/inside", "~nobody-at-all"])
def test_a_folder_without_a_repository_is_a_mistake(folder: str, project: Project) -> None:
    (project.folder / "inside").mkdir()
    (project.folder.parent / "empty").mkdir()
    of = scope(my_project_url=str(project.folder.parent / folder), my_project_source="copy")
    with pytest.raises(Mistake, match="without a git repository. Name the folder that has .git in it") as caught:
        image_plans.build_image(of)
    assert caught.value.problems[0].code == "CONFIG"


def test_a_ref_that_there_is_not_is_told(project: Project) -> None:
    with pytest.raises(Failure, match="has no commit nope. Correct MY_PROJECT_REF"):
        commit_of(copy(project, my_project_ref="nope"))
    with pytest.raises(Failure, match="has none of refs/heads/nope"):
        site_of().value(
            project_commit(
                settings(my_project_url="file:///a", my_project_ref="nope", my_project_source="clone"), "base"
            )
        )


def test_git_has_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path / "bin", "git", 'echo "$GIT_TERMINAL_PROMPT ${GIT_SSH_COMMAND##* -o }"')
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    assert Git().ask(Source("https://git.test/a", "HEAD", folder=False)) == "0 BatchMode=yes\n"


def test_a_url_that_cannot_be_reached_is_told_with_what_to_try() -> None:
    with pytest.raises(Failure) as caught:
        Git().ask(Source("http://127.0.0.1:9/a.git", "HEAD", folder=False))
    assert caught.value.code == "PROJECT_UNREACHABLE"
    assert caught.value.cure.endswith("git ls-remote http://127.0.0.1:9/a.git")


def test_a_token_that_git_itself_puts_before_a_host_is_not_repeated() -> None:
    words = "fatal: could not read Password for 'https://hunter2@h': no; see http://u:hunter2@h/a and git@h:b"
    assert said(words) == "fatal: could not read Password for 'https://…@h': no; see http://…@h/a and git@h:b"


def test_ssh_has_nobody_to_ask_and_keeps_the_operators_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = program(tmp_path, "my-ssh", f'printf "%s " "$@" >{tmp_path}/words; exit 1') / "my-ssh"
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh} -i key")
    with pytest.raises(Failure):
        Git().ask(Source("ssh://git@h/a", "HEAD", folder=False))
    assert (tmp_path / "words").read_text().startswith("-i key -o BatchMode=yes ")


# --- the tree --------------------------------------------------------------------------------------------------

Tree = dict[str, tuple[str, int, str]]


def tree_of(folder: Path) -> Tree:
    """Give each entry of a folder: what it is, who may read or run it, and what is in it."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()))
        elif not name.startswith(".git/") and name != ".git":
            kind = "folder" if path.is_dir() else "file"
            found[name] = (kind, path.stat().st_mode & 0o777, "" if path.is_dir() else path.read_text())
    return found


def cloned(project: Project, commit: str) -> Tree:
    """Give what a clone has that the template's command makes."""
    there = project.folder.parent / "clone"
    project.git("clone", "--quiet", "--no-checkout", project.url, str(there))
    subprocess.run(("git", "checkout", "--quiet", commit), cwd=there, env=ALONE, umask=0o022, check=True)
    return tree_of(there)


@pytest.fixture
def rich(project: Project) -> Project:
    """A project with all that an archive of git's could have otherwise than a clone."""
    project.commit(old="gone by now")
    (project.folder / "link").symlink_to("folder/run")
    (project.folder / "old").unlink()
    project.commit(
        folder__run="#!/bin/sh\n",
        folder__notes="not for archives",
        version="$Format:%H$",
        **{".gitattributes": "notes export-ignore\nversion export-subst\n*.dat filter=never\n", "a.dat": "as it is"},
        **{".env.example": "COMMITTED=1", ".dockerignore": "*"},
    )
    (project.folder / "folder" / "run").chmod(0o755)
    project.commit()
    project.write(dirt="uncommitted")
    return project


@pytest.mark.parametrize("of", ["folder", "url"])
def test_the_tree_is_that_of_a_clone(of: str, rich: Project, tmp_path: Path) -> None:
    commit = rich.git("rev-parse", "HEAD")
    source = Source(str(rich.folder) if of == "folder" else rich.url, "HEAD", folder=of == "folder")
    with Git().tree(source, commit, print) as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "out", filter="tar")
    assert not path.parent.exists()
    got = tree_of(tmp_path / "out" / "project")
    assert got == cloned(rich, commit)
    assert {"folder/notes", ".env.example", "link", "a.dat"} < set(got)
    assert not {"dirt", "old"} & set(got)


@pytest.mark.parametrize("commit", ["an old one", "one of another branch"])
def test_a_server_that_refuses_a_bare_commit_is_cloned(
    commit: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = project.git("rev-parse", "HEAD")
    if commit == "one of another branch":
        project.git("checkout", "--quiet", "-b", "other")
        wanted = project.commit(file="other")
        project.git("checkout", "--quiet", "main")
    project.commit(file="second")
    real = run_here
    calls: list[tuple[str, ...]] = []

    def refusing(argv: tuple[str, ...], *rest: Any) -> Any:
        calls.append(argv)
        return real(("false",) if "--depth" in argv else argv, *rest)

    monkeypatch.setattr("deploy.git.run_here", refusing)
    with Git().tree(Source(project.url, "HEAD", folder=False), wanted, print) as path, tarfile.open(path) as archive:
        assert "project/file" in archive.getnames()
    assert sum("fetch" in argv for argv in calls) == 2


# --- the build -------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with a `docker` that keeps the context of a build, and the label that it gave."""
    state = tmp_path / "engine"
    body = f"""case "$*" in
  'image inspect -f {{{{.Id}}}} '*) echo {IMAGE_ID} ;;
  'image inspect -f {{{{with'*) echo ' --chown=ray' ;;
  'image inspect -f {{{{index'*) cat {state}/recipe ;;
  'image inspect '*) ;;
  'build '*) cp -a "${{!#}}" {state}/context; echo "${{5#*=}}" >{state}/recipe ;;
  *) exit 64 ;;
esac"""
    program(state, "docker", f"{body}")
    program(state, "git", f'printf "%s\\n" "$*" >>{state}/asked; exec /usr/bin/git "$@"')
    (state / "recipe").touch()
    yield state
    assert not Path("/tmp/never").exists()  # noqa: S108 - what a hostile value would make


def run_script(of: Scope, engine: Path) -> subprocess.CompletedProcess[str]:
    (engine / "asked").write_text("")
    text = script("build.image", of, image_plans.build_image(of))
    environment = {
        **ALONE,
        "GIT_CONFIG_GLOBAL": os.environ["GIT_CONFIG_GLOBAL"],
        "LC_ALL": "C.UTF-8",
        "PATH": f"{engine}:/usr/bin:/bin",
        "TMPDIR": str(engine),
    }
    return subprocess.run(("bash", "-s"), input=text, env=environment, capture_output=True, text=True, check=False)


def performed(of: Scope) -> FakeSite:
    made = Cluster(of)
    made.head.docker.images["ray-project/deploy"] = Image(user="ray")
    assert made.perform(image_plans.build_image(of)) == ["head: build my-app"], made.head.failure
    return made.head


HOSTILE = "echo '<my-project-url>' $(touch /tmp/never) `touch /tmp/never` & \\1 'project/ ./'"


@pytest.mark.parametrize("of", ["a folder", "a url"])
def test_both_faces_build_the_same_of_the_same(of: str, rich: Project, engine: Path) -> None:
    where = copy(rich, my_project_installation_script=HOSTILE)
    if of == "a url":
        url = f"https://git.test/{rich.folder.name}"
        where = scope(my_project_url=url, my_project_source="copy", my_project_installation_script=HOSTILE)
    head, done, again = performed(where), run_script(where, engine), run_script(where, engine)
    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    context = engine / "context"
    assert head.docker.contexts[0]["Dockerfile"].decode() == (context / "Dockerfile").read_text()
    assert head.docker.images["my-app"].labels["raydock.recipe"] == (engine / "recipe").read_text().strip()
    commit = rich.git("rev-parse", "HEAD")
    assert tree_of(context / "project") == cloned(rich, commit)
    lines = (context / "Dockerfile").read_text().splitlines()
    assert "COPY --chown=ray project/ ./" in lines
    source = "''" if of == "a folder" else f"'https://git.test/{rich.folder.name}'"
    assert lines[-2:] == [
        f"LABEL org.opencontainers.image.source={source} \\",
        f"      org.opencontainers.image.revision={commit}",
    ]
    assert str(rich.folder.parent) not in "\n".join(lines)
    # The tree is not fetched where it was built already, and nothing stays of one that was.
    assert "archive" not in (engine / "asked").read_text()
    assert [path.name for path in engine.iterdir() if path.name.startswith("tmp.")] == []


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"
BY_NAME, BY_CONTENT = "a file of secrets, by its name", "a private key"
# What is committed and does not go, and why.
SECRETS = {
    **dict.fromkeys((".env", "conf/prod.env", "conf/sample.env", "a b/.ENV", "x/id_rsa", "x/client.pem"), BY_NAME),
    **dict.fromkeys((".npmrc", "home/.AWS/config", "x/.ssh/id_a.pub", "d/'$(touch x)'.key", ":(glob)*.pem"), BY_NAME),
    **dict.fromkeys(("é.env", "two\nlines.env", "id_rsa.old"), BY_NAME),
    **dict.fromkeys((".env_prod", ".s3cfg", "x/kubeconfig", "credentials.json", "x/secrets.yml"), BY_NAME),
    **dict.fromkeys(("terraform.tfstate", "x/terraform.tfstate.backup"), BY_NAME),
    # In no encoding, which `grep` in the operator's own locale would not match.
    **dict.fromkeys(map(os.fsdecode, (b"\xff.env", b"a\xff/x.pem", b"id_\xff", b"\xff/.ssh/\xff")), BY_NAME),
    **dict.fromkeys(("deploy_access", "x/*", "@", "with: colon"), BY_CONTENT),
    **dict.fromkeys(("ssh2", "bag", "bundle", "far", "bag late"), BY_CONTENT),
    **dict.fromkeys(("text", "subject", "rsa", "ed25519", "ec", "comment", "comments", "both"), BY_CONTENT),
}
OPEN = (
    *("keyboard.py", "x/id_a.pub", "id_map.py", ".env.example", "docs/sample.env", "environment.yml", "x/.env.d/a"),
    *(".env_sample", "credentials.json.py", "secrets.yaml.j2", "x/kubeconfig.py"),
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
BAG = "Bag Attributes\n    localKeyID: 01\n"
KEYS = (
    *(KEY, "\ufeff" + KEY, "\n \t" + KEY, "PuTTY-User-Key-File-3: ssh-ed25519\n"),
    *("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", BAG + KEY, CERTIFICATE + KEY, 1000 * CERTIFICATE + KEY),
    BAG + CERTIFICATE + BAG + KEY,
    *("Certificate:\n    Data:\n" + CERTIFICATE + KEY, "subject=CN = a\n" + CERTIFICATE + KEY),
    *("RSA Private-Key: (2048 bit)\n    00:9a\n" + KEY, "ED25519 Private-Key:\n" + KEY),
    *("EC-Parameters: (256 bit)\n-----BEGIN EC PARAMETERS-----\n" + KEY, "# deploy key\n" + KEY),
    "\ufeff# deploy key\n\n \t#" + 300 * "-" + "\r\n\n" + KEY,
    "# deploy key\n" + 300 * CERTIFICATE + "# the key\n" + KEY,
)
# What only looks like a key, and goes.
NO_KEYS = {
    "quotes": "HEADER = '-----BEGIN PRIVATE KEY-----'\n",
    "below": "a line\n" + KEY,
    "public": "-----BEGIN PUBLIC",
    "public2": "---- BEGIN SSH2 PUBLIC KEY ----\n",
    "chain": CERTIFICATE + "not -----BEGIN PRIVATE KEY-----\n",
    "too far": 2000 * CERTIFICATE + KEY,
    "heading": "# a heading\n\nA line:\n\n" + KEY,
    "two lines": "a\nRSA Private-Key:\n" + KEY,
    "script": "#!/bin/sh\n# Lay a key.\ncat >key <<'END'\n" + KEY + "END\n",
    "module": "# a module\nKEY = b'''\n" + KEY + "'''\n",
    "commented": "# a comment\n" + CERTIFICATE + "# " + KEY,
    "all comments": "# " + KEY.replace("\n", "\n# "),
    "certificate": "Certificate:\n    not " + KEY,
    "three": "--- BEGIN PRIVATE KEY\n",
}


@pytest.fixture
def careless(project: Project) -> Project:
    """A project with secrets in its commit, and with what only looks like some."""
    keys = iter(KEYS)
    for name, reason in SECRETS.items():
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret" if reason == BY_NAME else next(keys), encoding="utf-8")
    for name in OPEN:
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("open", encoding="utf-8")
    (project.folder / "link").symlink_to("keyboard.py")
    project.commit(**NO_KEYS)
    return project


def test_secrets_that_are_committed_are_not_copied_and_told_in_both_faces(careless: Project, engine: Path) -> None:
    of = copy(careless)
    head, done = performed(of), run_script(of, engine)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(head.docker.trees[0])) as archive:
        archive.extractall(engine / "run", filter="tar")
    goes = {*OPEN, *NO_KEYS, "file", "link"}
    for context in (engine / "run", engine / "context"):
        assert {name for name, (kind, *_) in tree_of(context / "project").items() if kind != "folder"} == goes
    told = [str(line) for line in head.said if str(line).startswith("not copied: ")]
    wanted = [f"not copied: {name}: {SECRETS[name]}" for name in sorted(SECRETS)]
    assert told == [*wanted[:10], f"not copied: {len(wanted) - 10} more"]
    by_bash = {line for line in done.stderr.splitlines() if line.startswith("not copied: ")}
    assert len(by_bash) == len(SECRETS)
    assert {"not copied: .env: a file of secrets, by its name", "not copied: deploy_access: a private key"} < by_bash


def test_a_script_stops_where_it_cannot_tell_what_is_secret(project: Project, engine: Path) -> None:
    program(engine, "git", 'case "$*" in *" grep "*) echo "no way" >&2; exit 2 ;; esac; exec /usr/bin/git "$@"')
    done = run_script(copy(project), engine)
    assert done.returncode != 0
    assert not (engine / "context").exists()


def test_a_script_stops_where_the_tree_cannot_be_had(project: Project, engine: Path) -> None:
    of = copy(project)
    program(engine, "git", 'case "$*" in *fetch*) echo "no way" >&2; exit 128 ;; esac; exec /usr/bin/git "$@"')
    done = run_script(of, engine)
    assert done.returncode != 0
    assert "no way" in done.stderr
    assert not (engine / "context").exists()
    assert [path.name for path in engine.iterdir() if path.name.startswith("tmp.")] == []


def test_a_commit_is_built_once_and_the_next_one_again(project: Project) -> None:
    of, made = copy(project), Cluster(copy(project))
    made.head.docker.images["ray-project/deploy"] = Image()
    assert made.perform(image_plans.build_image(of)) == ["head: build my-app"]
    project.write(file="uncommitted")
    assert made.perform(image_plans.build_image(of)) == []
    project.commit(file="second")
    assert made.perform(image_plans.build_image(of)) == ["head: build my-app"]
    assert len(made.head.docker.trees) == 2
    assert "\nCOPY project/ ./\n" in made.head.docker.contexts[1]["Dockerfile"].decode()
