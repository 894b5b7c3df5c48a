"""The HTTP request and its answers, by request line and headers."""

from __future__ import annotations

import gc

import pytest

from chatd.net.websocket.handshake import HandshakeAnswer, UpgradePolicy

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, 1.3."""
HEADERS = {
    "Host": "chat.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(line: str = "GET /websocket HTTP/1.1", **changes: str | None) -> bytes:
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if value is not None), "", ""]
    return "\r\n".join(lines).encode()


def ask(data: bytes, origins: tuple[str, ...] = ()) -> tuple[int, dict[str, str], bytes]:
    answer = UpgradePolicy("/websocket", origins).answer(data)
    return parse(answer)


def parse(answer: HandshakeAnswer) -> tuple[int, dict[str, str], bytes]:
    head, end, body = answer.data.partition(b"\r\n\r\n")
    assert end
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in rest)}
    status = int(line.split()[1])
    assert line.startswith("HTTP/1.1 ")
    assert answer.accepted == (status == 101)
    if status != 101:
        assert headers["connection"] == "close"
        assert int(headers["content-length"]) == len(body) < 300
    return status, headers, body


def test_an_ordinary_request() -> None:
    status, headers, body = ask(request())
    assert (status, body) == (101, b"")
    assert headers["upgrade"] == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert headers["sec-websocket-accept"] == ACCEPT
    assert "sec-websocket-protocol" not in headers


@pytest.mark.parametrize(
    "data",
    [
        request(Connection="keep-alive, Upgrade"),
        request(Upgrade="WebSocket"),
        request("GET /websocket?token=x HTTP/1.1"),
        request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
    ],
    ids=["firefox", "case", "query", "compression is not taken up"],
)
def test_what_clients_also_write(data: bytes) -> None:
    status, headers, _ = ask(data)
    assert status == 101
    assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize(
    ("offered", "status", "chosen"),
    [(None, 101, None), ("mobileimsdk", 101, "mobileimsdk"), ("x, mobileimsdk", 101, "mobileimsdk"), ("x", 400, None)],
)
def test_subprotocols(offered: str | None, status: int, chosen: str | None) -> None:
    found, headers, _ = ask(request(Sec_WebSocket_Protocol=offered))
    assert (found, headers.get("sec-websocket-protocol")) == (status, chosen)


ORIGINS = ("https://chat.example", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ((), None, 101),
        ((), "https://evil.example", 403),
        (("*",), "https://evil.example", 101),
        (("*",), "null", 101),
        (("*",), None, 101),
        (ORIGINS, "https://chat.example", 101),
        (ORIGINS, "http://127.0.0.1:8000", 101),
        (ORIGINS, None, 101),
        (ORIGINS, "https://evil.example", 403),
        (ORIGINS, "https://chat.example.evil.example", 403),
        (ORIGINS, "http://chat.example", 403),
        (ORIGINS, "null", 403),
        ((*ORIGINS, "null"), "null", 101),
        (("https://elsewhere.example",), "https://chat.example", 403),
    ],
)
def test_origins(origins: tuple[str, ...], origin: str | None, status: int) -> None:
    assert ask(request(Origin=origin), origins)[0] == status


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://chat.example", "chat.example", 101),
        ("http://chat.example", "chat.example", 101),
        ("https://chat.example", "chat.example:3000", 101),
        ("http://chat.example:8000", "chat.example:3000", 101),
        ("https://Chat.Example", "CHAT.example:443", 101),
        ("http://127.0.0.1:8000", "127.0.0.1:3000", 101),
        ("http://[::1]:8000", "[::1]:3000", 101),
        ("http://[2001:db8::1]", "[2001:DB8::1]:3000", 101),
        ("https://evil.example", "chat.example", 403),
        ("https://chat.example.evil.example", "chat.example", 403),
        ("https://evil.example:3000", "chat.example:3000", 403),
        ("https://chat.example@evil.example", "chat.example", 403),
        ("http://localhost:8000", "127.0.0.1:3000", 403),
        ("http://[::2]", "[::1]:3000", 403),
        ("null", "chat.example", 403),
        ("null", "null", 403),
        ("file://", "", 403),
        ("file://chat.example", "chat.example", 403),
        ("chrome-extension://chat", "chat", 403),
        ("https://", "", 403),
        ("https://chat.example", "", 403),
        ("https://chat.example", None, 403),
        ("chat.example", "chat.example", 403),
        ("https://chat.example", "chat.example/x", 403),
        ("https://chat.example", "evil.example@chat.example", 403),
        ("https://chat.example:x", "chat.example:x", 403),
        ("https://[::1", "[::1", 403),
        (None, "chat.example", 101),
        (None, None, 101),
    ],
)
def test_by_default_a_page_may_connect_to_its_own_host(origin: str | None, host: str | None, status: int) -> None:
    assert ask(request(Origin=origin, Host=host))[0] == status


def test_two_hosts_or_two_origins_are_none_of_them() -> None:
    for name, other in (("Host", "evil.example"), ("Origin", "https://evil.example")):
        twice = request(Origin="https://chat.example").replace(b"\r\n\r\n", f"\r\n{name}: {other}\r\n\r\n".encode())
        assert ask(twice)[0] in (400, 403)


def test_a_refused_origin_is_named_for_the_log() -> None:
    policy = UpgradePolicy("/websocket", ())
    assert policy.answer(request(Origin="https://evil.example")).refused_origin == "https://evil.example"
    assert policy.answer(request(Origin="https://" + "x" * 5000)).refused_origin.startswith("https://xxx")
    assert len(policy.answer(request(Origin="https://" + "x" * 5000)).refused_origin) <= 200
    assert policy.answer(request(Origin="https://chat.example")).refused_origin == ""


PLAIN = {"Upgrade": None, "Connection": "keep-alive", "Sec_WebSocket_Key": None, "Sec_WebSocket_Version": None}


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "GET /websocket HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0"])
def test_plain_http_is_told_what_is_spoken_here(line: str) -> None:
    status, headers, body = ask(request(line, **PLAIN))
    assert (status, headers["upgrade"]) == (426, "websocket")
    assert body == b"Only WebSocket connections are accepted here.\n"


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (request("GET / HTTP/1.1"), {404}),
        (request("GET /websocket/ HTTP/1.1"), {404}),
        (request("GET /WebSocket HTTP/1.1"), {404}),
        (request(Upgrade="h2c"), {426}),
        (request(Connection="close"), {426}),
        (request(Sec_WebSocket_Key=None), {400}),
        (request(Sec_WebSocket_Key="short"), {400}),
        (request(Sec_WebSocket_Version="8"), {400, 426}),
        (request("POST /websocket HTTP/1.1"), {400, 405}),
        (request("GET /websocket HTTP/1.0"), {400, 505}),
        (request("GET /websocket"), {400}),
        (request(Content_Length="5"), {400}),
        (request(Transfer_Encoding="chunked"), {400}),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", {400}),
        (b"\r\n\r\n", {400}),
        (b"GET /websocket HTTP/1.1\r\nno colon here\r\n\r\n", {400}),
        (b"GET /websocket HTTP/1.1\r\n" + b"x: y\r\n" * 500 + b"\r\n", {400, 426}),
    ],
)
def test_what_is_refused(data: bytes, statuses: set[int]) -> None:
    assert ask(data)[0] in statuses


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request(Sec_WebSocket_Protocol="other"),
        request(Origin="https://elsewhere.example"),
        request(Upgrade=None),
        request("POST /websocket HTTP/1.1"),
        request(**{f"Header{number}": "x" for number in range(200)}),
        b"no request\r\n\r\n",
    ],
    ids=["accepted", "subprotocol", "origin", "no upgrade", "POST", "headers", "garbage"],
)
def test_nothing_is_left_for_the_garbage_collector(data: bytes) -> None:
    """Many would be, when many clients come at once, or somebody floods."""
    ask(data)  # what the library makes once
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            UpgradePolicy("/websocket", ()).answer(data)
        assert gc.collect() == 0
    finally:
        gc.enable()
