"""The connections of one worker: what they share, and the work done for all of them.

Owns: the set of stream connections, their flush at the end of a turn of the event loop, the checks made once a second,
draining, and what the scoreboard says about connections.
Elsewhere: accepting (net.acceptor), one connection (net.connection), how much users may send (core.allowances), UDP
sessions (net.udp, attached here so that they are checked and drained with the rest).
Fails: never; a connection that misbehaves is ended with a Disconnect and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Sized
from typing import Protocol as Contract

from chatd import log, security_log, wall_clock
from chatd.address_bans import AddressBans
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.core import refusals
from chatd.core.sessions.session import Peer, Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.net.admission import Admission, Refusal
from chatd.protocol import Command, Draining, Failed, Kicked, Login
from chatd.rates import UNLIMITED, averaged
from chatd.scoreboard import Row
from chatd.security_log import SecurityEvent
from chatd.tallies import CONNECTIONS

_ECHO_WINDOW_S = 10
"""On the echo wire, which has no users, limits.commands_per_s is averaged over this time for each connection."""
_MIN_RETRY_MS, _MAX_RETRY_MS = 200, 2000
"""A client that is told that this worker drains reconnects after a random time between the two; the second is larger
where the drain takes longer."""
_CLOSES_PER_S = 60.0
"""A draining worker disconnects at most this many clients a second, unless timeouts.drain_spread_s is too short for it:
about as many logins as one core can check."""
_BAN_SLICE = 500
"""Connections whose address is looked at in one turn of the event loop."""
_BY_WIRE = {protocol: CONNECTIONS.cell(protocol.name.lower()) for protocol in Protocol}
"""The number of connections of each wire in the scoreboard."""
_QUIET = (
    Disconnect.PEER_LEFT, Disconnect.LOGGED_OUT, Disconnect.SERVED, Disconnect.DRAINING, Disconnect.BUSY,
    Disconnect.TLS_FAILED,
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

    def let_go(self, now: float) -> None:
        """Of a closed connection: close its socket if the client has everything that was sent."""
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

    def end_banned(self) -> int:
        """End the sessions of banned addresses; how many there were."""
        ...

    def shut(self) -> None:
        """Start no new sessions; logins are told that the server is busy."""
        ...

    async def drain(self, notice: Draining) -> None:
        """End every session, telling each client."""
        ...

    def close(self) -> None:
        """Close the socket. Idempotent."""
        ...


class Connections:
    """bans: the addresses that are kept out. members: every open stream connection. echo_rate: how much a connection of
    the echo wire may send. now: the loop's clock, seconds. admission: which of them may come, and who makes room.

    handle, may_ask, check_receipts, is_same_user: those of core, bound here once; the first is called for every
    command.
    """

    def __init__(
        self,
        core: ChatCore,
        config: Callable[[], Config],
        row: Row,
        loop: asyncio.AbstractEventLoop,
        bans: AddressBans | None = None,
    ) -> None:
        self.config = config
        self.bans = bans if bans is not None else AddressBans()
        self.loop = loop
        self.now = loop.time
        self.handle = core.handle
        self.may_ask = core.may_ask
        self.check_receipts = core.check_receipts
        self.is_same_user = core.is_same_user
        self.members: set[StreamPeer] = set()
        self._by_wire = dict.fromkeys(Protocol, 0)
        """How many of them there are."""
        self.echo_rate = UNLIMITED
        self.admission = Admission(config, self.bans)
        self._core = core
        self._row = row
        self._datagrams: list[DatagramSessions] = []
        self._dirty: list[StreamPeer] = []
        """Connections to flush at the end of this turn."""
        self._background = BackgroundTasks(loop)
        self._empty = asyncio.Event()
        self._leaving: set[StreamPeer] | None = None
        """While the worker drains: connections that are closed, and whose sockets are not. None: it does not drain."""
        self._resume_before_ms = 0
        self._log = log.get()

    # ---------------------------------------------------------------- members

    def add(self, connection: StreamPeer) -> None:
        self.members.add(connection)
        self._by_wire[connection.protocol] += 1
        if self._leaving is not None:  # accepted a moment before the listeners were closed
            self._dismiss(connection, self._leaving)
        else:  # given since it was accepted
            self.check_ban(connection)

    def check_ban(self, peer: Peer) -> bool:
        """End the connection if it is open and its address is banned; its user is told why. Returns whether it was."""
        ban = None if peer.closed else self.bans.find(peer.remote, wall_clock.now_ms())
        if ban is None:
            return False
        if peer.session is not None:
            peer.push(Kicked(True, ban.reason or Disconnect.ADDRESS_BANNED.text))
        peer.close(Disconnect.ADDRESS_BANNED)
        return True

    def remove(self, connection: StreamPeer) -> None:
        """Its socket is closed."""
        if connection in self.members:
            self.members.discard(connection)
            self._by_wire[connection.protocol] -= 1
        if self._leaving is not None:
            self._leaving.discard(connection)
        if not self.members:
            self._empty.set()

    def attach(self, datagrams: DatagramSessions) -> None:
        """Check, count and drain these sessions too."""
        self._datagrams.append(datagrams)

    def failure(self, code: ErrorCode, text: str = "", *, command: Command | None = None, ref: int = 0) -> Failed:
        """What a client is told that net refuses without asking core; it is counted. text: "" = that of the code."""
        refusals.count(self._row, code)
        return Failed(code, text or MEANINGS[code].text, command, ref)

    def count_refused(self) -> None:
        """A client was refused: the worker is full, its source has too many connections, or its page may not
        connect."""
        self._row.refused += 1

    def count_full(self) -> None:
        """A client was refused because the worker is full, whoever the client is."""
        self.count_refused()
        self._row.refused_full += 1

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

    async def end_banned(self) -> int:
        """End the connections of banned addresses, a few in each turn of the loop. Their users are told the reason.
        Returns how many there were."""
        ended = sum(datagrams.end_banned() for datagrams in self._datagrams)
        for number, connection in enumerate(tuple(self.members)):
            ended += self.check_ban(connection)
            if number % _BAN_SLICE == _BAN_SLICE - 1:
                await asyncio.sleep(0)
        return ended

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
        for protocol, members in self._by_wire.items():
            if protocol is Protocol.MOBILEIMSDK:
                members += peers
            setattr(self._row, _BY_WIRE[protocol], members)
        if self._leaving:
            now = self.now()
            for connection in tuple(self._leaving):
                connection.let_go(now)

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

    async def drain_datagrams(self) -> None:
        """End every UDP session, telling each client."""
        self._resume_before_ms = wall_clock.now_ms() + _MAX_RETRY_MS
        for datagrams in self._datagrams:
            await datagrams.drain(self._notice())

    async def drain(self, spread_s: float) -> None:
        """Tell every client on a stream, then disconnect them in random order. That takes spread_s at most, and less
        the fewer they are. Returns when the last one has left; the caller limits the time."""
        self._leaving = set()
        leaving = list(self.members)
        pause_s = min(spread_s / max(1, len(leaving)), 1 / _CLOSES_PER_S)
        spread_ms = max(_MAX_RETRY_MS, int(pause_s * len(leaving) * 1000))
        self._resume_before_ms = wall_clock.now_ms() + spread_ms
        for connection in leaving:
            connection.push(self._notice(spread_ms))
        await asyncio.sleep(0)
        random.shuffle(leaving)
        while leaving and self.members:
            connection = leaving.pop()
            if connection in self.members:
                self._disconnect(connection, self._leaving)
                await self._all_have_left(pause_s)
        await self._all_have_left(None)

    def close_datagrams(self) -> None:
        """No UDP socket is read any more."""
        for datagrams in self._datagrams:
            datagrams.close()

    def _notice(self, spread_ms: int = _MAX_RETRY_MS) -> Draining:
        return Draining(self._resume_before_ms, random.randrange(_MIN_RETRY_MS, spread_ms))

    def _dismiss(self, connection: StreamPeer, leaving: set[StreamPeer]) -> None:
        connection.push(self._notice())
        self._disconnect(connection, leaving)

    def _disconnect(self, connection: StreamPeer, leaving: set[StreamPeer]) -> None:
        leaving.add(connection)
        connection.close(Disconnect.DRAINING)

    async def _all_have_left(self, within_s: float | None) -> None:
        """Wait until there is no connection, but no longer than this. None: until the caller's limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.members:
                    self._empty.clear()
                    await self._empty.wait()
