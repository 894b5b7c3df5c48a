"""Have a connection for as long as one is wanted: one after the other, with pauses that grow.

Owns: when to connect, the pauses, reading frames from the present connection, and why there is none.
Elsewhere: the socket (link), the bytes (packets, chatserver.frames), what is said over it (the ConnectionUser).
Fails: Unreachable from connect(). A connection that breaks is replaced while one is wanted.
"""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn, Protocol

from chatd_client.errors import BadFrame, Unreachable, Untrusted, UntrustedServer
from chatd_client.link import Link, OpenLink
from chatd_client.timing import Backoff, Timing


class ConnectionUser(Protocol):
    """Says and hears something over the connection."""

    @property
    def stays(self) -> bool:
        """A connection that ends is to be replaced at once."""
        ...

    async def before_connecting(self) -> None:
        """Returns when a connection may be made."""
        ...

    def attached(self, link: Link) -> None: ...

    def take(self, frame: bytes) -> None:
        """Raises BadFrame."""
        ...

    def detached(self, why: str) -> float:
        """The connection has ended. Returns for how many seconds of it the client was logged in."""
        ...

    def pausing(self, why: str) -> None:
        """There is no connection, and for a while none is tried."""
        ...


class Connector:
    """link: the present connection. why: the reason there is none, or that the last one ended."""

    def __init__(self, name: str, open_link: OpenLink, timing: Timing, user: ConnectionUser) -> None:
        """name: of the server, for people."""
        self.link: Link | None = None
        self.why = ""
        self._name = name
        self._open = open_link
        self._timing = timing
        self._user = user
        self._wanted = asyncio.Event()
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._closed.set()
        self._untrusted = False
        self._not_before = 0.0
        """By the loop's clock: the server has asked not to come back earlier."""

    async def keep(self) -> NoReturn:
        """Runs until cancelled."""
        pause = Backoff(self._timing.backoff_first_s, self._timing.backoff_most_s)
        while True:
            await self._wanted.wait()
            await self._user.before_connecting()
            try:
                link = await self._open()
            except OSError as error:
                self.why, self._untrusted = _text_of_error(error), isinstance(error, Untrusted)
                if self._untrusted:  # trying again would not help: connect() need not wait
                    self._connected.set()
            else:
                if await self._serve(link) >= self._timing.steady_s:
                    pause.reset()
                if not self._user.stays:
                    self._wanted.clear()
                    pause.reset()
                    continue
            self._user.pausing(self.why)
            asked_s = self._not_before - asyncio.get_running_loop().time()
            await asyncio.sleep(asked_s if asked_s > 0 else pause.next_s())

    def hold_off(self, seconds: float) -> None:
        """The server has asked that the next connection is not made earlier than this from now."""
        self._not_before = asyncio.get_running_loop().time() + seconds

    async def connect(self) -> Link:
        """Raises Unreachable."""
        self._untrusted = False
        self._wanted.set()
        try:
            async with asyncio.timeout(self._timing.connect_s):
                while self.link is None:
                    await self._connected.wait()
                    if self._untrusted:
                        self._connected.clear()
                        raise TimeoutError
        except TimeoutError:
            if not self._user.stays:
                self._wanted.clear()
            text = f"cannot connect to {self._name}: {self.why or 'no answer'}"
            raise UntrustedServer(text) if self._untrusted else Unreachable(text) from None
        return self.link

    async def _serve(self, link: Link) -> float:
        """Until it ends; returns for how many seconds of it the client was logged in."""
        self.link = link
        self._closed.clear()
        self._connected.set()
        self._user.attached(link)
        try:
            async for frame in link.frames():
                self._user.take(frame)
            self.why = "closed by the server"
        except BadFrame as error:
            self.why = f"the server does not speak this protocol: {error}"
        except OSError as error:
            self.why = _text_of_error(error)
        finally:
            link.abort()
            self.link = None
            self._connected.clear()
            self._closed.set()
            lasted_s = self._user.detached(self.why)
        return lasted_s

    def drop(self) -> None:
        """A connection that does not answer, or that we and the server disagree about, is as good as none."""
        if self.link is not None:
            self.link.abort()

    def release(self) -> None:
        """No connection is wanted any more; the present one, if any, stays."""
        self._wanted.clear()

    async def finish(self) -> None:
        """Disconnect, after reading everything the server had under way."""
        self.release()
        if self.link is not None:
            self.link.finish()
            try:
                await asyncio.wait_for(self._closed.wait(), self._timing.linger_s)
            except TimeoutError:
                self.drop()


def _text_of_error(error: OSError) -> str:
    """asyncio's own texts name addresses; those of name resolution have negative numbers."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error) or "no answer"
