"""All connections of one worker: accepting them fairly, and looking after them.

Owns: the accept gate, limits on descriptors, the flush at the end of a turn, the rounds of the clock, draining.
Elsewhere: one connection (net.connection), its introduction by a load balancer (net.proxy_protocol), clients that come
in datagrams (net.udp), the listening sockets themselves (master.listeners, master.udp_sockets).
Fails: an accept that fails for want of descriptors is answered with a polite refusal and counted; it never
ends the worker.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol as Contract

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config import urls
from chatd.config.schema import Config, ListenerOptions
from chatd.config.urls import shown
from chatd.core.dispatcher import Core
from chatd.core.sessions.session import Peer
from chatd.errors import MEANINGS, Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.net.connection import Connection
from chatd.net.proxy_protocol import MAX_V2_BYTES, Balancers, Introduction
from chatd.net.udp import MakeUdpCodec, UdpListener
from chatd.net.websocket.connection import BUSY, WebSocketConnection
from chatd.net.websocket.frames import MAX_FRAME_BYTES
from chatd.net.websocket.handshake import Upgrades
from chatd.protocol import Draining, Failed
from chatd.scoreboard import Row, State
from chatd.wire.contract import Codec

_GATE_SLACK = 8
_GATE_SHARE = 0.05
_GATE_PAUSE_S = 0.002
_RESERVED_FDS = 64
"""Descriptors kept for the store, the bus, logs and polite refusals."""
_SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel holds for a peer that does not read (P9)."""
_ECHO_SILENCE_S = 60.0
_BURST_S = 10
_ANY = 1 << 60
_SILENCE_S = {0: 20.0, 3: 7.0, 5: 11.0, 10: 15.0, 15: 20.0, 30: 35.0, 60: 65.0, 120: 125.0}
"""By the client's keep-alive interval, seconds (docs/protocols/mobileimsdk.md); 0 = the stock clients' own, 15."""

_PROTOCOLS = {
    "chatserver": Protocol.CHATSERVER,
    "mobileimsdk": Protocol.MOBILEIMSDK,
    "echo": Protocol.ECHO,
}


class MakeCodec(Contract):
    def __call__(self, listen: ListenerOptions, config: Config) -> Codec: ...


class Listener:
    """One listening socket and what comes through it. balancers: who must introduce its clients, None = nobody."""

    __slots__ = ("balancers", "is_tcp", "listen", "protocol", "silence_s", "sock", "upgrades")

    def __init__(self, listen: ListenerOptions, sock: socket.socket) -> None:
        self.listen = listen
        self.sock = sock
        self.protocol = _PROTOCOLS[listen.protocol]
        self.is_tcp = sock.family != socket.AF_UNIX
        where = urls.parse(listen.address)
        self.upgrades = Upgrades(where.path, listen.origins) if where.transport == "ws" else None
        self.balancers = Balancers(listen.proxy_from) if listen.proxy_from else None
        self.silence_s = 0.0
        if self.protocol is Protocol.MOBILEIMSDK:
            self.silence_s = _SILENCE_S[listen.keep_alive_s]
        elif self.protocol is Protocol.ECHO:
            self.silence_s = _ECHO_SILENCE_S

    def connection(self, server: Server, codec: Codec, fd: int, remote: str, deadline: float) -> Connection:
        """What serves a socket accepted here."""
        if self.upgrades is None:
            return Connection(server, codec, self.protocol, fd, remote, self.silence_s, deadline)
        limit = self.listen.max_frame_bytes or MAX_FRAME_BYTES
        return WebSocketConnection(
            server, codec, self.protocol, fd, remote, self.silence_s, deadline, self.upgrades, limit
        )


class Server:
    def __init__(
        self,
        core: Core,
        config: Callable[[], Config],
        make_codec: MakeCodec,
        rows: tuple[Row, ...],
        slot: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.core = core
        self.config = config
        self.loop = loop
        self.now = loop.time
        self.connections: set[Connection] = set()
        self._udp_listeners: list[UdpListener] = []
        self._make_codec = make_codec
        self._rows = rows
        self._row = rows[slot]
        self._listeners: list[Listener] = []
        self._dirty: list[Connection] = []
        self._background = BackgroundTasks(loop)
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED_FDS
        self.budget = _ANY
        """Commands a connection may have sent and not yet earned back (limits.commands_per_s)."""
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._log = log.get()

    # ---------------------------------------------------------------- accepting

    def open(self, listeners: list[Listener]) -> None:
        self._listeners = listeners
        for listener in listeners:
            self.loop.add_reader(listener.sock.fileno(), self._on_readable, listener)

    def open_udp(self, listeners: Iterable[tuple[ListenerOptions, socket.socket]], make_codec: MakeUdpCodec) -> None:
        self._udp_listeners = [UdpListener(self, listen, sock, make_codec) for listen, sock in listeners]

    def shut(self) -> None:
        """Stop accepting; the connections stay."""
        for datagrams in self._udp_listeners:
            datagrams.shut()
        for listener in self._listeners:
            self.loop.remove_reader(listener.sock.fileno())
            listener.sock.close()
        self._listeners = []

    def _on_readable(self, listener: Listener) -> None:
        """One accept per wake-up, unless others have clearly less to do."""
        if self._ahead():
            self.loop.remove_reader(listener.sock.fileno())
            self.loop.call_later(_GATE_PAUSE_S, self._reopen, listener)
            return
        try:
            sock, address = listener.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(listener)
            else:
                self._log.error("accept failed", address=listener.listen.address, why=str(error))
            return
        limit = self.config().limits.connections
        if sock.fileno() >= self._descriptors or (limit and len(self.connections) >= limit):
            self._refuse(listener, sock)
            return
        self._row.connections += 1
        self.run(self._connect(listener, sock, address))

    def _reopen(self, listener: Listener) -> None:
        if listener in self._listeners:
            self.loop.add_reader(listener.sock.fileno(), self._on_readable, listener)

    def _ahead(self) -> bool:
        """Only what is accepted here counts: where a datagram goes is the kernel's choice."""
        least = min((row.connections - row.udp_peers for row in self._rows if row.state == State.READY), default=0)
        return self._row.connections - self._row.udp_peers > least + _GATE_SLACK + least * _GATE_SHARE

    async def _connect(self, listener: Listener, sock: socket.socket, address: object) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if listener.is_tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            config = self.config()
            remote = shown(*address[:2]) if isinstance(address, tuple) else "unix"
            codec = self._make_codec(listener.listen, config)
            deadline = self.now() + config.timeouts.login_s
            connection = listener.connection(self, codec, sock.fileno(), remote, deadline)
            first: asyncio.Protocol = connection
            if listener.balancers is not None and isinstance(address, tuple) and address[0] in listener.balancers:
                first = Introduction(connection, listener.listen.proxy_delivered_s)
            await self.loop.connect_accepted_socket(lambda: first, sock)
        except OSError as error:
            sock.close()
            self._log.warning("connection failed", why=str(error))
        finally:
            self.tick()

    def _refuse(self, listener: Listener, sock: socket.socket) -> None:
        """Say busy in the protocol's own terms, then close."""
        self._row.refused += 1
        busy = Failed(ErrorCode.BUSY, MEANINGS[ErrorCode.BUSY].text)
        words = BUSY.words if listener.upgrades else self._make_codec(listener.listen, self.config()).encode(busy)
        try:
            sock.setblocking(False)
            sock.send(words)
            sock.shutdown(socket.SHUT_WR)
            if listener.balancers is not None:
                sock.recv(MAX_V2_BYTES)  # a header left unread would reset the connection, and lose the words
        except OSError:
            self._log.debug("a refused peer had left")
        sock.close()
        self._log.warning("connection refused, the server is full", connections=len(self.connections))

    def _refuse_with_spare(self, listener: Listener) -> None:
        """Out of descriptors: give up the spare one for the moment a refusal takes."""
        os.close(self._spare)
        try:
            sock, _ = listener.sock.accept()
            self._refuse(listener, sock)
        except OSError as error:
            self._log.error("out of descriptors", why=str(error))
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    # ---------------------------------------------------------------- looking after

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` in the background."""
        self._background.start(work)

    def dirty(self, connection: Connection) -> None:
        """Flush the connection at the end of this turn."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def refused(self) -> None:
        """Somebody was turned away for want of room."""
        self._row.refused += 1

    def ended(self, connection: Peer, reason: Disconnect) -> None:
        """Called once per connection, before anything is closed."""
        session = connection.session
        quiet = reason in (Disconnect.PEER_LEFT, Disconnect.LOGGED_OUT, Disconnect.DRAINING)
        write = self._log.debug if quiet else self._log.info
        write("disconnected", reason=reason.text, peer=connection.remote, user=session.user.id if session else 0)
        self.core.logins.left(connection)

    def tick(self) -> None:
        """Some ten times a second."""
        peers = sum(len(listener.peers) for listener in self._udp_listeners)
        self._row.udp_peers = peers
        self._row.connections = len(self.connections) + peers

    def round(self) -> None:
        """Once a second."""
        now = self.now()
        rate = self.config().limits.commands_per_s
        self.budget = rate * _BURST_S if rate else _ANY
        queued = 0
        for connection in tuple(self.connections):
            connection.overdue(now)
            queued += connection.out_bytes
            connection.spent = max(0, min(connection.spent, self.budget) - rate) if rate else 0
        for datagrams in self._udp_listeners:
            queued += datagrams.round(now, rate)
        self._row.queue_bytes = queued
        self._row.udp_dropped = sum(listener.dropped for listener in self._udp_listeners)
        self.core.round()

    # ---------------------------------------------------------------- draining

    async def drain(self, spread_s: float) -> None:
        """Tell every client, then close them one after the other over spread_s."""
        now_ms = time.time_ns() // 1_000_000
        for datagrams in self._udp_listeners:
            await datagrams.drain(Draining(now_ms + int(spread_s * 1000), random.randrange(200, 2000)))
        for connection in tuple(self.connections):
            connection.push(Draining(now_ms + int(spread_s * 1000), random.randrange(200, 2000)))
        await asyncio.sleep(0)
        leaving = list(self.connections)
        random.shuffle(leaving)
        pause = spread_s / max(1, len(leaving))
        for connection in leaving:
            connection.close(Disconnect.DRAINING)
            await asyncio.sleep(pause)
        while self.connections:  # noqa: ASYNC110  bounded by the caller
            await asyncio.sleep(0.02)
