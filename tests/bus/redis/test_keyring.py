"""A key that is removed is accepted a little longer, and then worth nothing."""

from __future__ import annotations

from chatd.bus.redis.keyring import REMOVED_KEY_S, Keyring

OLD, NEW = "the key of this cluster until now", "the key that replaces it"


def test_what_is_on_its_way_when_a_key_is_removed_is_believed_for_a_while() -> None:
    now = 100.0
    ring = Keyring([NEW, OLD], now=lambda: now)
    signature = Keyring([OLD]).sign(b"data")
    ring.replace([NEW], accepts_unsigned=False)
    assert ring.is_signed(b"data", signature)
    assert not ring.is_signed(b"other data", signature)
    now += REMOVED_KEY_S
    assert not ring.is_signed(b"data", signature)


def test_further_changes_do_not_lengthen_the_while() -> None:
    now = 100.0
    ring = Keyring([OLD], now=lambda: now)
    signature = Keyring([OLD]).sign(b"data")
    for _ in range(4):
        ring.replace([NEW], accepts_unsigned=False)
        now += REMOVED_KEY_S / 4
    assert not ring.is_signed(b"data", signature)


def test_a_key_that_comes_back_is_accepted_again() -> None:
    now = 100.0
    ring = Keyring([OLD], now=lambda: now)
    signature = Keyring([OLD]).sign(b"data")
    ring.replace([NEW], accepts_unsigned=False)
    ring.replace([OLD, NEW], accepts_unsigned=False)
    now += REMOVED_KEY_S
    assert ring.is_signed(b"data", signature)
