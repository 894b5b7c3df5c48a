"""A process of another user on the bus of the workers of a host: modes keep it out, and so do its credentials."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from chatd.bus.local.bus import LocalBus
from chatd.bus.local.frames import VERSION, FrameKind, frame, pack_topics
from tests.bus.contract import Stage, play
from tests.bus.member import eventually
from tests.master.conftest import open_way

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
STRANGER = 4711
TOPIC = 5

CONNECT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
try:
    peer.connect(sys.argv[1])
    peer.sendall(bytes.fromhex(sys.argv[2]))
    peer.settimeout(10)
    print("closed" if not peer.recv(1) else "open")
except OSError as error:
    print(type(error).__name__)
"""
LISTEN = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.bind(sys.argv[1])
peer.listen()
print("listening", flush=True)
peer.settimeout(10)
other, _ = peer.accept()
other.settimeout(10)
try:
    print("read", len(other.recv(1000)), flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"""


def as_stranger(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of another user. It needs nothing but the interpreter's standard library."""
    command = ["setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups"]
    return subprocess.Popen(
        [*command, "/usr/bin/env", "python3", "-I", "-c", program, *arguments],
        stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip


class Place:
    def __init__(self, directory: Path) -> None:
        self.arguments: list[str] = []
        self.sockets = directory / "bus"
        self._locks = directory / "claims"

    def bus(self, slot: int) -> LocalBus:
        return LocalBus(self.sockets, self._locks, slot)

    def open(self) -> None:
        """As if somebody had removed every protection by modes."""
        self.sockets.chmod(0o777)
        for path in self.sockets.glob("*.sock"):
            path.chmod(0o777)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    open_way(tmp_path)
    return Place(tmp_path)


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=20)[0].strip()


FORGED = frame(FrameKind.HELLO, VERSION, b"9-9-stranger.sock") + frame(FrameKind.PUBLISH, TOPIC, b"forged")


def test_modes_keep_a_stranger_out(place: Place) -> None:
    async def scenario(stage: Stage) -> None:
        a = await stage.member()
        process = as_stranger(CONNECT, str(place.sockets / a.bus.name), FORGED.hex())
        assert await asyncio.to_thread(said, process) == "PermissionError"
        assert a.bus.refused == 0

    play(place, scenario)


def test_a_stranger_that_connects_is_refused_unread(place: Place) -> None:
    async def scenario(stage: Stage) -> None:
        a, b = await stage.members(2)
        await a.bus.subscribe([TOPIC])
        place.open()
        process = as_stranger(CONNECT, str(place.sockets / a.bus.name), FORGED.hex())
        assert await asyncio.to_thread(said, process) in ("closed", "ConnectionResetError", "BrokenPipeError")
        await eventually(lambda: a.bus.refused == 1)
        b.bus.publish(TOPIC, b"genuine")
        await a.until_received(1)
        assert a.received == [(TOPIC, b"genuine")]
        assert [*a.bus.other_workers()] == [b.bus.name]

    play(place, scenario)


def test_a_socket_of_a_stranger_is_told_nothing(place: Place) -> None:
    async def scenario(stage: Stage) -> None:
        a = await stage.member()
        await a.bus.subscribe([TOPIC])
        place.open()
        process = as_stranger(LISTEN, str(place.sockets / "9-9-stranger.sock"))
        assert process.stdout is not None
        assert (await asyncio.to_thread(process.stdout.readline)).strip() == "listening"
        b = await stage.member()
        assert await asyncio.to_thread(said, process) in ("read 0", "ConnectionResetError")
        assert b.bus.refused == 1
        assert [*b.bus.other_workers()] == [a.bus.name]
        assert b.bus.healthy

    play(place, scenario)


def test_a_worker_of_our_own_user_is_let_in_by_the_same_frames(place: Place) -> None:
    """The frames above are right: only the sender is not."""

    async def scenario(stage: Stage) -> None:
        a = await stage.member()
        await a.bus.subscribe([TOPIC])
        _, writer = await asyncio.open_unix_connection(str(place.sockets / a.bus.name))
        writer.write(FORGED + pack_topics(FrameKind.SUBSCRIBE, 0, ()))
        await a.until_received(1)
        assert a.received == [(TOPIC, b"forged")]
        writer.close()

    play(place, scenario)
