"""The chat over WebSocket on the port of the API: the request for it, among others and alone, the sessions, and their
moves to other workers."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from chatd_client import Client, Options
from tests.harness.deadline import run
from tests.harness.phone import Phone
from tests.http.conftest import WEBSOCKET_PATH, House
from tests.http.raw import Raw, message, post
from tests.http.test_leaving import Ways
from tests.net.proxy_headers import v1

GET = b"GET /docs HTTP/1.1\r\nHost: chat\r\n\r\n"
HELLO = message("bob", "hello")
_PATH = WEBSOCKET_PATH.encode()
UPGRADE = (
    b"GET " + _PATH + b"?tab=1 HTTP/1.1\r\nHost: chat\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
)  # fmt: skip


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    house = Ways(tmp_path_factory.mktemp("websockets"))
    yield house
    assert house.daemon.discard() == []


def text_frame(data: bytes) -> bytes:
    """Of a client; masked with zeros."""
    assert len(data) < 126
    return bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data


KEEP_ALIVE = text_frame(b'{"type":1,"from":"","to":"0","dataContent":"{}"}')


# ---------------------------------------------------------------- sessions


def test_people_on_both_kinds_of_listener_write_to_each_other(small: House) -> None:
    async def story() -> None:
        url = f"ws://127.0.0.1:{small.port}{WEBSOCKET_PATH}"
        async with Client(url, "bob", password="secret of bob") as bob:
            with Raw(small.port) as raw:
                assert raw.ask(post(small.key, message("bob", "from an application"))).status == 201
            messages = bob.messages()
            while (await anext(messages)).text != "from an application":
                pass
            await bob.send("alice", "from the web")

    run(story(), 30)
    alice = Phone(small.daemon.ports["mobileimsdk"], "alice", "secret of alice")
    alice.message("from the web")
    alice.close()


def test_over_tls_and_behind_a_load_balancer(ways: Ways) -> None:
    async def story(context: ssl.SSLContext) -> None:
        url = f"wss://localhost:{ways.daemon.ports['https']}{WEBSOCKET_PATH}"
        async with Client(url, "alice", password="secret of alice", options=Options(tls=context)) as alice:
            await alice.send("bob", "over TLS")

    run(story(ways.certificate.client()), 30)
    with Raw(ways.daemon.ports["balanced"], first=v1("203.0.113.9", 4711)) as raw:
        raw.send(UPGRADE + b"Origin: https://foreign.example\r\n\r\n")
        assert raw.said().status == 403
    refused = [one for one in ways.daemon.records() if one.get("security") == "connection_refused"]
    assert refused[-1]["peer"].startswith("203.0.113.9:"), "the address is the client's own"


def test_sessions_move_when_their_worker_is_replaced(pair: House) -> None:
    phone = Phone(pair.daemon.ports["mobileimsdk"], "bob", "secret of bob")
    before = set(pair.daemon.workers())
    with connect(f"ws://127.0.0.1:{pair.port}{WEBSOCKET_PATH}", proxy=None) as web:
        login = {"loginUserId": "alice", "loginToken": "secret of alice"}
        web.send(json.dumps({"type": 0, "from": "alice", "to": "0", "dataContent": json.dumps(login)}))
        assert json.loads(web.recv(10))["type"] == 50
        assert pair.daemon.ctl("restart-workers", limit_s=60).returncode == 0
        assert not before & set(pair.daemon.workers())
        packet = {"type": 2, "from": "alice", "to": "bob", "dataContent": "moved", "QoS": True, "fp": "after"}
        web.send(json.dumps(packet))
        phone.message("moved")
    phone.close()


# ---------------------------------------------------------------- the request


def test_after_other_requests_and_with_frames_right_behind_it(small: House) -> None:
    with Raw(small.port) as raw:
        assert raw.ask(GET).status == 200
        assert raw.ask(post(small.key, HELLO)).status == 201
        login = text_frame(b'{"type":0,"from":"alice","to":"0","dataContent":"{\\"loginUserId\\":\\"alice\\"}"}')
        raw.send(UPGRADE + b"\r\n" + login)
        said = raw.said()
        assert (said.status, said.headers["upgrade"]) == (101, "websocket")
        raw.until(b'"type":50')  # the answer to the login


def test_in_single_bytes(small: House) -> None:
    with Raw(small.port) as raw:
        for byte in UPGRADE + b"\r\n":
            raw.send(bytes((byte,)))
        assert raw.said().status == 101


@pytest.mark.parametrize(
    ("request_", "status"),
    {
        "elsewhere": (UPGRADE.replace(_PATH, b"/v1/messages"), 400),
        "to another protocol": (UPGRADE.replace(b"WebSocket\r\n", b"h2c\r\n"), 400),
        "with a body": (UPGRADE + b"Content-Length: 3\r\n", 400),
        "with a chunked body": (UPGRADE + b"Transfer-Encoding: chunked\r\n", 400),
        "without a key": (UPGRADE.replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Lock"), 400),
        "an old version": (UPGRADE.replace(b"13", b"8"), 400),
        "from a foreign page": (UPGRADE + b"Origin: https://foreign.example\r\n", 403),
        "not an upgrade": (b"GET " + _PATH + b" HTTP/1.1\r\nHost: chat\r\n", 404),
    }.values(),
)
def test_a_request_that_is_refused(small: House, request_: bytes, status: int) -> None:
    with Raw(small.port) as raw:
        said = raw.ask(request_ + b"\r\n")
        assert said.status == status, said
        if status != 404:
            assert raw.ended() == b""


def test_not_behind_a_request_that_is_still_being_served(small: House) -> None:
    """Its answer would come between the frames."""
    with Raw(small.port) as raw:
        raw.send(post(small.key, HELLO) + UPGRADE + b"\r\n")
        assert raw.said().status == 201
        assert raw.ended() == b""


def test_a_page_of_the_same_host_may_connect(small: House) -> None:
    with Raw(small.port) as raw:
        assert raw.ask(UPGRADE + b"Origin: http://chat:9\r\n\r\n").status == 101


def test_a_server_without_a_path_has_no_websocket(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = House(tmp_path_factory.mktemp("none"), 1, listen={})
    try:
        with Raw(house.port) as raw:
            assert raw.ask(UPGRADE + b"\r\n").status == 400
    finally:
        assert house.daemon.discard() == []


# ---------------------------------------------------------------- limits


def test_who_does_not_log_in_is_ended_like_any_client(small: House) -> None:
    """An upgrade is no way around the limits of strangers."""
    with Raw(small.port) as raw:
        assert raw.ask(UPGRADE + b"\r\n").status == 101
        raw.send(KEEP_ALIVE * 300)
        assert b"\x88" in raw.ended(), "a close frame"
