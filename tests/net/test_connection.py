"""One stream connection with real sockets: pacing, the outbox, what the kernel has, and every way to end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd import protocol
from chatd.config.schema import LimitOptions, TimeoutOptions
from chatd.core.dispatcher import Handler
from chatd.errors import Disconnect, ErrorCode
from chatd.net import connection as connection_module
from chatd.protocol import Login
from tests.core.stage import NO_RATES
from tests.harness.chatserver import (
    ACK,
    ERROR,
    LOGIN,
    LOGIN_ACK,
    ONE_CHAT,
    REGISTER,
    REGISTER_ACK,
    OldClient,
    received,
)
from tests.harness.deadline import until, within
from tests.net.house import LISTEN, House, play

WORDS = "it is a long text that fills buffers " * 100

PACE_MS = 40
"""More than LATE_S: on a busy machine the client is late."""


def texts(count: int) -> list[str]:
    return [f"{number:04} {WORDS}" for number in range(count)]


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    return [int(frame["msg"][:4]) for frame in frames if frame["msgid"] == 6]


# ---------------------------------------------------------------- the fragile client


def test_a_client_that_reads_one_frame_at_a_time_sees_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = msgspec.structs.replace(LISTEN["chatserver"], pace_ms=PACE_MS)
    monkeypatch.setitem(LISTEN, "chatserver", slow)

    async def story(house: House) -> None:
        alice = await house.streaming("alice")
        old = OldClient()
        await old.open(house.ports["chatserver"])
        loop = asyncio.get_running_loop()
        old.sock.sendall(json.dumps({"msgid": LOGIN, "name": "bob", "password": ""}).encode() + b"\0")
        assert (await within(5, "the login", old.answers.get()))["errno"] == 0
        begun = loop.time()
        await house.stored(alice, "bob", [str(number) for number in range(40)])
        await until(10, "bob has seen all", lambda: len(old.shown) == 40 or old.death)
        assert old.death is None
        assert [frame["msg"] for frame in old.shown] == [str(number) for number in range(40)]
        assert loop.time() - begun >= 39 * PACE_MS / 1000
        old.sock.close()

    play(tmp_path, story)


def test_frames_of_one_read_are_paced_from_the_first_on(tmp_path: Path) -> None:
    """Errors before the login too, and when the mode changes nothing overtakes what is still paced."""

    async def story(house: House) -> None:
        peer = await house.raw()
        for _ in range(20):
            peer.put({"msgid": 10, "groupid": 1})
        peer.put({"msgid": REGISTER, "name": "#", "password": "x"})
        peer.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
        peer.put({"msgid": 10, "groupid": 77})
        got = [await peer.take() for _ in range(23)]
        assert [frame["msgid"] for frame in got] == [*[ERROR] * 20, REGISTER_ACK, LOGIN_ACK, ERROR]
        assert got[-1]["errno"] == ErrorCode.UNKNOWN_GROUP

    play(tmp_path, story)


def test_pacing_goes_on_after_the_peer_did_not_read(tmp_path: Path) -> None:
    """What was queued meanwhile goes out frame by frame, not in one write."""

    async def story(house: House) -> None:
        peer = await house.raw()
        peer.put({"msgid": LOGIN, "name": "bob", "password": ""})
        await peer.find(msgid=LOGIN_ACK)
        bob = house.of("bob")
        writes: list[int] = []
        keep = bob.transport.write  # type: ignore[union-attr]

        class Transport:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            def write(self, data: bytes) -> None:
                writes.append(data.count(b"\0"))
                keep(data)

        inner = bob.transport
        bob.transport = Transport()  # type: ignore[assignment]
        alice = await house.streaming("alice")
        bob.pause_writing()
        await house.stored(alice, "bob", ["1"])
        await asyncio.sleep(0.02)  # longer than the pace: the next frame is due at once
        await house.stored(alice, "bob", ["2", "3"])
        assert writes == []
        bob.resume_writing()
        got = [await peer.take() for _ in range(3)]
        assert [frame["msg"] for frame in got] == ["1", "2", "3"]
        assert writes == [1, 1, 1]

    play(tmp_path, story)


# ---------------------------------------------------------------- gentle ends


def test_the_last_words_arrive_though_the_client_goes_on_sending_garbage(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        for _ in range(10):
            peer = await house.raw()
            peer.write(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 300_000)
            frames = await peer.end()
            assert [frame["msgid"] for frame in frames] == [ERROR]
            assert frames[0]["errno"] in (ErrorCode.INVALID_PACKET, ErrorCode.TOO_LONG)
        await until(5, "they are gone here too", lambda: not house.connections.members)

    play(tmp_path, story)


def test_good_commands_before_garbage_are_served(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        peer = await house.raw()
        for name in ("one", "two"):
            peer.put({"msgid": REGISTER, "name": name, "password": "x"})
        peer.write(b"garbage")
        frames = await peer.end()
        assert [frame["msgid"] for frame in frames] == [REGISTER_ACK, REGISTER_ACK, ERROR]

    play(tmp_path, story)


def test_a_peer_that_never_closes_is_closed_after_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.2)

    async def story(house: House) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", house.ports["chatserver"]))
        await loop.sock_sendall(sock, b"garbage")
        while await within(5, "the last words and the end", loop.sock_recv(sock, 1000)):
            pass
        assert house.connections.members
        await until(5, "it is cut", lambda: not house.connections.members)
        sock.close()

    play(tmp_path, story)


def test_a_peer_that_floods_a_closed_connection_is_cut(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", house.ports["chatserver"]))
        await loop.sock_sendall(sock, b"garbage")
        sent = 0
        try:
            while sent < 10 * connection_module.LINGER_BYTES:
                await loop.sock_sendall(sock, bytes(65536))
                sent += 65536
        except ConnectionError:
            pass
        assert connection_module.LINGER_BYTES <= sent < 10 * connection_module.LINGER_BYTES
        await until(5, "nothing is left", lambda: not house.connections.members)
        sock.close()

    play(tmp_path, story)


def test_what_is_queued_goes_out_before_the_end_also_to_a_slow_reader(tmp_path: Path) -> None:
    """And nothing breaks when the peer reads on after we have ended."""

    async def story(house: House) -> None:
        alice = await house.streaming("alice")
        bob = await house.streaming("bob", receive_buffer=4096)
        assert bob.transport is not None
        bob.transport.pause_reading()
        here = house.of("bob")
        await house.stored(alice, "bob", texts(400))
        await until(5, "bob's connection stalls", lambda: here.stalled_at)
        here.close(Disconnect.SILENT)
        broken: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
        bob.transport.resume_reading()
        await within(10, "the end", bob.gone.wait())
        got = numbers(list(bob.frames))
        assert got == list(range(len(got)))
        assert here.out is None
        assert here.out_bytes == 0
        assert broken == []

    play(tmp_path, story)


def test_half_closing_after_a_question_still_gets_the_answer(tmp_path: Path) -> None:
    """`echo hello | nc`: the question and the end arrive together."""

    async def story(house: House) -> None:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["echo"])
            writer.write(b"hello")
            writer.write_eof()
            assert await within(5, "the answer", reader.read()) == b"hello server[echo]"
            writer.close()

    play(tmp_path, story)


# ---------------------------------------------------------------- limits of bytes and time


def test_a_peer_that_reads_nothing_is_cut_after_stall_s_and_gets_the_rest_later(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        alice = await house.streaming("alice")
        bob = await house.streaming("bob", receive_buffer=4096)
        assert bob.transport is not None
        bob.transport.pause_reading()
        here = house.of("bob")
        await house.stored(alice, "bob", texts(700))
        await until(5, "it is cut", lambda: here not in house.connections.members)
        assert here.reason is Disconnect.SLOW_CONSUMER
        bob.transport.resume_reading()
        await within(5, "the end", bob.gone.wait())
        first = numbers(list(bob.frames))
        again = await house.streaming("bob")
        await until(10, "bob has the rest", lambda: numbers(list(again.frames))[-1:] == [699])
        second = numbers(list(again.frames))
        assert second == list(range(second[0], 700))
        assert second[0] <= len(first)  # nothing between

    play(tmp_path, story, timeouts=TimeoutOptions(stall_s=0.3))


def test_a_full_window_of_long_messages_is_given_to_who_reads(tmp_path: Path) -> None:
    """More than outbox_bytes waits for one login."""

    async def story(house: House) -> None:
        alice = await house.streaming("alice")
        bob = await house.streaming("bob")
        bob.close()
        await until(5, "bob is away", lambda: len(house.connections.members) == 1)
        await house.stored(alice, "bob", [f"{number:04} {'x' * 4000}" for number in range(200)])
        bob = await house.streaming("bob")
        await until(10, "bob has all", lambda: len(numbers(list(bob.frames))) == 200)
        assert numbers(list(bob.frames)) == list(range(200))
        assert not house.of("bob").closed

    play(tmp_path, story, limits=LimitOptions(outbox_bytes=200_000))


def test_answers_to_a_peer_that_does_not_read_are_bounded(tmp_path: Path) -> None:
    """It asks without reading: reading stops first, and over outbox_bytes it is cut."""

    async def story(house: House) -> None:
        bob = await house.streaming("bob", receive_buffer=4096)
        assert bob.transport is not None
        bob.transport.pause_reading()
        here = house.of("bob")
        question = b'{"msgid":77}\0' * 2000
        for _ in range(200):
            bob.write(question)
            await asyncio.sleep(0)
        await until(10, "it is cut or not read", lambda: here.closed or here.stalled_at)
        assert here.out_bytes <= house.config.limits.outbox_bytes + 100 * 1024
        await until(10, "it is cut", lambda: here.closed)
        assert here.reason is Disconnect.SLOW_CONSUMER
        bob.abort()

    play(tmp_path, story, timeouts=TimeoutOptions(stall_s=0.5))


def test_an_outbox_over_its_limit_is_cut_at_once(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        bob = await house.streaming("bob")
        here = house.of("bob")
        assert here.session is not None
        event = protocol.Failed(ErrorCode.BUSY, "x" * 1000)
        for _ in range(10_000):
            here.push(event)
            if here.closed:
                break
        assert here.reason is Disconnect.SLOW_CONSUMER
        assert here.out_bytes <= house.config.limits.outbox_bytes + 2000
        await within(5, "the end", bob.gone.wait())

    play(tmp_path, story, limits=LimitOptions(outbox_bytes=100_000))


def test_who_does_not_log_in_is_told_to_go(tmp_path: Path) -> None:
    """An absolute deadline: dripping bytes, commands and errors do not move it."""

    async def story(house: House) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        silent, dripping = await house.raw(), await house.raw()
        failing = await house.raw()
        while loop.time() - begun < 5 and not (silent.gone.is_set() and dripping.gone.is_set()):
            dripping.write(b" ")
            failing.put({"msgid": 10, "groupid": 1})
            await asyncio.sleep(0.01)
        assert loop.time() - begun < 2
        await within(2, "the end", failing.gone.wait())
        await until(2, "nothing is left", lambda: not house.connections.members)

    play(tmp_path, story, timeouts=TimeoutOptions(login_s=0.3))


def test_who_logs_in_in_time_may_stay(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        bob = await house.streaming("bob")
        other = await house.raw()
        await within(5, "the other is told to go", other.gone.wait())
        assert not bob.gone.is_set()
        assert house.of("bob").deadline == 0.0

    play(tmp_path, story, timeouts=TimeoutOptions(login_s=0.2))


@pytest.mark.parametrize("wire", ["mobileimsdk", "echo"])
def test_silence_ends_a_connection_and_a_packet_starts_the_clock_again(tmp_path: Path, wire: str) -> None:
    async def story(house: House) -> None:
        if wire == "mobileimsdk":
            peer = await house.mobile("bob")
            write: Callable[[], None] = lambda: peer.put({"type": 1, "dataContent": "{}"})  # noqa: E731
            gone = peer.gone
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["echo"])
            write, gone = lambda: writer.write(b"x"), asyncio.Event()
            ending = asyncio.ensure_future(reader.read())
            ending.add_done_callback(lambda task: gone.set())
        await until(5, "it is here", lambda: house.connections.members)
        (here,) = house.connections.members
        here.profile = msgspec.structs.replace(here.profile, silence_s=0.3)
        for _ in range(10):
            await asyncio.sleep(0.1)
            write()
        assert not here.closed
        await within(5, "the end", gone.wait())
        assert here.reason is Disconnect.SILENT

    play(tmp_path, story)


def test_too_many_commands_are_refused_and_earned_back(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        bob = await house.streaming("bob")
        for _ in range(130):
            bob.put({"msgid": 99})
        codes = [(await bob.find(msgid=ERROR))["errno"] for _ in range(130)]
        assert codes == [ErrorCode.UNKNOWN_REQUEST] * 100 + [ErrorCode.TOO_FAST] * 30
        house.connections.round()
        for _ in range(15):
            bob.put({"msgid": 99})
        codes = [(await bob.find(msgid=ERROR))["errno"] for _ in range(15)]
        assert codes == [ErrorCode.UNKNOWN_REQUEST] * 10 + [ErrorCode.TOO_FAST] * 5

    play(tmp_path, story, limits=LimitOptions(commands_per_s=10))


def test_the_echo_wire_has_a_rate_of_its_own(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        house.connections.round()
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["echo"])
        for _ in range(20):
            writer.write(b"x")
            await within(5, "an echo", reader.readexactly(len(b"x server[echo]")))
        writer.write(b"too much")
        (here,) = house.connections.members
        await until(5, "it was read", lambda: here.spent == 21)  # type: ignore[attr-defined]
        house.connections.round()
        writer.write(b"y")
        assert await within(5, "an echo", reader.readexactly(14)) == b"y server[echo]"
        writer.close()

    play(tmp_path, story, limits=LimitOptions(commands_per_s=2))


def test_acknowledgements_are_served_over_the_limit(tmp_path: Path) -> None:
    """One that was refused would not be repeated, and the client would be given nothing more."""

    async def story(house: House) -> None:
        house.ticking = False
        alice, bob = await house.streaming("alice"), await house.raw()
        bob.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul", "acks": True})
        await bob.find(msgid=LOGIN_ACK)
        for _ in range(20):
            bob.put({"msgid": 10, "groupid": 77})
            await bob.find(msgid=ERROR)
        for number in range(30):
            alice.put({"msgid": ONE_CHAT, "toname": "bob", "msg": str(number), "fp": str(number)})
            await alice.find(msgid=ACK, fp=str(number))
        for number in range(30):
            frame = await bob.find(msgid=ONE_CHAT)
            assert frame["msg"] == str(number)
            bob.put(received(frame))
        bob.put({"msgid": 10, "groupid": 77})
        refusals = [await bob.take()]
        assert [(frame["errno"], frame["ref"]) for frame in refusals] == [(ErrorCode.TOO_FAST, 10)]

    play(tmp_path, story, limits=LimitOptions(commands_per_s=4, in_flight=8))


# ---------------------------------------------------------------- one command after the other


def test_what_follows_a_login_waits_for_it(tmp_path: Path) -> None:
    """All in one segment, and in pieces while the login is served."""

    async def story(house: House) -> None:
        for pieces in (1, 2, 7, 1000):
            peer = await house.raw()
            name = f"user{pieces}"
            data = b"".join(
                json.dumps(frame).encode() + b"\0"
                for frame in (
                    {"msgid": LOGIN, "name": name, "password": "", "framing": "nul"},
                    {"msgid": 9, "groupname": "team", "groupdesc": ""},
                    {"msgid": 6, "toname": name, "msg": "to myself", "fp": "1"},
                    {"msgid": 77},
                )
            )
            size = -(-len(data) // pieces)
            for at in range(0, len(data), size):
                peer.write(data[at : at + size])
                await asyncio.sleep(0)
            got = [(await peer.take())["msgid"] for _ in range(5)]
            assert got[:2] == [LOGIN_ACK, 14]
            assert sorted(got[2:]) == [6, ERROR, 13]

    play(tmp_path, story)


def test_reading_stops_while_a_command_is_served(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        gate = asyncio.Event()
        keep = house.core.logins.login

        async def slow(peer: Any, command: Any) -> None:
            await gate.wait()
            await keep(peer, command)

        house.core.dispatcher.register(Login, Handler(slow, needs_login=False, is_async=True))
        peer = await house.raw()
        peer.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
        await until(5, "it is served", lambda: any(one.pending for one in house.connections.members))
        assert peer.transport is not None
        for _ in range(2000):
            peer.put({"msgid": 6, "toname": "bob", "msg": "x" * 3000})
            await asyncio.sleep(0)
        (here,) = house.connections.members
        assert peer.transport.get_write_buffer_size() > 0  # nobody reads any more
        gate.set()
        await peer.find(msgid=LOGIN_ACK)
        await until(20, "all are served", lambda: house.core.messages.stored == 2000)
        assert not here.closed
        peer.abort()

    limits = msgspec.structs.replace(NO_RATES, waiting_from_one=0)
    play(tmp_path, story, limits=limits, timeouts=TimeoutOptions(store_s=10.0))
