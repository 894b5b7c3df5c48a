"""A connection over WebSocket: a packet in each text frame.

Owns: the use of the library websockets, and a task that sends what send() was given.
Elsewhere: the meaning of a packet (packets).
Fails: OSError from open and frames; Untrusted from open.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from chatd_client.address import make_context
from chatd_client.link import MAX_FRAME_BYTES, MAX_UNSENT_BYTES, untrusted
from chatd_client.stream_link import StreamRoute, set_options

CLOSE_S = 2.0
"""The longest wait for the other side's close frame."""


class WebSocketLink:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._news = asyncio.Event()
        self._finishing = False
        self._sending = asyncio.get_running_loop().create_task(self._send_all())

    @classmethod
    async def open(cls, route: StreamRoute) -> WebSocketLink:
        """Raises Untrusted, OSError (a TimeoutError is one)."""
        address = route.address
        secure: dict[str, Any] = {"ssl": route.context or make_context(address)} if address.tls else {}
        try:
            connection = await connect(
                address.url,
                compression=None,
                proxy=None,
                open_timeout=route.timeout_s,
                close_timeout=CLOSE_S,
                ping_interval=None,  # the wire has its own keep-alive
                max_size=MAX_FRAME_BYTES,
                **secure,
            )
        except ssl.SSLCertVerificationError as error:
            raise untrusted(error, address, route.option) from None
        except ssl.SSLError as error:
            raise OSError(f"no TLS with this server: {error.reason or 'it closed the connection'}") from None
        except WebSocketException as error:
            raise OSError(f"no WebSocket at {address.url}: {error}") from None
        except EOFError:
            raise OSError(f"no WebSocket at {address.url}: the connection was closed") from None
        set_options(connection.transport.get_extra_info("socket"))
        return cls(connection)

    async def frames(self) -> AsyncIterator[bytes]:
        """See Link."""
        try:
            while True:
                yield await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code != 1000:
                raise ConnectionAbortedError(
                    f"closed by the server: {closed.rcvd.reason or closed.rcvd.code}"
                ) from None
            if closed.rcvd is None:
                raise ConnectionAbortedError("the connection broke") from None
        finally:
            self._sending.cancel()

    def send(self, frame: bytes) -> None:
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        self._news.set()
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self.abort()

    def finish(self) -> None:
        self._finishing = True
        self._news.set()

    def abort(self) -> None:
        self._sending.cancel()
        self._connection.transport.abort()

    async def _send_all(self) -> None:
        """Runs until the connection ends."""
        try:
            while self._unsent or not self._finishing:
                if not self._unsent:
                    self._news.clear()
                    await self._news.wait()
                    continue
                frame = self._unsent.popleft()
                self._unsent_bytes -= len(frame)
                await self._connection.send(frame, text=True)
            await self._connection.close()
        except (ConnectionClosed, RuntimeError):  # the latter from uvloop, for a transport that is closed
            pass  # frames() tells it
