"""TLS between a stream socket and its connection.

Owns: TlsTransport: to the socket's transport it is the protocol, to the connection it is the transport. The handshake,
encryption, and the ends of both.
Elsewhere: certificates and settings (tls.contexts), deadlines, limits and closing (net.connection, which is a member of
net.connections from the first moment, so that a handshake is due when a login would be).
Fails: a failed handshake is answered with an alert and ends the connection; it is logged at DEBUG, or NORMAL if the
client does not speak TLS at all. A record that cannot be decrypted ends the connection as a WIRE_ERROR.

This is a MemoryBIO over the plain transport instead of the event loop's own TLS, because a connection can then be
closed as over TCP: its last bytes, close_notify, FIN, and then the peer's remaining bytes are dropped for a moment. The
PROXY header comes before TLS on the same transport. Everything queued in one turn is one write, hence one record.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
from typing import Any, Final, cast

from chatd import log
from chatd.errors import Disconnect
from chatd.net.connection import Connection
from chatd.tls.contexts import ServerContexts

_RECORD_BYTES: Final = 16 * 1024
"""Plaintext in one record, at most."""
_PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL")
"""OpenSSL's reasons for bytes that are not TLS."""


class TlsState(enum.IntEnum):
    """In the order of a connection's life; a state is never entered twice."""

    HANDSHAKE = 0
    """What is written is dropped: it was meant for a client that is not there yet."""

    OPEN = 1
    """The handshake is done."""

    ENDED = 2
    """close_notify was sent, or the handshake failed. Nothing is encrypted any more, what comes is dropped."""


_HANDSHAKE, _OPEN, _ENDED = TlsState.HANDSHAKE, TlsState.OPEN, TlsState.ENDED
"""Read per message: an attribute of an enum costs several times a global."""


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One encrypted connection.

    state: HANDSHAKE -> OPEN -> ENDED, or HANDSHAKE -> ENDED.
    """

    __slots__ = ("_connection", "_incoming", "_outgoing", "_raw", "_tls", "state")

    def __init__(self, connection: Connection, contexts: ServerContexts) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = contexts.session(self._incoming, self._outgoing)
        self._raw: asyncio.Transport
        self.state = _HANDSHAKE

    # ---------------------------------------------------------------- called by the socket's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._connection.connection_made(self)
        self._connection.expect_preamble()

    def data_received(self, data: bytes) -> None:
        if self.state is _ENDED:
            self._connection.data_received(data)
            return
        self._incoming.write(data)
        if self.state is _OPEN or self._shake_hands():
            self._decrypt()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self.state = _ENDED
        self._connection.connection_lost(error)

    # ---------------------------------------------------------------- TLS

    def _shake_hands(self) -> bool:
        """Whether the handshake is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self.state = _OPEN
        self._send()
        self._connection.heard = self._connection.connections.now()
        return bool(self._incoming.pending)

    def _decrypt(self) -> None:
        """Hand over everything that has come, and act on the end of it."""
        tls, incoming = self._tls, self._incoming
        parts: list[bytes] = []
        failure: ssl.SSLError | None = None
        has_ended = False
        try:
            while part := tls.read(_RECORD_BYTES):
                parts.append(part)
                if not (incoming.pending or tls.pending()):
                    break
            else:
                has_ended = True
        except ssl.SSLWantReadError:  # the rest of a record is still to come
            pass
        except ssl.SSLError as error:
            failure = error
        if self._outgoing.pending:
            self._send()
        if parts:
            self._connection.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if self.state is not _OPEN:
            return
        if failure is not None:
            self.state = _ENDED
            self._connection.close(Disconnect.WIRE_ERROR)
        elif has_ended:
            self._connection.eof_received()
            self.close()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            self._raw.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """The handshake has failed: the alert that says why is all that the peer is told."""
        self.state = _ENDED
        self._send()
        connection, why = self._connection, error.reason or "unknown"
        if why in _PLAIN_TEXT:
            log.get().info("plain text at a listener with TLS", peer=connection.remote)
        else:
            log.get().debug("TLS handshake failed", peer=connection.remote, why=why)
        connection.close(Disconnect.TLS_FAILED)

    def _end(self) -> None:
        """Say close_notify, once."""
        if self.state is _OPEN:
            with contextlib.suppress(ssl.SSLError):  # WantRead: the peer's own close_notify is not waited for
                self._tls.unwrap()
            self._send()
        self.state = _ENDED

    # ---------------------------------------------------------------- called by the connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Dropped unless the connection is OPEN."""
        if self.state is not _OPEN:
            return
        sent, size = self._tls.write(data), len(data)
        if sent < size:
            rest = memoryview(data)
            while sent < size:
                sent += self._tls.write(rest[sent:])
        self._raw.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        return True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """protocol: a net.connection.Connection that has the socket from now on."""
        self._connection = cast(Connection, protocol)

    def write_eof(self) -> None:
        """close_notify, then FIN, after everything written. What still comes is passed on as it is, to be counted."""
        self._end()
        self._raw.write_eof()

    def close(self) -> None:
        self._end()
        self._raw.close()

    def abort(self) -> None:
        self.state = _ENDED
        self._raw.abort()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that the kernel has not taken."""
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)
