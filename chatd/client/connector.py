"""Have a connection for as long as one is wanted: one after the other, with pauses that grow.

Owns: when to connect, the pauses, reading frames from the present connection, and why there is none.
Elsewhere: the socket (connection), the bytes (frames), what is said over it (session).
Fails: Unreachable from connect(). A connection that breaks is replaced while one is wanted.
"""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn, Protocol

from chatd.client import frames
from chatd.client.connection import ServerAddress, ServerConnection, Untrusted
from chatd.client.frames import Event
from chatd.client.sender import NotDone
from chatd.client.timing import Backoff, Timing


class Unreachable(NotDone):
    """There is no connection."""


class Broken(Unreachable):
    """The connection broke before the answer; whether the request was served is not known."""


class ConnectionUser(Protocol):
    """Says and hears something over the connection."""

    @property
    def stays(self) -> bool:
        """A connection that ends is to be replaced at once."""
        ...

    def attached(self, connection: ServerConnection) -> None: ...

    def take(self, event: Event) -> None: ...

    def detached(self, why: str) -> float:
        """The connection has ended. Returns for how many seconds of it the client was logged in."""
        ...


class Connector:
    """connection: the present one. why: the reason there is none, or that the last one ended."""

    def __init__(self, address: ServerAddress, timing: Timing, user: ConnectionUser) -> None:
        self.address = address
        self.connection: ServerConnection | None = None
        self.why = ""
        self._timing = timing
        self._user = user
        self._wanted = asyncio.Event()
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._untrusted = False

    async def keep(self) -> NoReturn:
        """Runs until cancelled."""
        pause = Backoff(self._timing.backoff_first_s, self._timing.backoff_most_s)
        while True:
            await self._wanted.wait()
            try:
                connection = await ServerConnection.open(self.address, self._timing.connect_s)
            except OSError as error:
                self.why, self._untrusted = _text_of_error(error), isinstance(error, Untrusted)
                if self._untrusted:  # trying again would not help: connect() need not wait
                    self._connected.set()
            else:
                if await self._serve(connection) >= self._timing.steady_s:
                    pause.reset()
                if not self._user.stays:
                    self._wanted.clear()
                    pause.reset()
                    continue
            await asyncio.sleep(pause.next_s())

    async def connect(self) -> ServerConnection:
        """Raises Unreachable."""
        self._untrusted = False
        self._wanted.set()
        try:
            async with asyncio.timeout(self._timing.connect_s):
                while self.connection is None:
                    await self._connected.wait()
                    if self._untrusted:
                        self._connected.clear()
                        raise TimeoutError
        except TimeoutError:
            if not self._user.stays:
                self._wanted.clear()
            raise Unreachable(f"cannot connect to {self.address}: {self.why or 'no answer'}") from None
        return self.connection

    async def _serve(self, connection: ServerConnection) -> float:
        """Until it ends; returns for how many seconds of it the client was logged in."""
        self.connection = connection
        self._closed.clear()
        self._connected.set()
        self._user.attached(connection)
        try:
            async for frame in connection.frames():
                event = frames.decode(frame)
                if event is not None:
                    self._user.take(event)
            self.why = "closed by the server"
        except frames.BadFrame as error:
            self.why = f"the server does not speak this protocol: {error}"
        except OSError as error:
            self.why = _text_of_error(error)
        finally:
            connection.abort()
            self.connection = None
            self._connected.clear()
            self._closed.set()
            lasted_s = self._user.detached(self.why)
        return lasted_s

    def drop(self) -> None:
        """A connection that does not answer, or that we and the server disagree about, is as good as none."""
        if self.connection is not None:
            self.connection.abort()

    def release(self) -> None:
        """No connection is wanted any more; the present one, if any, stays."""
        self._wanted.clear()

    async def finish(self) -> None:
        """Disconnect, after reading everything the server had under way."""
        self.release()
        if self.connection is not None:
            self.connection.finish()
            try:
                await asyncio.wait_for(self._closed.wait(), self._timing.linger_s)
            except TimeoutError:
                self.drop()


def _text_of_error(error: OSError) -> str:
    """asyncio's own texts name addresses; those of name resolution have negative numbers."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error) or "no answer"
