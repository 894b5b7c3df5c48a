"""What the peer's kernel has of a connection, and Unix sockets."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import termios
from pathlib import Path
from typing import Any

import pytest

from chatd import protocol
from chatd.config.schema import TimeoutOptions
from chatd.errors import Disconnect, ErrorCode
from chatd.net import connection as connection_module
from chatd.net.receipts import SocketState, tcp_state
from tests.harness.chatserver import LOGIN, LOGIN_ACK
from tests.harness.deadline import until
from tests.harness.peer import NulPeer
from tests.net.house import House, acknowledged, play
from tests.net.test_connection import numbers, texts

WORDS = "it is a long text that fills buffers " * 100


# ---------------------------------------------------------------- what the peer's kernel has


def test_the_kernel_acknowledges_without_the_application_reading(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        alice, bob = await house.streaming("alice"), await house.streaming("bob")
        here = house.of("bob")
        assert bob.transport is not None
        bob.transport.pause_reading()
        before = acknowledged(here)
        assert before == here.written > 0
        await house.stored(alice, "bob", ["hello"])
        await until(5, "it is acknowledged", lambda: acknowledged(here) > before)
        assert acknowledged(here) == here.written
        assert len(bob.frames) == 0

    play(tmp_path, story)


def test_what_the_kernel_does_not_have_is_not_acknowledged(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        alice = await house.streaming("alice")
        bob = await house.streaming("bob", receive_buffer=4096)
        here = house.of("bob")
        assert bob.transport is not None
        sock = bob.transport.get_extra_info("socket")
        bob.transport.pause_reading()
        start = here.written
        here.push(protocol.Failed(ErrorCode.BUSY, "x" * 50_000))
        assert acknowledged(here) == start  # queued
        here.flush()
        assert acknowledged(here) <= here.written - 30_000  # handed over, not sent
        await house.stored(alice, "bob", texts(300))
        await until(5, "it stalls", lambda: here.stalled_at)
        assert start <= acknowledged(here) <= start + _unread(sock)
        assert acknowledged(here) < here.written
        bob.abort()

    play(tmp_path, story)


def _unread(sock: Any) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"), "little")


@pytest.mark.parametrize(
    ("end", "reads"),
    [("eof", True), *((end, reads) for end in ("reset", "cut", "close", "both at once") for reads in (True, False))],
)
def test_receipts_count_until_the_very_end(
    tmp_path: Path, end: str, *, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing sweeps here: only the end of the connection itself can ask. The descriptor must still be the peer's.

    A client that has read everything and closes, or is closed and closes too, is given nothing twice. Whether one
    that resets its connection has read what its kernel had, nobody can know: it is given it again."""
    sockets: list[bool] = []

    def watched(sock: socket.socket) -> SocketState | None:
        sockets.append(os.fstat(sock.fileno()).st_ino in inodes)
        return tcp_state(sock)

    inodes: set[int] = set()
    monkeypatch.setattr(connection_module, "tcp_state", watched)

    async def story(house: House) -> None:
        house.ticking = False
        alice = await house.streaming("alice")
        bob = await house.streaming("bob", receive_buffer=0 if reads else 4096)
        here = house.of("bob")
        inodes.add(os.fstat(here.sock.fileno()).st_ino)
        assert bob.transport is not None
        sock = bob.transport.get_extra_info("socket")
        bob.transport.pause_reading()
        count = 20 if reads else 300
        await house.stored(alice, "bob", texts(count))
        if reads:
            await until(5, "the kernel has all", lambda: acknowledged(here) == here.written)
        else:
            await until(5, "it stalls", lambda: here.stalled_at)
        read: list[dict[str, Any]] = []
        if end == "eof":
            bob.transport.write_eof()
        elif end == "reset":
            read = _drain(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            bob.transport.abort()
        elif end == "cut":
            here.cut(Disconnect.SLOW_CONSUMER)
        elif end == "both at once":
            read = _drain(sock)
            bob.transport.abort()
            here.close(Disconnect.SILENT)
        else:
            here.close(Disconnect.SILENT)
        await until(5, "the session is over", lambda: here.closed)
        if not read:
            read = _drain(sock)
        if end == "close":
            bob.transport.resume_reading()
            await until(5, "the client has closed too", lambda: here.transport is None)
        assert sockets or end == "reset"
        assert all(sockets)
        house.ticking = True
        alice.put({"msgid": 6, "toname": "bob", "msg": f"{count:04}", "fp": "last"})
        await alice.find(msgid=13)
        again = await house.streaming("bob")
        await until(5, "bob has the last", lambda: numbers(list(again.frames))[-1:] == [count])
        second = numbers(list(again.frames))
        first = numbers(read)
        assert first == list(range(len(first)))
        assert second == list(range(second[0], count + 1))
        assert second[0] <= len(first)  # nothing is lost
        if reads and end not in ("reset", "cut"):
            assert second == [count]  # and nothing given twice
        for peer in (bob, again, alice):
            peer.abort()

    play(tmp_path, story, timeouts=TimeoutOptions(store_s=10.0))


def _drain(sock: Any) -> list[dict[str, Any]]:
    """What the client's kernel has, as whole frames."""
    data = b""
    own = socket.socket(fileno=os.dup(sock.fileno()))
    own.setblocking(False)
    try:
        while piece := own.recv(1 << 20):
            data += piece
    except OSError:
        pass
    own.close()
    return [json.loads(frame) for frame in data.split(b"\0")[:-1]]


def test_over_a_unix_socket(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        alice = await house.streaming("alice")
        bob = NulPeer()
        await asyncio.get_running_loop().create_unix_connection(lambda: bob, house.unix)
        bob.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
        await bob.find(msgid=LOGIN_ACK)
        here = house.of("bob")
        await until(5, "what was read is acknowledged", lambda: here.received() == here.written)
        assert bob.transport is not None
        bob.transport.pause_reading()
        await house.stored(alice, "bob", ["0", "1"])
        assert here.received() < here.written
        bob.transport.resume_reading()
        await until(5, "what was read is acknowledged", lambda: here.received() == here.written)
        bob.close()
        await until(5, "bob is away", lambda: here.closed)
        await house.stored(alice, "bob", ["2"])
        again = NulPeer()
        await asyncio.get_running_loop().create_unix_connection(lambda: again, house.unix)
        again.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
        answer = await again.find(msgid=LOGIN_ACK)
        waiting = [json.loads(text)["msg"] for text in answer.get("offlinemsg", [])]
        assert waiting == ["2"]
        again.close()

    play(tmp_path, story)
