"""What is shipped with a program, and what never leaves this machine."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy import parcel
from deploy.errors import Mistake
from deploy.parcel import entrypoint, pack

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def lay(root: Path, *names: str, content: str = "content") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def git(root: Path, *argv: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(("git", "-C", str(root), *who, *argv), check=True, capture_output=True)  # noqa: S607


def shipped(file: Path, folder: Path | str = "") -> tuple[str, ...]:
    with pack(str(file), str(folder)) as made, zipfile.ZipFile(made.content) as archive:
        assert tuple(archive.namelist()) == made.files
        return made.files


def withheld(file: Path, folder: Path) -> tuple[str, ...]:
    with pack(str(file), str(folder)) as made:
        return made.withheld


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        ("where.py", [], "python where.py"),
        ("jobs/my pi.py", ["1", "a b", "$HOME", "it's"], """python 'jobs/my pi.py' 1 'a b' '$HOME' 'it'"'"'s'"""),
    ],
)
def test_the_entrypoint_is_one_shell_line(program: str, arguments: list[str], line: str) -> None:
    assert entrypoint(program, arguments) == line


def test_a_file_goes_alone(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", "other.py", ".env")
    assert shipped(tmp_path / "run.py") == ("run.py",)


def test_a_link_that_is_named_as_the_program_goes_as_what_it_points_to(tmp_path: Path) -> None:
    lay(tmp_path, "there/real.py")
    (tmp_path / "link.py").symlink_to("there/real.py")
    assert shipped(tmp_path / "link.py") == ("real.py",)


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        ("module.py", True),
        (".env", False),
        (".env.local", False),
        (".ENV", False),
        (".env.example", True),
        ("deep/down/.env", False),
        ("conf/prod.env", False),
        ("app/conf/prod.env", False),
        ("conf/base/Dockerfile", True),
        ("docs/sample.env", True),
        ("prod.env", False),
        ("conf/sample.env", False),
        *((name, False) for name in (".netrc", "_netrc", ".git-credentials", ".npmrc", ".pypirc", ".envrc", ".pgpass")),
        *((name, False) for name in ("certs/client.p12", "certs/client.PFX", "passwords.kdbx", "login.ppk")),
        *((name, False) for name in (".env_prod", "app/.env_local", ".s3cfg", "kubeconfig", "gcp/credentials.json")),
        *((name, False) for name in ("application_default_credentials.json", "secrets.yaml", "deploy/Secrets.yml")),
        *((name, False) for name in ("terraform.tfstate", "terraform.tfstate.backup", "kubeconfig.bak")),
        *((name, True) for name in (".env_example", "kubeconfig.py", "credentials.json.py", "secrets.yaml.j2")),
        ("aws/credentials.py", True),
        ("docker/config.json", True),
        ("environment.yml", True),
        ("id_rsa", False),
        ("id_ed25519_sk", False),
        ("id_rsa.old", False),
        ("id_rsa.pub", True),
        ("id_mapping.py", True),
        ("certs/server.pem", False),
        ("certs/server.KEY", False),
        ("keyboard.py", True),
    ],
)
def test_secrets_stay_by_their_names(name: str, goes: bool, tmp_path: Path) -> None:
    lay(tmp_path, "run.py", name)
    assert (name in shipped(tmp_path / "run.py", tmp_path)) is goes
    assert any(reason.startswith(f"{name}: ") for reason in withheld(tmp_path / "run.py", tmp_path)) is not goes


@pytest.mark.parametrize(
    "name", [".aws/credentials", "home/.docker/config.json", ".ssh/config", ".KUBE/config", "a/.env~", "prod.env.bak"]
)
def test_the_folders_of_logins_stay_where_git_knows_them_too(name: str, tmp_path: Path) -> None:
    lay(tmp_path, "run.py", name)
    git(tmp_path, "init", "-q")
    assert shipped(tmp_path / "run.py", tmp_path) == ("run.py",)
    assert withheld(tmp_path / "run.py", tmp_path) == (f"{name}: a file of secrets, by its name",)


@pytest.mark.parametrize(
    ("content", "goes"),
    [
        (KEY, False),
        ("-----BEGIN RSA PRIVATE KEY-----\n", False),
        ("-----BEGIN PRIVATE KEY-----\n", False),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", False),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", False),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", False),
        ("\n" + KEY, False),
        ("\ufeff" + KEY, False),
        ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", False),
        ("Bag Attributes\n    localKeyID: 01\n" + KEY, False),
        (CERTIFICATE + KEY, False),
        (1000 * CERTIFICATE + KEY, False),
        ("Certificate:\n    Data:\n        Version: 3 (0x2)\n" + CERTIFICATE + KEY, False),
        ("Certificate Request:\n    Data:\n" + KEY, False),
        ("subject=CN = a\n" + CERTIFICATE + KEY, False),
        ("issuer= /CN=a\nsubject= /CN=a\n" + CERTIFICATE + KEY, False),
        ("serial=01\n" + KEY, False),
        ("SHA1 Fingerprint=C0:10\n" + KEY, False),
        ("Private-Key: (2048 bit, 2 primes)\nmodulus:\n    00:9a\n" + KEY, False),
        ("RSA Private-Key: (2048 bit)\n" + KEY, False),
        ("ED25519 Private-Key:\npriv:\n    80:99\n" + KEY, False),
        ("EC-Parameters: (256 bit)\nASN1 OID: prime256v1\n-----BEGIN EC PARAMETERS-----\n" + KEY, False),
        ("# deploy key\n" + KEY, False),
        ("\ufeff# deploy key\n\n \t#" + 300 * "-" + "\r\n\n" + KEY, False),
        ("# deploy key\n" + CERTIFICATE + "# the key\n" + KEY, False),
        ("# a comment\n" + CERTIFICATE + "# " + KEY, True),
        ("# a heading\n\nA line:\n\n" + KEY, True),
        ("#!/bin/sh\n# Lay a key.\ncat >key <<'END'\n" + KEY + "END\n", True),
        ("# a module\nKEY = b'''\n" + KEY + "'''\n", True),
        ("# " + KEY, True),
        ("Certificate:\n    not " + KEY, True),
        ("a\nRSA Private-Key:\n" + KEY, True),
        (CERTIFICATE, True),
        (CERTIFICATE + "not -----BEGIN PRIVATE KEY-----\n", True),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n", True),
        ("a line\n" + KEY, True),
        ("-----BEGIN PUBLIC KEY-----\n", True),
        ("HEADER = '-----BEGIN PRIVATE KEY-----'\n", True),
        ("", True),
    ],
)
def test_private_keys_stay_by_their_first_bytes(content: str, goes: bool, tmp_path: Path) -> None:
    lay(tmp_path, "run.py")
    lay(tmp_path, "deploy_access", content=content)
    assert ("deploy_access" in shipped(tmp_path / "run.py", tmp_path)) is goes


def test_a_link_cannot_carry_a_secret_under_another_name(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", ".env")
    (tmp_path / "settings").symlink_to(".env")
    assert shipped(tmp_path / "run.py", tmp_path) == ("run.py",)


def test_links_out_of_the_folder_are_not_followed_and_told(tmp_path: Path) -> None:
    lay(tmp_path, "in/run.py", "in/data.csv", "out/passwd")
    (tmp_path / "in/file").symlink_to("../out/passwd")
    (tmp_path / "in/folder").symlink_to("../out")
    (tmp_path / "in/near.csv").symlink_to("data.csv")
    folder = tmp_path / "in"
    assert shipped(folder / "run.py", folder) == ("data.csv", "near.csv", "run.py")
    assert withheld(folder / "run.py", folder) == (
        "file: a link that points outside the folder",
        "folder: a link that points outside the folder",
    )


def test_a_folder_goes_without_what_git_ignores(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    lay(tmp_path, ".gitignore", content="build/\n*.log\n")
    lay(tmp_path, "run.py", "untracked.py", "build/huge.bin", "a.log", "lib/x.py", "gone.py", "sp ace\nline.py")
    git(tmp_path, "add", "run.py", "gone.py")
    (tmp_path / "gone.py").unlink()
    assert shipped(tmp_path / "run.py", tmp_path) == (
        ".gitignore",
        "lib/x.py",
        "run.py",
        "sp ace\nline.py",
        "untracked.py",
    )


def test_a_git_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "run.py", "bin/git", content="#!/bin/sh\nexec sleep 20\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(parcel, "GIT_DEADLINE", 0.5)
    with pytest.raises(Mistake, match=r"git did not tell within 0\.5 s what it ignores"):
        shipped(tmp_path / "run.py", tmp_path)


def test_a_part_of_a_repository_goes_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    lay(tmp_path, ".gitignore", content="*.log\n")
    lay(tmp_path, "top.py", "part/run.py", "part/a.log", "part/lib/x.py")
    assert shipped(tmp_path / "part/run.py", tmp_path / "part") == ("lib/x.py", "run.py")


def test_what_git_ignores_is_also_left_out_of_a_repository_within(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", "inner/x.py", "inner/x.log")
    lay(tmp_path, "inner/.gitignore", content="*.log\n")
    git(tmp_path, "init", "-q")
    git(tmp_path / "inner", "init", "-q")
    git(tmp_path / "inner", "add", ".")
    git(tmp_path / "inner", "commit", "-qm", "inner")
    git(tmp_path, "add", "inner", "run.py")  # as a submodule is: one entry
    (tmp_path / "inner/new.py").write_text("")
    files = ("inner/.gitignore", "inner/new.py", "inner/x.py", "run.py")
    assert shipped(tmp_path / "run.py", tmp_path) == files


def test_an_empty_submodule_gives_nothing(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", "inner/x.py")
    git(tmp_path, "init", "-q")
    git(tmp_path / "inner", "init", "-q")
    git(tmp_path / "inner", "add", ".")
    git(tmp_path / "inner", "commit", "-qm", "inner")
    git(tmp_path, "add", "inner", "run.py")
    subprocess.run(("rm", "-r", str(tmp_path / "inner")), check=True)  # noqa: S607
    (tmp_path / "inner").mkdir()
    assert shipped(tmp_path / "run.py", tmp_path) == ("run.py",)


def test_a_program_that_git_ignores_goes_all_the_same(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    lay(tmp_path, ".gitignore", content="scratch.py\n")
    lay(tmp_path, "scratch.py")
    assert "scratch.py" in shipped(tmp_path / "scratch.py", tmp_path)


def test_a_folder_without_git_goes_without_hidden_folders_and_compiled_python(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", ".venv/lib.py", "__pycache__/run.pyc", "lib/__pycache__/x.pyc", "lib/x.py", ".hidden")
    assert shipped(tmp_path / "run.py", tmp_path) == (".hidden", "lib/x.py", "run.py")


def test_git_answers_for_the_folder_even_inside_a_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    lay(tmp_path, ".gitignore", content="*.log\n")
    lay(tmp_path, "run.py", "a.log")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert shipped(tmp_path / "run.py", tmp_path) == (".gitignore", "run.py")


def test_the_same_content_has_the_same_name(tmp_path: Path) -> None:
    names = []
    for place, stamp in (("one", 1), ("two", 2_000_000_000)):
        lay(tmp_path / place, "run.py", "lib/x.py")
        os.utime(tmp_path / place / "run.py", (stamp, stamp))
        with pack(str(tmp_path / place / "run.py"), str(tmp_path / place)) as made:
            names.append((made.name, made.content.read()))
    assert names[0] == names[1]
    assert names[0][0].startswith("_ray_pkg_")
    assert len(names[0][0]) == len("_ray_pkg_0123456789abcdef.zip")


def test_other_content_has_another_name(tmp_path: Path) -> None:
    found = set()
    for content in ("a", "b"):
        lay(tmp_path, "run.py", content=content)
        with pack(str(tmp_path / "run.py")) as made:
            found.add(made.name)
    assert len(found) == 2


def test_programs_stay_executable(tmp_path: Path) -> None:
    lay(tmp_path, "run.py", "tool.sh")
    (tmp_path / "tool.sh").chmod(0o755)
    with pack(str(tmp_path / "run.py"), str(tmp_path)) as made, zipfile.ZipFile(made.content) as archive:
        assert [entry.external_attr >> 16 & 0o777 for entry in archive.infolist()] == [0o644, 0o755]


def refusal(*argv: str) -> str:
    with pytest.raises(Mistake) as told, pack(*argv):
        raise AssertionError("it was packed")
    return str(told.value)


def say_absent(root: Path) -> Sequence[str]:
    return (f"{root}/none.py",)


def say_folder(root: Path) -> Sequence[str]:
    return (str(root),)


def say_outside(root: Path) -> Sequence[str]:
    lay(root, "run.py", "lib/x.py")
    return (f"{root}/run.py", f"{root}/lib")


def say_no_folder(root: Path) -> Sequence[str]:
    lay(root, "run.py")
    return (f"{root}/run.py", f"{root}/run.py")


def say_secret(root: Path) -> Sequence[str]:
    lay(root, ".env")
    return (f"{root}/.env",)


@pytest.mark.parametrize(
    ("lay_out", "said"),
    [
        (say_absent, "none.py is no file"),
        (say_folder, "is no file. Name a Python program"),
        (say_outside, "does not lie within --folder"),
        (say_no_folder, "run.py is no folder"),
        (say_secret, ".env is not shipped: a file of secrets, by its name"),
    ],
)
def test_what_cannot_be_shipped_is_a_mistake(lay_out: object, said: str, tmp_path: Path) -> None:
    assert callable(lay_out)
    assert said in refusal(*lay_out(tmp_path))


def test_too_much_is_a_mistake_that_names_the_biggest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "CAP", 1 << 20)
    lay(tmp_path, "run.py")
    (tmp_path / "big.bin").write_bytes(os.urandom(3 << 20))
    (tmp_path / "small.bin").write_bytes(os.urandom(1 << 19))
    told = refusal(str(tmp_path / "run.py"), str(tmp_path))
    assert told.startswith("more than 1 MiB to ship")
    assert "big.bin (3.0 MiB), small.bin (0.5 MiB)" in told
