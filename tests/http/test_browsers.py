"""Which page a request comes from, and its cookies, as functions."""

from __future__ import annotations

import pytest

from chatd.http.browsers import Cookie, Head, cookie_in, is_foreign, is_secure


def test_the_value_is_found_among_others_and_not_if_there_are_two() -> None:
    pair = b"chatd=v"
    assert cookie_in([b"a=b; " + pair + b";c=d"], b"chatd") == "v"
    assert cookie_in([b"a=b", pair], b"chatd") == "v"
    for headers in ([], [b"a=v"], [b"x" + pair], [pair + b"; " + pair], [pair, b"chatd=w"]):
        assert cookie_in(headers, b"chatd") == "", headers


def test_secure_is_said_where_it_is() -> None:
    cookie = Cookie(name=b"chatd", path=b"/chat", lifetime_s=60)
    assert cookie.header("v", is_secure=True) == b"chatd=v; Path=/chat; HttpOnly; SameSite=Strict; Max-Age=60; Secure"
    assert b"Secure" not in cookie.header("v", is_secure=False)
    assert is_secure(Head(origins=[b"https://a.example"]), is_encrypted=False)
    assert not is_secure(Head(origins=[b"http://a.example"]), is_encrypted=False)


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
