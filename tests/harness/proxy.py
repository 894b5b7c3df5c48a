"""A bad network for streams: a TCP proxy on loopback that cuts, freezes, or loses exactly one answer.

Owns: Proxy, in a thread with a loop of its own, so that blocking and asynchronous tests may use it alike; LosesAnswer,
a hook that cuts at a request the test names (COMMIT, for example).
Elsewhere: datagrams (lossy); what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from tests.harness.link import reset

T = TypeVar("T")
_CHUNK = 256 * 1024
_TURNS_PER_S = 20
"""How often a slow connection passes something on."""


class Hook(Protocol):
    """Sees the bytes of every connection. Called in the proxy's thread."""

    def __call__(self, link: object, from_client: bool, data: bytes) -> bytes | None:
        """link: names the connection. What shall be passed on; None = cut this connection now."""


class LosesAnswer:
    """Armed, it cuts the connection at the next request that contains `marker`, once: reached True, when the server
    begins to answer it; False, before the server has got it. `struck` is set then."""

    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.struck = threading.Event()
        self._armed: bool | None = None
        self._waiting: object = None

    def arm(self, *, reached: bool) -> None:
        self.struck.clear()
        self._armed = reached

    def __call__(self, link: object, from_client: bool, data: bytes) -> bytes | None:
        if not from_client:
            if link is not self._waiting:
                return data
            self._waiting = None
            self.struck.set()
            return None
        if self._armed is None or self.marker not in data:
            return data
        reached, self._armed = self._armed, None
        if reached:
            self._waiting = link
            return data
        self.struck.set()
        return None


class Proxy:
    """Listens on `port` of `host`; what connects is connected to host_of_server:port_of_server.

    All methods are called from any thread but the proxy's, and have happened when they return."""

    def __init__(
        self, server_port: int, server_host: str = "127.0.0.1", *, host: str = "127.0.0.1", hook: Hook | None = None
    ) -> None:
        self._server = server_host, server_port
        self.hook = hook
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.bytes_per_s = 0
        """In each direction of each connection; 0 = as fast as it goes."""
        self.accepted = 0
        """Connections made to it so far."""
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._accepting = self._do(self._open())

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        return len(self._links)

    def cut(self) -> None:
        """Reset every connection there is."""
        self._do(self._cut())

    def freeze(self) -> None:
        """Pass nothing on: both sides believe the other is silent. What comes meanwhile is kept."""
        self._do(self._set(self._flowing.clear))

    def thaw(self) -> None:
        self._do(self._set(self._flowing.set))

    def refuse(self) -> None:
        """Reset every connection there is, and each new one at once."""
        self.refusing = True
        self.cut()

    def allow(self) -> None:
        self.refusing = False

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # ------------------------------------------------------------ in the thread

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _set(self, change: Callable[[], None]) -> None:
        change()

    async def _open(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, sock=self._listener)

    async def _cut(self) -> None:
        for link in tuple(self._links):
            link.cut()

    async def _shut(self) -> None:
        self._accepting.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(writer)
        if self.refusing:
            link.cut()
            return
        self._links.add(link)
        try:
            answers, link.server = await asyncio.open_connection(*self._server)
            await asyncio.gather(
                self._carry(link, reader, link.server, True), self._carry(link, answers, writer, False)
            )
        except (OSError, asyncio.CancelledError):  # cancelled: the proxy is closed
            link.cut()
        finally:
            self._links.discard(link)

    async def _carry(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, from_client: bool
    ) -> None:
        while not link.gone and (data := await reader.read(self.bytes_per_s // _TURNS_PER_S or _CHUNK)):
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            await self._flowing.wait()
            passed = self.hook(link, from_client, data) if self.hook else data
            if passed is None:
                link.cut()
                return
            writer.write(passed)
            await writer.drain()
        if not link.gone:
            with contextlib.suppress(OSError):
                writer.write_eof()


class _Link:
    """One connection through the proxy: a socket to the client, and soon one to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.gone = False

    def cut(self) -> None:
        self.gone = True
        for writer in (self.client, self.server):
            if writer is not None and not writer.transport.is_closing():
                reset(writer.get_extra_info("socket"))
                writer.transport.abort()
