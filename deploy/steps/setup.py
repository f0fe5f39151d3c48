"""Docker on a node: `setup-docker.sh`, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deploy.errors import Failure
from deploy.plan import Step
from deploy.shell import APT, apt_install

if TYPE_CHECKING:
    from deploy.site import Site

APT_DEADLINE = 600  # seconds for a download and its unpacking
DEBIAN = frozenset({"debian", "ubuntu"})


def system_of(os_release: str) -> frozenset[str]:
    """Give the names by which a system calls itself and its kin in `/etc/os-release`."""
    pairs = (line.partition("=")[::2] for line in os_release.splitlines())
    return frozenset(word for key, value in pairs if key in {"ID", "ID_LIKE"} for word in value.strip("\"'").split())


@dataclass(frozen=True)
class InstallDocker(Step):
    """Have Docker installed. Document: `sudo apt-get install -y docker.io`."""

    document: ClassVar[str] = "sudo apt-get install -y docker.io"

    @property
    def title(self) -> str:
        return "install Docker"

    @property
    def shell(self) -> str:
        return f"as_root sh -c 'command -v docker && command -v dockerd' >/dev/null || {apt_install('docker.io')}"

    def done(self, site: Site) -> bool:
        return site.ask("sh", "-c", "command -v docker && command -v dockerd", root=True)

    def apply(self, site: Site) -> None:
        """Install the distribution's package; the package lists are fetched only where it is not found."""
        if not DEBIAN & system_of(site.run("cat", "/etc/os-release")):
            raise Failure("OS_UNSUPPORTED", "not a Debian or an Ubuntu", "Install Docker by hand, then run this again")
        if not site.ask("true", root=True):
            raise Failure("SUDO_PASSWORD_NEEDED", "sudo asks for a password", "Allow sudo without one (NOPASSWD)")
        install = (*APT, "install", "docker.io")
        if site.ask(*install, root=True, timeout=APT_DEADLINE, live=True):
            return
        try:
            site.run(*APT, "update", root=True, timeout=APT_DEADLINE, live=True)
            site.run(*install, root=True, timeout=APT_DEADLINE, live=True)
        except Failure as failure:
            if failure.code != "COMMAND_FAILED":
                raise
            locked = "Could not get lock" in failure.error
            raise Failure("APT_LOCKED" if locked else "APT_FAILED", failure.error, "Mend it on the node") from failure


@dataclass(frozen=True)
class StartDocker(Step):
    """Have the engine run. Document: `sudo service docker start`."""

    document: ClassVar[str] = "sudo service docker start"

    @property
    def title(self) -> str:
        return "start the Docker service"

    @property
    def shell(self) -> str:
        return (
            "as_root docker version >/dev/null 2>&1 || { as_root service docker start; "
            "for _ in {1..60}; do as_root docker version >/dev/null 2>&1 && break; sleep 0.5; done; "
            "as_root docker version >/dev/null; }"
        )

    def done(self, site: Site) -> bool:
        return site.ask("docker", "version", root=True)

    def apply(self, site: Site) -> None:
        """Start the service and wait up to 30 s for the engine's answer."""
        wait = "for _ in $(seq 60); do docker version >/dev/null 2>&1 && exit; sleep 0.5; done; docker version"
        try:
            site.run("service", "docker", "start", root=True, timeout=60, live=True)
            site.run("sh", "-c", wait, root=True, timeout=60)
        except Failure as failure:
            if failure.code != "COMMAND_FAILED":
                raise
            raise Failure("DOCKER_DOWN", failure.error, "See why: sudo journalctl -u docker") from failure


@dataclass(frozen=True)
class JoinDockerGroup(Step):
    """Let the login user speak to the engine. Document: `sudo usermod -a -G docker ubuntu`."""

    document: ClassVar[str] = "sudo usermod -a -G docker ubuntu"
    ends_session: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return "join the docker group"

    @property
    def shell(self) -> str:
        return '[ "$(id -u)" = 0 ] || id -nG "$(id -un)" | grep -qw docker || as_root usermod -a -G docker "$(id -un)"'

    def done(self, site: Site) -> bool:
        user = site.run("id", "-un").strip()
        return user == "root" or "docker" in site.run("id", "-nG", user).split()

    def apply(self, site: Site) -> None:
        """Add the group, and open a new session: the old one keeps its groups."""
        site.run("usermod", "-a", "-G", "docker", site.run("id", "-un").strip(), root=True)
        site.reconnect()


@dataclass(frozen=True)
class MakeStateFolder(Step):
    """Have the folder on the head for what operators share there."""

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
        return f"[ -d {self.path} ] || as_root install -d -m 2770 -g docker {self.path}"

    def done(self, site: Site) -> bool:
        return site.ask("test", "-d", self.path)

    def apply(self, site: Site) -> None:
        site.run("install", "-d", "-m", "2770", "-g", "docker", self.path, root=True)
