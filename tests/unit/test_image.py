"""Image references, and the Dockerfile that the template makes of the settings."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.errors import Mistake
from deploy.image import NO_OWNER, PLACEHOLDERS, ImageRef, copied, read_template, render

TOP = Path(__file__).resolve().parents[2]
TEMPLATE = (TOP / "Dockerfile.template").read_text(encoding="utf-8")
DIGEST = "sha256:" + "0123456789abcdef" * 4
COMMIT = "0123456789" * 4
VALUES = {
    "base-image": "ray-project/deploy",
    "my-project-url": "https://git.example.com/team/app.git",
    "my-project-commit": COMMIT,
    "my-project-installation-script": "pip install -r requirements.txt",
}

REFERENCES = {
    "my-app": ("my-app", None, None, "docker.io", "my-app"),
    "my-app:1.0_b-2": ("my-app", "1.0_b-2", None, "docker.io", "my-app"),
    "index.docker.io/team/app": ("index.docker.io/team/app", None, None, "docker.io", "team/app"),
    "ray-project/deploy": ("ray-project/deploy", None, None, "docker.io", "ray-project/deploy"),
    "localhost/app": ("localhost/app", None, None, "localhost", "app"),
    "localhost:5000/app": ("localhost:5000/app", None, None, "localhost:5000", "app"),
    "reg.example.com:5000/a/b:2": ("reg.example.com:5000/a/b", "2", None, "reg.example.com:5000", "a/b"),
    f"reg.example.com/app@{DIGEST}": ("reg.example.com/app", None, DIGEST, "reg.example.com", "app"),
    f"rayproject/ray:2.60.0@{DIGEST}": ("rayproject/ray", "2.60.0", DIGEST, "docker.io", "rayproject/ray"),
    "123456789012.dkr.ecr.us-west-2.amazonaws.com/my-app": (
        "123456789012.dkr.ecr.us-west-2.amazonaws.com/my-app",
        None,
        None,
        "123456789012.dkr.ecr.us-west-2.amazonaws.com",
        "my-app",
    ),
}


LISTED = {
    "docker.io/team/app:1": "team/app",
    "index.docker.io/team/app": "team/app",
    "docker.io/library/app": "app",
    "library/app": "app",
    "docker.io/library/team/app": "library/team/app",
    "app": "app",
    "reg.example.com:5000/library/app": "reg.example.com:5000/library/app",
}


@pytest.mark.parametrize("text", LISTED)
def test_an_engine_lists_a_repository_as(text: str) -> None:
    assert ImageRef.parse(text).listed == LISTED[text]


@pytest.mark.parametrize("text", REFERENCES)
def test_a_reference_is_taken_apart_and_put_together_again(text: str) -> None:
    image = ImageRef.parse(text)
    assert (image.repository, image.tag, image.digest, image.registry, image.path) == REFERENCES[text]
    assert str(image) == text


@pytest.mark.parametrize(
    "text",
    ["", "App", "app:", "app:" + "t" * 129, "app@sha256:12", "app@" + DIGEST.upper(), "a//b", "/a", "a/", "-a", "a b"]
    + ["a;b", "$(x)", "https://reg.example.com/a", "a\nb", "app:-t", "é", "a" * 600],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an image reference"):
        ImageRef.parse(text)


def test_an_image_by_digest_or_tag_keeps_its_repository() -> None:
    image = ImageRef.parse("reg.example.com/app:1")
    assert str(image.at(DIGEST)) == f"reg.example.com/app@{DIGEST}"
    assert str(image.at(DIGEST).tagged("latest")) == "reg.example.com/app:latest"


def instructions(text: str) -> list[str]:
    """Read a Dockerfile as the classic builder does: comments go, a backslash at the end continues the line."""
    found, unfinished = [], ""
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        unfinished += line.strip()
        if re.search(r"\\[ \t]*$", line):
            unfinished = unfinished.rstrip()[:-1]
            continue
        found.append(unfinished)
        unfinished = ""
    return [*found, unfinished] if unfinished else found


def test_the_template_reads_as_the_document() -> None:
    words = [line.split()[0] for line in instructions(TEMPLATE)]
    assert words == ["FROM", "WORKDIR", "RUN", "RUN", "RUN", "LABEL"]
    assert "FROM <base-image>\n" in TEMPLATE
    assert "RUN <my-project-installation-script>\n" in TEMPLATE


COPIED = {
    "as root": ("FROM a\nRUN git clone <my-project-url> .\n", "FROM a\nCOPY project/ ./\n"),
    "as the base image's user": (
        "FROM <base-image>\nRUN clone <my-project-url>",
        f"FROM <base-image>\nCOPY{NO_OWNER} project/ ./",
    ),
    "as a user of the template's": (
        "FROM <base-image>\nUSER app:app\nRUN clone <my-project-url>",
        "FROM <base-image>\nUSER app:app\nCOPY --chown=app:app project/ ./",
    ),
    "as the user of its stage": (
        "FROM <base-image>\nuser app\nFROM b\nrun clone <my-project-url>",
        "FROM <base-image>\nuser app\nFROM b\nCOPY project/ ./",
    ),
    "over several lines": (
        "FROM a\nRUN x; \\\n  # <my-project-commit>\n  clone <my-project-url> && \\\n\n  y\n# z\nRUN z",
        "FROM a\nCOPY project/ ./\n# z\nRUN z",
    ),
    "beside a label": (
        "FROM a\nRUN clone <my-project-url>\nLABEL a=b \\\n  s=<my-project-url>",
        "FROM a\nCOPY project/ ./\nLABEL a=b \\\n  s=<my-project-url>",
    ),
}


@pytest.mark.parametrize(("template", "expected"), COPIED.values(), ids=COPIED)
def test_a_copy_takes_the_place_of_the_clone(template: str, expected: str) -> None:
    assert copied(template, "project") == expected


def test_the_templates_clone_alone_is_replaced() -> None:
    before, after = instructions(TEMPLATE), instructions(copied(TEMPLATE, "project"))
    assert [old for old, new in zip(before, after, strict=True) if old != new] == [before[3]]
    assert after[3] == f"COPY{NO_OWNER} project/ ./"


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("FROM a\nLABEL s=<my-project-url>\n# RUN clone <my-project-url>\n", "no RUN instruction with"),
        ("FROM a\nRUN a <my-project-url>\nRUN b <my-project-url>\n", "2 RUN instructions with"),
    ],
    ids=["none", "two"],
)
def test_a_template_without_one_clone_cannot_be_copied_into(template: str, found: str) -> None:
    with pytest.raises(Mistake, match=f"{found} <my-project-url>. MY_PROJECT_SOURCE=copy") as caught:
        copied(template, "project")
    assert caught.value.problems[0].code == "TEMPLATE"


UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    "not there": (None, "No such file or directory"),
    "UTF-16": ("FROM a\n".encode("utf-16"), "it has NUL bytes, as UTF-16 has; save it as UTF-8"),
    "Latin-1": (b"FROM a\n# \xfc\n", "line 2 is not UTF-8"),
    "too large": (b"#" * 70_000, "it is larger than 64 kB"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_template_that_cannot_be_read_is_told(case: str, tmp_path: Path) -> None:
    content, why = UNREADABLE[case]
    if content is not None:
        (tmp_path / "Dockerfile.template").write_bytes(content)
    with pytest.raises(Mistake) as caught:
        read_template(tmp_path)
    assert str(caught.value) == (
        f"Dockerfile.template: cannot be read: {why}. Take Raydock's own again: git checkout -- Dockerfile.template"
    )
    assert caught.value.problems[0].code == "TEMPLATE"


SHOWN: dict[str, tuple[str, str]] = {
    "a default of an argument": ("ARG GIT_TOKEN=hunter2", "GIT_TOKEN has a value"),
    "one of several": ('ENV A=b \\\n  aws_secret_access_key="hunter2" C=d', "aws_secret_access_key has a value"),
    "a variable of old": ("env DB_PASSWORD hunter2 and more", "DB_PASSWORD has a value"),
    "a key of many": ("ENV OPENAI_API_KEYS='hunter2'", "OPENAI_API_KEYS has a value"),
    "a password in a URL": ("RUN pip install git+ssh://me:hunter2@git.test/x", "a URL has a user, password or token"),
    "a token in a URL": ("RUN git clone https://hunter2@git.test/x", "a URL has a user, password or token"),
}


@pytest.mark.parametrize(("line", "why"), SHOWN.values(), ids=SHOWN)
def test_what_an_image_would_show_to_everybody_does_not_get_into_a_build(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.template").write_text(f"FROM a\n\n{line}\n")
    with pytest.raises(Mistake) as caught:
        read_template(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.code, problem.place) == ("TEMPLATE", "Dockerfile.template:3")
    assert problem.error == f"{why}, and an image shows it to everybody"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "ARG GIT_TOKEN",
        "ARG TOKEN=",
        "ENV TOKENIZERS_PARALLELISM=false",
        "ENV RAY_AUTH_TOKEN_PATH=/run/ray-token",
        "ENV HF_TOKEN=$GIVEN OTHER=${GIVEN}",
        "ENV SECRETARY Alice",
        "RUN git clone https://me:$TOKEN@git.test/x ssh://git@git.test:22/x http://git.test:80/a@1",
        "LABEL password=of-nothing",
    ],
)
def test_what_only_looks_like_a_secret_is_no_matter(line: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.template").write_text(f"FROM a\n{line}\n")
    assert line in read_template(tmp_path)


def test_a_pipe_for_a_template_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Dockerfile.template")
    with pytest.raises(Mistake, match="it is not a file"):
        read_template(tmp_path)


def test_a_template_from_windows_is_read_as_the_classic_builder_reads_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.template").write_bytes(b"\xef\xbb\xbfFROM a\r\nRUN x && \\\r\n  y\r\n")
    assert instructions(read_template(tmp_path)) == ["FROM a", "RUN x && y"]


def test_the_classic_builder_can_build_it() -> None:
    assert not re.search(r"--mount|<<|^# *(syntax|escape) *=", TEMPLATE, re.MULTILINE)


def test_the_template_has_each_placeholder_and_no_other() -> None:
    assert set(re.findall(r"<([a-z-]+)>", TEMPLATE)) - {"placeholder"} == set(PLACEHOLDERS)


def test_values_stand_where_their_placeholders_stood() -> None:
    assert instructions(render(TEMPLATE, VALUES)) == [
        "FROM ray-project/deploy",
        "WORKDIR /app",
        'RUN [ -w /app ] || sudo -n chown "$(id -u):$(id -g)" /app',
        "RUN export GIT_TERMINAL_PROMPT=0; "
        "git clone --quiet --no-checkout -- https://git.example.com/team/app.git /app && "
        f"git -c advice.detachedHead=false checkout --quiet {COMMIT} --",
        "RUN /bin/sh -e -c 'pip install -r requirements.txt'",
        "LABEL org.opencontainers.image.source=https://git.example.com/team/app.git "
        f"org.opencontainers.image.revision={COMMIT}",
    ]


def test_no_script_installs_nothing() -> None:
    assert "RUN /bin/sh -e -c :\n" in render(TEMPLATE, VALUES | {"my-project-installation-script": ""})


def test_the_documents_own_template_works() -> None:
    template = "FROM ray-project/deploy\nRUN git clone <my-project-url>\nRUN <my-project-installation-script>\n"
    assert render(template, VALUES).splitlines()[1:] == [
        "RUN git clone https://git.example.com/team/app.git",
        "RUN /bin/sh -e -c 'pip install -r requirements.txt'",
    ]


def test_a_value_that_looks_like_a_placeholder_is_only_a_value() -> None:
    values = VALUES | {"my-project-installation-script": "echo '<my-project-commit>'"}
    assert COMMIT not in instructions(render(TEMPLATE, values))[4]


REFUSED = {
    "a line break": ("my-project-installation-script", "a\nRUN b", "has a line break or a control character"),
    "a carriage return": ("my-project-installation-script", "a\rb", "has a line break or a control character"),
    "a line separator": ("my-project-installation-script", "a\u2028b", "has a line break or a control character"),
    "a NUL": ("my-project-installation-script", "a\0b", "has a line break or a control character"),
    "an escape": ("my-project-installation-script", "a\x1b[2J", "has a line break or a control character"),
    "text that turns around": ("my-project-installation-script", "a\u202eb", "has a line break or a control character"),
    "a backslash at the end": ("my-project-installation-script", "a \\", "ends in a backslash"),
    "a backslash and blanks": ("my-project-installation-script", "a \\  ", "ends in a backslash"),
    "a here-document": ("my-project-installation-script", "cat <<EOF", "has '<<'"),
    "a flag of RUN": ("my-project-installation-script", "--mount=type=bind true", "begins with '-'"),
    "a stage": ("base-image", "a AS b", "is not an image reference"),
    "a second image": ("base-image", "a\nFROM b", "is not an image reference"),
    "a parser's directive": ("base-image", "# escape=`", "is not an image reference"),
    "a program for git to run": ("my-project-url", "ext::sh", "names a remote helper of git"),
    "an option of git": ("my-project-url", "--upload-pack=x", "is not a URL or a folder that git can clone"),
    "a shell's command": ("my-project-url", "https://h/a;reboot", "is not a URL or a folder that git can clone"),
    "a variable": ("my-project-url", "https://h/$HOME", "is not a URL or a folder that git can clone"),
    "another scheme": ("my-project-url", "javascript://h/a", "is not of https, http, ssh, git, file"),
    "no host": ("my-project-url", "https:///a", "has no host"),
    "a branch for a commit": ("my-project-commit", "main", "is not a commit's full id"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_that_would_change_an_instruction_is_refused_by_its_setting(case: str) -> None:
    name, value, error = REFUSED[case]
    with pytest.raises(Mistake) as caught:
        render(TEMPLATE, VALUES | {name: value})
    (problem,) = caught.value.problems
    assert problem.code == "TEMPLATE"
    assert problem.error.startswith(f"{PLACEHOLDERS[name].setting} {error}")


@pytest.mark.parametrize(
    "url",
    ["https://u:hunter2@h/a", "https://hunter2@h/a", "http://hunter2:@h/a", "ssh://git:hunter2@h/a"]
    + ["git:hunter2@h:a", "https://h/a?token=hunter2", "https://h/a#hunter2"],
)
def test_a_url_with_a_secret_is_refused_with_the_way_out_and_without_the_secret(url: str) -> None:
    with pytest.raises(Mistake, match="MY_PROJECT_SOURCE=copy") as caught:
        render(TEMPLATE, VALUES | {"my-project-url": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://h/a.git", "http://h:8080/~u/a", "ssh://git@h:2222/a", "git@h:team/a.git", "git://h/a", "/srv/a", "../a"]
    + ["file:///srv/a", "https://[2001:db8::7]/a", "h:a"],
)
def test_a_url_without_a_secret_is_taken(url: str) -> None:
    assert url in render(TEMPLATE, VALUES | {"my-project-url": url})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(Mistake) as caught:
        render("FROM <base-image>\nRUN <my-project-instalation-script> <my-project-url>\n", {"base-image": "A"})
    assert [(problem.error, problem.cure) for problem in caught.value.problems] == [
        ("<my-project-instalation-script> is no placeholder", "Did you mean my-project-installation-script?"),
        (
            "BASE_IMAGE is not an image reference such as my-app, registry.example.com/team/app:1.0 or app@sha256:…",
            "",
        ),
        ("MY_PROJECT_URL is not set, and the template has <my-project-url>", ""),
    ]


SHELL = st.sampled_from(
    ["pip install .", " ", "'", '"', "\\", "\\\n", "\n", "<<EOF", "<", "$(x)", "`x`", "${X}", ";", "&&", "#", "FROM a"]
    + ["RUN", "[", '["a"]', "--mount", "é", "\u2028", "\0", "<my-project-commit>", "# escape=`"]
)
SCRIPTS = st.one_of(st.text(max_size=40), st.lists(SHELL, max_size=8).map("".join))
URLS = st.one_of(
    SCRIPTS, st.lists(st.sampled_from(["https://", "h", "/", "a", "?", "#", "[", "~", "&", "="])).map("".join)
)


@given(SCRIPTS, URLS)
def test_an_accepted_value_leaves_as_many_instructions_as_the_template_has(script: str, url: str) -> None:
    values = VALUES | {"my-project-installation-script": script}
    for candidate in (values, values | {"my-project-url": url}):
        try:
            rendered = instructions(render(TEMPLATE, candidate))
        except Mistake:
            continue
        assert [line.split()[0] for line in rendered] == [line.split()[0] for line in instructions(TEMPLATE)]
        assert shlex.split(rendered[4]) == ["RUN", "/bin/sh", "-e", "-c", script or ":"]


@pytest.mark.skipif(not shutil.which("git"), reason="git clones the project")
def test_the_templates_commands_put_that_commit_into_the_folder(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        alone = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ("git", *alone, *words), cwd=tmp_path / "project", capture_output=True, text=True, check=True
        ).stdout.strip()

    (tmp_path / "project").mkdir()
    git("init")
    (tmp_path / "project" / "file").write_text("first")
    git("add", ".")
    git("commit", "-m", "first")
    first = git("rev-parse", "HEAD")
    git("commit", "--allow-empty", "-m", "second")

    values = VALUES | {
        "my-project-url": f"file://{tmp_path}/project",
        "my-project-commit": first,
        "my-project-installation-script": "false; touch installed",
    }
    app = tmp_path / "app"
    app.mkdir()
    runs = [line.removeprefix("RUN ") for line in instructions(render(TEMPLATE, values)) if line.startswith("RUN ")]
    codes = [subprocess.run(("sh", "-c", line.replace("/app", str(app))), cwd=app).returncode for line in runs]
    assert codes == [0, 0, 1]
    assert (app / "file").read_text() == "first"
    assert not (app / "installed").exists()
    assert (app / ".git" / "HEAD").read_text().strip() == first
