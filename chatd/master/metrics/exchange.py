"""One connection of a monitoring program: one request, one answer.

Owns: the socket, the limits of a request in bytes and in time, and the end of the connection.
Elsewhere: which connections there may be (master.metrics.gate), the answers (master.metrics.pages), reading HTTP
(httptools).
Fails: never. A client that breaks a limit gets an error if it still reads, and is disconnected.

The connection is closed after the answer: a scraper that comes once in 15 s gains nothing by keeping it. As in
net.connection, the peer's remaining bytes are read before, because closing a socket with unread bytes would reset the
connection and lose the answer.
"""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus

import httptools

from chatd.master.metrics.pages import Answer, Request, refusal
from chatd.master.watcher import Watcher

REQUEST_BYTES = 8192
"""Largest request, its line and all headers."""
REQUEST_S = 5.0
"""Time for the whole request, from the connection on."""
ANSWER_S = 5.0
"""Time for the client to take the answer."""
LINGER_S = 1.0
"""Time for the client to close its side."""
_SLICE_BYTES = 4096


class Phase(enum.Enum):
    READING = enum.auto()
    WRITING = enum.auto()
    LINGERING = enum.auto()
    """Everything is sent; what still comes is read and dropped."""
    CLOSED = enum.auto()


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.READING: frozenset({Phase.WRITING, Phase.CLOSED}),
    Phase.WRITING: frozenset({Phase.LINGERING, Phase.CLOSED}),
    Phase.LINGERING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class Exchange:
    """answer: called once, with the complete request. closed: called once, when the socket is closed.

    deadline: monotonic seconds; the gate closes what is older.
    """

    def __init__(
        self,
        sock: socket.socket,
        watcher: Watcher,
        answer: Callable[[Request], Answer],
        closed: Callable[[Exchange], None],
    ) -> None:
        self._sock = sock
        self._watcher = watcher
        self._answer = answer
        self._closed = closed
        self.phase = Phase.READING
        self.deadline = time.monotonic() + REQUEST_S
        self._parser = httptools.HttpRequestParser(self)
        self._received = 0
        self._url = b""
        self._accept: list[str] = []
        self._is_complete = False
        self._to_send = memoryview(b"")
        watcher.watch(sock.fileno(), self.receive)

    # ---------------------------------------------------------------- called by the parser

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"accept":
            self._accept.append(value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """A body, which no page takes, is not waited for."""
        self._is_complete = True

    # ---------------------------------------------------------------- in

    def receive(self) -> None:
        """Something has arrived, or the client has closed its side."""
        try:
            data = self._sock.recv(_SLICE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self.phase is Phase.READING:
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            if not self._is_complete:
                self._reply(refusal(HTTPStatus.BAD_REQUEST), with_body=True)
                return
        if self._is_complete:
            method = self._parser.get_method().decode("latin-1")
            path = self._url.partition(b"?")[0].decode("latin-1")
            request = Request(method, path, ",".join(self._accept))
            self._reply(self._answer(request), with_body=method != "HEAD")
        elif self._received >= REQUEST_BYTES:
            self._reply(refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), with_body=True)

    # ---------------------------------------------------------------- out

    def _reply(self, answer: Answer, *, with_body: bool) -> None:
        headers = (
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *answer.headers,
        )
        status = answer.status
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        self._to_send = memoryview(head + answer.body if with_body else head)
        self._enter(Phase.WRITING, ANSWER_S)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._to_send = self._to_send[sent:]
        if self._to_send:
            self._watcher.watch(self._sock.fileno(), self._send, writable=True)
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._enter(Phase.LINGERING, LINGER_S)
        self._watcher.watch(self._sock.fileno(), self.receive)

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """At once. Idempotent."""
        if self.phase is not Phase.CLOSED:
            self._enter(Phase.CLOSED, 0.0)
            self._watcher.unwatch(self._sock.fileno())
            self._sock.close()
            self._closed(self)

    def leave(self) -> None:
        """In a forked worker: close its copy."""
        self._sock.close()

    def _enter(self, phase: Phase, within_s: float) -> None:
        assert phase in NEXT[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase
        self.deadline = time.monotonic() + within_s
