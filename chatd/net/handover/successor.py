"""The side that takes sessions over: a worker that succeeds another one.

Owns: Successor: preparing for the sessions that are offered, serving those that come, and when this worker begins to
read its UDP sockets.
Elsewhere: one connection (net.handover.streams, net.handover.datagrams), its session (core.sessions.arrivals), the
other side (net.handover.predecessor).
Fails: never. A session that cannot be prepared for is declined, and stays with the predecessor. When the predecessor
ends, what it has sent is served, and what it has only offered is forgotten.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from chatd import log
from chatd.background import BackgroundTasks
from chatd.core.sessions.arrivals import Arrivals
from chatd.core.sessions.session import Session
from chatd.net.acceptor import Acceptor, Listener
from chatd.net.connections import Connections
from chatd.net.handover import datagrams, streams
from chatd.net.handover.channel import Channel
from chatd.net.handover.messages import (
    VERSION,
    Arrived,
    DatagramsLeft,
    HandoverMessage,
    Hello,
    MovedPeer,
    MovedStream,
    Offer,
    Offers,
    Prepared,
    Ref,
    Withdrawn,
)
from chatd.net.handover.streams import StreamArrival
from chatd.net.udp.listener import UdpListener

_SETTLE_S = 0.02
"""A session that has come is served after this: what the predecessor had heard over the bus when it sent the session
has reached this worker too by then, and is told once."""
_ARRIVALS_AT_ONCE = 8
"""Maximum streams that arrive in one turn of the event loop, so that those that are here already are served."""


class _Expected(NamedTuple):
    """A session that this worker is prepared for."""

    offer: Offer
    session: Session


class Successor:
    """A worker's end of the handover from the worker that it succeeds. Made before the worker is ready; open() says
    that it is, close() that it leaves."""

    def __init__(
        self,
        arrivals: Arrivals,
        connections: Connections,
        acceptor: Acceptor,
        udp: Sequence[UdpListener],
        sock: socket.socket,
    ) -> None:
        """udp: this worker's, which do not read yet. sock: this end of the pair."""
        self._arrivals = arrivals
        self._connections = connections
        self._loop = connections.loop
        self._acceptor = acceptor
        self._udp = udp
        self._expected: dict[Ref, _Expected] = {}
        self._withdrawn: set[Ref] = set()
        """Offers that were withdrawn while they were being prepared for."""
        self._preparing: set[Ref] = set()
        self._background = BackgroundTasks(self._loop)
        self._turns = asyncio.Semaphore(_ARRIVALS_AT_ONCE)
        self._arrived = 0
        self._peers_coming = 0
        """Sessions over UDP that were sent, and are not served yet."""
        self._may_read = False
        """The predecessor reads the UDP sockets no more."""
        self._reads = False
        self._channel = Channel(self._loop, sock, self._receive, self._ended)

    def open(self) -> None:
        """This worker is ready: say so to the predecessor."""
        share = self._arrivals.bus.lock_share()
        hello = Hello(version=VERSION, lock_name=share.name)
        self._channel.send(hello, [os.dup(one) for one in share.descriptors])

    def close(self) -> None:
        """This worker leaves: nothing more is taken over. Idempotent."""
        self._reads = True  # no more: the worker that succeeds this one will
        if not self._channel.closed:
            self._channel.close()
            self._ended()

    # ---------------------------------------------------------------- messages

    def _receive(self, message: HandoverMessage, descriptors: list[int]) -> None:
        match message:
            case Offers():
                self._preparing.update(offer.ref for offer in message.offers)
                self._background.start(self._prepare(message))
            case Withdrawn():
                for ref in message.refs:
                    self._forget(ref)
            case MovedStream() if descriptors and message.ref in self._expected:
                expected, sock = self._expected.pop(message.ref), socket.socket(fileno=descriptors.pop(0))
                self._background.start(self._take_stream(expected, message, sock))
            case MovedPeer() if message.ref in self._expected:
                self._peers_coming += 1
                self._background.start(self._take_peer(self._expected.pop(message.ref), message))
            case DatagramsLeft():
                self._may_read = True
                self._perhaps_read()
        for one in descriptors:
            os.close(one)

    def _ended(self) -> None:
        """The predecessor has nothing more to hand over, or has died."""
        for ref in tuple(self._expected):
            if ref not in self._preparing:
                self._forget(ref)
        log.get().info("sessions taken over", sessions=self._arrived)
        self._may_read = True
        self._perhaps_read()

    # ---------------------------------------------------------------- offers

    async def _prepare(self, offers: Offers) -> None:
        wanted = [offer for offer in offers.offers if self._can_serve(offer)]
        if not self._acceptor.has_room(len(self._expected) + len(wanted)):
            wanted = []
        sessions = await self._arrivals.expect([offer.session for offer in wanted])
        ready = []
        for offer, session in zip(wanted, sessions, strict=True):
            if session is None:
                continue
            if offer.ref in self._withdrawn or self._channel.closed:
                self._arrivals.drop(session)
            else:
                self._expected[offer.ref] = _Expected(offer, session)
                ready.append(offer.ref)
        refs = {offer.ref for offer in offers.offers}
        self._preparing -= refs
        self._withdrawn -= refs
        self._channel.send(Prepared(offers=offers.number, refs=tuple(ready)))

    def _can_serve(self, offer: Offer) -> bool:
        """A reload may have changed the listeners between the starts of the two workers."""
        if offer.session.peer.lossy:
            return self._udp_listener(offer.socket) is not None
        return self._stream_listener(offer.listener) is not None

    def _stream_listener(self, address: str) -> Listener | None:
        listener = self._acceptor.listener(address)
        return listener if listener is not None and listener.contexts is None else None

    def _udp_listener(self, number: int) -> UdpListener | None:
        return next((one for one in self._udp if one.number == number), None)

    def _forget(self, ref: Ref) -> None:
        if ref in self._preparing:
            self._withdrawn.add(ref)
        elif (expected := self._expected.pop(ref, None)) is not None:
            self._arrivals.drop(expected.session)

    # ---------------------------------------------------------------- arrivals

    async def _take_stream(self, expected: _Expected, moved: MovedStream, sock: socket.socket) -> None:
        await asyncio.sleep(_SETTLE_S)
        async with self._turns:
            await self._serve(expected, moved, sock)
        self._confirm(moved.ref)

    async def _serve(self, expected: _Expected, moved: MovedStream, sock: socket.socket) -> None:
        offer, session = expected
        listener = self._stream_listener(offer.listener)
        try:
            if listener is None:  # this worker leaves already
                raise OSError("its listener is closed")
            codec = self._acceptor.codec(listener)
            connection = streams.resumed(self._connections, listener, codec, sock, (offer, moved.stream))
            arrive = partial(self._arrivals.arrive, session, moved.session, connection)
            await self._loop.connect_accepted_socket(lambda: StreamArrival(connection, arrive), sock)
        except (OSError, ValueError) as error:
            sock.close()
            self._lose(expected, error)

    async def _take_peer(self, expected: _Expected, moved: MovedPeer) -> None:
        offer, session = expected
        await asyncio.sleep(_SETTLE_S)
        try:
            listener = self._udp_listener(offer.socket)
            if listener is None:
                raise OSError("its listener is closed")
            peer = datagrams.resumed(listener, moved.peer)
            self._arrivals.arrive(session, moved.session, peer)
            self._connections.check_ban(peer)
        except (OSError, ValueError) as error:
            self._lose(expected, error)
        finally:
            self._peers_coming -= 1
            self._confirm(moved.ref)
            self._perhaps_read()

    def _lose(self, expected: _Expected, error: Exception) -> None:
        """The session was sent, and cannot be served: its client logs in again."""
        peer = expected.offer.session.peer.remote
        log.get().warning("a session that was taken over is lost", peer=peer, why=str(error))
        self._arrivals.drop(expected.session)

    def _confirm(self, ref: Ref) -> None:
        self._arrived += 1
        self._channel.send(Arrived(ref=ref))

    def _perhaps_read(self) -> None:
        """Sessions that were sent are served first: a datagram of theirs must not be answered as one of a stranger."""
        if self._may_read and not self._peers_coming and not self._reads:
            self._reads = True
            for listener in self._udp:
                listener.read()
