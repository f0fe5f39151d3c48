"""The one family of errors that an operator can mend: a code, what, where and the next move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from types import MappingProxyType

INTERRUPTED = 130  # the exit code of what was interrupted
LONGEST = 3000  # characters that are told of an error: a node or a registry may have written any number
MOST_TOLD = 1000  # mistakes of one file; whoever has more gave another file than was meant


class Kind(Enum):
    """What sort of trouble a code tells; the value is the exit code that it asks for."""

    FAILED = 1
    INPUT = 2
    UNREACHABLE = 4
    LOCKED = 5
    REFUSED = 6


# One line per code. `docs/` explains each of them.
CODES: Mapping[str, Kind] = MappingProxyType(
    {
        # Our settings, inventory or arguments are wrong; nothing was touched.
        "CONFIG": Kind.INPUT,
        "INVENTORY": Kind.INPUT,
        "TEMPLATE": Kind.INPUT,
        "USAGE": Kind.INPUT,
        # The node could not be reached: its state is unknown.
        "SSH_UNREACHABLE": Kind.UNREACHABLE,
        "SSH_REFUSED": Kind.UNREACHABLE,
        "SSH_TIMEOUT": Kind.UNREACHABLE,
        "SSH_NO_BANNER": Kind.UNREACHABLE,
        "SSH_BUSY": Kind.UNREACHABLE,
        "SSH_STALLED": Kind.UNREACHABLE,
        "SSH_LOST": Kind.UNREACHABLE,
        "DNS_FAIL": Kind.UNREACHABLE,
        "HEAD_UNREACHABLE": Kind.UNREACHABLE,
        "JOB_LOST": Kind.UNREACHABLE,
        # Somebody else is at work, or may be.
        "LOCKED": Kind.LOCKED,
        "LOCK_LOST": Kind.LOCKED,
        # Our identity was refused, or theirs is not the one we know.
        "SSH_AUTH_REFUSED": Kind.REFUSED,
        "KEY_ENCRYPTED": Kind.REFUSED,
        "HOST_KEY_UNKNOWN": Kind.REFUSED,
        "HOST_KEY_CHANGED": Kind.REFUSED,
        "HOST_KEY_REVOKED": Kind.REFUSED,
        "HOST_KEY_CERTIFICATE": Kind.REFUSED,
        "REGISTRY_AUTH": Kind.REFUSED,
        "AWS_NO_CREDS": Kind.REFUSED,
        "AWS_EXPIRED": Kind.REFUSED,
        "AWS_DENIED": Kind.REFUSED,
        "CLOCK_SKEW": Kind.REFUSED,
        # Raydock itself, at a node.
        "BUG": Kind.FAILED,
        # The node itself.
        "LOCK_FAILED": Kind.FAILED,
        "SUDO_PASSWORD_NEEDED": Kind.FAILED,
        "SHELL_UNUSABLE": Kind.FAILED,
        "SSH_NO_CHANNEL": Kind.FAILED,
        "APT_LOCKED": Kind.FAILED,
        "APT_FAILED": Kind.FAILED,
        "DNF_FAILED": Kind.FAILED,
        "OS_UNSUPPORTED": Kind.FAILED,
        "DISK_FULL": Kind.FAILED,
        "COMMAND_FAILED": Kind.FAILED,
        # The operator's own signal; the exit code is that of an interruption.
        "INTERRUPTED": Kind.FAILED,
        # Its Docker engine.
        "DOCKER_ABSENT": Kind.FAILED,
        "DOCKER_DOWN": Kind.FAILED,
        "DOCKER_TIMEOUT": Kind.FAILED,
        "DOCKER_PERMISSION": Kind.FAILED,
        "DOCKER_FAILED": Kind.FAILED,
        "API_TOO_OLD": Kind.FAILED,
        "HARDENING_REFUSED": Kind.FAILED,
        "NAME_CONFLICT": Kind.FAILED,
        "SAME_MACHINE": Kind.FAILED,
        "SPEC_CHANGED": Kind.FAILED,
        "CONTAINER_NOT_FOUND": Kind.FAILED,
        "CONTAINER_RUNS": Kind.FAILED,
        # Images, registries and AWS.
        "REGISTRY_UNREACHABLE": Kind.FAILED,
        "REGISTRY_TLS": Kind.FAILED,
        "IMAGE_NOT_FOUND": Kind.FAILED,
        "IMAGE_NO_RAY": Kind.FAILED,
        "IMAGE_WRONG_ARCH": Kind.FAILED,
        "DIGEST_MISMATCH": Kind.FAILED,
        "PULL_FAILED": Kind.FAILED,
        "PULL_INTERRUPTED": Kind.FAILED,
        "PUSH_FAILED": Kind.FAILED,
        "TAG_IMMUTABLE": Kind.FAILED,
        "BUILD_FAILED": Kind.FAILED,
        "PROJECT_UNREACHABLE": Kind.FAILED,
        "BASE_IMAGE_ABSENT": Kind.FAILED,
        "AWS_FAILED": Kind.FAILED,
        "AWS_THROTTLED": Kind.FAILED,
        "AWS_NO_REGION": Kind.FAILED,
        # Ray.
        "PORT_IN_USE": Kind.FAILED,
        "RAY_OPEN": Kind.FAILED,
        "RAY_EXITED": Kind.FAILED,
        "GCS_UNREACHABLE": Kind.FAILED,
        "NOT_RUNNING": Kind.FAILED,
        "NODE_RESTARTED": Kind.FAILED,
        "HEAD_NOT_RUNNING": Kind.FAILED,
        "HEAD_FAILED": Kind.FAILED,
        "HEAD_LOST": Kind.FAILED,
        "FOREIGN_CLUSTER": Kind.FAILED,
        "VERSION_MISMATCH": Kind.FAILED,
        "RAY_NOT_JOINED": Kind.FAILED,
        "NODE_NOT_SCHEDULABLE": Kind.FAILED,
        "NODE_UNSTABLE": Kind.FAILED,
        "ADDRESS_MISMATCH": Kind.FAILED,
        "TOKEN_MISMATCH": Kind.FAILED,
        "DIALECT_TOO_OLD": Kind.FAILED,
        "JOB_FAILED": Kind.FAILED,
        "JOB_NOT_FOUND": Kind.FAILED,
        "JOB_STILL_RUNS": Kind.FAILED,
        "RAY_API_FAILED": Kind.FAILED,
    }
)


@dataclass(frozen=True)
class Problem:
    """One thing that an operator can mend."""

    code: str
    error: str
    cure: str = ""
    place: str = ""

    def __post_init__(self) -> None:
        """Refuse a code that the table does not have: that is our own bug."""
        if self.code not in CODES:
            raise AssertionError(f"no such error code: {self.code}")

    @property
    def kind(self) -> Kind:
        """The sort of trouble, and so the exit code."""
        return CODES[self.code]

    @property
    def told(self) -> str:
        """What is wrong, as it is told."""
        # Only here: what takes passwords out of an error has seen the whole of it.
        return shortened(self.error, LONGEST)

    def __str__(self) -> str:
        """`place: what is wrong. The next move`, for one line of a report."""
        said = f"{self.place}: {self.told}" if self.place else self.told
        return f"{said}. {self.cure}" if self.cure else said


def shortened(text: str, most: int) -> str:
    """Give a text; of one that has more than so many characters the beginning and, above all, the end."""
    return text if len(text) <= most else f"{text[: most // 3]} … {text[-most * 2 // 3 :]}"


def bounded(problems: Iterable[Problem]) -> list[Problem]:
    """Give the problems, or the first of a great many and that there are more; the rest is not even looked for."""
    found = list(islice(problems, MOST_TOLD + 1))
    if len(found) > MOST_TOLD:
        last = found[-1]
        found[-1] = Problem(last.code, f"and more: these are the first {MOST_TOLD} mistakes", place=last.place)
    return found


class RaydockError(Exception):
    """Something that the operator can mend; anything else that is raised is a bug of ours."""

    def __init__(self, *problems: Problem) -> None:
        """Carry the problems, in the order in which they were found."""
        if not problems:
            raise AssertionError("an error without a problem")
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(map(str, self.problems))


class Mistake(RaydockError):
    """Our settings, inventory or arguments are wrong: all that is wrong at once, and nothing was touched."""

    @classmethod
    def of(cls, code: str, error: str, cure: str = "", *, place: str = "") -> Mistake:
        """Give the mistake of one problem."""
        return cls(Problem(code, error, cure, place))

    @classmethod
    def raise_any(cls, problems: Iterable[Problem]) -> None:
        """Raise one mistake with all the problems, if there are any."""
        if found := tuple(problems):
            raise cls(*found)


class Failure(RaydockError):
    """One problem that was met at a node, a registry or AWS."""

    def __init__(self, code: str, error: str, cure: str = "", *, place: str = "") -> None:
        """Carry one problem."""
        super().__init__(Problem(code, error, cure, place))

    @property
    def problem(self) -> Problem:
        """The problem itself."""
        return self.problems[0]

    @property
    def code(self) -> str:
        """Its code, a key of CODES."""
        return self.problem.code

    @property
    def error(self) -> str:
        """What is wrong."""
        return self.problem.error

    @property
    def cure(self) -> str:
        """The next move, or nothing."""
        return self.problem.cure

    @property
    def place(self) -> str:
        """Where it is wrong, or nothing."""
        return self.problem.place
