"""What is particular to WebSocket: handshakes, frames on the wire, close codes. What is said in the frames is the same
as over TCP, and the scripts are played over both."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from websockets.frames import Frame, Opcode

from chatd.errors import ErrorCode
from chatd.net.websocket.frames import MAX_FRAME_BYTES, CloseCode
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, within
from tests.harness.mobileimsdk import ECHO, ECHOED, ERROR, KICKED, LOGOUT, content
from tests.harness.person import Town
from tests.harness.websocket import Refused, WebPeer

HANDSHAKE = (
    b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LOGIN_S = 1.5
SILENCE_S = 7.0


def frame(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)


def text(packet: object) -> bytes:
    return frame(Opcode.TEXT, json.dumps(packet).encode())


def echo(what: str) -> dict[str, object]:
    return {"type": ECHO, "from": "x", "to": "0", "dataContent": what}


async def connect(town: Town) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", town.port("web"))


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await within(5, "the head of an answer", reader.readuntil(b"\r\n\r\n"))


async def ended(peer: WebPeer, code: int) -> list[dict[str, object]]:
    """The packets before the server closed with this code, properly."""
    packets = await peer.end()
    assert peer.close_code == code
    return packets


# ---------------------------------------------------------------- handshakes


def test_a_handshake_in_pieces_with_the_first_frame_glued_to_it(town: Town) -> None:
    async def story() -> None:
        reader, writer = await connect(town)
        for byte in HANDSHAKE[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(HANDSHAKE[-1:] + text(echo("glued")))
        assert b" 101 " in await head_of(reader)
        answer = await within(5, "the echo", reader.readexactly(2))
        assert b"glued" in await within(5, "its payload", reader.readexactly(answer[1]))
        writer.close()

    run(story())


@pytest.mark.parametrize(
    ("request_line", "statuses"),
    [(b"GET / HTTP/1.1", {426}), (b"POST /x HTTP/1.1", {400, 426}), (b"BREW /pot HTCPCP/1.0", {400, 426})],
)
def test_plain_http_gets_a_short_answer_and_is_closed(town: Town, request_line: bytes, statuses: set[int]) -> None:
    async def story() -> None:
        reader, writer = await connect(town)
        writer.write(request_line + b"\r\nHost: localhost\r\n\r\n")
        answer = await within(5, "the answer and the end", reader.read())
        assert int(answer.split()[1]) in statuses
        assert len(answer) < 300
        writer.close()

    run(story())


@pytest.mark.parametrize(("path", "subprotocol", "status"), [("/", None, 404), ("/websocket", "soap", 400)])
def test_other_paths_and_subprotocols_are_refused(town: Town, path: str, subprotocol: str | None, status: int) -> None:
    async def story() -> None:
        peer = WebPeer()
        peer.path, peer.subprotocol = path, subprotocol
        with pytest.raises(Refused) as refused:
            await peer.open(town.port("web"))
        assert refused.value.status == status

    run(story())


def test_our_subprotocol_is_confirmed(town: Town) -> None:
    async def story() -> None:
        peer = WebPeer()
        peer.subprotocol = "mobileimsdk"
        await peer.open(town.port("web"))
        assert peer.protocol.subprotocol == "mobileimsdk"

    run(story())


def test_a_request_too_long_is_refused(town: Town) -> None:
    async def story() -> None:
        reader, writer = await connect(town)
        writer.write(b"GET /websocket HTTP/1.1\r\nCookie: " + b"x" * 9000)
        assert (await within(5, "a refusal", reader.read())).startswith(b"HTTP/1.1 431 ")
        writer.close()

    run(story())


# ---------------------------------------------------------------- frames


def test_fragments_pings_and_pongs(town: Town) -> None:
    async def story() -> None:
        peer = await town.web_peer()
        body = json.dumps(echo("in three pieces é")).encode()
        peer.write(frame(Opcode.PING, b"before"))
        peer.write(frame(Opcode.TEXT, body[:10], fin=False) + frame(Opcode.PING, b"between"))
        peer.write(frame(Opcode.CONT, body[10:40], fin=False) + frame(Opcode.PONG, b"unasked"))
        peer.write(frame(Opcode.CONT, body[40:]))
        assert (await peer.take())["dataContent"] == "in three pieces é"
        assert peer.pongs == [b"before", b"between"]

    run(story())


@pytest.mark.parametrize("size", [100, 125, 126, 65_000])
def test_every_length_of_a_frame_comes_back(town: Town, size: int) -> None:
    async def story() -> None:
        peer = await town.on_web(await town.newcomer("long"))  # a stranger may not send as much
        for what in ("x" * size, "é" * (size // 2)):
            peer.write(frame(Opcode.TEXT, json.dumps(echo(what), ensure_ascii=False).encode()))
            packet = await peer.take()
            assert (packet["type"], packet["dataContent"]) == (ECHOED, what)

    run(story())


BAD = {
    "binary": (frame(Opcode.BINARY, b"{}"), CloseCode.UNSUPPORTED, ErrorCode.INVALID_PACKET),
    "too long": (frame(Opcode.TEXT, b" " * (MAX_FRAME_BYTES + 1)), CloseCode.TOO_BIG, ErrorCode.TOO_LONG),
    "not JSON": (frame(Opcode.TEXT, b"hello"), CloseCode.INVALID_DATA, ErrorCode.INVALID_PACKET),
    "empty": (frame(Opcode.TEXT, b""), CloseCode.INVALID_DATA, ErrorCode.INVALID_PACKET),
    "not UTF-8": (frame(Opcode.TEXT, b'{"type":5,"x":"\xff"}'), CloseCode.INVALID_DATA, ErrorCode.INVALID_PACKET),
    "too deep": (frame(Opcode.TEXT, b'{"x":' * 20), CloseCode.INVALID_DATA, ErrorCode.INVALID_PACKET),
    "not masked": (b"\x81\x02{}", CloseCode.PROTOCOL_ERROR, ErrorCode.INVALID_PACKET),
    "reserved bit": (frame(Opcode.TEXT, b"{}").replace(b"\x81", b"\xc1", 1), 1002, ErrorCode.INVALID_PACKET),
    "bad close code": (frame(Opcode.CLOSE, b"\x03\xee"), CloseCode.PROTOCOL_ERROR, ErrorCode.INVALID_PACKET),
}


@pytest.mark.parametrize("name", BAD)
def test_what_may_not_be_sent_is_told_and_closed(town: Town, name: str) -> None:
    """After the good frame before it was served."""
    data, close_code, error = BAD[name]

    async def story() -> None:
        peer = await town.web_peer()
        if len(data) > MAX_BYTES_BEFORE_LOGIN:  # what a stranger sends at once is refused at once
            peer.write(text(echo("good")))
            good = await peer.take()
            peer.write(data)
            (bad,) = await ended(peer, close_code)
        else:
            peer.write(text(echo("good")) + data)
            good, bad = await ended(peer, close_code)
        assert good["dataContent"] == "good"
        assert (bad["type"], content(bad)["errorCode"]) == (ERROR, error)

    run(story())


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9", 1001), (b"\x0b\xb8x", 3000)]
)
def test_a_client_that_closes_is_answered_with_its_own_code(town: Town, payload: bytes, code: int) -> None:
    async def story() -> None:
        name = await town.newcomer("leaver")
        peer = await town.on_web(name)
        peer.write(frame(Opcode.CLOSE, payload))
        assert await peer.end() == []
        assert peer.protocol.close_rcvd is not None
        assert peer.protocol.close_rcvd.code == code

    run(story())


# ---------------------------------------------------------------- why a connection ends


def test_refusals_close_with_their_codes(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.web_peer()
        peer.put(peer.login_packet(name, "wrong"))
        (answer,) = await ended(peer, CloseCode.LOGIN_REFUSED)
        assert content(answer)["code"] == ErrorCode.BAD_CREDENTIALS
        peer = await town.web_peer()
        peer.say(name, name, "hello", None, qos=False)
        (answer,) = await ended(peer, CloseCode.NOT_LOGGED_IN)
        assert content(answer)["errorCode"] == ErrorCode.NOT_LOGGED_IN
        peer = await town.on_web(name)
        peer.put({"type": LOGOUT, "from": name, "to": "0"})
        assert await ended(peer, CloseCode.NORMAL) == []

    run(story())


def test_duplicate_logins_over_all_transports(town: Town) -> None:
    """The old one is kicked with 4001, or replaced without a word with 4008, wherever the new one comes from."""

    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.on_web(name)
        await town.on_mobile(name)
        (kicked,) = await ended(old, CloseCode.KICKED_DUPLICATE)
        assert (kicked["type"], content(kicked)["code"]) == (KICKED, 1)
        old = await town.web_peer()
        login_time = await old.log_in(name, town.secret)
        new = await town.on_web(name, login_time)
        assert await ended(old, CloseCode.REPLACED) == []
        older = await town.web_peer()
        older.put(older.login_packet(name, town.secret, login_time - 1000))
        assert [packet["type"] for packet in await ended(older, CloseCode.KICKED_DUPLICATE)] == [KICKED]
        new.put(echo("still here"))
        assert (await new.take())["dataContent"] == "still here"

    run(story())


def test_a_client_that_does_not_answer_the_close_is_let_go(town: Town) -> None:
    async def story() -> None:
        reader, writer = await connect(town)
        writer.write(HANDSHAKE + frame(Opcode.BINARY, b"x"))
        assert b" 101 " in await head_of(reader)
        began = time.monotonic()
        await within(5, "the end", reader.read())
        while time.monotonic() - began < 8:
            try:
                writer.write(frame(Opcode.PING, b"still talking"))
                await writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the server still listens")

    run(story())


# ---------------------------------------------------------------- daemons of their own


@pytest.fixture
def brisk(make_daemon: Callable[..., Daemon]) -> Town:
    origins = ["https://chat.example"]
    web = {"keep_alive_s": 3, "origins": origins}
    return Town(make_daemon(listen={"mobileimsdk-ws": web}, timeouts={"login_s": LOGIN_S}).start())


def test_what_ends_by_the_clock_and_origins(brisk: Town) -> None:
    async def no_login() -> None:
        began = time.monotonic()
        peer = await brisk.web_peer()
        await ended(peer, CloseCode.LOGIN_TIMEOUT)
        assert LOGIN_S - 0.05 <= time.monotonic() - began < LOGIN_S + 20

    async def silent() -> None:
        peer = await brisk.on_web(await brisk.newcomer("silent"))
        await peer.gone.wait()
        assert peer.close_code == CloseCode.SILENT

    async def no_request(first: bytes) -> None:
        """Dripping does not help: the deadline is absolute."""
        reader, writer = await connect(brisk)
        writer.write(first)
        answer = asyncio.ensure_future(reader.read())
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.1)
        assert answer.result().startswith(b"HTTP/1.1 408 ")
        writer.close()

    async def origins() -> None:
        for origin, status in (("https://chat.example", 101), (None, 101), ("https://evil.example", 403)):
            peer = WebPeer()
            peer.origin = origin
            try:
                await peer.open(brisk.port("web"))
                found = 101
            except Refused as refused:
                found = refused.status
            assert (origin, found) == (origin, status)

    async def story() -> None:
        slow = (no_request(b""), no_request(b"GET /websocket HTTP/1.1\r\nCookie: "))
        await asyncio.gather(origins(), no_login(), silent(), *slow)

    run(story())


def test_a_full_server_says_so_in_http(make_daemon: Callable[..., Daemon]) -> None:
    town = Town(make_daemon(limits={"connections": 3}).start())

    async def story() -> None:
        peers = [await town.web_peer() for _ in range(3)]
        with pytest.raises(Refused) as refused:
            await town.web_peer()
        assert refused.value.status == 503
        peers[0].close()
        await peers[0].gone.wait()
        await within(5, "room for another", admitted())

    async def admitted() -> None:
        while True:
            try:
                await town.web_peer()
            except Refused:
                await asyncio.sleep(0.05)
            else:
                return

    run(story())


def test_a_draining_server_says_so_and_closes_with_1012(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=2, timeouts={"drain_s": 5.0, "drain_spread_s": 0.5}).start()
    town = Town(daemon)

    async def story() -> None:
        peers = [await town.on_web(await town.newcomer("guest")) for _ in range(6)]
        stranger = await town.web_peer()
        reader, writer = await connect(town)
        writer.write(HANDSHAKE[:30])
        assert daemon.process is not None
        daemon.process.terminate()
        for peer in peers:
            (notice,) = await ended(peer, CloseCode.SERVICE_RESTART)
            assert content(notice)["event"] == "draining"
        await ended(stranger, CloseCode.SERVICE_RESTART)
        assert (await within(5, "the end", reader.read())).startswith(b"HTTP/1.1 503 ")
        writer.close()

    run(story())
    assert daemon.wait_gone() == 0


def test_workers_share_the_listener_evenly(make_daemon: Callable[..., Daemon]) -> None:
    town = Town(make_daemon(workers=2).start())

    async def story() -> None:
        peers = [await town.web_peer() for _ in range(60)]
        loop = asyncio.get_running_loop()
        rows = (await loop.run_in_executor(None, town.daemon.status))["workers"]
        held = [row["connections"] for row in rows]
        assert sum(held) >= len(peers)
        assert max(held) - min(held) <= 8 + 0.05 * max(held) + 4, held  # the gate of docs/decisions/0003

    run(story())


def test_who_does_not_read_is_cut_and_gets_the_rest_later(make_daemon: Callable[..., Daemon]) -> None:
    town = Town(make_daemon(limits={"outbox_bytes": 262_144, "in_flight": 4096}, timeouts={"stall_s": 2.0}).start())

    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.on_mobile(alice)
        lazy = WebPeer()
        await lazy.open(town.port("web"), receive_buffer=4096)
        await lazy.log_in(bob, town.secret)
        assert lazy.transport is not None
        lazy.transport.pause_reading()
        for number in range(600):
            sender.say(alice, bob, f"{number} " + "x" * 2000, f"fp-{number}")
        acknowledged = {(await sender.find(type=4))["dataContent"] for _ in range(600)}
        assert len(acknowledged) == 600
        await until(15, "the lazy one is cut", lambda: town.daemon.logged("does not read") or None, 0.2)
        again = await town.on_web(bob)
        seen: set[str] = set()
        while len(seen) < 600:
            packet = await again.find(type=2)
            seen.add(packet["fp"])
            again.acknowledge(packet)

    run(story())


def test_other_wires_over_websocket_are_a_configuration_error(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.config["listen"].append({"protocol": "chatserver", "address": "ws://127.0.0.1:1/x"})
    daemon.write_config()
    daemon.launch()
    assert daemon.wait_gone() == 78
    assert "protocol chatserver cannot be used over ws://" in daemon.output.read_text()
