"""To which addresses a user can make this server send."""

from __future__ import annotations

import pytest

from chatd.config.push_options import SERVICES
from chatd.web_push.endpoints import check_endpoint

GOOD = (
    "https://fcm.googleapis.com/fcm/send/abc:def",
    "https://updates.push.services.mozilla.com/wpush/v2/abc",
    "https://wns2-par02p.notify.windows.com/w/?token=abc",
    "https://web.push.apple.com/abc",
    "https://FCM.googleapis.com:443/x",
)
BAD = (
    "http://fcm.googleapis.com/x",
    "ftp://fcm.googleapis.com/x",
    "https://127.0.0.1/x",
    "https://[::1]/x",
    "https://169.254.169.254/latest/meta-data",
    "https://example.org/x",
    "https://fcm.googleapis.com.example.org/x",
    "https://example.org/fcm.googleapis.com",
    "https://xfcm.googleapis.com/x",
    "https://notify.windows.com/x",
    "https://fcm.googleapis.com@example.org/x",
    "https://user@fcm.googleapis.com/x",
    "https://fcm.googleapis.com\\@example.org/x",
    "https://example.org#fcm.googleapis.com",
    "https://fcm.googleapis.com/x#y",
    "https://fcm.googleapis.com:0/x",
    "https://fcm.googleapis.com:99999/x",
    "https://fcm.googleapis.com/\r\nHost: example.org",
    "https://fcm.googleapis.com/a b",
    "https:///x",
    "https://",
    "fcm.googleapis.com",
    "",
    "https://fcm.googleapis.com/" + "x" * 1024,
    "https://\uff46cm.googleapis.com/x",
)


@pytest.mark.parametrize("endpoint", GOOD)
def test_push_services_of_browsers_are_taken(endpoint: str) -> None:
    check_endpoint(endpoint, SERVICES, ())


@pytest.mark.parametrize("endpoint", BAD, ids=range(len(BAD)))
def test_nothing_else_is(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        check_endpoint(endpoint, SERVICES, ())


def test_http_is_for_addresses_that_the_operator_has_named() -> None:
    check_endpoint("http://127.0.0.1:8080/x", ("127.0.0.1",), ("127.0.0.0/8",))
    for services, private in ((SERVICES, ("127.0.0.0/8",)), (("*",), ()), (("*",), ("10.0.0.0/8",))):
        with pytest.raises(ValueError, match=r"must begin with https|not one of a push service"):
            check_endpoint("http://127.0.0.1:8080/x", services, private)
