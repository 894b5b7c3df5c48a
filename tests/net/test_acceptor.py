"""Accepting when the process is out of descriptors: nobody else's is closed, and service goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode
from chatd.net import acceptor as acceptor_module
from tests.harness.deadline import until
from tests.net.house import House, play


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """Every descriptor of this process is in use; those that hold the room are in the list."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield held
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in held:
            os.close(one)


def client() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


def connect(sock: socket.socket, port: int) -> None:
    """Needs no descriptor besides the socket."""
    with contextlib.suppress(BlockingIOError):
        sock.connect(("127.0.0.1", port))


async def answer(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1000), 5)


def test_without_descriptors_a_client_is_told_that_the_server_is_full(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        first, second = client(), client()
        with no_descriptors_left():
            for sock in (first, second):
                connect(sock, house.ports["chatserver"])
                assert b'"errno":%d' % ErrorCode.BUSY in await answer(sock)
                assert await answer(sock) == b""
        assert house.row.refused == 2
        first.close()
        second.close()

    play(tmp_path, story)


def test_a_spare_descriptor_that_was_lost_closes_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes the number of the spare descriptor while a client is refused."""
    taken: list[int] = []
    keep = os.open

    def another_is_quicker(*arguments: Any) -> int:
        if not taken:
            taken.append(keep(os.devnull, os.O_RDONLY))
        return keep(*arguments)

    async def story(house: House) -> None:
        first, second, third = client(), client(), client()
        with no_descriptors_left() as held:
            monkeypatch.setattr(acceptor_module.os, "open", another_is_quicker)
            connect(first, house.ports["chatserver"])
            assert b'"errno":%d' % ErrorCode.BUSY in await answer(first)
            await until(5, "the spare is taken by another", lambda: taken)
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                os.open(os.devnull, os.O_RDONLY)
            connect(second, house.ports["chatserver"])
            await asyncio.sleep(0.05)
            os.fstat(taken[0])  # raises if it was closed
            for _ in range(3):
                os.close(held.pop())
            await until(5, "the client is served when there is room", lambda: house.connections.members)
        connect(third, house.ports["chatserver"])
        await until(5, "as is the next one", lambda: len(house.connections.members) == 2)
        os.close(taken[0])
        for sock in (first, second, third):
            sock.close()

    play(tmp_path, story)
