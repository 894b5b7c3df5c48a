"""Clients over UDP: a session is the address its datagrams come from.

Owns: UdpListener, one worker's UDP socket and the sessions on it, and UdpPeer, one address: the order of slow commands,
bursts, silence, draining.
Elsewhere: the sockets themselves (master.udp_sockets), the address replies leave from (net.pktinfo), packets (wire),
meaning and resending (core).
Fails: quietly, as UDP does. What cannot be sent or queued is dropped and counted; the client or core sends it again.
A datagram that is not a packet is answered with an error if its sender has a session, and the session stays: anybody
can forge the address of a datagram.

An address without a session costs one entry in the rate limiter (net.rate_limit) for a second, and is never sent more
bytes than it sent, so the server cannot be used to flood a forged address.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable
from typing import Protocol as Contract

from chatd.config.schema import ListenerOptions
from chatd.config.urls import shown
from chatd.core.sessions.session import Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode, Unavailable, WireError
from chatd.model import Protocol
from chatd.net.codec_peer import CodecPeer
from chatd.net.connections import Connections
from chatd.net.pktinfo import Address, ReplyFrom, ReplySocket
from chatd.net.rate_limit import AnswerLimiter
from chatd.protocol import (
    ACKNOWLEDGEMENTS,
    Command,
    Draining,
    Echo,
    Echoed,
    Event,
    Failed,
    Login,
    LoginAccepted,
)
from chatd.wire.contract import Codec

_DATAGRAMS_PER_TURN = 64
"""Maximum datagrams read in one turn of the event loop, so that other sockets do not starve."""
_BURST_DATAGRAMS = 64
_BURST_S = 0.01
"""Time in which at most _BURST_DATAGRAMS are sent to one address; more would overflow buffers on their way."""
_MAX_WAITING = 64
"""Maximum datagrams of one session that wait for its slow command."""
_MAX_SESSIONS = 100_000
"""Maximum sessions if limits.connections is 0."""
_DRAIN_SLICE = 200
"""Sessions ended in one turn of the event loop."""
_SILENCE_S = {0: 10.0, 3: 10.0, 5: 21.0, 10: 21.0, 15: 62.0, 30: 62.0, 60: 122.0, 120: 242.0}
"""Silence that ends a session, by the client's keep-alive interval, both in seconds (docs/protocols/mobileimsdk.md); 0
= the stock clients' own, 3."""


class UdpCodec(Codec, Contract):
    """A codec whose packets are whole datagrams."""

    def packet(self, packet: bytes) -> Command:
        """The command of one datagram. Raises WireError."""
        ...

    def shortened(self, packet: bytes, limit: int) -> bytes:
        """An encoded packet shortened to at most `limit` bytes, or b""."""
        ...


class MakeUdpCodec(Contract):
    def __call__(self, listen: ListenerOptions) -> UdpCodec: ...


class UdpListener:
    """One UDP socket, serving from the moment it is made. peers: sessions by address. logging_in: logins under way by
    address. limiter: of answers to addresses without a session. dropped: datagrams that could not be sent or served,
    total."""

    def __init__(
        self, connections: Connections, options: ListenerOptions, sock: socket.socket, make_codec: MakeUdpCodec
    ) -> None:
        self.connections = connections
        self.sock = sock
        self.peers: dict[Address, UdpPeer] = {}
        self.logging_in: dict[Address, UdpPeer] = {}
        self.limiter = AnswerLimiter()
        self.dropped = 0
        self._reply_socket = ReplySocket(sock)
        self.send = self._reply_socket.send
        self._options = options
        self._make_codec = make_codec
        self._codec = make_codec(options)
        """For addresses without a session."""
        self._silence_s = _SILENCE_S[options.keep_alive_s]
        self._open = True
        """Logins are served."""
        connections.loop.add_reader(sock.fileno(), self._on_readable)

    # ---------------------------------------------------------------- datagrams in

    def _on_readable(self) -> None:
        receive, known, now = self._reply_socket.receive, self.peers.get, self.connections.now()
        try:
            for _ in range(_DATAGRAMS_PER_TURN):
                data, reply_from, address = receive()
                peer = known(address)
                if peer is None:
                    self._without_session(data, reply_from, address)
                else:
                    peer.heard, peer.reply_from = now, reply_from
                    peer.take(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # an error about an earlier datagram, reported by the network
            self.dropped += 1

    def _without_session(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        if not self._open or address in self.logging_in or not self.limiter.allow(address):
            return
        try:
            command = self._codec.packet(data)
        except WireError:
            return
        if type(command) is Login:
            self.begin_login(data, command, reply_from, address)
        elif type(command) is Echo:
            self._answer(Echoed(command.raw), len(data), reply_from, address)
        else:
            refused = Failed(ErrorCode.NOT_LOGGED_IN, MEANINGS[ErrorCode.NOT_LOGGED_IN].text, command)
            self._answer(refused, len(data), reply_from, address)

    def _answer(self, event: Event, limit: int, reply_from: ReplyFrom, address: Address) -> None:
        """Send the event in at most `limit` bytes, or nothing if it does not fit."""
        answer = self._codec.shortened(self._codec.encode(event), limit)
        if answer:
            self.send_or_drop(answer, reply_from, address)

    def send_or_drop(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        try:
            self.send(data, reply_from, address)
        except OSError:
            self.dropped += 1

    def allows(self, address: Address) -> bool:
        return self.limiter.allow(address)

    # ---------------------------------------------------------------- logins

    def begin_login(self, data: bytes, command: Login, reply_from: ReplyFrom, address: Address) -> None:
        """Serve a login, unless one from this address is under way."""
        if not self._open or address in self.logging_in:
            return
        limits = self.connections.config().limits
        if len(self.peers) >= (limits.connections or _MAX_SESSIONS) or len(self.logging_in) >= limits.login_queue:
            self.connections.count_refused()
            busy = Failed(ErrorCode.BUSY, MEANINGS[ErrorCode.BUSY].text, command)
            self._answer(busy, len(data), reply_from, address)
            return
        peer = UdpPeer(self, self._make_codec(self._options), reply_from, address, len(data))
        work = self.connections.handle(peer, command)
        assert work is not None
        self.logging_in[address] = peer
        self.connections.run(self._log_in(peer, work))

    async def _log_in(self, peer: UdpPeer, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            del self.logging_in[peer.address]
            if peer.session is None:
                peer.closed = True

    def logged_in(self, peer: UdpPeer) -> None:
        """From now on datagrams from its address are this session's. An earlier session of the address was another
        user's, and ends."""
        before = self.peers.get(peer.address)
        self.peers[peer.address] = peer
        if before is not None and before is not peer:
            before.close(Disconnect.REPLACED)

    def forget(self, peer: UdpPeer) -> None:
        if self.peers.get(peer.address) is peer:
            del self.peers[peer.address]

    # ---------------------------------------------------------------- the clock, the end

    def round(self, now: float, earned: int) -> int:
        """See net.connections.DatagramSessions, also for shut() and drain()."""
        self.limiter.next_second()
        login_s = self.connections.config().timeouts.login_s
        for peer in tuple(self.logging_in.values()):
            if now - peer.heard > login_s:
                peer.close(Disconnect.LOGIN_TIMEOUT)
        queued = 0
        budget = self.connections.budget
        for peer in tuple(self.peers.values()):
            queued += peer.out_bytes
            if peer.spent:
                peer.spent = max(0, min(peer.spent, budget) - earned) if earned else 0
            if now - peer.heard > self._silence_s:
                peer.close(Disconnect.SILENT)
        return queued

    def shut(self) -> None:
        self._open = False

    async def drain(self, notice: Draining) -> None:
        """Not spread over time: a client notices the end only when its next packet is answered with 301, by the worker
        that has the socket then."""
        self.shut()
        for peer in tuple(self.logging_in.values()):
            peer.close(Disconnect.DRAINING)
        for number, peer in enumerate(tuple(self.peers.values())):
            peer.push(notice)
            peer.close(Disconnect.DRAINING)
            if number % _DRAIN_SLICE == 0:
                await asyncio.sleep(0)
        self.connections.loop.remove_reader(self.sock.fileno())
        self.sock.close()


class UdpPeer(CodecPeer):
    """core.sessions.session.Peer behind an address. Small, because an idle server consists of these.

    reply_from: the address of ours that it last wrote to. heard: when that was. closed: nothing more is sent to it.
    limit: maximum bytes of an answer before it is logged in: the size of its login.
    offset: bytes given to us for it, total; out_bytes: those of them that wait in `queue`.
    left: datagrams that may still be sent in the burst that ends at burst_ends.
    busy: a slow command is served; `waiting` holds the datagrams behind it.
    spent: commands not yet earned back, see Connections.budget.
    """

    lossy = True
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
        "spent",
        "waiting",
    )  # fmt: skip

    def __init__(
        self, listener: UdpListener, codec: UdpCodec, reply_from: ReplyFrom, address: Address, limit: int
    ) -> None:
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
        self.spent = 0

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
            self.push(Failed(error.code, error.text, None, error.ref))
            return
        self.spent += 1
        if self.spent > self.listener.connections.budget and type(command) not in ACKNOWLEDGEMENTS:
            self.push(Failed(ErrorCode.TOO_FAST, MEANINGS[ErrorCode.TOO_FAST].text, command))
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
            return
        if self.queue is None:
            self.queue = deque()
            self.listener.connections.loop.call_later(_BURST_S, self._send_queued)
        self.queue.append(data)
        self.out_bytes += len(data)

    def _send_queued(self) -> None:
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
        except OSError:
            self.out_bytes -= len(queue.popleft())
            self.listener.dropped += 1
        if queue:
            self.listener.connections.loop.call_later(_BURST_S, self._send_queued)
        else:
            self.queue = None

    # ---------------------------------------------------------------- the end

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
