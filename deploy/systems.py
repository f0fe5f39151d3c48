"""The systems that a node may run, and how Docker comes onto each: a system is one row."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from deploy.shell import APT

OS_RELEASE = "/etc/os-release"
CLIENT = "command -v docker"
# A package manager that we did not wait for may still be at it: then both are there, and not yet set up.
ENGINE = f'{CLIENT} && command -v dockerd && [ -z "$(dpkg --audit docker.io 2>/dev/null)" ]'

Words = tuple[str, ...]


@dataclass(frozen=True)
class Packages:
    """A package manager: what installs, what fetches its lists anew where that fails, and the codes of its failures."""

    install: Words
    failed: str
    refresh: Words = ()
    # What it says where somebody else has its lock, and the code of that.
    lock: tuple[str, str] | None = None
    # A line of sh that prints who has it, as `12 (apt-get)`, or nothing.
    holder: str = ""

    def code(self, error: str) -> str:
        """Give the code for what it said."""
        return self.lock[1] if self.lock and self.lock[0] in error else self.failed

    def shell(self, package: str) -> str:
        """Write the installation of a package."""
        install = f"as_root {shlex.join((*self.install, package))}"
        return f"{install} || {{ as_root {shlex.join(self.refresh)}; {install}; }}" if self.refresh else install


# dnf fetches its lists, and waits for another dnf, by itself.
DNF = Packages(("dnf", "-y", "install"), "DNF_FAILED")
# The kernel's list of locks has a file by its inode; who has it may have ended since.
APT_HOLDER = r"""
inode=$(stat -c %i /var/lib/dpkg/lock-frontend 2>/dev/null) || exit 0
while read -r _ _ _ _ pid file _; do
  [ "${file##*:}" != "$inode" ] || { echo "$pid ($(cat "/proc/$pid/comm" 2>/dev/null))"; exit; }
done </proc/locks
""".strip()
APT_GET = Packages((*APT, "install"), "APT_FAILED", (*APT, "update"), ("Could not get lock", "APT_LOCKED"), APT_HOLDER)


@dataclass(frozen=True)
class System:
    """A system by the words of ID and ID_LIKE, and its packages; without any it is for the operator's hands."""

    names: Words
    packages: Packages | None = None
    engine: str = ""
    # A package of its own, for where the engine's does not bring `docker`.
    client: str = ""
    by_hand: str = ""

    @property
    def cure(self) -> str:
        """What to do where there is nothing to install."""
        return f"Install {self.by_hand} by hand, then run this again"

    @property
    def pattern(self) -> str:
        """The pattern of a bash `case` for its names among others."""
        return " | ".join(f'*" {name} "*' for name in self.names)

    @property
    def shell(self) -> str:
        """The lines that install Docker, or say what to install by hand."""
        if self.packages is None:
            return f"echo {shlex.quote(f'no Docker among the packages of this system. {self.cure}')} >&2; exit 1"
        engine = self.packages.shell(self.engine)
        if not self.client:
            return engine
        return f"{engine}\n    as_root sh -c '{CLIENT}' >/dev/null || {in_braces(self.packages.shell(self.client))}"


# The first that fits: whoever is like RHEL is like Fedora too, and has no engine in its repositories.
SYSTEMS = (
    System(("debian", "ubuntu"), APT_GET, "docker.io", "docker-cli"),
    System(("rhel", "centos", "ol"), by_hand="docker-ce and docker-ce-cli (docs.docker.com/engine/install)"),
    System(("amzn",), DNF, "docker"),
    System(("fedora",), DNF, "moby-engine", "docker-cli"),
)
OTHER = System((), by_hand="Docker's engine and its command line (dockerd and docker)")


def values_of(os_release: str) -> dict[str, str]:
    """Give what `/etc/os-release` says, by its keys."""
    pairs = (line.partition("=")[::2] for line in os_release.splitlines())
    return {key: value.strip("\"'") for key, value in pairs}


def system_of(os_release: str) -> System:
    """Give the row for a system, as it names itself and its kin."""
    values = values_of(os_release)
    names = {*values.get("ID", "").split(), *values.get("ID_LIKE", "").split()}
    return next((system for system in SYSTEMS if names.intersection(system.names)), OTHER)


def name_of(os_release: str) -> str:
    """Give a system's name for people."""
    values = values_of(os_release)
    return values.get("PRETTY_NAME") or values.get("ID") or "this system"


def install_shell() -> str:
    """Write the installation of Docker as a line for any system."""
    rows = [f"  {one.pattern})\n    {one.shell} ;;" for one in SYSTEMS]
    choice = f'case "$(. {OS_RELEASE}; echo " ${{ID:-}} ${{ID_LIKE:-}} ")" in'
    return "\n".join((choice, *rows, f"  *)\n    {OTHER.shell} ;;", "esac"))


def in_braces(line: str) -> str:
    """Write a line as one command, where it is more than one."""
    return f"{{ {line}; }}" if "||" in line else line
