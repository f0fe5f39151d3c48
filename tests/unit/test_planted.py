"""How planted secrets are looked for."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from tests.planted import forms


@given(st.text(min_size=8), st.binary(max_size=9), st.binary(max_size=9))
def test_a_secret_is_found_in_base64_whatever_stands_before_and_behind_it(
    secret: str, before: bytes, behind: bytes
) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        written = encode(before + secret.encode() + behind).decode()
        assert any(form in written for form in forms(secret))
