"""HTTP calls of Ray's API: each with a deadline, each error a `Failure`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
import urllib3

from deploy.channel.http import pieces
from deploy.errors import Failure, Kind
from deploy.ray_api.answers import CURE, PLACE, odd, short
from deploy.reading import Odd, parsed
from deploy.secret import Secret

BODY_LIMIT = 64 << 20  # bytes; a job's message holds the end of its output
NOT_READY = frozenset({502, 503, 504})
# What a cut, closed or silent connection raises; requests' own errors are OSErrors.
LOST = (OSError, EOFError, urllib3.exceptions.HTTPError)

T = TypeVar("T")


class NoAnswer(Failure):
    """Nothing answers at Ray's API, or it stopped in the middle: asking again may help."""


class Calls:
    """Calls through a session, with the token. Times are seconds."""

    def __init__(self, session: requests.Session, token: Secret | None, base: str, timeout: float) -> None:
        """Nothing is called yet."""
        self._session = session
        self._token = token
        self._base = base
        self.timeout = timeout

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Give the JSON of an answer; None where the thing is absent and may be."""
        text = self.text(method, path, **options)
        try:
            return None if text is None else parsed(text)
        except Odd as error:
            raise odd(f"no JSON but {short(text or '')!r}") from error

    def text(self, method: str, path: str, *, absent: bool = False, **options: Any) -> str | None:
        """Give an answer's text; None where the thing is absent and may be."""
        try:
            with self.send(method, path, **options) as response:
                if absent and response.status_code == requests.codes.not_found:
                    return None
                self.check(response)
                return self.read(response)
        except LOST as error:
            raise no_answer(error) from error

    def send(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> requests.Response:
        """Give the response, of which nothing but the head is read; what is lost is raised as it is."""
        headers = {"Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return self._session.request(
            method,
            self._base + path,
            headers=headers,
            timeout=timeout or self.timeout,
            allow_redirects=False,
            stream=True,
            **options,
        )

    def check(self, response: requests.Response) -> None:
        """Raise what an answer says that is not the one that was asked for."""
        code = response.status_code
        if code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise Failure("TOKEN_MISMATCH", f"Ray refused our token (HTTP {code})", CURE, place=PLACE)
        if code != requests.codes.ok:
            error = NoAnswer if code in NOT_READY else Failure
            said = short(self.read(response))
            raise error("RAY_API_FAILED", f"Ray's API answered HTTP {code}: {said}", CURE, place=PLACE)

    def read(self, response: requests.Response) -> str:
        """Read an answer to its end: a slow drip has the same deadline, and an endless one ends."""
        until = time.monotonic() + self.timeout
        body = bytearray()
        for piece in pieces(response):
            body += piece
            if len(body) > BODY_LIMIT:
                raise odd(f"more than {BODY_LIMIT >> 20} MiB")
            if time.monotonic() > until:
                raise requests.ReadTimeout("the whole answer took too long")
        return body.decode(errors="replace")


class Patience:
    """How long a head that is gone is waited for, and how long between two questions, in seconds."""

    def __init__(self, seconds: float, poll: float, reconnect: Callable[[], None], see: Callable[[], None]) -> None:
        """`reconnect` has the next call go over a new connection; `see` raises where waiting is in vain."""
        self.seconds = seconds
        self.poll = poll
        self._reconnect = reconnect
        self._see = see

    def ask(self, question: Callable[[], T]) -> T:
        """Ask until there is an answer, or patience has run out."""
        since = None
        while True:
            try:
                return question()
            except Failure as failure:
                since = self.bear(failure, since)

    def bear(self, failure: Failure, since: float | None) -> float:
        """Wait for the next question, and give since when there is no answer; raise what waiting does not mend."""
        since = since or time.monotonic()
        if not may_pass(failure) or time.monotonic() > since + self.seconds:
            raise failure
        if failure.problem.kind is Kind.UNREACHABLE:
            self._reconnect()
        else:
            self._see()
        time.sleep(self.poll)
        return since


def may_pass(failure: Failure) -> bool:
    """Tell whether asking again may help: nothing answered, or the way to the head was lost."""
    return isinstance(failure, NoAnswer) or failure.problem.kind is Kind.UNREACHABLE


def no_answer(error: BaseException) -> NoAnswer:
    """Give the failure of a call that was lost."""
    while error.__context__:  # the innermost one says why: the others wrap it
        error = error.__context__
    why = getattr(error, "strerror", None) or type(error).__name__
    return NoAnswer("RAY_API_FAILED", f"Ray's API does not answer ({why})", CURE, place=PLACE)
