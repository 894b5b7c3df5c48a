"""What a browser can decrypt: the example of RFC 8291, and what no browser has made."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chatd.web_push.encoding import decoded, encoded
from chatd.web_push.encryption import CONTENT_BYTES, RECORD_BYTES, Secrets, browser_keys, encrypt

POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
PRIVATE = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
CONTENT = b"When I grow up, I want to be a watermelon"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl"
    "7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
"""RFC 8291, section 5."""


def test_the_example_of_the_rfc() -> None:
    key = ec.derive_private_key(int.from_bytes(decoded(PRIVATE)), ec.SECP256R1())
    assert encoded(encrypt(CONTENT, browser_keys(POINT, AUTH), Secrets(decoded(SALT), key))) == BODY


def test_the_same_content_is_never_sent_the_same_way() -> None:
    keys = browser_keys(POINT, AUTH)
    assert len({encrypt(CONTENT, keys) for _ in range(20)}) == 20


def test_a_body_is_as_long_as_push_services_take() -> None:
    keys = browser_keys(POINT, AUTH)
    assert len(encrypt(b"x" * CONTENT_BYTES, keys)) == RECORD_BYTES
    with pytest.raises(ValueError, match="at most"):
        encrypt(b"x" * (CONTENT_BYTES + 1), keys)


@pytest.mark.parametrize(
    ("point", "auth"),
    [
        ("", AUTH),
        (POINT, ""),
        (POINT[:-2], AUTH),
        (POINT, AUTH + "AA"),
        (f"{POINT[:-3]}AAA", AUTH),
        (encoded(b"\x04" + bytes(64)), AUTH),
        (encoded(b"\x02" + bytes(64)), AUTH),
        ("ä" * 87, AUTH),
        ("+" * 87, AUTH),
        (POINT, "A"),
    ],
)
def test_keys_that_no_browser_has_made_are_refused(point: str, auth: str) -> None:
    """A point beside the curve would let its sender find out the key of the other side."""
    with pytest.raises(ValueError, match=r".*"):
        browser_keys(point, auth)
