"""The side that hands its sessions over: a worker that has a successor.

Owns: Predecessor: which sessions are offered when, holding them, and sending them away; first those over UDP, then
those of streams.
Elsewhere: one connection (net.handover.streams, net.handover.datagrams), its session (core.sessions.departures), the
other side (net.handover.successor), draining what stays (worker).
Fails: never. Whatever goes wrong, a session that has not been sent goes on here.

The steps in which a session moves are in docs/internals/handover.md. Once it is sent it is the successor's, whatever
happens to this worker.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from typing import Protocol as Contract

from chatd import log
from chatd.bus.contract import LockShare
from chatd.core.sessions.departures import Departures
from chatd.core.sessions.moving import OfferedSession
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.handover.channel import Channel
from chatd.net.handover.datagrams import DatagramMove
from chatd.net.handover.messages import (
    VERSION,
    Arrived,
    DatagramsLeft,
    DatagramState,
    HandoverMessage,
    Hello,
    MovedPeer,
    MovedStream,
    Offer,
    Offers,
    Prepared,
    StreamState,
    Withdrawn,
)
from chatd.net.handover.streams import StreamMove, may_leave
from chatd.net.udp.listener import UdpListener

HELLO_S = 5.0
"""The successor, which is ready, says Hello within this time."""
PREPARE_S = 5.0
"""It prepares for a batch within this time: one read of its store, one subscription."""
PATIENCE_S = 5.0
"""The handover ends when no session has moved for this long, although some could: their clients do not read, or their
commands take long."""
_BATCH = 64
"""Maximum sessions in one offer."""
_BATCHES_AT_ONCE = 4
_FIRST_HOLD_S, _LONGEST_HOLD_S = 0.05, 1.0
"""How long the sessions of a batch are held until those that are not ready are left for the next attempt; doubled at
each attempt."""
_LOOK_S = 0.005
"""Pause between two looks whether held sessions are ready: there is no event for it."""
_AGAIN_S = 0.1
"""Pause before another attempt with sessions that were not ready."""
_SLICE_S = 0.005
"""A batch is sent in slices of at most about this much time, so that the event loop turns in between."""
_MAX_UNDER_WAY = 256
"""Maximum sessions sent and not yet served by the successor. Bounds the descriptors that are on their way."""
_LOGINS_S = 2.0
"""How long logins over UDP that are under way are waited for."""


class Moves(NamedTuple):
    """moved: sessions that the successor has. stayed: sessions that it has not."""

    moved: int
    stayed: int


class Move(Contract):
    """One session on its way out: net.handover.streams.StreamMove, net.handover.datagrams.DatagramMove."""

    ref: int
    session: Session
    told: list[str]
    has_left: bool

    @property
    def is_ready(self) -> bool: ...

    def listen(self) -> None: ...

    def offer(self, session: OfferedSession) -> Offer: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...

    def state(self) -> StreamState | DatagramState: ...

    def descriptors(self) -> list[int]: ...

    def leave(self) -> None: ...


class Predecessor:
    """A worker's end of the handover to its successor. Made when the worker drains; run() is called once."""

    def __init__(
        self, departures: Departures, connections: Connections, datagrams: Sequence[UdpListener], sock: socket.socket
    ) -> None:
        """datagrams: this worker's. sock: this end of the pair."""
        self._departures = departures
        self._connections = connections
        self._loop = connections.loop
        self._datagrams = datagrams
        self._channel = Channel(self._loop, sock, self._receive, self._ended)
        self._share: LockShare | None = None
        """Of the successor, once it has said Hello. Its descriptors are closed at the end."""
        self._greeted: asyncio.Future[bool] = connections.loop.create_future()
        """Whether the successor speaks this version."""
        self._prepared: dict[int, asyncio.Future[frozenset[int]]] = {}
        """By number of the Offers: the sessions that the successor is ready for."""
        self._numbers = itertools.count(1)
        self._under_way: set[int] = set()
        """Sessions sent that the successor has not confirmed."""
        self._room = asyncio.Event()
        """Set when one of them is confirmed."""
        self._declined: set[Session] = set()
        self._moved = 0
        self._log = log.get()

    # ---------------------------------------------------------------- the whole

    async def run(self) -> Moves:
        """Hand over everything that can be handed over. Returns when nothing more can; then the channel is closed, and
        the successor reads the UDP sockets."""
        try:
            if await self._speaks():
                await self._move_datagrams()
                await self._move_streams()
                await self._wait_until_under_way(0)
        finally:
            stayed = len(self._connections.members) + sum(len(one.peers) for one in self._datagrams)
            self._log.info("sessions handed over", moved=self._moved, connections_left=stayed)
            self._channel.close()
            self._ended()
            for one in self._share.descriptors if self._share is not None else ():
                os.close(one)
        return Moves(self._moved, stayed)

    async def _speaks(self) -> bool:
        """Whether the successor speaks this version."""
        try:
            async with asyncio.timeout(HELLO_S):
                return await self._greeted
        except TimeoutError:
            return False

    def _receive(self, message: HandoverMessage, descriptors: list[int]) -> None:
        """A message of the successor."""
        match message:
            case Hello() if not self._greeted.done():
                self._share = LockShare(message.lock_name, tuple(descriptors))
                if message.version != VERSION:
                    self._log.warning(
                        "nothing is handed over, the successor speaks another version",
                        version=VERSION,
                        successor=message.version,
                    )
                self._greeted.set_result(message.version == VERSION)
                return
            case Prepared():
                if (waiting := self._prepared.pop(message.offers, None)) is not None and not waiting.done():
                    waiting.set_result(frozenset(message.refs))
            case Arrived():
                self._under_way.discard(message.ref)
                self._room.set()
        for one in descriptors:
            os.close(one)

    def _ended(self) -> None:
        """The channel is closed: by the successor's end, or by ours."""
        if not self._greeted.done():
            self._greeted.set_result(False)
        for waiting in self._prepared.values():
            if not waiting.done():
                waiting.set_result(frozenset())
        self._prepared.clear()
        self._under_way.clear()
        self._room.set()

    # ---------------------------------------------------------------- streams

    async def _move_streams(self) -> None:
        """Logins that are under way are waited for, and their sessions moved."""
        hold_s, patient_until = _FIRST_HOLD_S, self._loop.time() + PATIENCE_S
        while not self._channel.closed and self._loop.time() < patient_until:
            before = self._moved
            moves = list(self._stream_moves())
            if not moves and not any(self._is_logging_in(one) for one in self._connections.members):
                return
            await self._move_all(moves, hold_s)
            if self._moved > before:
                patient_until = self._loop.time() + PATIENCE_S
            if self._moved - before < len(moves) or not moves:
                await asyncio.sleep(_AGAIN_S)
                hold_s = min(2 * hold_s, _LONGEST_HOLD_S)

    def _stream_moves(self) -> Iterable[StreamMove]:
        for one in tuple(self._connections.members):
            session = one.session
            if not isinstance(one, Connection) or session is None or session in self._declined:
                continue
            if may_leave(one) and self._departures.may_leave(session):
                yield StreamMove(next(self._numbers), one, session)

    @staticmethod
    def _is_logging_in(one: object) -> bool:
        return isinstance(one, Connection) and may_leave(one) and one.session is None and one.pending is not None

    # ---------------------------------------------------------------- UDP

    async def _move_datagrams(self) -> None:
        """All sessions are offered while this worker still serves them. Then nobody reads their sockets until all of
        them have moved: what clients send meanwhile waits in the kernel."""
        if not self._datagrams:
            return
        moves = await self._offered(self._datagram_moves(frozenset()))
        for listener in self._datagrams:
            listener.stop_reading()
        until = self._loop.time() + _LOGINS_S
        while any(one.logging_in for one in self._datagrams) and self._loop.time() < until:  # noqa: ASYNC110  see _LOOK_S
            await asyncio.sleep(_LOOK_S)
        offered = frozenset(one.session for one in moves)
        moves += await self._offered(self._datagram_moves(offered))
        for at in range(0, len(moves), _BATCH):
            await self._hand_over(moves[at : at + _BATCH], _LONGEST_HOLD_S)
        await self._wait_until_under_way(0)
        if self._channel.closed:  # the successor has died: the clients that have not moved are served here again
            for listener in self._datagrams:
                listener.read()
            return
        self._channel.send(DatagramsLeft())

    def _datagram_moves(self, but: frozenset[Session]) -> list[Move]:
        return [
            DatagramMove(next(self._numbers), peer, peer.session, listener)
            for listener in self._datagrams
            for peer in tuple(listener.peers.values())
            if peer.session is not None and peer.session not in but and self._departures.may_leave(peer.session)
        ]

    async def _offered(self, moves: list[Move]) -> list[Move]:
        """Those of them that the successor is ready for."""
        ready: list[Move] = []
        for at in range(0, len(moves), _BATCH):
            ready += await self._offer(moves[at : at + _BATCH])
        return ready

    # ---------------------------------------------------------------- one batch

    async def _move_all(self, moves: Sequence[Move], hold_s: float) -> None:
        batches = deque(moves[at : at + _BATCH] for at in range(0, len(moves), _BATCH))

        async def work() -> None:
            while batches and not self._channel.closed:
                await self._hand_over(await self._offer(batches.popleft()), hold_s)

        await asyncio.gather(*(work() for _ in range(_BATCHES_AT_ONCE)))

    async def _offer(self, moves: Sequence[Move]) -> list[Move]:
        """Returns those that the successor is ready for; the others stay."""
        number = next(self._numbers)
        answer = self._prepared[number] = self._loop.create_future()
        offers = []
        for move in moves:
            move.listen()
            offers.append(move.offer(self._departures.offer(move.session)))
        self._channel.send(Offers(number=number, offers=tuple(offers)))
        if self._channel.closed and not answer.done():
            answer.set_result(frozenset())
        try:
            async with asyncio.timeout(PREPARE_S):
                refs = await answer
        except TimeoutError:
            refs = frozenset()
            self._channel.send(Withdrawn(refs=tuple(move.ref for move in moves)))
        finally:
            self._prepared.pop(number, None)
        for move in moves:
            if move.ref not in refs:
                self._declined.add(move.session)
                move.release()
        return [move for move in moves if move.ref in refs]

    async def _hand_over(self, moves: Sequence[Move], hold_s: float) -> None:
        """Send those that are ready within hold_s; the others are withdrawn, and go on."""
        for move in moves:
            move.hold()
        try:
            ready = await self._ready(moves, hold_s)
            locks = await self._settle(ready) if ready else []
            await self._send_all(ready, locks)
        finally:
            stayed = [move for move in moves if not move.has_left]
            for move in stayed:
                move.release()
            if stayed:
                self._channel.send(Withdrawn(refs=tuple(move.ref for move in stayed)))

    async def _ready(self, moves: Sequence[Move], hold_s: float) -> list[Move]:
        until = self._loop.time() + hold_s
        while not all(move.is_ready for move in moves) and self._loop.time() < until:  # noqa: ASYNC110  see _LOOK_S
            await asyncio.sleep(_LOOK_S)
        ready = [move for move in moves if move.is_ready]
        for move in moves:
            if not move.is_ready:
                move.release()
        return ready

    async def _settle(self, moves: Sequence[Move]) -> list[bool]:
        """Everything that their clients have asked for is answered, and their locks are the successor's. Returns which
        of them have a lock; empty if the store does not answer."""
        share = self._share
        try:
            await self._departures.settle()
        except Unavailable:
            return []
        if share is None:
            return []
        return await asyncio.gather(*(self._departures.give_lock(move.session, share) for move in moves))

    async def _send_all(self, moves: Sequence[Move], locks: Sequence[bool]) -> None:
        began = self._loop.time()
        for move, has_lock in zip(moves, locks, strict=False):
            await self._wait_until_under_way(_MAX_UNDER_WAY - 1)
            goes = not self._channel.closed and move.is_ready and self._send(move, has_lock=has_lock)
            if not goes and has_lock and self._share is not None:
                await self._departures.take_lock_back(move.session, self._share)
            if self._loop.time() - began > _SLICE_S:
                await asyncio.sleep(0)
                began = self._loop.time()

    def _send(self, move: Move, *, has_lock: bool) -> bool:
        """False: there is no descriptor left, or it has just ended."""
        broadcasts = self._departures.tell_broadcasts(move.session)
        if not move.is_ready:  # what it was told was too much for it
            return False
        try:
            descriptors = move.descriptors()
        except OSError as error:
            self._log.warning("a session cannot be handed over", why=str(error))
            return False
        state = move.state()
        session = self._departures.leave(move.session, has_lock=has_lock, told=move.told, broadcasts=broadcasts)
        move.leave()
        if isinstance(state, StreamState):
            self._channel.send(MovedStream(ref=move.ref, session=session, stream=state), descriptors)
        else:
            self._channel.send(MovedPeer(ref=move.ref, session=session, peer=state))
        self._under_way.add(move.ref)
        self._moved += 1
        return True

    async def _wait_until_under_way(self, most: int) -> None:
        """At most so many sessions are on their way. A successor that serves none of them for PATIENCE_S hangs: then
        the handover ends."""
        while len(self._under_way) > most and not self._channel.closed:
            self._room.clear()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._room.wait()
            except TimeoutError:
                self._log.warning("the handover ends, the successor does not answer", under_way=len(self._under_way))
                self._channel.close()
                self._ended()
