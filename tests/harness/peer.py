"""One TCP connection that speaks frames, byte-exact and without manners: the ground under the clients, and the tool
of tests that say exactly what goes over the wire.

Owns: connecting, splitting what arrives (by NUL, or by 4-byte length), an inbox with deadlines.
Elsewhere: what a frame means.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec

from tests.harness.deadline import within
from tests.harness.link import ConnectionGone, reset

Frame = dict[str, Any]
WAIT_S = 10.0


class Peer(asyncio.Protocol):
    """`frames` fills with decoded frames, unless `on_frame` takes them. tls: how the other side must prove itself; None
    = it need not, nothing is encrypted. source: the address to come from, for example another one of 127.0.0.0/8; "" =
    the kernel's choice."""

    tls: ssl.SSLContext | None = None
    source = ""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.on_frame: Callable[[Frame], None] = self.frames.append
        self.on_gone: Callable[[], None] = lambda: None
        self.transport: asyncio.Transport | None = None
        self.rest = b""
        self.heard_at = time.monotonic()
        self.gone = asyncio.Event()
        self._news = asyncio.Event()

    async def open(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        """Raises ConnectionGone when nobody listens."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if self.source:
            sock.bind((self.source, 0))
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await within(WAIT_S, f"connect to {port}", loop.sock_connect(sock, (host, port)))
        except (OSError, TimeoutError) as error:
            sock.close()
            raise ConnectionGone(str(error)) from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure: dict[str, Any] = {"ssl": self.tls, "server_hostname": host} if self.tls else {}
        try:
            await loop.create_connection(lambda: self, sock=sock, **secure)
        except OSError as error:  # it was not willing to speak TLS with us
            raise ConnectionGone(str(error)) from None

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        for body in self.split(data):
            self.on_frame(self.decode(body))
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._news.set()
        self.on_gone()

    def split(self, data: bytes) -> list[bytes]:
        raise NotImplementedError

    def decode(self, body: bytes) -> Frame:
        return cast(Frame, msgspec.json.decode(body))

    def wrap(self, body: bytes) -> bytes:
        raise NotImplementedError

    # ------------------------------------------------------------ speaking

    def write(self, raw: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(raw)

    def put(self, frame: Frame) -> None:
        self.write(self.wrap(msgspec.json.encode(frame)))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            reset(self.transport.get_extra_info("socket"))
            self.transport.abort()

    # ------------------------------------------------------------ listening

    async def take(self, limit_s: float = WAIT_S) -> Frame:
        """The next frame. Raises ConnectionGone when the connection ends before one."""
        await within(limit_s, "a frame", self._something())
        if not self.frames:
            raise ConnectionGone("closed before a frame")
        return self.frames.popleft()

    async def _something(self) -> None:
        while not self.frames and not self.gone.is_set():
            self._news.clear()
            await self._news.wait()

    async def find(self, limit_s: float = WAIT_S, **fields: object) -> Frame:
        """The next frame with these fields; the frames before it are dropped."""
        skipped = []
        async with asyncio.timeout(limit_s) as timer:
            try:
                while True:
                    frame = await self.take(limit_s)
                    if all(frame.get(name) == value for name, value in fields.items()):
                        return frame
                    skipped.append(frame)
            except TimeoutError:
                raise TimeoutError(f"not within {limit_s} s: {fields}, but {skipped}") from None
            except asyncio.CancelledError:
                if timer.expired():
                    raise TimeoutError(f"not within {limit_s} s: {fields}, but {skipped}") from None
                raise

    async def end(self, limit_s: float = WAIT_S) -> list[Frame]:
        """Wait for the other side to close; the frames that came before that."""
        await within(limit_s, "the connection closed by the server", self.gone.wait())
        frames = list(self.frames)
        self.frames.clear()
        return frames


class NulPeer(Peer):
    """chatserver, splitting the stream on NUL."""

    def split(self, data: bytes) -> list[bytes]:
        *whole, self.rest = (self.rest + data).split(b"\0")
        return whole

    def wrap(self, body: bytes) -> bytes:
        return body + b"\0"


class LengthPeer(Peer):
    """mobileimsdk over TCP; closes like the stock client on a body over `limit`."""

    limit = 6144

    def split(self, data: bytes) -> list[bytes]:
        data = self.rest + data if self.rest else data
        bodies, at = [], 0
        while len(data) - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if length > self.limit:
                self.abort()
                break
            if len(data) - at - 4 < length:
                break
            bodies.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        self.rest = data[at:]
        return bodies

    def wrap(self, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + body
