"""The library's codes are chatd's, although it does not use chatd."""

from __future__ import annotations

import pytest

import chatd
import chatd_client
from chatd import errors as of_the_server
from chatd_client import errors
from chatd_client.chatserver.frames import PASSING_TEXTS

ONLY_HTTP = {
    *("UNKNOWN_KEY", "SCOPE_MISSING", "UNKNOWN_ROUTE", "METHOD_NOT_ALLOWED", "UNKNOWN_CONTENT_TYPE", "NOT_JSON"),
    *("TOO_SLOW", "UNKNOWN_WEBHOOK", "CODE_NEEDED", "WRONG_CODE"),
}
"""Codes that no client of a wire is sent. A new code belongs here or into the library."""


def test_codes_and_which_of_them_are_temporary_are_those_of_the_server() -> None:
    of_the_wires = [one for one in of_the_server.ErrorCode if one.name not in ONLY_HTTP]
    assert {one.name: int(one) for one in errors.Code} == {one.name: int(one) for one in of_the_wires}
    for code in of_the_wires:
        assert errors.is_temporary(code) is of_the_server.MEANINGS[code].temporary, code.name


def test_a_login_that_may_succeed_later_is_told_by_the_servers_text() -> None:
    temporary = {
        meaning.text
        for code, meaning in of_the_server.MEANINGS.items()
        if meaning.temporary and code.name not in ONLY_HTTP
    }
    assert temporary == PASSING_TEXTS


@pytest.mark.parametrize(
    ("code", "kind", "temporary"),
    [
        (errors.Code.UNKNOWN_RECIPIENT, errors.NotFound, False),
        (errors.Code.MUTED, errors.NotPermitted, False),
        (errors.Code.TOO_LONG, errors.Invalid, False),
        (errors.Code.MAILBOX_FULL, errors.LimitReached, True),
        (errors.Code.TOO_FAST, errors.TryLater, True),
        (errors.Code.UNKNOWN_REQUEST, errors.NotOffered, False),
        (4711, errors.Refused, False),
    ],
)
def test_a_refusal_is_raised_as_the_class_of_its_code(code: int, kind: type[errors.Refused], temporary: bool) -> None:
    refused = errors.refusal(code, "why", fp="f")
    assert type(refused) is kind
    assert (refused.code, refused.temporary) == (code, temporary)
    assert isinstance(refused, errors.ChatError)


def test_every_code_of_a_refused_request_has_a_class() -> None:
    without = {errors.Code.UNKNOWN, errors.Code.NOT_LOGGED_IN, errors.Code.ALREADY_LOGGED_IN}
    assert {code for code in errors.Code if type(errors.refusal(code, "")) is errors.Refused} == without


def test_both_packages_have_one_version() -> None:
    assert chatd_client.__version__ == chatd.__version__
