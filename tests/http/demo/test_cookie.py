"""The cookie of the demo, as a function: what opens, until when, and whose."""

from __future__ import annotations

import pytest

from chatd.http.demo.cookie import NAME, Pass, key_of, opened, sealed, set_cookie, value_in
from chatd.http.demo.forms import Head, is_foreign

KEY, OTHER = key_of("ab" * 32), key_of("ac" * 32)
PASS = Pass(user_id=7, credentials=3, expires_at=1000)


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
        "1.7.3.1000.",
        value + "=",
        value + ".",
        f"1.{value}",
        value.upper(),
        "1.\u0667.3.1000." + "x" * 43,
    ):
        assert opened(KEY, wrong, 0) is None, wrong


def test_without_a_secret_nothing_can_be_sealed() -> None:
    with pytest.raises(ValueError, match="no secret"):
        key_of("")


def test_the_value_is_found_among_others_and_not_if_there_are_two() -> None:
    pair = NAME + b"=v"
    assert value_in([b"a=b; " + pair + b";c=d"]) == "v"
    assert value_in([b"a=b", pair]) == "v"
    for headers in ([], [b"a=v"], [b"x" + pair], [pair + b"; " + pair], [pair, NAME + b"=w"]):
        assert value_in(headers) == "", headers


def test_secure_is_said_where_it_is() -> None:
    assert b"; Secure" in set_cookie("v", is_secure=True)
    assert b"Secure" not in set_cookie("v", is_secure=False)


@pytest.mark.parametrize(
    ("origins", "hosts", "sites", "encrypted", "foreign"),
    [
        ([b"http://a.example"], [b"a.example"], [], False, False),
        ([b"http://A.example:81"], [b"a.example:81"], [b"same-origin"], False, False),
        ([b"https://a.example"], [b"a.example"], [], True, False),
        ([b"https://a.example"], [b"a.example"], [], False, False),
        ([b"https://app.example"], [b"a.example"], [], False, False),
        ([], [b"a.example"], [], False, False),
        ([], [b"a.example"], [b"none"], False, False),
        ([b"http://a.example"], [b"a.example"], [], True, True),
        ([b"http://a.example:81"], [b"a.example"], [], False, True),
        ([b"http://b.example"], [b"a.example"], [], False, True),
        ([b"http://a.example.b.example"], [b"a.example"], [], False, True),
        ([b"http://user@a.example"], [b"a.example"], [], False, True),
        ([b"null"], [b"a.example"], [], False, True),
        ([b""], [b""], [], False, True),
        ([b"http://"], [b""], [], False, True),
        ([b"file://"], [b""], [], False, True),
        ([b"chrome-extension://a.example"], [b"a.example"], [], False, True),
        ([b"http://a.example"], [b"a.example", b"a.example"], [], False, True),
        ([b"http://a.example"], [], [], False, True),
        ([b"http://a.example", b"http://a.example"], [b"a.example"], [], False, True),
        ([], [b"a.example"], [b"same-site"], False, True),
        ([], [b"a.example"], [b"cross-site"], False, True),
    ],
)
def test_which_pages_are_foreign(
    origins: list[bytes], hosts: list[bytes], sites: list[bytes], encrypted: bool, foreign: bool
) -> None:
    head = Head(origins=origins, hosts=hosts, sites=sites)
    assert is_foreign(head, ("https://app.example",), is_encrypted=encrypted) == foreign
