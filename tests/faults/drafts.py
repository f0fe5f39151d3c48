"""Lists of workers and files of settings by seed: good ones mutated, pieces put together, and mere bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

PAYLOAD = "pwned"  # the command that no value may bring about
# What a shell, ssh, docker, git or a Dockerfile would take for more than text.
HOSTILE = (
    f";{PAYLOAD}",
    f"$({PAYLOAD})",
    f"`{PAYLOAD}`",
    f"|{PAYLOAD}",
    f"&&{PAYLOAD}",
    f"\n{PAYLOAD}\n",
    f"\nRUN {PAYLOAD}\n",
    f"\nFROM {PAYLOAD}\n",
    f"';{PAYLOAD};'",
    f'";{PAYLOAD};"',
    f'"$({PAYLOAD})"',
    f"<({PAYLOAD})",
    f">{PAYLOAD}",
    f"-oProxyCommand={PAYLOAD}",
    f"--upload-pack={PAYLOAD}",
    f"ext::{PAYLOAD}",
    f"\nLINES\n{PAYLOAD}\n",
    f"LINES\r{PAYLOAD}",
    f"${{IFS}}{PAYLOAD}",
    "<<EOF",
    "\\",
    "'",
    '"',
    "${HOME}",
    "$HOME",
    "!!",
    "*",
    "~",
    "{a,b}",
    "[1-50]",
    "%",
    "#",
    "#:",
    "=",
    "@",
    ":",
    "\0",
    "\x1b[2J",
    "\x1b]0;x\x07",
    "\x9b",
    "\u202e",
    "\u2028",
    "\ufeff",
    "\udcff",
    "８",
    "é",
    "\t",
    " ",
    "\r",
    "\n",
    "\r\n",
)
NUMBERS = ("-1", "0", "1", "NaN", "inf", "1e9", "８", "8GB;x", "65535", "65536", "9" * 30, "0x10", "1_000", " 7", "+7")
HOSTS = (
    "10.0.0.{n}",
    "ubuntu@10.0.0.{n}",
    "10.0.0.{n} bob",
    "node-{n}.example.com",
    "Node-{n}.Example.com.",
    "node-{n}:2222",
    "2001:db8::{n}",
    "[2001:db8::{n}]:22",
    "fe80::{n}%eth0",
    "::ffff:10.0.0.{n}",
    "localhost",
    "head",
)
OPTIONS = (
    "private=10.1.0.{n}",
    "num_workers={n}",
    "shm_size={n}G",
    "gpus=all",
    "gpus={n}",
    """resources='{{"ssd": {n}}}'""",
    "# a comment of one's own",
)
VALUES: dict[str, tuple[str, ...]] = {
    "BASE_IMAGE": ("ray-project/deploy", "rayproject/ray:2.60.0"),
    "RAY_VERSION": ("2.60.0",),
    "MY_PROJECT_URL": ("https://git.example.com/team/app.git", "git@git.example.com:team/app.git", "/srv/app"),
    "MY_PROJECT_REF": ("main", "v1.0", "feature/a-b"),
    "MY_PROJECT_SOURCE": ("clone", "copy"),
    "MY_PROJECT_INSTALLATION_SCRIPT": ("pip install .", "pip install 'a b' && ./x \"$HOME\"", f"$({PAYLOAD})"),
    "APP_TAG": ("my-app", "team/app:1"),
    "REPOSITORY_NAME": ("team/app",),
    "REGION": ("us-west-2",),
    "REPOSITORY_URI": ("registry.example.com:5000/team/app",),
    "IMAGE": ("rayproject/ray:2.60.0", "app@sha256:" + "0" * 64),
    "CLUSTER_NAME": ("ray", "ray-2"),
    "HEAD": ("local", "ubuntu@10.9.0.1", "[2001:db8::1]:22"),
    "HEAD_ADDRESS": ("10.9.0.1",),
    "WORKERS_FILE": ("workers.txt",),
    "SHM_SIZE": ("auto", "8G", "1.5g"),
    "NUM_WORKERS": ("auto", "8"),
    "REDIS_PORT": ("6379", "6380"),
    "OBJECT_MANAGER_PORT": ("8076",),
    "DASHBOARD_PORT": ("8265",),
    "SSH_USER": ("ubuntu",),
    "SSH_KEY": ("key",),
    "SSH_PORT": ("22", "2222"),
    "SSH_KNOWN_HOSTS": ("known hosts", "~/.ssh/known_hosts"),
    "GPUS": ("auto", "all", "2"),
    "VOLUMES": ("/data:/data:ro 'models:/the models'", f"'/a;{PAYLOAD}:/b'"),
    "CONTAINER_ENV": ("A=1 B='x y'", f"""A='$({PAYLOAD})' B="`{PAYLOAD}`" """),
    "RAY_START_ARGS": ("--labels a=b", f"--labels 'a=$({PAYLOAD})'"),
    "DASHBOARD_HOST": ("127.0.0.1", "0.0.0.0"),  # noqa: S104 - a setting's value
    "ALLOW_UNAUTHENTICATED": ("yes", "no"),
    "CONCURRENCY": ("32",),
    "BUILD_IDLE": ("30m", "90s"),
    "CAPABILITIES": ("SYS_PTRACE",),
    "AWS_PROFILE": ("default", f"$({PAYLOAD})"),
    "AWS_ENDPOINT_URL": ("http://ecr.test:4566/?a='2'&b=$(x)",),
}
LINE_ENDS = ("\n", "\n", "\n", "\r\n", "\r")
Draft = Callable[[random.Random], bytes]


def workers(draw: random.Random) -> bytes:
    """Draft a list of workers."""
    return _draft(draw, _good_workers, (*HOSTS, *OPTIONS, "#: ", "\n", "\n"))


def settings(draw: random.Random) -> bytes:
    """Draft a file of settings."""
    keys = [f"{key}=" for key in VALUES]
    return _draft(draw, _good_settings, (*keys, *(value for some in VALUES.values() for value in some), "\n", "\n"))


def _draft(draw: random.Random, good: Draft, pieces: Sequence[str]) -> bytes:
    kind = draw.random()
    if kind < 0.3:
        return good(draw)
    if kind < 0.8:
        return _mutated(draw, good(draw), pieces)
    if kind < 0.95:
        some = draw.choices((*pieces, *HOSTILE, *NUMBERS), k=draw.randrange(40))
        return _bytes("".join(piece.replace("{n}", str(draw.randrange(300))) for piece in some))
    return draw.randbytes(draw.randrange(400))


def _good_workers(draw: random.Random) -> bytes:
    lines = ["# mine", ""] if draw.random() < 0.3 else []
    for number in draw.sample(range(1, 250), draw.randrange(1, 7)):
        options = draw.sample(OPTIONS, draw.choice((0, 0, 1, 2)))
        line = f"{draw.choice(HOSTS[:9])} {'#:' * bool(options)} {' '.join(options)}".rstrip()
        lines.append(line.replace("{n}", str(number)).replace("{{", "{").replace("}}", "}"))
    return _bytes(draw.choice(LINE_ENDS).join(lines) + "\n" * draw.randrange(2))


def _good_settings(draw: random.Random) -> bytes:
    lines = []
    for key in draw.sample(sorted(VALUES), draw.randrange(1, 9)):
        value = draw.choice(VALUES[key])
        bare = " " not in value and "#" not in value and draw.random() < 0.7
        lines.append(f"{'export ' * (draw.random() < 0.1)}{key}={value if bare else _quoted(value)}")
    return _bytes(draw.choice(("\n", "\n", "\r\n")).join(lines) + "\n" * draw.randrange(2))


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value and '"' not in value else "'" + value.replace("'", "\\'") + "'"


def _mutated(draw: random.Random, content: bytes, pieces: Sequence[str]) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        content = draw.choice(MUTATIONS)(draw, content, pieces)
    return content


def _spliced(draw: random.Random, content: bytes, pieces: Sequence[str]) -> bytes:
    piece = draw.choice((*HOSTILE, *HOSTILE, *NUMBERS, *pieces)).replace("{n}", str(draw.randrange(300)))
    return _put(content, draw.randrange(len(content) + 1), _bytes(piece))


def _in_a_value(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    """Put something hostile right behind a sign at which a value begins or goes on."""
    places = [at + 1 for at, byte in enumerate(content) if byte in b"=@:.-"]
    return _put(content, draw.choice(places), _bytes(draw.choice((*HOSTILE, *NUMBERS)))) if places else content


def _cut(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _without(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    begin = draw.randrange(len(content) + 1)
    return content[:begin] + content[begin + draw.randrange(8) :]


def _flipped(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def _line_twice(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join([*lines, draw.choice(lines).swapcase() if draw.random() < 0.3 else draw.choice(lines)])


def _recoded(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1")), "replace")


def _long(draw: random.Random, content: bytes, _: Sequence[str]) -> bytes:
    filler = _bytes(draw.choice(("a", " ", "#", "'", "[", "(", "$(", ":", "é", "a.", "\n", "a\n", "A=1\n", "A='\n")))
    return _put(content, draw.randrange(len(content) + 1), filler * draw.choice((70, 300, 5_000, 100_000)))


MUTATIONS = (
    *(_spliced,) * 8,
    *(_in_a_value,) * 8,
    *(_cut, _without, _flipped, _line_twice) * 3,
    _recoded,
    _long,
)


def _put(content: bytes, at: int, piece: bytes) -> bytes:
    return content[:at] + piece + content[at:]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
