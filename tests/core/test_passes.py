"""Passes as functions: what opens, until when, and for what."""

from __future__ import annotations

import pytest

from chatd.core.passes import Pass, Purpose, key_of, looks_like_pass, opened, sealed

KEY, OTHER = key_of("ab" * 32, Purpose.LOGIN), key_of("ac" * 32, Purpose.LOGIN)
PASS = Pass(user_id=7, credentials=3, expires_at=1000, ends_at_ms=1_000_000)


def test_it_opens_until_it_expires() -> None:
    value = sealed(KEY, PASS)
    assert opened(KEY, value, 999.9) == PASS
    assert opened(KEY, value, 1000.0) is None


def test_it_does_not_open_with_another_key_or_another_text() -> None:
    value = sealed(KEY, PASS)
    assert opened(OTHER, value, 0) is None
    for place in range(len(value)):
        changed = value[:place] + ("1" if value[place] != "1" else "2") + value[place + 1 :]
        assert opened(KEY, changed, 0) is None, changed
    for wrong in (
        "",
        ".",
        "1.7.3.1000.0.",
        value + "=",
        value + ".",
        f"1.{value}",
        value.upper(),
        "1.\u0667.3.1000.0." + "x" * 43,
    ):
        assert opened(KEY, wrong, 0) is None, wrong


def test_without_a_secret_nothing_can_be_sealed() -> None:
    with pytest.raises(ValueError, match="no secret"):
        key_of("", Purpose.LOGIN)


def test_it_opens_for_its_purpose_only() -> None:
    value = sealed(KEY, PASS)
    for purpose in Purpose:
        assert (opened(key_of("ab" * 32, purpose), value, 0) == PASS) == (purpose is Purpose.LOGIN)


def test_no_usual_password_looks_like_one() -> None:
    assert looks_like_pass(sealed(KEY, PASS))
    for text in ("", "secret", "1.2.3.4.5.6", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"):
        assert not looks_like_pass(text)
