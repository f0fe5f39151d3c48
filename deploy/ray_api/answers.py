"""What Ray's API answers, read with suspicion: nodes and jobs as values of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from deploy.errors import Failure
from deploy.reading import Odd, moment, typed

PLACE = "head"
CURE = "See what runs: invoke cluster.status"
FINAL = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
STATUSES = FINAL | {"PENDING", "RUNNING"}
CODES, SIGNALS = 255, 64  # the greatest exit code, and signal
STOPPED = 143  # 128 + SIGTERM, by which Ray stops a program

T = TypeVar("T")


@dataclass(frozen=True)
class RayNode:
    """A row of Ray's node list. A dead node keeps its row, and a restarted one has two."""

    address: str
    state: str
    node_id: str
    is_head: bool
    # What Ray says of its end.
    why: str = ""

    @property
    def alive(self) -> bool:
        """Whether Ray counts the node alive."""
        return self.state == "ALIVE"


@dataclass(frozen=True)
class Job:
    """A program that was submitted, as Ray tells of it."""

    id: str
    status: str
    driver_exit_code: int | None = None
    driver_node_id: str = ""
    message: str = ""
    entrypoint: str = ""
    begun: float | None = None  # seconds since 1970, by the head's clock
    ended: float | None = None

    @property
    def final(self) -> bool:
        """Whether it has ended, however it did."""
        return self.status in FINAL

    @property
    def exit_code(self) -> int | None:
        """The program's exit code, as a shell has it; None while it runs, or where Ray did not run it to its end."""
        if self.status == "STOPPED":
            return STOPPED
        code = 0 if self.status == "SUCCEEDED" else self.driver_exit_code
        return code if code is None or code >= 0 else 128 - code


def nodes_of(answer: object) -> list[RayNode]:
    """Read `{"result": true, "data": {"result": {"result": […]}}}`."""
    listed = _typed(answer, dict)
    for key in ("data", "result"):
        listed = _typed(listed.get(key), dict)
    return [_node(row) for row in _typed(listed.get("result"), list)]


def jobs_of(answer: object) -> list[Job]:
    """Read all jobs, the newest last; programs that nobody submitted are none."""
    rows = [_typed(row, dict) for row in _typed(answer, list)]
    jobs = [job_of(_field(row, "submission_id", str), row) for row in rows if submitted(row)]
    return sorted(jobs, key=lambda job: (job.begun is None, job.begun or 0))


def submitted(answer: object) -> bool:
    """Tell whether it was submitted; Ray lists as jobs all programs that called `ray.init()`."""
    return _typed(answer, dict).get("type") != "DRIVER"


def job_of(submission_id: str, answer: object) -> Job:
    """Read what Ray tells of one job."""
    fields = _typed(answer, dict)
    status = _field(fields, "status", str)
    if status not in STATUSES:
        raise odd(f"the status {short(status)!r}")
    return Job(
        id=_typed(fields.get("submission_id") or submission_id, str),
        status=status,
        driver_exit_code=_code(fields.get("driver_exit_code")),
        driver_node_id=_typed(fields.get("driver_node_id") or "", str),
        message=_typed(fields.get("message") or "", str),
        entrypoint=_typed(fields.get("entrypoint") or "", str),
        begun=_moment(fields.get("start_time")),
        ended=_moment(fields.get("end_time")),
    )


def stopped_of(answer: object) -> bool:
    """Read whether a job that was asked to end ran."""
    return bool(_typed(answer, dict).get("stopped"))


def odd(what: str) -> Failure:
    """Give the failure of an answer that is none of Ray's."""
    return Failure("RAY_API_FAILED", f"Ray's API answered {what}", CURE, place=PLACE)


def short(text: str) -> str:
    """Give the last line, where a traceback says what is wrong, in at most 200 printable characters."""
    lines = text.strip().splitlines() or [""]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:200]


def _node(row: object) -> RayNode:
    fields = _typed(row, dict)
    return RayNode(
        address=_field(fields, "node_ip", str),
        state=_field(fields, "state", str),
        node_id=_field(fields, "node_id", str),
        is_head=_field(fields, "is_head_node", bool),
        why=short(_typed(fields.get("state_message") or "", str)),
    )


def _moment(milliseconds: object) -> float | None:
    if not milliseconds:
        return None
    try:
        return moment(_typed(milliseconds, int) / 1000)
    except Odd as error:
        raise odd(str(error)) from error


def _code(code: object) -> int | None:
    if code is not None and not -SIGNALS <= _typed(code, int) <= CODES:
        raise odd(f"{code} where an exit code was due")
    return None if code is None else _typed(code, int)


def _field(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    return _typed(fields.get(key), kind)


def _typed(value: object, kind: type[T]) -> T:
    try:
        return typed(value, kind)
    except Odd as error:
        raise odd(str(error)) from error
