"""Accepting connections: fairly between workers, within the limits, and refusing politely.

Owns: Listener, one listening socket and what its connections get from it; Acceptor, which accepts on all of them,
leaves new connections to workers that have clearly fewer, and refuses when the worker is full or out of descriptors.
Elsewhere: connections once accepted (net.connections, net.connection), the PROXY header before them
(net.proxy_reader), UDP (net.udp), binding the sockets (master.listeners).
Fails: an accept that fails because descriptors have run out is answered with a refusal in the protocol's own terms and
counted; it never ends the worker, and never makes it busy.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import time
from collections.abc import Sequence
from typing import Protocol as Contract

from chatd import log
from chatd.config import urls
from chatd.config.schema import Config, ListenerOptions
from chatd.config.urls import shown
from chatd.errors import ErrorCode
from chatd.model import Protocol
from chatd.net.admission import BANNED, Refusal
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.profile import ConnectionProfile
from chatd.net.proxy_protocol import MAX_V2_BYTES, Balancers
from chatd.net.proxy_reader import ProxyHeaderReader
from chatd.net.tls import TlsTransport
from chatd.net.websocket.connection import SERVER_FULL, WebSocketConnection, WebSocketProfile
from chatd.net.websocket.frames import MAX_FRAME_BYTES
from chatd.net.websocket.handshake import UpgradePolicy
from chatd.net.websocket.mount import WebSocketMount
from chatd.scoreboard import Row, State
from chatd.tls.certificates import Certificate
from chatd.tls.contexts import ServerContexts
from chatd.wire.contract import Codec

_LEAD_CONNECTIONS = 8
_LEAD_SHARE = 0.05
"""A worker leaves accepting to the others while it has more connections than the emptiest worker has, plus
_LEAD_CONNECTIONS, plus this share of that worker's."""
_LEAD_PAUSE_S = 0.002
_LEAD_FRESH_NS = 500_000_000
"""Nothing is left to a worker whose heartbeat is older than this: it may be stopped, and accept nothing."""
_SHUT_PAUSE_S = 1.0
_NO_DESCRIPTOR_PAUSE_S = 0.1
"""Pause after an accept that failed although the spare descriptor was given up: the listening socket stays readable,
and trying again at once would keep the worker busy."""
_RESERVED_DESCRIPTORS = 64
"""Descriptors kept for the store, the bus, the logs and refusals."""
_SEND_BUFFER_BYTES = 256 * 1024
"""Size of the send buffer: the bytes that the kernel holds for a peer that does not read (P9)."""
_ECHO_SILENCE_S = 60.0
_SILENCE_S = {0: 20.0, 3: 7.0, 5: 11.0, 10: 15.0, 15: 20.0, 30: 35.0, 60: 65.0, 120: 125.0}
"""Silence that ends a connection, by the client's keep-alive interval, both in seconds (docs/protocols/mobileimsdk.md);
0 = the stock clients' own, 15."""

_PROTOCOLS = {
    "chatserver": Protocol.CHATSERVER,
    "mobileimsdk": Protocol.MOBILEIMSDK,
    "echo": Protocol.ECHO,
    "http": Protocol.HTTP,
}


class MakeCodec(Contract):
    def __call__(self, listen: ListenerOptions, config: Config) -> Codec: ...


class ConnectionMaker(Contract):
    """Makes the connections of a listener whose protocol is no wire; http.server.HttpServer.

    busy: what a client is told that cannot be served. alpn: the protocols that a client may ask for in a TLS handshake.
    """

    @property
    def busy(self) -> bytes: ...

    @property
    def alpn(self) -> Sequence[str]: ...

    def connection(
        self,
        connections: Connections,
        profile: ConnectionProfile,
        sock: socket.socket,
        remote: str,
        mount: WebSocketMount | None,
    ) -> Connection:
        """mount: the WebSocket on the same port, None = there is none."""
        ...


class Listener:
    """One listening socket. profile: given to every connection accepted here, but not to those of `websocket`. maker:
    None = they speak a wire. websocket: what a WebSocket here gets, whether all are (ws, wss) or those at a path of an
    HTTP listener; None = there is none.

    balancers: load balancers whose connections begin with a PROXY header, None = none do. contexts: for handshakes,
    None = without TLS.
    """

    __slots__ = ("balancers", "contexts", "is_tcp", "maker", "options", "profile", "sock", "websocket")

    def __init__(
        self,
        options: ListenerOptions,
        sock: socket.socket,
        contexts: ServerContexts | None = None,
        maker: ConnectionMaker | None = None,
    ) -> None:
        self.options = options
        self.maker = maker
        self.contexts = contexts
        self.sock = sock
        self.is_tcp = sock.family != socket.AF_UNIX
        self.balancers = Balancers(options.proxy_from) if options.proxy_from else None
        self.websocket = _websocket_profile(options)
        self.profile = _profile(options) if maker is not None or self.websocket is None else self.websocket

    def connection(self, connections: Connections, codec: Codec, sock: socket.socket, remote: str) -> Connection:
        """The connection that serves a socket accepted here, or that of a session that comes from another worker."""
        if self.websocket is not None:
            return WebSocketConnection(connections, self.websocket, codec, sock, remote)
        return Connection(connections, self.profile, codec, sock, remote)

    def is_balancer(self, address: object) -> bool:
        """Whether this peer must begin with a PROXY header."""
        return self.balancers is not None and isinstance(address, tuple) and address[0] in self.balancers


def _profile(options: ListenerOptions) -> ConnectionProfile:
    protocol = _PROTOCOLS[options.protocol]
    silence_s = 0.0
    if protocol is Protocol.MOBILEIMSDK:
        silence_s = _SILENCE_S[options.keep_alive_s]
    elif protocol is Protocol.ECHO:
        silence_s = _ECHO_SILENCE_S
    where = urls.parse(options.address)
    return ConnectionProfile(
        listener=options.address,
        protocol=protocol,
        silence_s=silence_s,
        is_encrypted=where.is_encrypted,
        carrier=where.transport,
        serves=options.serves,
    )


def _websocket_profile(options: ListenerOptions) -> WebSocketProfile | None:
    where = urls.parse(options.address)
    path = where.path if where.is_websocket else options.mounted_path
    if not path:
        return None
    return WebSocketProfile(
        listener=options.address,
        protocol=Protocol.MOBILEIMSDK,
        silence_s=_SILENCE_S[options.keep_alive_s],
        is_encrypted=where.is_encrypted,
        carrier="wss" if where.is_encrypted else "ws",
        upgrades=UpgradePolicy(path, options.origins),
        max_message_bytes=options.max_frame_bytes or MAX_FRAME_BYTES,
    )


class Acceptor:
    """rows: every worker's row of the scoreboard; slot: this worker's."""

    def __init__(self, connections: Connections, make_codec: MakeCodec, rows: tuple[Row, ...], slot: int) -> None:
        self._connections = connections
        self._loop = connections.loop
        self._make_codec = make_codec
        self._rows = rows
        self._row = rows[slot]
        self._listeners: list[Listener] = []
        self._mounts: dict[Listener, WebSocketMount] = {}
        self._max_descriptor = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED_DESCRIPTORS
        self._spare = SpareDescriptor()
        self._log = log.get()

    def open(self, listeners: list[Listener]) -> None:
        """Begin to accept."""
        self._listeners = listeners
        for listener in listeners:
            if listener.maker is not None and listener.websocket is not None:
                self._mounts[listener] = self._mount(listener)
            self._loop.add_reader(listener.sock.fileno(), self._on_readable, listener)

    def listener(self, address: str) -> Listener | None:
        """The open listener with this configured address."""
        return next((one for one in self._listeners if one.options.address == address), None)

    def codec(self, listener: Listener) -> Codec:
        """One for a new connection."""
        return self._make_codec(listener.options, self._connections.config())

    def has_room(self, more: int) -> bool:
        """Whether the worker has room for so many more connections."""
        limit, members = self._connections.config().limits.connections, len(self._connections.members)
        return members + more < self._max_descriptor and (limit <= 0 or members + more <= limit)

    def renew(self, address: str, certificates: Sequence[Certificate]) -> None:
        """New handshakes on the listener at this address use these. Raises CertificateError; then nothing changes."""
        for listener in self._listeners:
            if listener.options.address == address and listener.contexts is not None:
                listener.contexts.replace(certificates)

    def shut(self) -> None:
        """Close the listening sockets and start no new UDP sessions; existing connections stay. Idempotent."""
        self._connections.shut()
        self.close_listeners()

    def close_listeners(self) -> None:
        """The same, but UDP sockets are served further. Idempotent."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            listener.sock.close()
        self._listeners = []
        self._spare.give_up()

    def _mount(self, listener: Listener) -> WebSocketMount:
        def make(http: Connection) -> WebSocketConnection:
            websocket = listener.connection(self._connections, self.codec(listener), http.sock, http.remote)
            assert isinstance(websocket, WebSocketConnection)
            return websocket

        return WebSocketMount(listener.options.mounted_path, make)

    # ---------------------------------------------------------------- accepting

    def _on_readable(self, listener: Listener) -> None:
        """One accept per wake-up, unless other workers have clearly fewer connections."""
        if self._is_ahead():
            self._pause(listener, _LEAD_PAUSE_S)
            return
        try:
            sock, address = listener.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(listener)
            elif error.errno == errno.EINVAL:  # the master has shut it, and perhaps listens again
                self._pause(listener, _SHUT_PAUSE_S)
            else:
                self._log.error("accept failed", address=listener.options.address, why=str(error))
            return
        remote = _remote(address)
        is_balancer = listener.is_balancer(address)  # its clients are admitted when their header has come
        if not is_balancer and self._connections.admission.is_banned(remote):
            self._connections.refused(Refusal(remote, BANNED))
            sock.close()  # without a word: it would cost more, and a client that is told to try again does
            return
        if not self._has_room(sock, remote, is_balancer=is_balancer):
            self._refuse(listener, sock)
            return
        if listener.maker is None:
            connection = listener.connection(self._connections, self.codec(listener), sock, remote)
        else:
            connection = listener.maker.connection(
                self._connections, listener.profile, sock, remote, self._mounts.get(listener)
            )
        if not is_balancer:
            self._connections.admission.enter(connection)
        self._row.connections += 1
        self._connections.run(self._connect(listener, connection, is_balancer))

    def _has_room(self, sock: socket.socket, remote: str, *, is_balancer: bool) -> bool:
        """Whether the connection may stay. If not, it is counted as refused, and recorded."""
        connections, admission = self._connections, self._connections.admission
        if self._is_full(sock) and not admission.make_room(1 if is_balancer else admission.waiting_of(remote)):
            connections.count_full()
            text = "connection refused, the server is full"
            self._log.warning(text, peer=remote, connections=len(connections.members))
            return False
        if not is_balancer and (refusal := admission.refusal(remote)) is not None:
            connections.refused(refusal)
            return False
        return True

    def _is_full(self, sock: socket.socket) -> bool:
        """Whether the worker has no room for the connection with this socket."""
        limit = self._connections.config().limits.connections
        return sock.fileno() >= self._max_descriptor or (limit > 0 and len(self._connections.members) >= limit)

    def _is_ahead(self) -> bool:
        """Only connections that were accepted count: which worker a datagram reaches is the kernel's choice."""
        since_ns = time.monotonic_ns() - _LEAD_FRESH_NS
        fewest = min(
            (
                row.connections - row.udp_peers
                for row in self._rows
                if row.state == State.READY and row.heartbeat_ns > since_ns
            ),
            default=0,
        )
        lead = self._row.connections - self._row.udp_peers - fewest
        return lead > _LEAD_CONNECTIONS + fewest * _LEAD_SHARE

    def _pause(self, listener: Listener, pause_s: float) -> None:
        self._loop.remove_reader(listener.sock.fileno())
        self._loop.call_later(pause_s, self._resume, listener)

    def _resume(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.sock.fileno(), self._on_readable, listener)

    async def _connect(self, listener: Listener, connection: Connection, is_balancer: bool) -> None:
        sock = connection.sock
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if listener.is_tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            first: asyncio.Protocol = connection
            if listener.contexts is not None:
                first = TlsTransport(connection, listener.contexts)
            if is_balancer:
                first = ProxyHeaderReader(connection, listener.options.proxy_delivered_s, first)
            await self._loop.connect_accepted_socket(lambda: first, sock)
        except OSError as error:
            sock.close()
            self._connections.admission.leave(connection)
            self._log.warning("connection failed", peer=connection.remote, why=str(error))
        finally:
            self._connections.tick()

    # ---------------------------------------------------------------- refusing

    def _refuse(self, listener: Listener, sock: socket.socket) -> None:
        """Say BUSY in the protocol's own terms, then close."""
        if listener.contexts is not None:
            answer = b""  # a handshake would cost more than a refusal may
        elif listener.maker is not None:
            answer = listener.maker.busy
        elif listener.websocket is not None:
            answer = SERVER_FULL.data
        else:
            busy = self._connections.failure(ErrorCode.BUSY)
            answer = self.codec(listener).encode(busy)
        try:
            sock.setblocking(False)
            sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
            if listener.balancers is not None:
                sock.recv(MAX_V2_BYTES)  # a header left unread would reset the connection, and lose the answer
        except OSError:
            self._log.debug("a refused peer had closed its connection")
        sock.close()

    def _refuse_with_spare(self, listener: Listener) -> None:
        """Out of descriptors: use the spare one for as long as a refusal takes."""
        self._spare.give_up()
        try:
            sock, address = listener.sock.accept()
            self._connections.count_full()
            self._refuse(listener, sock)
            text = "connection refused, out of descriptors"
            self._log.warning(text, peer=_remote(address), connections=len(self._connections.members))
        except OSError as error:
            self._log.error("out of descriptors", address=listener.options.address, why=str(error))
            self._pause(listener, _NO_DESCRIPTOR_PAUSE_S)
        self._spare.take()


def _remote(address: object) -> str:
    """The address of an accepted socket, as in logs."""
    return shown(*address[:2]) if isinstance(address, tuple) else "unix"


class SpareDescriptor:
    """One descriptor held in reserve. Another thread may be quicker to take the number that was given up; then none is
    held until take() succeeds again, and give_up() closes nothing."""

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.take()

    def take(self) -> None:
        """Hold a descriptor, if one is free."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                log.get().warning("no spare descriptor", why=str(error))

    def give_up(self) -> None:
        """Close it, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
