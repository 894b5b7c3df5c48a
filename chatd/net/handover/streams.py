"""A stream connection that moves: taken from its transport without closing it, and served again by another worker.

Owns: StreamMove, a connection on its way out, and StreamArrival, one on its way in.
Elsewhere: when this happens (net.handover.predecessor, net.handover.successor), its session (core.sessions.departures,
core.sessions.arrivals).
Fails: a connection that cannot leave is released, and goes on as if nothing had happened.

A descriptor that is closed ends its connection only if it is the last one. So the socket is duplicated for the other
worker, and then the transport is aborted, which closes its own descriptor and neither shuts down nor resets anything.
Bytes that the client has sent and nobody has read stay in the kernel.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from chatd.core.sessions.moving import OfferedSession
from chatd.core.sessions.session import Session
from chatd.errors import Disconnect
from chatd.net.acceptor import Listener
from chatd.net.connection import HIGH_WATER_BYTES, Connection
from chatd.net.connections import Connections
from chatd.net.handover.messages import Offer, StreamState
from chatd.net.handover.notice_recorder import NoticeRecorder
from chatd.net.receipts import Receipts
from chatd.net.websocket.connection import WebSocketConnection
from chatd.wire.contract import Codec


def may_leave(connection: Connection) -> bool:
    """Whether its kind can be moved at all. Not with TLS, whose state cannot be passed on."""
    return not (connection.closed or connection.profile.is_encrypted or connection.transport is None)


class StreamMove(asyncio.Protocol):
    """While the connection is held, this is its transport's protocol: nothing is read from the client, and nothing is
    written; what is queued stays in the connection.

    told: see core.sessions.moving.MovedSession.
    """

    def __init__(self, ref: int, connection: Connection, session: Session) -> None:
        self.ref = ref
        self.session = session
        self.told: list[str] = []
        self._connection = connection
        self._codec = connection.codec
        self._is_held = False
        self.has_left = False

    def listen(self) -> None:
        """From now on, note what the client is told."""
        self._connection.codec = cast(Codec, NoticeRecorder(self._codec, self.told))

    def offer(self, session: OfferedSession) -> Offer:
        return Offer(ref=self.ref, listener=self._connection.profile.listener, session=session)

    # ---------------------------------------------------------------- holding

    def hold(self) -> None:
        """Read and write nothing any more. What the transport has is still written."""
        connection, transport = self._connection, self._connection.transport
        if transport is None or connection.closed:
            return
        self._is_held = True
        connection.stalled_at = connection.stalled_at or connection.connections.now()
        connection.update_reading()
        transport.set_protocol(self)
        transport.set_write_buffer_limits(0)

    @property
    def is_ready(self) -> bool:
        """No command is being served, and the kernel has everything that was written. False for one that has ended."""
        connection, transport = self._connection, self._connection.transport
        if not self._is_held or connection.closed or transport is None or transport.is_closing():
            return False
        is_idle = connection.pending is None and connection.former_session is None
        return is_idle and connection.session is self.session and not transport.get_write_buffer_size()

    def release(self) -> None:
        """It stays: go on. Idempotent; does nothing for one that has left."""
        connection, transport = self._connection, self._connection.transport
        if self.has_left:
            return
        connection.codec = self._codec
        if not self._is_held:
            return
        self._is_held = False
        if transport is not None:
            transport.set_protocol(connection)
            if not transport.is_closing():
                transport.set_write_buffer_limits(HIGH_WATER_BYTES)
                _keep_pace(connection)
                connection.resume_writing()

    # ---------------------------------------------------------------- leaving

    def state(self) -> StreamState:
        """For the successor. Raises ValueError: the wire has no sessions."""
        connection, codec = self._connection, self._codec.state()
        if codec is None:
            raise ValueError("a wire without sessions")
        now = connection.connections.now()
        return StreamState(
            codec=codec,
            written=connection.written,
            out=tuple(connection.out or ()),
            paced=tuple(connection.paced or ()),
            next_in_s=max(0.0, connection.next_at - now),
            silent_s=now - connection.heard,
            receipts=connection.receipts.state(now) if connection.receipts is not None else None,
            websocket=connection.frames.state() if isinstance(connection, WebSocketConnection) else None,
        )

    def descriptors(self) -> list[int]:
        """That of its socket, which is the caller's. Raises OSError: none is left."""
        return [os.dup(self._connection.sock.fileno())]

    def leave(self) -> None:
        """It is the successor's: forget it without closing it."""
        connection = self._connection
        self.has_left = True
        connection.closed, connection.reason = True, Disconnect.DRAINING
        connection.out = connection.paced = connection.pending = None
        connection.out_bytes = 0
        connection.abort()

    # ---------------------------------------------------------------- called by the transport

    def data_received(self, data: bytes) -> None:
        self._connection.data_received(data)

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        """Nothing is written while it is held."""

    def resume_writing(self) -> None:
        """The kernel has everything: see is_ready."""

    def connection_lost(self, error: Exception | None) -> None:
        connection = self._connection
        if not self.has_left:
            connection.connection_lost(error)
            return
        connection.connections.remove(connection)
        connection.connections.admission.leave(connection)
        connection.transport = None


def _keep_pace(connection: Connection) -> None:
    """COMPAT: to the old chatserver client. A frame that was held is about to be written, later than was planned: the
    next one must not come right behind it."""
    pace_ms, out = connection.codec.pace_ms, connection.out
    if not pace_ms or not out:
        return
    if connection.paced:
        connection.paced.extendleft(reversed(out))
        connection.out = None
    else:
        connection.next_at = connection.connections.now() + pace_ms / 1000


class StreamArrival(asyncio.Protocol):
    """The first protocol of a socket that has come: it makes the connection as it was, before anything is read."""

    def __init__(self, connection: Connection, on_made: Callable[[], None]) -> None:
        self._connection = connection
        self._on_made = on_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = self._connection
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.connections.admission.adopt(connection)
        _keep_pace(connection)
        if connection.paced:
            connection.pace_later()
        self._on_made()
        connection.flush()


def resumed(
    connections: Connections, listener: Listener, codec: Codec, sock: socket.socket, arriving: tuple[Offer, StreamState]
) -> Connection:
    """The connection as it was, still without its transport. Raises ValueError: the codec is of another wire."""
    offer, state = arriving
    codec.resume(state.codec)
    connection = listener.connection(connections, codec, sock, offer.session.peer.remote)
    now = connections.now()
    connection.deadline = 0.0
    connection.heard = now - state.silent_s
    connection.written = state.written
    connection.out = list(state.out) or None
    connection.paced = deque(state.paced) if state.paced else None
    connection.out_bytes = sum(map(len, state.out)) + sum(map(len, state.paced))
    connection.next_at = now + state.next_in_s
    if state.receipts is not None:
        connection.receipts = Receipts.resumed(state.receipts, now)
    if isinstance(connection, WebSocketConnection) and state.websocket is not None:
        connection.resume(state.websocket)
    return connection
