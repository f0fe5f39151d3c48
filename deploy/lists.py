"""The settings that are lists of shell words: volumes, variables, and arguments for `ray start`."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from deploy import grammar, ports

# What Raydock gives `ray start` itself, and which setting decides it.
RAY_ARGUMENTS_OF_OURS = {
    "--head": "the node's role decides it",
    "--block": "it is always given",
    "--port": "set REDIS_PORT",
    "--redis-port": "set REDIS_PORT",
    "--address": "set HEAD_ADDRESS",
    "--redis-address": "set HEAD_ADDRESS",
    "--node-ip-address": "set HEAD_ADDRESS, or private= in workers.txt",
    "--object-manager-port": "set OBJECT_MANAGER_PORT",
    "--dashboard-host": "set DASHBOARD_HOST",
    "--dashboard-port": "set DASHBOARD_PORT",
    "--redis-shard-ports": "no worker starts with it",
    "--include-dashboard": "the head has one, and no worker starts with it",
    "--num-cpus": "set NUM_WORKERS",
    "--num-workers": "set NUM_WORKERS",
    "--num-gpus": "set GPUS",
    "--resources": "set resources= in workers.txt",
    # Among all else it has AUTH_MODE, which turns the token off.
    "--system-config": "set each of its values in CONTAINER_ENV, as RAY_name=value",
    "--ray-debugger-external": "it would open Ray's debugger, which asks nobody for a token, to the network",
}
# Ray's token and who has to show it are not the settings' to decide; Ray's configuration reads what is in lower case.
VARIABLES_OF_OURS = re.compile(r"RAY_AUTH_.*|RAY_ENABLE_(CLUSTER_AUTH|K8S_TOKEN_AUTH)|RAY_ADDRESS", re.IGNORECASE)

_VOLUME = re.compile(r"(?P<source>[^:]+):(?P<target>[^:]+)(?::(?P<mode>[^:]*))?")
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MODES = frozenset({"ro", "rw", "z", "Z", "nocopy", "shared", "slave", "private", "rshared", "rslave", "rprivate"})
# Where engines have their sockets, their containers' files and the kernel its own: what is root on the node.
_ENGINES = (
    *("/run", "/var/run", "/proc", "/sys", "/dev"),
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/crio", "/var/lib/k0s", "/var/snap"),
)
_SOCKETS = frozenset({"docker.sock", "containerd.sock", "podman.sock", "crio.sock"})
# Where an engine of a user's own has its socket and files, in whoever's home.
_USERS_ENGINES = re.compile(
    r".*/\.(colima|docker|lima|orbstack)(/.*)?|.*/\.local(/share(/(containerd|containers|docker|nerdctl)(/.*)?)?)?"
)
# What programs read of the node's own configuration. Else /etc says who is root, and what root runs.
_OF_ETC = ("hostname", "hosts", "localtime", "machine-id", "resolv.conf", "timezone")
_CERTIFICATES = ("ssl/certs", "pki/ca-trust", "pki/tls/certs")
_OPEN_ETC = re.compile(f"/etc/({'|'.join(map(re.escape, _OF_ETC))}|({'|'.join(_CERTIFICATES)})(/.*)?)")
# And of what the system shares: there, too, are programs that root runs.
_OF_SHARE = ("ca-certificates", "dict", "fonts", "pki", "zoneinfo")
_OPEN_SHARE = re.compile(f"/usr/share/({'|'.join(_OF_SHARE)})(/.*)?")
# What says who may log in and what root runs: who writes there is soon root, and a container's user may be root. Of
# homes, /opt, /usr, /usr/local/share and /var/spool it is the whole that has it; what else stands in them is mounted.
_HOSTS_OWN = re.compile(
    r".*/\.ssh(/.*)?|.*/\.((bash|zsh)[^/]*|(csh|ksh|mksh|tcsh)rc|login|profile|zlog(in|out)|zprofile)(/.*)?"
    r"|.*/\.config(/(autostart|environment\.d|fish|systemd)(/.*)?)?|.*/\.local/share/(fish|systemd)(/.*)?"
    r"|/root|/var/roothome|/((export|usr|var)/)?(home|Users)(/[^/]+)?|/(boot|efi|ostree|sysroot)(/.*)?"
    r"|/usr(/local(/share)?)?|/usr/local/(aws-cli|share/(dbus-1|polkit-1))(/.*)?|/usr/src(/.*)?"
    r"|/(usr/(local/)?)?(s?bin|lib(32|64|x32|exec)?)(/.*)?|/opt(/(cni|containerd)(/.*)?)?"
    r"|/var/backups|/var/spool(/(at|atjobs|cron)(/.*)?)?"
    r"|/var/lib/(amazon|apt|buildkit|cloud|cni|confexts|dbus|dkms|dpkg|extensions|incus|kubelet|lxc|lxd|machines|nerdctl"
    r"|polkit-1|portables|rancher|raydock|rpm|snapd|sss|systemd|waagent)(/.*)?"
)
_SOON_ROOT = "whoever may write there is soon root on the node"
_WHAT_OF_ETC = f"Of /etc only {', '.join(_OF_ETC + _CERTIFICATES)} can be; copy what else is needed elsewhere"
_WHAT_OF_SHARE = f"Of /usr/share only {', '.join(_OF_SHARE)} can be; copy what else is needed elsewhere"
# Where Ray's token is laid: what is mounted there would keep it.
_TOKENS = ("/run", "/var/run")


def volumes(text: str) -> tuple[str, ...]:
    """Give volumes as Docker takes them: `source:target[:mode]`."""
    words = _words(text)
    targets = [_volume(word) for word in words]
    _check_once(targets)
    return words


def holds(volume: str, path: str) -> bool:
    """Tell whether what a volume mounts is a path of the node, or a folder above it."""
    source = volume.partition(":")[0]
    return source.startswith("/") and posixpath.commonpath((_whole(source), _whole(path))) == _whole(source)


def capabilities(text: str) -> tuple[str, ...]:
    """Give the capabilities that containers keep, each by its name, in order."""
    words = _words(text)
    for word in words:
        if word not in grammar.CAPABILITIES:
            near = grammar.nearest(word, sorted(grammar.CAPABILITIES))
            raise ValueError(f"has {grammar.shown(word)}, which is no capability: {near}")
    _check_once(list(words))
    return tuple(sorted(words))


def container_env(text: str) -> tuple[str, ...]:
    """Give the containers' variables, each as `NAME=VALUE`. No message repeats a value."""
    words = _words(text)
    names = [_variable(word) for word in words]
    _check_once(names)
    return words


def ray_start_args(text: str) -> tuple[str, ...]:
    """Give more arguments for every `ray start`, if none is one that Raydock gives."""
    words = _words(text)
    for flag in _flags(words):
        if why := RAY_ARGUMENTS_OF_OURS.get(flag):
            raise ValueError(f"has {flag}, which is not for here: {why}")
    ports.check(words)
    return words


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(grammar.one_line(text)))
    except ValueError as wrong:
        if str(wrong).startswith("No "):
            raise ValueError("is not shell words: a quote or a backslash is left open") from None
        raise


def _flags(words: tuple[str, ...]) -> Iterator[str]:
    """Give the options among the words: a word without dashes is the value of the one before it."""
    takes_value = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag.startswith("--") and len(flag) > 2:
            yield flag
            takes_value = not equals
        elif takes_value and not word.startswith("--"):
            takes_value = False
        else:
            raise ValueError("has a word that is neither an option, as in --name=value, nor the value of one")


def _volume(word: str) -> str:
    parts = _VOLUME.fullmatch(word)
    if not parts:
        raise ValueError(f"has {grammar.shown(word)}, which is not source:target or source:target:mode")
    source, target, mode = parts["source"], parts["target"], parts["mode"]
    _check_source(source)
    if not target.startswith("/") or _whole(target) == "/":
        raise ValueError(f"has {grammar.shown(target)}, which is no absolute path in the container")
    if any(_meet(_whole(target), place) for place in _TOKENS):
        raise ValueError(f"has {grammar.shown(target)}, where Ray's token stands in the container")
    if mode is not None and not set(mode.split(",")) <= _MODES:
        raise ValueError(f"has the mode {grammar.shown(mode)}: write ro or rw")
    return _whole(target)


def _check_source(source: str) -> None:
    """Refuse what is no source of a volume, and what gives a container the node."""
    if not source.startswith("/"):
        if not _VOLUME_NAME.fullmatch(source):
            raise ValueError(f"has {grammar.shown(source)}, which is neither an absolute path nor a volume's name")
        return
    path = _whole(source)
    if _leads_to_the_engine(path):
        raise ValueError(f"has {grammar.shown(source)}: whoever has the engine's socket is root on the node")
    if _HOSTS_OWN.fullmatch(path):
        raise ValueError(f"has {grammar.shown(source)}: {_SOON_ROOT}")
    if _meet(path, "/etc") and not _OPEN_ETC.fullmatch(path):
        raise ValueError(f"has {grammar.shown(source)}: {_SOON_ROOT}. {_WHAT_OF_ETC}")
    if _meet(path, "/usr/share") and not _OPEN_SHARE.fullmatch(path):
        raise ValueError(f"has {grammar.shown(source)}: {_SOON_ROOT}. {_WHAT_OF_SHARE}")


def _whole(path: str) -> str:
    """Give the one form of an absolute path; to the engine, too, `//` is `/`."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _meet(path: str, other: str) -> bool:
    """Tell whether one of two paths is the other, or lies in it."""
    return posixpath.commonpath((path, other)) in (path, other)


def _leads_to_the_engine(path: str) -> bool:
    """Tell whether what is mounted could be the engine's socket, or have it. A link's end is not known here."""
    if posixpath.basename(path) in _SOCKETS or _USERS_ENGINES.fullmatch(path):
        return True
    return any(_meet(path, place) for place in _ENGINES)


def _variable(word: str) -> str:
    name, equals, _ = word.partition("=")
    if not equals:
        raise ValueError("has a word without '=': write NAME=VALUE, a value with blanks in quotes")
    try:
        grammar.VARIABLE(name)
    except ValueError as wrong:
        raise ValueError(f"has {grammar.shown(name)}, which {wrong}") from None
    if VARIABLES_OF_OURS.fullmatch(name):
        raise ValueError(f"has {name}, which Raydock sets")
    return name


def _check_once(names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"has {twice[0]} twice")
