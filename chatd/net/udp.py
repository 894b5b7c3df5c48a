"""Clients that come in datagrams: a session is the address its datagrams come from.

Owns: UdpListener, one worker's UDP socket, and UdpPeer, one address: who may be answered, the order of slow
commands, what is sent at once and what a moment later, silence, draining.
Elsewhere: the sockets themselves (master.udp_sockets), which address answers leave from (net.pktinfo), packets (wire),
meaning and repetition (core).
Fails: quietly, as datagrams do. What cannot be sent or queued is dropped and counted; the client's and core's own
repetition brings it again. A packet that is none is told to a client that is logged in, and the session stays:
anybody can write a sender's address on a datagram.

An address without a session costs an entry in the table of one second (net.rate_limit), and is never sent more bytes
than it sent, so that a forged address turns the server on nobody.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING
from typing import Protocol as Contract

from chatd.config.schema import ListenerOptions
from chatd.config.urls import shown
from chatd.core.sessions.session import Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode, WireError
from chatd.model import Protocol
from chatd.net.pktinfo import Address, Source, Ways
from chatd.net.rate_limit import Strangers
from chatd.protocol import Command, Draining, Echo, Echoed, Event, Failed, Login, LoginAccepted, WireTraits
from chatd.wire.contract import Codec

if TYPE_CHECKING:
    from chatd.net.acceptor import Server

_DATAGRAMS_PER_TURN = 64
"""Read in one turn of the loop, so that sockets do not starve."""
_BURST = 64
_BURST_S = 0.01
"""So many datagrams go to one address in so long; more would overflow buffers on their way."""
_WAITING = 64
"""Datagrams of one session that wait for its slow command."""
_PEERS = 100_000
_DRAIN_SLICE = 200
_SILENCE_S = {0: 10.0, 3: 10.0, 5: 21.0, 10: 21.0, 15: 62.0, 30: 62.0, 60: 122.0, 120: 242.0}
"""By the client's keep-alive interval, seconds (docs/protocols/mobileimsdk.md); 0 = the stock clients' own, 3."""


class UdpCodec(Codec, Contract):
    """A codec whose packets are whole datagrams."""

    def packet(self, packet: bytes) -> Command:
        """The command of one datagram. Raises WireError."""
        ...

    def shortened(self, packet: bytes, limit: int) -> bytes:
        """An encoded packet said in at most `limit` bytes, or b""."""
        ...


class MakeUdpCodec(Contract):
    def __call__(self, listen: ListenerOptions) -> UdpCodec: ...


class UdpListener:
    """One UDP socket. peers: sessions by address. entering: logins under way by address."""

    def __init__(self, server: Server, listen: ListenerOptions, sock: socket.socket, make_codec: MakeUdpCodec) -> None:
        self.server = server
        self.sock = sock
        self._ways = Ways(sock)
        self.send = self._ways.send
        self.peers: dict[Address, UdpPeer] = {}
        self.dropped = 0
        """Datagrams that could not be sent, or not be served, total."""
        self._entering: dict[Address, UdpPeer] = {}
        self._strangers = Strangers()
        self._listen = listen
        self._make_codec = make_codec
        self._codec = make_codec(listen)
        self._silence_s = _SILENCE_S[listen.keep_alive_s]
        self._open = True
        server.loop.add_reader(sock.fileno(), self._readable)

    # ---------------------------------------------------------------- datagrams in

    def _readable(self) -> None:
        receive, known, now = self._ways.receive, self.peers.get, self.server.now()
        try:
            for _ in range(_DATAGRAMS_PER_TURN):
                data, source, address = receive()
                peer = known(address)
                if peer is None:
                    self._stranger(data, source, address)
                else:
                    peer.heard, peer.source = now, source
                    peer.take(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # an error of an earlier datagram, told by the network
            self.dropped += 1

    def _stranger(self, data: bytes, source: Source, address: Address) -> None:
        if not self._open or address in self._entering or not self._strangers.allow(address):
            return
        try:
            command = self._codec.packet(data)
        except WireError:
            return
        if type(command) is Login:
            self.enter(data, command, source, address)
        elif type(command) is Echo:
            self._answer(Echoed(command.raw), len(data), source, address)
        else:
            refused = Failed(ErrorCode.NOT_LOGGED_IN, MEANINGS[ErrorCode.NOT_LOGGED_IN].text, command)
            self._answer(refused, len(data), source, address)

    def _answer(self, event: Event, limit: int, source: Source, address: Address) -> None:
        """Nothing longer than the question."""
        answer = self._codec.shortened(self._codec.encode(event), limit)
        if answer:
            self.send_or_drop(answer, source, address)

    def send_or_drop(self, data: bytes, source: Source, address: Address) -> None:
        try:
            self.send(data, source, address)
        except OSError:
            self.dropped += 1

    def allows(self, address: Address) -> bool:
        return self._strangers.allow(address)

    # ---------------------------------------------------------------- logins

    def enter(self, data: bytes, command: Login, source: Source, address: Address) -> None:
        """Begin a login, unless one from there is under way."""
        if not self._open or address in self._entering:
            return
        limits = self.server.config().limits
        if len(self.peers) >= (limits.connections or _PEERS) or len(self._entering) >= limits.login_queue:
            self.server.refused()
            busy = Failed(ErrorCode.BUSY, MEANINGS[ErrorCode.BUSY].text, command)
            self._answer(busy, len(data), source, address)
            return
        peer = UdpPeer(self, self._make_codec(self._listen), source, address, len(data))
        work = self.server.core.handle(peer, command)
        assert work is not None
        self._entering[address] = peer
        self.server.run(self._enter(peer, work))

    async def _enter(self, peer: UdpPeer, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            del self._entering[peer.address]
            if peer.session is None:
                peer.closed = True

    def entered(self, peer: UdpPeer) -> None:
        """From now on its address is this session. The one before was another user's."""
        before = self.peers.get(peer.address)
        self.peers[peer.address] = peer
        if before is not None and before is not peer:
            before.close(Disconnect.REPLACED)

    def forget(self, peer: UdpPeer) -> None:
        if self.peers.get(peer.address) is peer:
            del self.peers[peer.address]

    # ---------------------------------------------------------------- the clock, the end

    def round(self, now: float, earned: int) -> int:
        """Once a second: end what has taken too long. Returns the bytes queued. earned: commands a second."""
        self._strangers.next_second()
        login_s = self.server.config().timeouts.login_s
        for peer in tuple(self._entering.values()):
            if now - peer.heard > login_s:
                peer.close(Disconnect.LOGIN_TIMEOUT)
        queued = 0
        budget = self.server.budget
        for peer in tuple(self.peers.values()):
            queued += peer.out_bytes
            if peer.spent:
                peer.spent = max(0, min(peer.spent, budget) - earned) if earned else 0
            if now - peer.heard > self._silence_s:
                peer.close(Disconnect.SILENT)
        return queued

    def shut(self) -> None:
        """No new sessions."""
        self._open = False

    async def drain(self, notice: Draining) -> None:
        """Tell every client, end its session and let go of the socket. Nothing is spread: a client notices only when
        its next packet is answered with 301, by whoever has its address then."""
        self.shut()
        for peer in tuple(self._entering.values()):
            peer.close(Disconnect.DRAINING)
        for number, peer in enumerate(tuple(self.peers.values())):
            peer.push(notice)
            peer.close(Disconnect.DRAINING)
            if number % _DRAIN_SLICE == 0:
                await asyncio.sleep(0)
        self.server.loop.remove_reader(self.sock.fileno())
        self.sock.close()


class UdpPeer:
    """core.session.Peer behind an address. Small: an idle server is made of these.

    source: where it last wrote to. limit: bytes it may be sent at once before it is logged in. offset: bytes handed to
    us for it.
    busy: a slow command is served, `waiting` has the datagrams behind it.
    """

    lossy = True
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
        "session",
        "source",
        "spent",
        "waiting",
    )  # fmt: skip

    def __init__(self, listener: UdpListener, codec: UdpCodec, source: Source, address: Address, limit: int) -> None:
        self.listener = listener
        self.codec = codec
        self.source = source
        self.address = address
        self.limit = limit
        self.protocol = Protocol.MOBILEIMSDK
        self.remote = shown(*address[:2])
        self.heard = listener.server.now()
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
        if len(self.waiting) < _WAITING:
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
        if self.spent > self.listener.server.budget:
            self.push(Failed(ErrorCode.TOO_FAST, MEANINGS[ErrorCode.TOO_FAST].text, command))
            return
        if isinstance(command, Login) and self._is_other(command):
            if self.listener.allows(self.address):
                self.listener.enter(data, command, self.source, self.address)
            return
        if type(command) is Echo and not self.listener.allows(self.address):
            return
        work = self.listener.server.core.handle(self, command)
        if work is not None:
            self.busy = True
            self.listener.server.run(self._wait(work))

    def _is_other(self, command: Login) -> bool:
        """Somebody else logs in from this address: another account of the app, or another client behind the same
        router."""
        user = self.session.user if self.session is not None else None
        return user is None or command.name not in (user.name, str(user.id))

    async def _wait(self, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self.busy = False
        while self.waiting and not self.busy and not self.closed:
            self._serve(self.waiting.popleft())

    # ---------------------------------------------------------------- datagrams out

    @property
    def traits(self) -> WireTraits:
        return self.codec.traits

    @property
    def text_bytes(self) -> int:
        return self.codec.text_bytes

    def push(self, event: Event) -> int:
        data = self.codec.encode(event)
        if data and not self.closed:
            if self.session is None:
                data = self.codec.shortened(data, self.limit)
            self._send(data)
        return self.offset

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        data, told = self.codec.encode_login(event)
        if not self.closed:
            self.listener.entered(self)
            self._send(data)
        return told, self.offset

    def acknowledged(self) -> int:
        """A datagram has no kernel that acknowledges it: what was sent counts."""
        return self.offset - self.out_bytes

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self.offset += len(data)
        if self.queue is not None:
            self._queue(data)
            return
        now = self.listener.server.now()
        if now >= self.burst_ends:
            self.burst_ends = now + _BURST_S
            self.left = _BURST
        elif not self.left:
            self._queue(data)
            return
        self.left -= 1
        try:
            self.listener.send(data, self.source, self.address)
        except BlockingIOError:
            self._queue(data)
        except OSError:
            self.listener.dropped += 1

    def _queue(self, data: bytes) -> None:
        if self.out_bytes + len(data) > self.listener.server.config().limits.outbox_bytes:
            self.listener.dropped += 1
            return
        if self.queue is None:
            self.queue = deque()
            self.listener.server.loop.call_later(_BURST_S, self._send_queued)
        self.queue.append(data)
        self.out_bytes += len(data)

    def _send_queued(self) -> None:
        """The next burst of what waits."""
        queue = self.queue
        if queue is None or self.closed:
            return
        try:
            for _ in range(min(_BURST, len(queue))):
                self.listener.send(queue[0], self.source, self.address)
                self.out_bytes -= len(queue.popleft())
        except BlockingIOError:
            pass  # the kernel is full: later
        except OSError:
            self.out_bytes -= len(queue.popleft())
            self.listener.dropped += 1
        if queue:
            self.listener.server.loop.call_later(_BURST_S, self._send_queued)
        else:
            self.queue = None

    # ---------------------------------------------------------------- the end

    def close(self, reason: Disconnect) -> None:
        """The session ends. The last words go out at once; what waits before them is given again at the next login."""
        if self.closed:
            return
        self.listener.server.ended(self, reason)
        if self.queue:
            self.listener.send_or_drop(self.queue[-1], self.source, self.address)
        self.closed = True
        self.queue = self.waiting = None
        self.out_bytes = 0
        self.listener.forget(self)
