"""The connections of one worker: what they share, and the work done for all of them.

Owns: the set of stream connections, their flush at the end of a turn of the event loop, the checks made once a second,
draining, and what the scoreboard says about connections.
Elsewhere: accepting (net.acceptor), one connection (net.connection), how much users may send (core.allowances), UDP
sessions (net.udp, attached here so that they are checked and drained with the rest).
Fails: never; a connection that misbehaves is ended with a Disconnect and logged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sized
from typing import Protocol as Contract

from chatd import log, security_log, wall_clock
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.core.sessions.session import Peer, Session
from chatd.errors import Disconnect
from chatd.net.admission import Admission, Refusal
from chatd.protocol import Command, Draining, Login
from chatd.rates import UNLIMITED, averaged
from chatd.scoreboard import Row
from chatd.security_log import SecurityEvent

_ECHO_WINDOW_S = 10
"""On the echo wire, which has no users, limits.commands_per_s is averaged over this time for each connection."""
_MIN_RETRY_MS, _MAX_RETRY_MS = 200, 2000
"""A client that is told that this worker drains reconnects after a random time between the two."""
_QUIET = (
    Disconnect.PEER_LEFT, Disconnect.LOGGED_OUT, Disconnect.DRAINING, Disconnect.BUSY, Disconnect.TLS_FAILED
)  # fmt: skip
"""Ordinary reasons to end, logged at DEBUG, and two that are logged elsewhere."""


class ChatCore(Contract):
    """What net needs of core; core.core.Core implements it."""

    def handle(self, peer: Peer, command: Command) -> Awaitable[None] | None:
        """Serve one command. The result, if any, must be awaited before the peer's next command is handled."""
        ...

    async def is_same_user(self, session: Session, command: Login) -> bool:
        """Whether a login names the account that is logged in here. Raises Unavailable."""
        ...

    def may_ask(self, session: Session) -> bool:
        """Count a frame that is no command, such as a ping; False: the user sends too many."""
        ...

    def check_receipts(self, session: Session, *, final: bool = False) -> None:
        """Ask the session's peer now how much it has received. final: its connection is over, nothing more will be
        known."""
        ...

    def disconnected(self, peer: Peer) -> None:
        """The connection is over, and its session with it. Idempotent."""
        ...

    def round(self) -> None:
        """Once a second."""
        ...


class StreamPeer(Peer, Contract):
    """A stream connection as this set sees it; net.connection.Connection."""

    def flush(self) -> None:
        """Write what was queued during this turn."""
        ...

    def overdue(self, now: float) -> None:
        """Once a second: end the connection if something has taken too long."""
        ...

    def cut(self, reason: Disconnect) -> None:
        """End the connection at once, without sending what is queued."""
        ...

    def abort(self) -> None:
        """Close the socket at once."""
        ...


class DatagramSessions(Contract):
    """The sessions of one UDP socket; net.udp.listener.UdpListener."""

    dropped: int
    """Datagrams that could not be sent or served, total."""

    @property
    def peers(self) -> Sized:
        """The sessions."""
        ...

    def round(self, now: float) -> int:
        """Once a second: end what has taken too long. Returns the bytes queued."""
        ...

    def shut(self) -> None:
        """Start no new sessions."""
        ...

    async def drain(self, notice: Draining) -> None:
        """End every session, telling each client, and close the socket."""
        ...


class Connections:
    """members: every open stream connection. echo_rate: how much a connection of the echo wire may send. now: the
    loop's clock, seconds. admission: which of them may come, and who makes room.

    handle, may_ask, check_receipts, is_same_user: those of core, bound here once; the first is called for every
    command.
    """

    def __init__(self, core: ChatCore, config: Callable[[], Config], row: Row, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.now = loop.time
        self.handle = core.handle
        self.may_ask = core.may_ask
        self.check_receipts = core.check_receipts
        self.is_same_user = core.is_same_user
        self.members: set[StreamPeer] = set()
        self.echo_rate = UNLIMITED
        self.admission = Admission(config)
        self._core = core
        self._row = row
        self._datagrams: list[DatagramSessions] = []
        self._dirty: list[StreamPeer] = []
        """Connections to flush at the end of this turn."""
        self._background = BackgroundTasks(loop)
        self._empty = asyncio.Event()
        self._log = log.get()

    # ---------------------------------------------------------------- members

    def add(self, connection: StreamPeer) -> None:
        self.members.add(connection)

    def remove(self, connection: StreamPeer) -> None:
        """Its socket is closed."""
        self.members.discard(connection)
        if not self.members:
            self._empty.set()

    def attach(self, datagrams: DatagramSessions) -> None:
        """Check, count and drain these sessions too."""
        self._datagrams.append(datagrams)

    def count_refused(self) -> None:
        """A client was refused: the worker is full, its source has too many connections, or its page may not
        connect."""
        self._row.refused += 1

    def refused(self, refusal: Refusal) -> None:
        """Count a connection that is refused because of its source, and record it."""
        self.count_refused()
        security_log.record(SecurityEvent.CONNECTION_REFUSED, peer=refusal.peer, reason=refusal.reason)

    def ended(self, connection: Peer, reason: Disconnect) -> None:
        """Called once per connection, before anything is closed."""
        session = connection.session
        write = self._log.debug if reason in _QUIET else self._log.info
        write("disconnected", reason=reason.text, peer=connection.remote, user=session.user.id if session else 0)
        self._core.disconnected(connection)

    # ---------------------------------------------------------------- work of one turn

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` in the background."""
        self._background.start(work)

    def dirty(self, connection: StreamPeer) -> None:
        """Flush the connection at the end of this turn."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    # ---------------------------------------------------------------- the clock

    def tick(self) -> None:
        """About twenty times a second: bring the scoreboard up to date."""
        peers = sum(len(datagrams.peers) for datagrams in self._datagrams)
        self._row.udp_peers = peers
        self._row.connections = len(self.members) + peers

    def round(self) -> None:
        """Once a second: end what is overdue, run core's own checks."""
        now = self.now()
        self.echo_rate = averaged(self.config().limits.commands_per_s, 1, _ECHO_WINDOW_S)
        queued = 0
        for connection in tuple(self.members):
            connection.overdue(now)
            queued += connection.out_bytes
        for datagrams in self._datagrams:
            queued += datagrams.round(now)
        self._row.queue_bytes = queued
        self._row.udp_dropped = sum(datagrams.dropped for datagrams in self._datagrams)
        self._core.round()

    # ---------------------------------------------------------------- the end

    def shut(self) -> None:
        """Start no new UDP sessions; existing sessions stay."""
        for datagrams in self._datagrams:
            datagrams.shut()

    async def drain(self, spread_s: float) -> None:
        """Tell every client, then close their connections one after the other over spread_s. Returns when the last one
        is closed; the caller limits the time."""
        resume_before_ms = wall_clock.now_ms() + int(spread_s * 1000)
        for datagrams in self._datagrams:
            await datagrams.drain(_draining(resume_before_ms))
        for connection in tuple(self.members):
            connection.push(_draining(resume_before_ms))
        await asyncio.sleep(0)
        leaving = list(self.members)
        random.shuffle(leaving)
        pause = spread_s / max(1, len(leaving))
        for connection in leaving:
            connection.close(Disconnect.DRAINING)
            await asyncio.sleep(pause)
        while self.members:
            self._empty.clear()
            await self._empty.wait()


def _draining(resume_before_ms: int) -> Draining:
    return Draining(resume_before_ms, random.randrange(_MIN_RETRY_MS, _MAX_RETRY_MS))
