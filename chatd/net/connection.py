"""One stream connection, TCP or Unix: bytes in to commands, events out to bytes.

Owns: the socket, the write buffer and its limit, pacing, the end of a connection.
Elsewhere: accepting (net.acceptor), work for all connections (net.connections), which of the bytes sent count as
received (net.receipts), frames (wire), their meaning (core), and the WebSocket around the frames
(net.websocket.connection, which overrides _commands, _queue and close).
Fails: a WireError is reported to the peer in its protocol's terms, then the connection ends. A peer that does not read
is disconnected (SLOW_CONSUMER); messages that it had not acknowledged are delivered again at its next login.

A connection is closed in three steps: the queue is sent, then FIN, then the peer's remaining bytes are read and
dropped for up to LINGER_S. Closing a socket with unread bytes would reset the connection and lose the last answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Iterator
from typing import cast

from chatd.config import urls
from chatd.config.schema import LEAST_OUTBOX_BYTES
from chatd.core.sessions.session import Session
from chatd.errors import Disconnect, ErrorCode, WireError
from chatd.model import Protocol
from chatd.net.admission import Source
from chatd.net.codec_peer import CodecPeer
from chatd.net.connections import Connections
from chatd.net.profile import ConnectionProfile
from chatd.net.queued import replace_queued
from chatd.net.receipts import Receipts, SocketState, has_hung_up, is_sent, tcp_state, unix_state, was_reset
from chatd.protocol import Command, Event, LoginAccepted
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN, Codec

LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024
_LET_GO_S = 0.4
"""While the worker drains, a client whose kernel has everything is given this long to read it and to close; longer only
if it is still open what the client has received. What it sends later is answered by a reset."""
HIGH_WATER_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A struct linger: close() discards what was not sent, and resets the connection."""
COMMANDS_BEFORE_LOGIN = 200
"""Maximum commands of a connection until it has logged in, in all; one login is all that a client needs."""
_TOO_MUCH_BEFORE_LOGIN = f"a client may send at most {MAX_BYTES_BEFORE_LOGIN} bytes at once before it has logged in"
"""While a login is served, what came behind it is kept, so it must not be much."""
_LOGGED_OUT_FACTOR = 6
"""A client that has logged out has this many times timeouts.login_s until its next login."""


class Connection(CodecPeer, asyncio.Protocol):
    """core.sessions.session.Peer over a stream socket. Small, because an idle server consists of these.

    closed: nothing more is sent; the socket may still be open, see `deadline`. reason: why, once closed.
    deadline: on the loop's clock, for the login; once closed, for closing the socket. 0 = none.
    heard: when bytes last came. stalled_at: since when the peer has not read what was written, 0.0 = it reads.
    spent: commands that came without a session: before the login, or on the echo wire and not yet earned back.
    written: bytes handed to the transport; out_bytes: bytes waiting here; together, all that was queued.
    out: written at the end of this turn. paced: frames that wait for their turn, the next one until `next_at`.
    pending: commands of bytes already read, while a slow command is served; reading pauses meanwhile.
    receipts: which of the bytes written count as received; made when core first asks, or by the PROXY header.
    former_session: the session that ended here last, while receipts of messages that it was given are still missing.
    lingered: bytes read and dropped since the connection was closed.
    source: the client's source network, None = it is not limited. Changed only by net.admission.
    """

    lossy = False
    __slots__ = (
        "closed", "codec", "connections", "deadline", "former_session", "heard", "lingered", "next_at", "out",
        "out_bytes", "paced", "pending", "profile", "protocol", "reason", "receipts", "remote", "session", "sock",
        "source", "spent", "stalled_at", "transport", "written",
    )  # fmt: skip

    def __init__(
        self, connections: Connections, profile: ConnectionProfile, codec: Codec, sock: socket.socket, remote: str
    ) -> None:
        self.connections = connections
        self.codec = codec
        self.protocol = profile.protocol
        self.profile = profile
        self.sock = sock
        self.remote = remote
        self.receipts: Receipts | None = None
        self.former_session: Session | None = None
        self.heard = connections.now()
        self.deadline = self.heard + connections.config().timeouts.login_s
        self.session: Session | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.reason: Disconnect | None = None
        self.out: list[bytes] | None = None
        self.out_bytes = 0
        self.written = 0
        self.paced: deque[bytes] | None = None
        self.pending: Iterator[Command] | None = None
        self.next_at = self.stalled_at = 0.0
        self.spent = 0
        self.lingered = 0
        self.source: Source | None = None

    @property
    def is_private(self) -> bool:
        receipts, sock = self.receipts, self.sock
        if self.profile.is_encrypted or sock.family == socket.AF_UNIX or (receipts is not None and receipts.is_relayed):
            return True
        try:
            return urls.is_loopback(sock.getpeername()[0])
        except OSError:  # it has gone
            return False

    @property
    def carrier(self) -> str:
        return self.profile.carrier

    @property
    def has_receipts(self) -> bool:
        return not self.profile.is_encrypted

    def expect_preamble(self) -> None:
        """A PROXY header or a handshake comes first: it is due when a login would be, on every wire."""
        if self.protocol is Protocol.ECHO:  # it has no login deadline
            self.heard = self.deadline - self.profile.silence_s

    @property
    def is_stranger(self) -> bool:
        """It has no session, on a wire that has sessions."""
        return self.session is None and self.protocol is not Protocol.ECHO

    # ---------------------------------------------------------------- bytes in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self.connections.add(self)
        if self.closed:  # dismissed before it was served
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self.closed:
            self.lingered += len(data)
            if self.lingered > LINGER_BYTES:
                self.abort()
            return
        self.heard = self.connections.now()
        if self.receipts is not None and self.receipts.is_relayed:
            self._heard_through_balancer(self.receipts)
        if len(data) > MAX_BYTES_BEFORE_LOGIN and self.is_stranger:
            self._wire_error(WireError(ErrorCode.TOO_LONG, _TOO_MUCH_BEFORE_LOGIN))
            return
        commands = self._commands(data)
        if self.pending is not None:
            self.pending = itertools.chain(self.pending, commands)
        else:
            self._serve(commands)

    def _commands(self, data: bytes) -> Iterator[Command]:
        """The commands in the bytes, in order. Raises WireError."""
        return self.codec.receive(data)

    def _serve(self, commands: Iterator[Command]) -> None:
        handle = self.connections.handle
        try:
            for command in commands:
                if self.session is None and not self.may_ask():
                    self.push(self.connections.failure(ErrorCode.TOO_FAST, command=command))
                    if self.is_stranger:
                        self.close(Disconnect.TOO_MANY_ATTEMPTS)
                elif (work := handle(self, command)) is not None:
                    self.pending = commands
                    if self.session is None:
                        self.connections.admission.stops_waiting(self)
                    self.update_reading()
                    self.connections.run(self._wait(work))
                    return
                if self.closed:
                    return
        except WireError as error:
            self._wire_error(error)

    def may_ask(self) -> bool:
        """Count a frame of the client that core does not count; False: it sends too many."""
        if self.session is not None:
            return self.connections.may_ask(self.session)
        self.spent += 1
        return self.spent <= (COMMANDS_BEFORE_LOGIN if self.is_stranger else self.connections.echo_rate.budget)

    def _wire_error(self, error: WireError) -> None:
        self.push(self.connections.failure(error.code, error.text, ref=error.ref))
        self.close(Disconnect.WIRE_ERROR)

    async def _wait(self, work: Awaitable[None]) -> None:
        await work
        commands, self.pending = self.pending, None
        if self.session is None and not self.closed:
            self.connections.admission.waits(self)
        if commands is not None and not self.closed:
            self._serve(commands)
        self.update_reading()

    def update_reading(self) -> None:
        """Read, unless the peer must wait for something first."""
        if self.transport is None or self.transport.is_closing():
            return
        if not self.closed and (self.pending is not None or self.stalled_at):
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # ---------------------------------------------------------------- bytes out

    def push(self, event: Event) -> int:
        data = self.codec.encode(event)
        if data and not self.closed:
            self._queue(data)
        return self.written + self.out_bytes

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        data, included = self.codec.encode_login(event)
        if not self.closed:
            self._queue(data)
        return included, self.written + self.out_bytes

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        if end <= self.written or self.closed:
            return []
        queues = [queue for queue in (self.out, self.paced) if queue]
        replaced = replace_queued(queues, self.written, end, self._framed(self.codec.encode(event)))
        self.out_bytes += sum(grown for _, grown in replaced)
        return replaced

    def _framed(self, data: bytes) -> bytes:
        """An encoded event as it is queued."""
        return data

    def _queue(self, data: bytes) -> None:
        self.out_bytes += len(data)
        pace_ms = self.codec.pace_ms
        if self.paced or (pace_ms and (self.out is not None or self.connections.now() < self.next_at)):
            self.paced = self.paced or deque()
            if not self.paced:
                self.pace_later()
            self.paced.append(data)
        elif pace_ms:
            self.out = [data]
            self.flush()
            self.next_at = time.monotonic() + pace_ms / 1000  # not the loop's time: this turn may have taken long
        elif self.out is None:
            self.out = [data]
            self.connections.dirty(self)
        else:
            self.out.append(data)
        if self.out_bytes > LEAST_OUTBOX_BYTES and self.out_bytes > self.connections.config().limits.outbox_bytes:
            self.cut(Disconnect.SLOW_CONSUMER)

    def pace_later(self) -> None:
        self.connections.loop.call_later(max(0.001, self.next_at - self.connections.now()), self._pace)

    def _pace(self) -> None:
        """COMPAT: the old chatserver client reads one frame per recv, so frames go out one by one."""
        if not self.paced or self.closed:
            return
        if not self.codec.pace_ms:  # nothing may overtake frames that were paced before the login
            self.out = [*(self.out or []), *self.paced]
            self.paced.clear()
            self.flush()
        elif self.out is None and not self.stalled_at:
            self.out = [self.paced.popleft()]
            self.flush()
        self.next_at = time.monotonic() + self.codec.pace_ms / 1000
        if self.paced:
            self.pace_later()

    def flush(self) -> None:
        """Write everything queued during this turn at once. While the peer does not read, it waits here."""
        if (out := self.out) is None or self.stalled_at or self.transport is None:
            return
        self.out = None
        data = out[0] if len(out) == 1 else b"".join(out)
        self.out_bytes -= len(data)
        self.written += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.stalled_at = self.connections.now()
        self.update_reading()

    def resume_writing(self) -> None:
        self.stalled_at = 0.0
        self.update_reading()
        self.flush()

    # ---------------------------------------------------------------- what the client has received

    def received(self) -> int:
        if self.profile.is_encrypted:  # the kernel counts encrypted bytes, and what it has is not yet decrypted
            return 0
        receipts = self.receipts = self.receipts or Receipts(is_local=self.sock.family == socket.AF_UNIX)
        state = self._socket_state(receipts)
        if state is None or not state.is_open:
            return receipts.received
        return receipts.acknowledged(min(state.acknowledged, self.written), self.connections.now())

    def settle(self, session: Session) -> None:
        former, self.former_session = self.former_session, session
        if former is not None:
            self.connections.check_receipts(former, final=True)

    def _socket_state(self, receipts: Receipts) -> SocketState | None:
        """None once the transport has given up the socket: its descriptor may then belong to another connection."""
        if self.transport is None or self.transport.is_closing():
            return None
        if receipts.is_local:
            return unix_state(self.sock, self.written - self.transport.get_write_buffer_size())
        return tcp_state(self.sock)

    def _heard_through_balancer(self, receipts: Receipts) -> None:
        """The bytes may have come long ago, while this process was stopped or busy: the kernel knows when."""
        state = self._socket_state(receipts)
        if state is not None:
            receipts.heard(self.heard - state.silence_s)

    def _peer_closed(self) -> None:
        """FIN has come. Unless a reset came as well, before or after it, the peer had read everything that its kernel
        took."""
        if not self.profile.is_encrypted:
            receipts = self.receipts = self.receipts or Receipts(is_local=self.sock.family == socket.AF_UNIX)
            state = self._socket_state(receipts)
            if state is not None and not receipts.is_relayed and not was_reset(self.sock):
                receipts.proven(min(state.acknowledged, self.written))
        for session in (self.session, self.former_session):
            if session is not None:
                self.connections.check_receipts(session)

    # ---------------------------------------------------------------- the end

    @property
    def gone(self) -> bool:
        """Reading pauses while a command is served, so the end of the client's bytes is seen by asking the kernel."""
        return self.closed or self.transport is None or has_hung_up(self.sock)

    def close(self, reason: Disconnect) -> None:
        """End gently. Idempotent."""
        if self.closed:
            return
        self.connections.ended(self, reason)
        if self.paced:
            self.out = [*(self.out or []), *self.paced]
            self.paced = None
        self.stalled_at = 0.0  # nothing can be written after FIN, even if the peer reads
        self.flush()
        self.closed, self.reason, self.pending = True, reason, None
        self.deadline = self.connections.now() + LINGER_S
        if self.transport is None:
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.update_reading()
        else:
            self.transport.close()

    def cut(self, reason: Disconnect) -> None:
        """End at once, without sending what is queued; for a peer that does not read."""
        if not self.closed:
            self.connections.ended(self, reason)
            self.closed, self.reason = True, reason
        if reason is Disconnect.SLOW_CONSUMER and self.transport is not None:
            # The kernel need not keep data for a peer that does not read.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort()

    def refuse(self) -> None:
        """End a connection that may not stay, gently."""
        self.push(self.connections.failure(ErrorCode.BUSY))
        self.close(Disconnect.BUSY)

    def dismiss(self) -> None:
        """See net.admission.Entrant. The answer is sent if the socket takes it at once; nothing is kept for it."""
        self.connections.count_full()
        if self.transport is None:  # accepted a moment ago: connection_made() ends it
            self.connections.ended(self, Disconnect.BUSY)
            self.closed, self.reason = True, Disconnect.BUSY
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        elif self.closed:
            self.abort()
        else:
            self.refuse()
            self.transport.close()

    def abort(self) -> None:
        """Close the socket at once; what the transport still holds is not sent."""
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        if self.session is not None or self.former_session is not None:
            self._peer_closed()
        if not self.closed:
            self.flush()  # `echo hello | nc` ends with its question
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self.connections.ended(self, Disconnect.PEER_LEFT)
            self.closed = True
        if self.former_session is not None:
            self.connections.check_receipts(self.former_session, final=True)
            self.former_session = None
        self.connections.remove(self)
        self.connections.admission.leave(self)
        self.pending = self.out = self.paced = None
        self.transport = None

    def let_go(self, now: float) -> None:
        """See net.connections.StreamPeer."""
        if not self.closed or self.transport is None:
            return
        is_let_go = now > self.deadline - LINGER_S + _LET_GO_S and self.former_session is None
        has_all = is_let_go and not self.transport.get_write_buffer_size() and is_sent(self.sock)
        if has_all or now > self.deadline:
            self.abort()

    def overdue(self, now: float) -> None:
        """Once a second: end the connection if something has taken too long."""
        timeouts = self.connections.config().timeouts
        if self.closed:
            if now > self.deadline:
                self.abort()
        elif self.stalled_at and now - self.stalled_at > timeouts.stall_s:
            self.cut(Disconnect.SLOW_CONSUMER)
        elif self.session is not None:
            self.deadline, self.spent = 0.0, 0
            self.codec.next_second()
            silence_s = self.profile.silence_s
            if silence_s and now - self.heard > silence_s:
                self.close(Disconnect.SILENT)
        elif self.protocol is Protocol.ECHO:
            self.spent = self.connections.echo_rate.earned_back(self.spent)
            if now - self.heard > self.profile.silence_s:
                self.close(Disconnect.SILENT)
        elif not self.deadline:  # logged out a moment ago
            self.connections.admission.waits(self)
            self.deadline = now + _LOGGED_OUT_FACTOR * timeouts.login_s
        elif now > self.deadline:
            self.close(Disconnect.LOGIN_TIMEOUT)
