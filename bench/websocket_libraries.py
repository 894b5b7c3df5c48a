"""What a WebSocket message costs the server in each library: the figures of docs/decisions/0006-websocket-library.md.

Owns: an echo server per candidate in a process of its own, a client that writes ready-made frames, the comparison.
Needs what chatd itself does not: `pip install picows wsproto`. Run: .venv/bin/python bench/websocket_libraries.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import os
import resource
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import picows
import uvloop
import wsproto
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask
from wsproto.events import AcceptConnection, Request, TextMessage

TEXT = b"t" * 200
MASK = b"mask"
FRAME = bytes([0x81, 0xFE, 0, len(TEXT)]) + MASK + apply_mask(TEXT, MASK)
ECHOED = 4 + len(TEXT)
UPGRADE = (
    b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Picows(picows.WSListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_bytes())


class OneWrite(asyncio.Protocol):
    """Echoes all frames of one read in one write, as chatd does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class Websockets(OneWrite):
    """The sans-I/O protocol as its documentation uses it."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol(logger=QUIET)

    def data_received(self, data: bytes) -> None:
        protocol = self.protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if protocol.state is State.CONNECTING:
                protocol.send_response(protocol.accept(event))
            else:
                protocol.send_text(bytes(event.data))
        self.transport.write(b"".join(protocol.data_to_send()))


class Wsproto(OneWrite):
    def __init__(self) -> None:
        self.protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)

    def data_received(self, data: bytes) -> None:
        protocol = self.protocol
        protocol.receive_data(data)
        out = []
        for event in protocol.events():
            if isinstance(event, Request):
                out.append(protocol.send(AcceptConnection()))
            elif isinstance(event, TextMessage):
                out.append(protocol.send(TextMessage(event.data)))
        self.transport.write(b"".join(out))


class AfterHandshake(OneWrite):
    """The first bytes are the handshake, everything after it is for echo()."""

    def __init__(self) -> None:
        self.open = False

    def data_received(self, data: bytes) -> None:
        if self.open:
            self.echo(data)
            return
        self.open = True
        self.transport.write(self.answer(data))

    def answer(self, data: bytes) -> bytes:
        raise NotImplementedError

    def echo(self, data: bytes) -> None:
        raise NotImplementedError


class Parts(AfterHandshake):
    """The handshake and the unmasking of `websockets`, ordinary frames parsed here: what chatd does."""

    def answer(self, data: bytes) -> bytes:
        protocol = ServerProtocol(logger=QUIET)
        protocol.receive_data(data)
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        return b"".join(protocol.data_to_send())

    def echo(self, data: bytes) -> None:
        at, end, out = 0, len(data), []
        while end - at >= 2:
            size, head = data[at + 1] & 127, 6
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 8
            stop = at + head + size
            payload = apply_mask(data[at + head : stop], data[at + head - 4 : at + head])
            out.append(b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload)
            at = stop
        self.transport.write(b"".join(out))


class NoWebSocket(AfterHandshake):
    """The cost of the sockets and the loop alone: as many bytes are sent back, unparsed."""

    def answer(self, data: bytes) -> bytes:
        return b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

    def echo(self, data: bytes) -> None:
        self.transport.write(data[: len(data) // len(FRAME) * ECHOED])


QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.CRITICAL)


def pss_kb() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def serve(name: str, pipe: Pipe) -> None:
    """Answers "cpu" and "memory" over the pipe."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if name.startswith("picows"):
            fast = name.endswith("aiofastnet")
            server = await picows.ws_create_server(
                lambda request: Picows(), "127.0.0.1", 0, read_buffer_init_size=2048, use_aiofastnet=fast,
                logger_name=QUIET,
            )  # fmt: skip
        else:
            kind: Callable[[], asyncio.Protocol] = {
                "websockets": Websockets, "wsproto": Wsproto, "parts of websockets": Parts, "nothing": NoWebSocket,
            }[name]  # fmt: skip
            server = await loop.create_server(kind, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        gone = asyncio.Event()

        def asked() -> None:
            try:
                question = pipe.recv()
            except EOFError:
                gone.set()
                return
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(used.ru_utime + used.ru_stime if question == "cpu" else pss_kb())

        loop.add_reader(pipe.fileno(), asked)
        await gone.wait()

    uvloop.run(main())


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(4096)
    assert b" 101 " in head, head
    return sock


def echo(port: int, pipe: Pipe, window: int, seconds: float) -> float:
    """CPU of the server, µs a message, with `window` messages on their way on each of 20 connections."""
    socks = [connect(port) for _ in range(20)]
    burst, answer = FRAME * window, ECHOED * window
    pipe.send("cpu")
    before, count, ends = pipe.recv(), 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for sock in socks:
            sock.sendall(burst)
        for sock in socks:
            left = answer
            while left:
                left -= len(sock.recv(left))
            count += window
    pipe.send("cpu")
    cpu_us = (pipe.recv() - before) * 1e6 / count
    for sock in socks:
        sock.close()
    return cpu_us


def idle(port: int, pipe: Pipe, connections: int) -> float:
    """KiB an idle connection adds, each after one message."""
    pipe.send("memory")
    before, socks = pipe.recv(), []
    for _ in range(connections):
        sock = connect(port)
        sock.sendall(FRAME)
        left = ECHOED
        while left:
            left -= len(sock.recv(left))
        socks.append(sock)
    pipe.send("memory")
    grown = (pipe.recv() - before) / connections
    for sock in socks:
        sock.close()
    return grown


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--connections", type=int, default=2000)
    given = options.parse_args()
    names = ["picows", "picows aiofastnet", "websockets", "wsproto", "parts of websockets", "nothing"]
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for name in names:
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=serve, args=(name, theirs))
            process.start()
            theirs.close()
            port = ours.recv()
            one, many = echo(port, ours, 1, given.seconds), echo(port, ours, 8, given.seconds)
            figures[name].append((one, many, idle(port, ours, given.connections)))
            ours.close()
            process.join(10)
    print(f"{os.cpu_count()} cores, medians of {given.rounds} rounds")
    for name, rows in figures.items():
        one, many, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:22} {one:6.2f} µs  {many:6.2f} µs (8 at once)  {memory:6.2f} KiB")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        multiprocessing.set_start_method("spawn")
        main()
