"""A secret that cannot be printed by mistake."""

from __future__ import annotations

import hmac
from typing import NoReturn, final

SHOWN = "[secret]"


@final
class Secret:
    """A string that shows itself as `[secret]` and gives its value only when asked by name.

    It compares in constant time and can be neither iterated nor pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return format(SHOWN, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self), _bytes(other))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def _bytes(secret: Secret) -> bytes:
    # A value from the environment may hold bytes that are no UTF-8.
    return secret.reveal().encode(errors="surrogatepass")
