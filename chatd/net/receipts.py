"""Which bytes of a stream connection its client has received, as far as that can be proven.

Owns: reading what the kernel knows of a socket (TCP_INFO, SIOCOUTQ), and Receipts, which decides when bytes count as
received.
Elsewhere: which message ends at which byte, and acting on its receipt (core.in_flight). Wires whose clients
acknowledge each message do not depend on any of this.
Fails: towards "not received". Without proof, a message is delivered again at the user's next login.

Proof that bytes were received:

* The peer's kernel has acknowledged them (tcpi_bytes_acked), SETTLE_S have passed, and the connection is still open.
  The kernel alone proves nothing: bytes that its process has not read are discarded when the process resets the
  connection.
* The peer's kernel has acknowledged them, and the peer has closed its side with FIN. A process that closes a socket
  with unread bytes in it sends RST instead. A FIN from shutdown() looks the same and proves less: a client that sends
  one before it has read everything, and then ends, loses what it had not read.
* On a Unix socket: the peer has read them.

After a reset there is no further proof: the send queue is empty then, but only because the kernel has discarded it.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from typing import NamedTuple

import msgspec

SETTLE_S = 1.0
"""A working client reads within this time. A working load balancer forwards within it, and closes its connection when
its client is disconnected."""
_SAMPLES = 20
"""Samples of acknowledgements per settling time; few, so that a connection needs little memory."""

_TCP_INFO = struct.Struct("=B51xI64xQ")
"""Of struct tcp_info (linux/tcp.h): tcpi_state, tcpi_last_data_recv (ms), tcpi_bytes_acked. Linux only appends to it;
tcpi_bytes_acked exists since 4.1."""
_TCP_CLOSE = 7
"""The state of a socket after a reset, and after both sides have closed (net/tcp_states.h)."""


class SocketState(NamedTuple):
    """acknowledged: bytes sent on this connection that the peer's kernel (Unix: the peer) has taken.
    is_open: neither reset nor closed by both sides. silence_s: since bytes last came; 0.0 on Unix sockets."""

    acknowledged: int
    is_open: bool
    silence_s: float


def tcp_state(sock: socket.socket) -> SocketState | None:
    """None: the socket is closed, or the kernel does not tell. bytes_acked also counts our FIN, as one byte."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(info) < _TCP_INFO.size:
        return None
    state, silence_ms, acknowledged = _TCP_INFO.unpack(info)
    return SocketState(acknowledged, state != _TCP_CLOSE, silence_ms / 1000)


def unix_state(sock: socket.socket, handed_over: int) -> SocketState | None:
    """handed_over: bytes given to the kernel. None: the socket is closed.

    SIOCOUTQ (unix(7)) counts the memory of what the peer has not read: 0 when it has read everything, and also when it
    has closed its socket without reading. The latter sets an error on our socket before the queue is emptied, so the
    queue is read first.
    """
    try:
        unread = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), "little")
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        events = poll.poll(0)
    except (OSError, ValueError):
        return None
    failed = any(event & select.POLLERR for _, event in events)
    return SocketState(handed_over - unread, not failed, 0.0)


def is_sent(sock: socket.socket) -> bool:
    """Whether the peer's kernel has acknowledged everything that the kernel here was given, FIN included; on a Unix
    socket, whether the peer has read it. True for a socket that is closed."""
    try:
        return fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0") == b"\0\0\0\0"
    except (OSError, ValueError):
        return True


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the peer has closed its side, or the connection has failed. Changes nothing."""
    try:
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def was_reset(sock: socket.socket) -> bool:
    """Whether the connection has failed. Takes the error from the socket."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
    except OSError:
        return True


class ReceiptsState(msgspec.Struct, frozen=True, kw_only=True):
    """What another worker needs to go on: see Receipts. samples: (age in seconds, bytes)."""

    settle_s: float
    is_relayed: bool
    is_local: bool
    received: int
    samples: tuple[tuple[float, int], ...] = ()


class Receipts:
    """The bytes of one connection that count as received.

    settle_s: how long bytes must have been acknowledged before they count; for a load balancer,
    listen.proxy_delivered_s. is_relayed: the peer is a load balancer. Its FIN proves nothing about its client.
    is_local: a Unix socket, whose peer acknowledges by reading. received: bytes that count as received, of all sent on
    the connection. samples: (time, number of bytes found acknowledged), ascending; not settled yet.
    """

    __slots__ = ("is_local", "is_relayed", "received", "samples", "settle_s")

    def __init__(self, settle_s: float = SETTLE_S, *, is_relayed: bool = False, is_local: bool = False) -> None:
        self.settle_s = settle_s
        self.is_relayed = is_relayed
        self.is_local = is_local
        self.received = 0
        self.samples: list[tuple[float, int]] = []

    def acknowledged(self, count: int, now: float) -> int:
        """The connection is open, and the peer has acknowledged `count` bytes. Returns the bytes received."""
        if self.is_local:
            self.proven(count)
            return self.received
        self._settle(now, self.settle_s)
        samples = self.samples
        last_at, last = samples[-1] if samples else (0.0, self.received)
        if count > last and now - last_at >= self.settle_s / _SAMPLES:
            samples.append((now, count))
        return self.received

    def heard(self, at: float) -> None:
        """The client of a balancer wrote at this moment: it was connected, and had received everything that could be
        forwarded by then.

        Without this, only settle_s could tell what a client had received shortly before it vanished silently."""
        self._settle(at, SETTLE_S)

    def proven(self, count: int) -> None:
        """The client has received `count` bytes for certain: no settling time is needed."""
        self.received = max(self.received, count)
        self.samples.clear()

    def _settle(self, now: float, age_s: float) -> None:
        samples = self.samples
        while samples and now - samples[0][0] >= age_s:
            self.received = samples.pop(0)[1]

    # ---------------------------------------------------------------- moving to another worker

    def state(self, now: float) -> ReceiptsState:
        return ReceiptsState(
            settle_s=self.settle_s,
            is_relayed=self.is_relayed,
            is_local=self.is_local,
            received=self.received,
            samples=tuple((now - at, count) for at, count in self.samples),
        )

    @classmethod
    def resumed(cls, state: ReceiptsState, now: float) -> Receipts:
        """Those of a connection that comes from another worker. The kernel counts on with the socket."""
        receipts = cls(state.settle_s, is_relayed=state.is_relayed, is_local=state.is_local)
        receipts.received = state.received
        receipts.samples = [(now - age_s, count) for age_s, count in state.samples]
        return receipts
