"""One HTTP connection: a stream connection that carries requests instead of a wire.

Owns: HttpConnection: feeding the bytes to the parser in slices, joining what is written, time limits, and leaving.
Elsewhere: everything an HTTP connection shares with the others (admission, TLS, the PROXY header, the write buffer,
closing in three steps) is in net.connection; the requests (http.parser).
Fails: as net.connection. A request that does not arrive in time is answered with 408.

However many bytes come at once, one turn of the event loop parses SLICE_BYTES of them, so that a flood of small
headers, chunks or requests costs the chat about a millisecond per turn.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from chatd.errors import Disconnect, ErrorCode, Refused
from chatd.http.parser import SLICE_BYTES, RequestParser
from chatd.http.problems import raw
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.profile import ConnectionProfile
from chatd.net.websocket.mount import WebSocketMount
from chatd.protocol import Draining, Event
from chatd.wire.echo import EchoCodec

if TYPE_CHECKING:
    from chatd.http.server import HttpServer

_JOIN_BYTES = 64 * 1024
"""What waits for the end of the turn to be written at once; more is written at once."""
_NO_WIRE = EchoCodec()
"""Never used: an HTTP connection has no wire."""
BUSY = raw(Refused(ErrorCode.BUSY))
_TOO_SLOW = Refused(ErrorCode.TOO_SLOW)
_TLS_NEEDED = (
    "the network can read this connection, and accounts.require_tls is on: use an https:// listener, a load balancer "
    "named by listen.proxy_from, or this host"
)


class _Transport(asyncio.Transport):
    """The connection as the parser sees it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._connection.send(bytes(data))

    def close(self) -> None:
        self._connection.close(Disconnect.SERVED)

    def is_closing(self) -> bool:
        return self._connection.closed

    def pause_reading(self) -> None:
        self._connection.hold(is_held=True)

    def resume_reading(self) -> None:
        self._connection.hold(is_held=False)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection.is_private if name == "sslcontext" else default


class HttpConnection(Connection):
    """http: made with the first bytes; before, it is only a socket. rest: bytes that are parsed in later turns.
    is_held: the parser has enough to do. began: when the first byte of the present request came; 0.0 = none has.
    active: when a request began last, or an answer was written; empty lines in between are no sign of life.
    at_end: the client sends nothing more, but waits for answers. mount: where it may become a WebSocket.
    """

    __slots__ = ("_checked_private", "active", "at_end", "began", "http", "is_held", "mount", "rest", "server")

    def __init__(
        self, server: HttpServer, connections: Connections, profile: ConnectionProfile, sock: socket.socket, remote: str
    ) -> None:
        super().__init__(connections, profile, _NO_WIRE, sock, remote)
        self.server = server
        self.http: RequestParser | None = None
        self.rest = b""
        self.is_held = False
        self.began = 0.0
        self.active = self.heard
        self.at_end = False
        self.mount: WebSocketMount | None = None
        self._checked_private = False

    # ---------------------------------------------------------------- bytes in

    def data_received(self, data: bytes) -> None:
        if self.closed:
            super().data_received(data)
            return
        self.heard = self.connections.now()
        if self.http is None:
            self.http = self.server.parser(self)
            self.http.connection_made(_Transport(self))
        if self.rest or self.is_held or len(data) > SLICE_BYTES:
            self.rest += data
            self._feed_soon()
        else:
            self._feed(self.http, data)

    def _feed_soon(self) -> None:
        self.update_reading()
        if not self.is_held:
            self.connections.loop.call_soon(self._feed_slice)

    def _feed_slice(self) -> None:
        """The next part of what has come, unless an earlier request must be answered first."""
        if self.closed or self.is_held or not self.rest or self.http is None:
            return
        data, self.rest = self.rest[:SLICE_BYTES], self.rest[SLICE_BYTES:]
        self._feed(self.http, data)
        if self.rest and not self.closed:
            self._feed_soon()
        else:
            self.update_reading()

    def _feed(self, http: RequestParser, data: bytes) -> None:
        begun = http.begun
        http.data_received(data)
        if not http.is_receiving:
            self.began = 0.0
        elif http.begun != begun:  # of those that have begun in these bytes, the last one is not complete
            self.began = self.heard
        if http.begun != begun:
            self.active = self.heard

    def become_websocket(self, request: bytes, rest: bytes) -> None:
        """Everything before the request has been answered. rest: what came behind it in the same slice."""
        mount, http = self.mount, self.http
        self.flush()
        if mount is None or http is None or self.out is not None:
            self.cut(Disconnect.SLOW_CONSUMER)  # it does not read the earlier answers
            return
        rest, self.rest, self.http = rest + self.rest, b"", None
        mount.hand_over(self, request, rest)
        http.connection_lost(None)

    def hold(self, *, is_held: bool) -> None:
        """The parser has enough, or can take more."""
        self.is_held = is_held
        if not is_held and self.began:
            self.began = self.connections.now()  # the client could not send the rest meanwhile
        if not is_held and self.rest:
            self._feed_soon()
        else:
            self.update_reading()

    def update_reading(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if not self.closed and (self.is_held or self.rest or self.stalled_at):
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """The client may wait for its answer after having closed its side."""
        if self.closed or self.http is None or self.http.is_receiving or self.http.is_idle:
            return False
        self.at_end = True
        self.http.leave()
        return True

    # ---------------------------------------------------------------- what requests ask of it

    @property
    def serves_files(self) -> bool:
        """Whether its listener does."""
        return self.server.serves_files(self.profile)

    def authenticated(self) -> None:
        """A request with a valid key has come: it does not make room for others any more."""
        source = self.source
        if source is not None and self in source.waiting:
            self.connections.admission.stops_waiting(self)

    def check_private(self) -> None:
        """Raises Refused TLS_NEEDED if the configuration asks for it and a network can read what is sent."""
        if self._checked_private or not self.connections.config().accounts.require_tls:
            return
        if not self.is_private:
            raise Refused(ErrorCode.TLS_NEEDED, _TLS_NEEDED)
        self._checked_private = True

    # ---------------------------------------------------------------- bytes out

    def send(self, data: bytes) -> None:
        """Written at the end of this turn, together with what else is sent in it."""
        if self.closed or not data:
            return
        self.out_bytes += len(data)
        if self.out is None:
            self.active = self.connections.now()
            self.out = [data]
            self.connections.dirty(self)
        else:
            self.out.append(data)
        if self.out_bytes > _JOIN_BYTES:
            self.flush()

    def push(self, event: Event) -> int:
        """Nothing is told to applications, but that the worker leaves."""
        if isinstance(event, Draining):
            self._leave()
        return 0

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.http is not None:
            self.http.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.http is not None:
            self.http.resume_writing()

    # ---------------------------------------------------------------- the end

    def _leave(self) -> None:
        """After the requests that have come, and at once if there are none."""
        if self.closed:
            return
        if self.http is None:
            super().close(Disconnect.DRAINING)
        else:
            self.http.leave()

    def close(self, reason: Disconnect) -> None:
        """Requests that are being served when the worker drains are answered first."""
        if reason is Disconnect.DRAINING and not self.closed and self.http is not None and not self.http.is_idle:
            self.http.leave()
            return
        super().close(reason)
        self._abandon()

    def cut(self, reason: Disconnect) -> None:
        super().cut(reason)
        self._abandon()

    def _abandon(self) -> None:
        """Nobody waits for the answers that are still being made."""
        http = self.http
        if http is not None and http.running is not None and not http.running.response_complete:
            http.running.disconnected = True
            http.running.message_event.set()
            http.flow.resume_writing()

    def refuse(self) -> None:
        if self.http is None or self.http.is_idle:
            self.send(BUSY)
        self.close(Disconnect.BUSY)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.rest = b""
        if self.http is not None:
            self.http.connection_lost(error)
            self.http = None

    def overdue(self, now: float) -> None:
        options, timeouts = self.connections.config().http, self.connections.config().timeouts
        http = self.http
        if self.closed:
            if now > self.deadline:
                self.abort()
        elif self.stalled_at and now - self.stalled_at > timeouts.stall_s:
            self.cut(Disconnect.SLOW_CONSUMER)
        elif http is None:
            if now > self.heard + options.request_s:
                self.close(Disconnect.SERVED)
        elif self.began and http.is_receiving and not self.is_held:
            if now - self.began > options.request_s:
                http.break_off(_TOO_SLOW)
        elif http.is_idle and now - self.active > options.idle_s:
            self.close(Disconnect.SERVED)
