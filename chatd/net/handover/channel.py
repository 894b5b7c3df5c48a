"""The socket between a worker and its successor: messages and descriptors, in order.

Owns: Channel: sending and receiving on one end of the pair, messages longer than a datagram, and the end.
Elsewhere: the messages (net.handover.messages), making the pair (master), what the messages do
(net.handover.predecessor, net.handover.successor).
Fails: the end of the pair, an error of the socket and a message that is none end the channel, and on_end is called
once.

A message is one or more datagrams of a SOCK_SEQPACKET socket, each of which begins with a byte that says whether more
follow. Descriptors come with the first.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from chatd import log
from chatd.net.handover import messages
from chatd.net.handover.messages import HandoverMessage, MalformedHandover

_PART_BYTES = 48 * 1024
"""Maximum bytes of a message in one datagram; several fit into the kernel's buffer."""
_LAST, _MORE = b"\0", b"\1"
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A session with full queues is smaller."""
_MAX_DESCRIPTORS = 128
_PARTS_PER_TURN = 16
"""Maximum datagrams received in one turn of the event loop, so that clients are served in between."""

OnMessage = Callable[[HandoverMessage, list[int]], None]


class Channel:
    """on_message: called with each message and its descriptors, which are then the callee's to close. on_end: called
    once, when the other side has closed or cannot be understood; not after close()."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_message: OnMessage, on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._out: deque[tuple[bytes, tuple[int, ...]]] = deque()
        """Datagrams that the kernel has not taken, with their descriptors."""
        self._part = bytearray()
        """The message that has come so far."""
        self._descriptors: list[int] = []
        """Those that came with it."""
        self._buffer = bytearray(_PART_BYTES + 1)
        self.closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def queued(self) -> int:
        """Datagrams that wait to be sent."""
        return len(self._out)

    # ---------------------------------------------------------------- out

    def send(self, message: HandoverMessage, descriptors: Sequence[int] = ()) -> None:
        """Queue the message. The descriptors are closed when it is sent, or cannot be."""
        data, given = messages.encode(message), tuple(descriptors)
        if self.closed:
            _close_all(given)
            return
        was_idle = not self._out
        for at in range(0, len(data), _PART_BYTES):
            part = data[at : at + _PART_BYTES]
            self._out.append(((_MORE if at + _PART_BYTES < len(data) else _LAST) + part, given))
            given = ()
        if was_idle:
            self._send_queued()

    def _send_queued(self) -> None:
        while self._out:
            part, descriptors = self._out[0]
            try:
                socket.send_fds(self._sock, [part], list(descriptors))
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
                return
            except OSError as error:
                self._fail(f"sending failed: {error}")
                return
            self._out.popleft()
            _close_all(descriptors)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._send_queued()

    # ---------------------------------------------------------------- in

    def _on_readable(self) -> None:
        for _ in range(_PARTS_PER_TURN):
            if self.closed:
                return
            try:
                size, descriptors, flags = self._receive()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:  # it has ended without reading all of ours; what it had sent comes after this
                continue
            except OSError as error:
                self._fail(f"receiving failed: {error}")
                return
            self._descriptors += descriptors
            if not size:
                self._fail("")
            elif flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                self._fail("a message has lost its descriptors or its end: is the limit of open files reached?")
            else:
                self._take(size)

    def _receive(self) -> tuple[int, list[int], int]:
        found = array.array("i")
        space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * found.itemsize)
        size, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
        return size, list(found), flags

    def _take(self, size: int) -> None:
        self._part += memoryview(self._buffer)[1:size]
        if self._buffer[:1] == _MORE:
            if len(self._part) > _MAX_MESSAGE_BYTES:
                self._fail("a message is too long")
            return
        part, self._part = self._part, bytearray()
        descriptors, self._descriptors = self._descriptors, []
        try:
            message = messages.decode(part)
        except MalformedHandover as error:
            _close_all(descriptors)
            self._fail(f"a message is not understood: {error}")
            return
        self._on_message(message, descriptors)

    # ---------------------------------------------------------------- the end

    def _fail(self, why: str) -> None:
        """why: "" if the other side has closed."""
        if self.closed:
            return
        if why:
            log.get().warning("the handover ends", why=why)
        self.close()
        self._on_end()

    def close(self) -> None:
        """The other side learns of it. What is still queued is not sent. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, descriptors in self._out:
            _close_all(descriptors)
        self._out.clear()
        _close_all(self._descriptors)
        self._descriptors = []


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        with contextlib.suppress(OSError):
            os.close(one)
