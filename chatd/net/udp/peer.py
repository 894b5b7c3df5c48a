"""One client over UDP: the session behind an address.

Owns: UdpPeer: its token, the order of slow commands, bursts, its end; and what it needs of its listener.
Elsewhere: the socket, and which address has which session (net.udp.listener); packets (wire), meaning and resending
(core).
Fails: quietly, as UDP does: what cannot be sent or queued is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Protocol as Contract

from chatd.config import urls
from chatd.config.urls import shown
from chatd.core.sessions.session import Session
from chatd.errors import Disconnect, ErrorCode, Unavailable, WireError
from chatd.model import Protocol
from chatd.net.admission import Source
from chatd.net.codec_peer import CodecPeer
from chatd.net.connections import Connections
from chatd.net.pktinfo import Address, ReplyFrom
from chatd.net.queued import replace_queued
from chatd.protocol import (
    Command,
    Echo,
    Event,
    Kicked,
    Login,
    LoginAccepted,
)
from chatd.wire.contract import Codec

_BURST_DATAGRAMS = 64
_BURST_S = 0.01
"""Time in which at most _BURST_DATAGRAMS are sent to one address; more would overflow buffers on their way."""
_MAX_WAITING = 64
"""Maximum datagrams of one session that wait for its slow command."""


class UdpCodec(Codec, Contract):
    """A codec whose packets are whole datagrams. token: told with every login answer, "" = none."""

    token: str

    def split(self, datagram: bytes) -> tuple[bytes, bytes]:
        """(the token, the packet) of a datagram; the token is b"" if there is none."""
        ...

    def packet(self, packet: bytes) -> Command:
        """The command of one datagram. Raises WireError."""
        ...

    def shortened(self, packet: bytes, limit: int) -> bytes:
        """An encoded packet shortened to at most `limit` bytes, or b""."""
        ...


class Owner(Contract):
    """The listener, as its peers see it; net.udp.listener.UdpListener. dropped: see there."""

    connections: Connections
    dropped: int

    def send(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        """Raises OSError, BlockingIOError if the kernel's buffer is full."""
        ...

    def send_or_drop(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        """Send, or count it as dropped."""
        ...

    def allows(self, address: Address) -> bool:
        """Whether this address may be given one more answer this second; if so, counts it."""
        ...

    def begin_login(
        self, data: bytes, command: Login, reply_from: ReplyFrom, address: Address, *, token: bytes = b""
    ) -> None:
        """Serve a login, unless one from this address is under way."""
        ...

    def logs_in_again(self, peer: UdpPeer) -> bool:
        """Whether the client of this session is about to get another one in its place."""
        ...

    def logged_in(self, peer: UdpPeer) -> None:
        """From now on datagrams from its address are this session's."""
        ...

    def forget(self, peer: UdpPeer) -> None:
        """Its session has ended, or its login is given up."""
        ...


class UdpPeer(CodecPeer):
    """core.sessions.session.Peer behind an address. Small, because an idle server consists of these.

    reply_from: the address of ours that it last wrote to. heard: when that was. closed: nothing more is sent to it.
    limit: maximum bytes of an answer before it is logged in: the size of its login, or 0 if somebody else may have sent
    it.
    offset: bytes given to us for it, total; out_bytes: those of them that wait in `queue`.
    left: datagrams that may still be sent in the burst that ends at burst_ends.
    busy: a slow command is served; `waiting` holds the datagrams behind it.
    token: what every datagram of this client begins with, b"" = it did not ask for one.
    source: its source network, None = it is not limited. Changed only by net.admission.
    """

    lossy = True
    carrier = "udp"
    has_receipts = False
    codec: UdpCodec

    __slots__ = (
        "address",
        "burst_ends",
        "busy",
        "closed",
        "codec",
        "heard",
        "left",
        "limit",
        "listener",
        "offset",
        "out_bytes",
        "protocol",
        "queue",
        "remote",
        "reply_from",
        "session",
        "source",
        "token",
        "waiting",
    )  # fmt: skip

    def __init__(self, listener: Owner, codec: UdpCodec, reply_from: ReplyFrom, address: Address, limit: int) -> None:
        self.listener = listener
        self.codec = codec
        self.reply_from = reply_from
        self.address = address
        self.limit = limit
        self.protocol = Protocol.MOBILEIMSDK
        self.remote = shown(*address[:2])
        self.heard = listener.connections.now()
        self.session: Session | None = None
        self.closed = False
        self.offset = 0
        self.left = 0
        self.burst_ends = 0.0
        self.queue: deque[bytes] | None = None
        self.out_bytes = 0
        self.busy = False
        self.waiting: deque[bytes] | None = None
        self.token = b""
        self.source: Source | None = None

    def use_token(self, token: bytes) -> None:
        """From its login answer on, the client begins every datagram with this."""
        self.token = token
        self.codec.token = token.decode()

    @property
    def is_private(self) -> bool:
        return urls.is_loopback(self.address[0])

    # ---------------------------------------------------------------- datagrams in

    def take(self, data: bytes) -> None:
        """Serve one datagram, after those before it."""
        if not self.busy:
            self._serve(data)
            return
        if self.waiting is None:
            self.waiting = deque()
        if len(self.waiting) < _MAX_WAITING:
            self.waiting.append(data)
        else:
            self.listener.dropped += 1

    def _serve(self, data: bytes) -> None:
        try:
            command = self.codec.packet(data)
        except WireError as error:
            self.push(self.listener.connections.failure(error.code, error.text, ref=error.ref))
            return
        if isinstance(command, Login) and (self.session is None or command.name != self.session.user.name):
            if self.listener.allows(self.address):
                self._start(self._log_in(data, command))
            return
        if type(command) is Echo and not self.listener.allows(self.address):
            return
        work = self.listener.connections.handle(self, command)
        if work is not None:
            self._start(work)

    async def _log_in(self, data: bytes, command: Login) -> None:
        """Either the same user repeats the login with another spelling of the name, or somebody else logs in from this
        address: another account of the app, or another client behind the same router."""
        session = self.session
        try:
            same = session is not None and await self.listener.connections.is_same_user(session, command)
        except Unavailable:
            same = True  # core tells the client
        if not same:
            self.listener.begin_login(data, command, self.reply_from, self.address)
        elif (work := self.listener.connections.handle(self, command)) is not None:
            await work

    def _start(self, work: Awaitable[None]) -> None:
        """Serve a command that takes a while; what arrives meanwhile waits."""
        self.busy = True
        self.listener.connections.run(self._wait(work))

    async def _wait(self, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self.busy = False
        while self.waiting and not self.busy and not self.closed:
            self._serve(self.waiting.popleft())

    # ---------------------------------------------------------------- datagrams out

    def push(self, event: Event) -> int:
        if type(event) is Kicked and self.listener.logs_in_again(self):
            return self.offset  # the client would take this for the end of its new session
        data = self.codec.encode(event)
        if data and not self.closed:
            if self.session is None:
                data = self.codec.shortened(data, self.limit)
            self._send(data)
        return self.offset

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        data, included = self.codec.encode_login(event)
        if not self.closed:
            self.listener.logged_in(self)
            self._send(data)
        return included, self.offset

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        begin = self.offset - self.out_bytes
        if end <= begin or not self.queue:
            return []
        replaced = replace_queued((self.queue,), begin, end, self.codec.encode(event))
        grown = sum(grown for _, grown in replaced)
        self.out_bytes += grown
        self.offset += grown
        return replaced

    def received(self) -> int:
        """No kernel acknowledges a datagram: the bytes sent count."""
        return self.offset - self.out_bytes

    def settle(self, session: Session) -> None:
        self.listener.connections.check_receipts(session, final=True)

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self.offset += len(data)
        if self.queue is not None:
            self._queue(data)
            return
        now = self.listener.connections.now()
        if now >= self.burst_ends:
            self.burst_ends = now + _BURST_S
            self.left = _BURST_DATAGRAMS
        elif not self.left:
            self._queue(data)
            return
        self.left -= 1
        try:
            self.listener.send(data, self.reply_from, self.address)
        except BlockingIOError:
            self._queue(data)
        except OSError:
            self.listener.dropped += 1

    def _queue(self, data: bytes) -> None:
        if self.out_bytes + len(data) > self.listener.connections.config().limits.outbox_bytes:
            self.listener.dropped += 1
            self.offset -= len(data)
            return
        if self.queue is None:
            self.queue = deque()
            self.listener.connections.loop.call_later(_BURST_S, self.send_queued)
        self.queue.append(data)
        self.out_bytes += len(data)

    def send_queued(self) -> None:
        """Send the next burst of the waiting datagrams."""
        queue = self.queue
        if queue is None or self.closed:
            return
        try:
            for _ in range(min(_BURST_DATAGRAMS, len(queue))):
                self.listener.send(queue[0], self.reply_from, self.address)
                self.out_bytes -= len(queue.popleft())
        except BlockingIOError:
            pass  # the buffer of the kernel is full: later
        except OSError:  # the datagram is dropped
            self.out_bytes -= len(queue.popleft())
            self.listener.dropped += 1
        if queue:
            self.listener.connections.loop.call_later(_BURST_S, self.send_queued)
        else:
            self.queue = None

    # ---------------------------------------------------------------- the end

    @property
    def gone(self) -> bool:
        return self.closed

    def dismiss(self) -> None:
        """See net.admission.Entrant. Its login may still be under way; it will find the peer closed."""
        self.listener.connections.count_full()
        self.push(self.listener.connections.failure(ErrorCode.BUSY))
        self.close(Disconnect.BUSY)

    def close(self, reason: Disconnect) -> None:
        """End the session. The last event is sent at once; messages still waiting are sent again after the next
        login."""
        if self.closed:
            return
        self.listener.connections.ended(self, reason)
        if self.queue:
            self.listener.send_or_drop(self.queue[-1], self.reply_from, self.address)
        self.closed = True
        self.queue = self.waiting = None
        self.out_bytes = 0
        self.listener.forget(self)
