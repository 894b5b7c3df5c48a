"""accounts.require_tls: over HTTP, too, no key, password or token crosses a network that can read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.harness.certificates import Certificate
from tests.harness.daemon import free_ports
from tests.harness.network import own_address
from tests.harness.switches import switched_off, with_switches
from tests.http.conftest import House
from tests.http.raw import Raw, Said, message, post
from tests.net.proxy_headers import v1

ENTRY = ("-m", "tests.http.demo.planted", "switches")
PASSWORD = b'{"password":"second-secret-2"}'
REQUESTS = {
    "a message": (b"POST", b"/v1/messages", message("bob", "hi")),
    "a new password": (b"PUT", b"/v1/users/bob/password", PASSWORD),
    "a user with a password": (b"PUT", b"/v1/users/carol", PASSWORD),
    "a token": (b"POST", b"/v1/tokens", b'{"name":"bob"}'),
}
LOGIN = (
    b"POST /api/loginConnect?username=alice&password=secret%20of%20alice HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class Private(House):
    """own: the other address of this machine, which stands for the network."""

    def __init__(self, root: Path, own: str) -> None:
        self.own = own
        self.certificate = Certificate(root / "certificate", "localhost", own)
        secret = root / "secret"
        secret.touch(mode=0o600)
        secret.write_text("0123456789abcdef" * 4)
        key = {"kid": "one", "algorithm": "HS256", "secret": f"file:{secret}", "mints": True}
        self.arrays = {"token_key": [key]}
        options = {"login": ["password", "token"], "require_tls": True}
        super().__init__(root / "chatd", 1, entry=ENTRY, accounts=options, http={"mobileimsdk_demo": True})

    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        self.daemon.config.update(self.arrays)
        ports, listen = self.daemon.ports, {"protocol": "http"}
        ports["plain"], ports["https"], ports["balanced"] = free_ports(3)
        self.unix = str(self.daemon.runtime_dir / "api.sock")
        return [
            {**listen, "address": f"http://{self.own}:{ports['plain']}"},
            {**listen, "address": f"https://{self.own}:{ports['https']}", "certificates": self.certificate.options()},
            {**listen, "address": f"http://{self.own}:{ports['balanced']}", "proxy_from": [self.own]},
            {**listen, "address": f"unix:{self.unix}"},
        ]

    def from_network(self) -> Raw:
        return Raw(self.daemon.ports["plain"], host=self.own)

    def private_ways(self, stack: ExitStack) -> list[Raw]:
        """TLS; a load balancer, which is trusted to have it; a Unix socket; this host itself."""
        ports, tls = self.daemon.ports, self.certificate.client()
        ways = [
            Raw(ports["https"], tls=tls, host=self.own),
            Raw(ports["balanced"], first=v1("203.0.113.9", 4711), host=self.own),
            Raw(0, unix=self.unix),
            Raw(self.port),
        ]
        return [stack.enter_context(way) for way in ways]

    def ask(self, raw: Raw, what: str, *headers: bytes) -> Said:
        method, path, body = REQUESTS[what]
        request = post(self.admin, body, *headers, path=path)
        return raw.ask(method + request.removeprefix(b"POST"))


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    house = Private(tmp_path_factory.mktemp("private"), own)
    yield house
    assert house.daemon.discard() == []


def refused(said: Said) -> Any:
    assert (said.status, said.code) == (403, ErrorCode.TLS_NEEDED), said
    assert "https://" in said.json()["detail"]
    return said.json()


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_that_the_network_can_read_is_refused_and_any_other_is_not(private: Private, what: str) -> None:
    with private.from_network() as raw:
        for _ in range(2):
            refused(private.ask(raw, what))
        refused(private.ask(raw, what, b"X-Forwarded-Proto: https", b"Forwarded: proto=https"))
        refused(raw.ask(b"GET /v1/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n\r\n"))
        assert raw.ask(b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    with ExitStack() as stack:
        for raw in private.private_ways(stack):
            assert private.ask(raw, what).status in (200, 201)
    with switched_off("passwords_in_clear", private.daemon), private.from_network() as raw:
        assert private.ask(raw, what).status in (200, 201)


def test_a_login_from_a_page_is_refused_too(private: Private) -> None:
    with private.from_network() as raw:
        told = raw.ask(LOGIN).json()
    assert (told["code"], "TLS" in told["message"]) == (-1, True)
    with ExitStack() as stack:
        for raw in private.private_ways(stack):
            assert raw.ask(LOGIN).json()["code"] == 200
    with switched_off("passwords_in_clear", private.daemon), private.from_network() as raw:
        assert raw.ask(LOGIN).json()["code"] == 200
