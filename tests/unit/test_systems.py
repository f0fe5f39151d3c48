"""The systems of nodes: which row is whose, and both faces of installing Docker and starting it on each."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.errors import Failure
from deploy.shell import AS_ROOT
from deploy.steps.setup import SYSTEMD, InstallDocker, StartDocker
from deploy.systems import CLIENT, ENGINE, OS_RELEASE, OTHER, SYSTEMS, name_of, system_of

from .fakes import Cluster, FakeSite, command_failed, scope

APT = "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -y"
APT_LINES = (f"{APT} install docker.io", f"{APT} install docker-cli")
FEDORA_LINES = ("dnf -y install moby-engine", "dnf -y install docker-cli")
TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """A system as it names itself, and the lines that install Docker on it; the last where `docker` is absent."""

    os_release: str
    name: str
    lines: Sequence[str] = ()


CASES: dict[str, Case] = {
    "Debian 12": Case(
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
        'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL="https://www.debian.org/"\n',
        "Debian GNU/Linux 12 (bookworm)",
        APT_LINES,
    ),
    "Debian 13": Case(
        'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n'
        'VERSION="13 (trixie)"\nVERSION_CODENAME=trixie\nDEBIAN_VERSION_FULL=13.0\nID=debian\n',
        "Debian GNU/Linux 13 (trixie)",
        APT_LINES,
    ),
    "Ubuntu 22.04": Case(
        'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\n'
        'VERSION="22.04.5 LTS (Jammy Jellyfish)"\nVERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n'
        "UBUNTU_CODENAME=jammy\n",
        "Ubuntu 22.04.5 LTS",
        APT_LINES,
    ),
    "Ubuntu 24.04": Case(
        'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
        'VERSION="24.04.1 LTS (Noble Numbat)"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\nLOGO=ubuntu-logo\n',
        "Ubuntu 24.04.1 LTS",
        APT_LINES,
    ),
    "Raspbian 12": Case(
        'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nNAME="Raspbian GNU/Linux"\nVERSION_ID="12"\n'
        "ID=raspbian\nID_LIKE=debian\n",
        "Raspbian GNU/Linux 12 (bookworm)",
        APT_LINES,
    ),
    "Linux Mint 22": Case(
        'NAME="Linux Mint"\nVERSION="22 (Wilma)"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
        'PRETTY_NAME="Linux Mint 22"\nVERSION_ID="22"\n',
        "Linux Mint 22",
        APT_LINES,
    ),
    "Amazon Linux 2023": Case(
        'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
        'PLATFORM_ID="platform:al2023"\nPRETTY_NAME="Amazon Linux 2023.6.20241010"\nANSI_COLOR="0;33"\n',
        "Amazon Linux 2023.6.20241010",
        ("dnf -y install docker",),
    ),
    "Fedora 41": Case(
        'NAME="Fedora Linux"\nVERSION="41 (Server Edition)"\nRELEASE_TYPE=stable\nID=fedora\nVERSION_ID=41\n'
        'VERSION_CODENAME=""\nPLATFORM_ID="platform:f41"\nPRETTY_NAME="Fedora Linux 41 (Server Edition)"\n',
        "Fedora Linux 41 (Server Edition)",
        FEDORA_LINES,
    ),
    "Rocky 9": Case(
        'NAME="Rocky Linux"\nVERSION="9.4 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
        'PLATFORM_ID="platform:el9"\nPRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\n',
        "Rocky Linux 9.4 (Blue Onyx)",
    ),
    "RHEL 9": Case(
        'NAME="Red Hat Enterprise Linux"\nVERSION="9.4 (Plow)"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"\n'
        'PRETTY_NAME="Red Hat Enterprise Linux 9.4 (Plow)"\n',
        "Red Hat Enterprise Linux 9.4 (Plow)",
    ),
    "Amazon Linux 2": Case(
        'NAME="Amazon Linux"\nVERSION="2"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n'
        'PRETTY_NAME="Amazon Linux 2"\n',
        "Amazon Linux 2",
    ),
    "Alpine": Case(
        'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n', "Alpine Linux v3.20"
    ),
    "openSUSE": Case(
        'NAME="openSUSE Leap"\nVERSION="15.6"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n'
        'PRETTY_NAME="openSUSE Leap 15.6"\n',
        "openSUSE Leap 15.6",
    ),
    "one that says nothing": Case("", "this system"),
}
KNOWN = {name: case for name, case in CASES.items() if case.lines}
UNKNOWN = {name: case for name, case in CASES.items() if not case.lines}
# `docker` comes with the engine's package, or it does not.
BROUGHT = pytest.mark.parametrize("brought", [True, False], ids=["docker is brought", "docker is not brought"])


def wanted(case: Case, *, brought: bool) -> list[str]:
    """Give the lines that are to be run."""
    return list(case.lines[: 1 if brought else None])


def test_every_row_is_the_row_of_a_system_here() -> None:
    assert {id(system_of(case.os_release)) for case in CASES.values()} >= set(map(id, SYSTEMS))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_system_has_a_name_for_people(case: Case) -> None:
    assert name_of(case.os_release) == case.name


# --- as the run does it ----------------------------------------------------------------------------------------


def site(case: Case, **answers: str | Failure) -> FakeSite:
    """Give a node of the system, without Docker."""
    one = Cluster(scope()).sites["head"]
    one.docker.broken["platform"] = Failure("DOCKER_ABSENT", "docker: not found")
    one.answers |= {shlex.join(("sh", "-c", ENGINE)): command_failed(), f"cat {OS_RELEASE}": case.os_release, **answers}
    return one


@BROUGHT
@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_the_run_installs(case: Case, *, brought: bool) -> None:
    one = site(case, **({} if brought else {shlex.join(("sh", "-c", CLIENT)): command_failed()}))
    assert not InstallDocker().done(one)
    InstallDocker().apply(one)
    assert [line for line in one.commands if "install" in line] == [
        f"sudo {line}" for line in wanted(case, brought=brought)
    ]


@pytest.mark.parametrize("case", UNKNOWN.values(), ids=UNKNOWN)
def test_the_run_says_what_to_install_by_hand(case: Case) -> None:
    one = site(case)
    with pytest.raises(Failure, match=r"by hand, then run this again") as caught:
        InstallDocker().apply(one)
    assert (caught.value.code, one.commands) == ("OS_UNSUPPORTED", [f"cat {OS_RELEASE}"])
    assert caught.value.error == f"no Docker among the packages of {case.name}"


def test_a_system_that_does_not_say_what_it_is_is_for_hands() -> None:
    one = site(CASES["Debian 12"], **{f"cat {OS_RELEASE}": command_failed("No such file or directory")})
    with pytest.raises(Failure) as caught:
        InstallDocker().apply(one)
    assert (caught.value.code, caught.value.error) == ("OS_UNSUPPORTED", "no Docker among the packages of this system")


def test_bash_says_so_too(host: Host) -> None:
    done = host.bash(InstallDocker().shell.replace(OS_RELEASE, shlex.quote(str(host.folder / "nowhere"))))
    assert (done.returncode, host.calls) == (1, [])
    assert OTHER.cure in done.stderr


def test_what_dnf_says_is_told() -> None:
    one = site(CASES["Fedora 41"], dnf=command_failed("No match for argument: moby-engine"))
    with pytest.raises(Failure) as caught:
        InstallDocker().apply(one)
    assert (caught.value.code, caught.value.error) == ("DNF_FAILED", "No match for argument: moby-engine")


# --- as bash does it -------------------------------------------------------------------------------------------

FAKE = """\
#!/bin/bash
[ "${0##*/}" = sudo ] && { shift; exec "$@"; }
echo "${0##*/} $*" >>"$LOG"
case "$*" in
  *update) touch "$BIN/updated" ;;
  *install*) [ -z "${STALE:-}" ] || [ -e "$BIN/updated" ] || exit 100
    case "$*" in *docker.io | *moby-engine | *' docker') touch "$BIN/dockerd"; chmod +x "$BIN/dockerd" ;; esac
    [ -z "${BROUGHT:-}" ] && case "$*" in *docker.io | *moby-engine) exit 0 ;; esac
    ln -sf fake "$BIN/docker" ;;
  start* | enable* | *start) touch "$BIN/runs" ;;
  version) [ -e "$BIN/runs" ] ;;
esac
"""
FAKES = ("apt-get", "dnf", "systemctl", "service", "sudo")
# What the lines may call beside them.
PLAIN = ("bash", "sh", "env", "id", "sleep", "touch", "chmod", "ln")


@dataclass(frozen=True)
class Host:
    """A host on whose PATH are only fakes that note how they were called."""

    folder: Path

    def __post_init__(self) -> None:
        """Lay the PATH."""
        self.bin.mkdir()
        (self.bin / "fake").write_text(FAKE, encoding="utf-8")
        (self.bin / "fake").chmod(0o755)
        for name in FAKES:
            (self.bin / name).symlink_to("fake")
        for name in PLAIN:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def calls(self) -> list[str]:
        """The calls, without the engine's own questions; apt-get is called by way of env."""
        log = self.folder / "log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [line for line in lines if line != "docker version"]

    def bash(self, line: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a line as the script runs it."""
        environ = {"PATH": str(self.bin), "BIN": str(self.bin), "LOG": str(self.folder / "log"), **env}
        text = f"set -euo pipefail\n{AS_ROOT}\n{{\n{line}\n}} </dev/null\n"
        return subprocess.run(
            [str(shutil.which("bash")), "-s"], input=text, env=environ, capture_output=True, text=True, timeout=30
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def install_on(host: Host, case: Case, **env: str) -> subprocess.CompletedProcess[str]:
    (host.folder / "os-release").write_text(case.os_release, encoding="utf-8")
    return host.bash(InstallDocker().shell.replace(OS_RELEASE, shlex.quote(str(host.folder / "os-release"))), **env)


@BROUGHT
@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_bash_installs_and_the_second_time_finds_it(case: Case, host: Host, *, brought: bool) -> None:
    for _ in range(2):
        done = install_on(host, case, BROUGHT="yes" if brought else "")
        assert done.returncode == 0, done.stderr
        lines = [line.removeprefix("env DEBIAN_FRONTEND=noninteractive ") for line in wanted(case, brought=brought)]
        assert host.calls == lines


@pytest.mark.parametrize("case", UNKNOWN.values(), ids=UNKNOWN)
def test_bash_says_what_to_install_by_hand(case: Case, host: Host) -> None:
    done = install_on(host, case)
    assert (done.returncode, host.calls) == (1, [])
    assert done.stderr == f"no Docker among the packages of this system. {system_of(case.os_release).cure}\n"


def test_bash_fetches_old_package_lists(host: Host) -> None:
    done = install_on(host, CASES["Debian 12"], STALE="yes", BROUGHT="yes")
    assert done.returncode == 0, done.stderr
    assert [call.split()[-2:] for call in host.calls] == [
        ["install", "docker.io"],
        ["-y", "update"],
        ["install", "docker.io"],
    ]


def test_bash_ends_where_dnf_does_not_install(host: Host) -> None:
    assert install_on(host, CASES["Fedora 41"], STALE="yes").returncode == 100
    assert host.calls == ["dnf -y install moby-engine"]


@pytest.mark.parametrize(
    ("systemd", "call"),
    [(True, "systemctl enable --now docker"), (False, "service docker start")],
    ids=["by systemd", "by service"],
)
def test_bash_starts_the_engine_and_the_second_time_finds_it_running(host: Host, call: str, *, systemd: bool) -> None:
    (host.bin / "docker").symlink_to("fake")
    folder = host.folder if systemd else host.folder / "none"
    for _ in range(2):
        done = host.bash(StartDocker().shell.replace(SYSTEMD, shlex.quote(str(folder))))
        assert done.returncode == 0, done.stderr
        assert host.calls == [call]


# --- as it is told ---------------------------------------------------------------------------------------------


def test_the_docs_have_every_row() -> None:
    text = (TOP / "docs" / "setup.md").read_text(encoding="utf-8")
    told = [word for one in SYSTEMS for word in (one.engine, one.client) if word]
    assert [word for word in told if f"`{word}`" not in text] == []
    assert "(docs/setup.md)" in (TOP / "README.md").read_text(encoding="utf-8")
