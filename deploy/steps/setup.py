"""Docker on a node: `setup-docker.sh`, line by line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Step
from deploy.systems import CLIENT, ENGINE, OS_RELEASE, Packages, install_shell, name_of, system_of
from deploy.timings import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.site import Site

INSTALL_DEADLINE = 600  # seconds for a download and its unpacking
SYSTEMD = "/run/systemd/system"  # a folder that is there where systemd is the first process: sd_booted(3)
BY_SYSTEMD = ("systemctl", "enable", "--now", "docker")
BY_SERVICE = ("service", "docker", "start")
# Those that the user has by now, whatever this session was given.
GROUPS = 'id -nG "$(id -un)"'
# Why an engine may not answer a user before all of the setup is done.
UNANSWERED = frozenset({"DOCKER_ABSENT", "DOCKER_DOWN", "DOCKER_PERMISSION"})


@dataclass(frozen=True)
class InstallDocker(Step):
    """Have Docker installed, of the distribution's packages. Document: `sudo apt-get install -y docker.io`."""

    phase: ClassVar[Phase | None] = Phase.INSTALL
    document: ClassVar[str] = "sudo apt-get install -y docker.io"
    cut_short: ClassVar[str] = "the package manager goes on there, and the next run waits for it"

    @property
    def title(self) -> str:
        return "install Docker"

    @property
    def shell(self) -> str:
        return f"as_root sh -c '{ENGINE}' >/dev/null || {install_shell()}"

    def done(self, site: Site) -> bool:
        """Ask the engine itself; where it gives no answer, perhaps to this user alone, look for what it is made of."""
        return answers(site) or site.ask("sh", "-c", ENGINE, root=True)

    def apply(self, site: Site) -> None:
        """Install the engine, and the command line where it is still absent; `OS_UNSUPPORTED` where nobody has it."""
        found = os_release(site)
        system = system_of(found)
        if system.packages is None:
            raise Failure("OS_UNSUPPORTED", f"no Docker among the packages of {name_of(found)}", system.cure)
        if not site.ask("true", root=True):
            raise Failure("SUDO_PASSWORD_NEEDED", "sudo asks for a password", "Allow sudo without one (NOPASSWD)")
        install(site, system.packages, system.engine)
        if system.client and not site.ask("sh", "-c", CLIENT, root=True):
            install(site, system.packages, system.client)


def answers(site: Site) -> bool:
    """Tell whether the engine answers the login user, which it does through its own command line."""
    try:
        site.docker.platform()
    except Failure as failure:
        if failure.code not in UNANSWERED:
            raise
        return False
    return True


def os_release(site: Site) -> str:
    """Give what a node's system says of itself: nothing where it is too old, or too small, to say it."""
    try:
        return site.run("cat", OS_RELEASE)
    except Failure as failure:
        if failure.code != "COMMAND_FAILED":
            raise
        return ""


def install(site: Site, packages: Packages, package: str) -> None:
    """Install a package; the lists are fetched only where it is not found."""
    line = (*packages.install, package)
    if packages.holder and (holder := site.run("sh", "-c", packages.holder, root=True).strip()):
        site.say(f"waiting for the package manager's lock, held by pid {holder}")
    try:
        manage(site, packages, line)
    except Failure as failure:
        # What somebody else's lock stopped is not helped by new lists, and would wait as long again.
        if not packages.refresh or failure.code != packages.failed:
            raise
        manage(site, packages, packages.refresh)
        manage(site, packages, line)


def manage(site: Site, packages: Packages, line: Sequence[str]) -> None:
    """Have the package manager do something; where it fails, its code says whose failure it is."""
    try:
        site.run(*line, root=True, timeout=INSTALL_DEADLINE, live=True, outlives=True)
    except Failure as failure:
        if failure.code != "COMMAND_FAILED":
            raise
        code = packages.code(failure.error)
        cure = "Mend it on the node" if code == packages.failed else "Let the other package manager end, or end it"
        raise Failure(code, failure.error, cure) from failure


@dataclass(frozen=True)
class StartDocker(Step):
    """Have the engine run, at each boot too where systemd runs. Document: `sudo service docker start`."""

    phase: ClassVar[Phase | None] = Phase.INSTALL
    document: ClassVar[str] = "sudo service docker start"

    @property
    def title(self) -> str:
        return "start the Docker service"

    @property
    def shell(self) -> str:
        return (
            f"as_root docker version >/dev/null 2>&1 || {{ if [ -d {SYSTEMD} ]; "
            f"then as_root {shlex.join(BY_SYSTEMD)}; else as_root {shlex.join(BY_SERVICE)}; fi; "
            "for _ in {1..60}; do as_root docker version >/dev/null 2>&1 && break; sleep 0.5; done; "
            "as_root docker version >/dev/null; }"
        )

    def done(self, site: Site) -> bool:
        """Ask the engine itself: where it answers, nobody has to be root to know that it runs."""
        return answers(site) or site.ask("docker", "version", root=True)

    def apply(self, site: Site) -> None:
        """Start the service and wait up to 30 s for the engine's answer."""
        wait = "for _ in $(seq 60); do docker version >/dev/null 2>&1 && exit; sleep 0.5; done; docker version"
        start = BY_SYSTEMD if site.ask("test", "-d", SYSTEMD) else BY_SERVICE
        try:
            site.run(*start, root=True, timeout=60, live=True)
            site.run("sh", "-c", wait, root=True, timeout=60)
        except Failure as failure:
            if failure.code != "COMMAND_FAILED":
                raise
            raise Failure("DOCKER_DOWN", failure.error, "See why: sudo journalctl -u docker") from failure


@dataclass(frozen=True)
class JoinDockerGroup(Step):
    """Let the login user speak to the engine. Document: `sudo usermod -a -G docker ubuntu`."""

    phase: ClassVar[Phase | None] = Phase.INSTALL
    document: ClassVar[str] = "sudo usermod -a -G docker ubuntu"
    ends_session: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "join the docker group"

    @property
    def shell(self) -> str:
        return f'[ "$(id -u)" = 0 ] || [[ " $({GROUPS}) " = *" docker "* ]] || as_root usermod -a -G docker "$(id -un)"'

    def done(self, site: Site) -> bool:
        return site.is_root or "docker" in site.run("sh", "-c", GROUPS).split()

    def apply(self, site: Site) -> None:
        """Add the group, and open a new session: the old one keeps its groups."""
        site.run("usermod", "-a", "-G", "docker", site.run("id", "-un").strip(), root=True)
        site.reconnect()


@dataclass(frozen=True)
class MakeStateFolder(Step):
    """Have the folder on the head for what operators share there."""

    phase: ClassVar[Phase | None] = Phase.INSTALL
    cluster: str

    @property
    def path(self) -> str:
        """The folder."""
        return f"/var/lib/raydock/{self.cluster}"

    @property
    def title(self) -> str:
        return f"make {self.path}"

    @property
    def shell(self) -> str:
        return f"{self.question} || as_root install -d -m 2770 -g docker {self.path}"

    @property
    def question(self) -> str:
        """Whether the group has it: whoever took the lock before there was one has made it for root alone."""
        return f'[ "$(stat -c %G {self.path} 2>/dev/null)" = docker ]'

    def done(self, site: Site) -> bool:
        return site.ask("sh", "-c", self.question)

    def apply(self, site: Site) -> None:
        site.run("install", "-d", "-m", "2770", "-g", "docker", self.path, root=True)
