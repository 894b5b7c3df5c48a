"""Clients over UDP: a session is the address its datagrams come from.

Owns: UdpListener, one worker's UDP socket and the sessions on it: which address has one, tokens, silence, draining.
Elsewhere: one session (net.udp.peer), the sockets themselves (master.udp_sockets), the address replies leave from
(net.pktinfo), packets (wire), meaning and resending (core).
Fails: quietly, as UDP does. What cannot be sent or queued is dropped and counted; the client or core sends it again.
A datagram that is not a packet is answered with an error if its sender has a session, and the session stays: anybody
can forge the address of a datagram.

A client that asks for a token at its login repeats it in every datagram (docs/protocols/mobileimsdk.md). What comes
from its address without the token is dropped, unless it is a login to the same account, which is served like one from a
new address: its password is checked, and the client may have missed the answer with the token.

An address without a session costs one entry in the rate limiter (net.rate_limit) for a second, and is never sent more
bytes than it sent, so the server cannot be used to flood a forged address.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable
from hmac import compare_digest
from typing import Protocol as Contract

from chatd import security_log
from chatd.config.schema import ListenerOptions
from chatd.config.urls import shown
from chatd.core.sessions.session import Session
from chatd.errors import Disconnect, ErrorCode, Unavailable, WireError
from chatd.net.admission import BANNED, Admission
from chatd.net.connections import Connections
from chatd.net.pktinfo import Address, ReplyFrom, ReplySocket
from chatd.net.rate_limit import REFUSALS_PER_S, AnswerLimiter
from chatd.net.udp.peer import UdpCodec, UdpPeer
from chatd.protocol import (
    Draining,
    Echo,
    Echoed,
    Event,
    Login,
)
from chatd.security_log import SecurityEvent

_DATAGRAMS_PER_TURN = 64
"""Maximum datagrams read in one turn of the event loop, so that other sockets do not starve."""
_MAX_SESSIONS = 100_000
"""Maximum sessions if limits.connections is 0."""
_TOKEN_RANDOM_BYTES = 18
"""Written in base64, they give a token of wire.mobileimsdk.token.TOKEN_BYTES."""
_DRAIN_SLICE = 200
"""Sessions ended in one turn of the event loop."""
_SILENCE_S = {0: 10.0, 3: 10.0, 5: 21.0, 10: 21.0, 15: 62.0, 30: 62.0, 60: 122.0, 120: 242.0}
"""Silence that ends a session, by the client's keep-alive interval, both in seconds (docs/protocols/mobileimsdk.md); 0
= the stock clients' own, 3."""


class MakeUdpCodec(Contract):
    def __call__(self, listen: ListenerOptions) -> UdpCodec: ...


class UdpListener:
    """One UDP socket, serving from the moment it is made. peers: sessions by address. logging_in: logins under way by
    address. limiter: of answers to addresses without a session. admission: of sessions and logins under way, apart from
    those of streams, because the source of a datagram can be forged. dropped: datagrams that could not be sent or
    served, total. is_reading: this worker reads the socket."""

    def __init__(
        self,
        connections: Connections,
        options: ListenerOptions,
        sock: socket.socket,
        make_codec: MakeUdpCodec,
        *,
        is_reading: bool = True,
    ) -> None:
        """is_reading False: the worker that this one succeeds reads the same socket, until read() is called."""
        self.connections = connections
        self.sock = sock
        self.peers: dict[Address, UdpPeer] = {}
        self.logging_in: dict[Address, UdpPeer] = {}
        self.limiter = AnswerLimiter()
        self.admission = Admission(connections.config, connections.bans)
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
        self.is_reading = False
        if is_reading:
            self.read()

    # ---------------------------------------------------------------- a worker and its successor

    @property
    def number(self) -> int:
        """Of the socket: the same in every process that has it, and different from every other."""
        return os.fstat(self.sock.fileno()).st_ino

    def read(self) -> None:
        """Serve what comes, from now on."""
        self._open = self.is_reading = True
        self.connections.loop.add_reader(self.sock.fileno(), self._on_readable)

    def stop_reading(self) -> None:
        """What comes waits in the kernel, for whoever reads next. Logins under way are completed."""
        self._open = self.is_reading = False
        self.connections.loop.remove_reader(self.sock.fileno())

    def new_codec(self) -> UdpCodec:
        return self._make_codec(self._options)

    def adopt(self, peer: UdpPeer) -> None:
        """A session of this socket comes from the other worker."""
        self.peers[peer.address] = peer
        self.admission.adopt(peer)

    # ---------------------------------------------------------------- datagrams in

    def _on_readable(self) -> None:
        receive, known, now = self._reply_socket.receive, self.peers.get, self.connections.now()
        try:
            for _ in range(_DATAGRAMS_PER_TURN):
                data, reply_from, address = receive()
                peer = known(address)
                if peer is None:
                    self._without_session(data, reply_from, address)
                    continue
                if peer.token:
                    if not compare_digest(data[: len(peer.token)], peer.token):
                        self._without_token(peer, data, reply_from)
                        continue
                    data = data[len(peer.token) :]
                peer.heard, peer.reply_from = now, reply_from
                peer.take(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # an error about an earlier datagram, reported by the network
            self.dropped += 1

    def _without_session(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        if address in self.logging_in or not self.limiter.look(address):
            return
        if self.connections.bans and self.admission.is_banned(remote := shown(*address[:2])):
            self.dropped += 1
            security_log.record(SecurityEvent.CONNECTION_REFUSED, peer=remote, reason=BANNED, forgeable=True)
            return
        try:
            command = self._codec.packet(self._codec.split(data)[1])
        except WireError:
            return
        if type(command) is Login:
            if self.limiter.allow(address):
                self.begin_login(data, command, reply_from, address)
        elif type(command) is Echo:
            if self.limiter.allow(address):
                self._answer(Echoed(command.raw), len(data), reply_from, address)
        elif self.limiter.allow(address, REFUSALS_PER_S):
            refused = self.connections.failure(ErrorCode.NOT_LOGGED_IN, command=command)
            self._answer(refused, len(data), reply_from, address)

    def _without_token(self, peer: UdpPeer, data: bytes, reply_from: ReplyFrom) -> None:
        """A datagram from the address of a client that has a token, but not with it. It changes nothing of the session,
        not even when its client was heard last."""
        command = self._login_of(data, peer.address)
        if command is not None and peer.session is not None:
            self.connections.run(self._log_in_again(peer, peer.session, data, command, reply_from))
            return
        self.dropped += 1
        security_log.record(SecurityEvent.DATAGRAM_REFUSED, peer=peer.remote, reason="token", forgeable=True)

    def _login_of(self, data: bytes, address: Address) -> Login | None:
        """The login in a datagram, if it asks for a token and the address may be answered."""
        try:
            command = self._codec.packet(self._codec.split(data)[1])
        except WireError:
            return None
        if not isinstance(command, Login) or not command.wants_token or not self.limiter.allow(address):
            return None
        return command

    async def _log_in_again(
        self, peer: UdpPeer, session: Session, data: bytes, command: Login, reply_from: ReplyFrom
    ) -> None:
        """The client did not get the answer with the token, or has forgotten it; or somebody else forges its address. A
        login to another account would end the session, so only the holder of the token may do that."""
        try:
            same = await self.connections.is_same_user(session, command)
        except Unavailable:
            return
        if same and not peer.closed:
            self.begin_login(data, command, reply_from, peer.address, token=peer.token)
        elif not same:
            self.dropped += 1
            security_log.record(SecurityEvent.DATAGRAM_REFUSED, peer=peer.remote, reason="login", forgeable=True)

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

    def begin_login(
        self, data: bytes, command: Login, reply_from: ReplyFrom, address: Address, *, token: bytes = b""
    ) -> None:
        """Serve a login, unless one from this address is under way. token: of the session that the address has, and
        will have; a refusal is not told then, because somebody else may have sent the login. b"" = a new token, if the
        client asks for one."""
        if address in self.logging_in:
            return
        limit = 0 if token else len(data)
        if not self._open or not self._has_room(address):
            busy = self.connections.failure(ErrorCode.BUSY, command=command)
            self._answer(busy, limit, reply_from, address)
            return
        peer = UdpPeer(self, self.new_codec(), reply_from, address, limit)
        if command.wants_token:
            peer.use_token(token or secrets.token_urlsafe(_TOKEN_RANDOM_BYTES).encode())
        work = self.connections.handle(peer, command)
        assert work is not None
        self.logging_in[address] = peer
        self.admission.enter(peer)
        self.connections.run(self._log_in(peer, work))

    def _has_room(self, address: Address) -> bool:
        """Whether a login from this address may begin. If not, it is counted as refused, and recorded."""
        limits, remote = self.connections.config().limits, shown(*address[:2])
        if (refusal := self.admission.refusal(remote)) is not None:
            self.connections.refused(refusal)
            return False
        is_full = len(self.peers) >= (limits.connections or _MAX_SESSIONS) or len(self.logging_in) >= limits.login_queue
        if is_full and not self.admission.make_room(self.admission.waiting_of(remote)):
            self.connections.count_full()
            return False
        return True

    async def _log_in(self, peer: UdpPeer, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            if self.logging_in.get(peer.address) is peer:
                del self.logging_in[peer.address]
            self.admission.stops_waiting(peer)
            if peer.session is None:
                peer.closed = True
                self.admission.leave(peer)

    def logs_in_again(self, peer: UdpPeer) -> bool:
        """Whether the client of this session is about to get another one in its place."""
        login = self.logging_in.get(peer.address)
        return login is not None and bool(peer.token) and login.token == peer.token

    def logged_in(self, peer: UdpPeer) -> None:
        """From now on datagrams from its address are this session's. An earlier session of the address was another
        user's, and ends."""
        before = self.peers.get(peer.address)
        self.peers[peer.address] = peer
        if before is not None and before is not peer:
            before.close(Disconnect.REPLACED)

    def forget(self, peer: UdpPeer) -> None:
        """Its session has ended, or its login is given up."""
        self.admission.leave(peer)
        if self.logging_in.get(peer.address) is peer:
            del self.logging_in[peer.address]
        if self.peers.get(peer.address) is peer:
            del self.peers[peer.address]

    # ---------------------------------------------------------------- the clock, the end

    def round(self, now: float) -> int:
        """See net.connections.DatagramSessions, also for shut(), drain() and close()."""
        self.limiter.next_second()
        login_s = self.connections.config().timeouts.login_s
        for peer in tuple(self.logging_in.values()):
            if now - peer.heard > login_s:
                peer.close(Disconnect.LOGIN_TIMEOUT)
        queued = 0
        for peer in tuple(self.peers.values()):
            queued += peer.out_bytes
            if now - peer.heard > self._silence_s:
                peer.close(Disconnect.SILENT)
        return queued

    def end_banned(self) -> int:
        return sum(map(self.connections.check_ban, (*self.logging_in.values(), *self.peers.values())))

    def shut(self) -> None:
        self._open = False

    async def drain(self, notice: Draining) -> None:
        """Not spread over time: a client that does not understand the notice learns of the end only when its next
        packet is answered with 301, by this worker while it drains, or by the one that has the socket then."""
        self.shut()
        for peer in tuple(self.logging_in.values()):
            peer.close(Disconnect.DRAINING)
        for number, peer in enumerate(tuple(self.peers.values())):
            peer.push(notice)
            peer.close(Disconnect.DRAINING)
            if number % _DRAIN_SLICE == 0:
                await asyncio.sleep(0)

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self.connections.loop.remove_reader(self.sock.fileno())
            self.sock.close()
