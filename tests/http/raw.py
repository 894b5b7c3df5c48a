"""An HTTP client that writes whatever bytes a test wants, and reads answers one by one.

Owns: Raw, and requests as bytes.
Elsewhere: an ordinary client (tests.harness.api). Fails: TimeoutError after LIMIT_S.
"""

from __future__ import annotations

import json
import socket
import ssl
from types import TracebackType
from typing import Any, NamedTuple

LIMIT_S = 10.0


class Said(NamedTuple):
    """An answer. code: of a problem, 0 = it is none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.json()["code"]) if "problem" in self.headers.get("content-type", "") else 0

    def json(self) -> Any:
        return json.loads(self.body)


def post(key: str, body: bytes, *headers: bytes, path: bytes = b"/v1/messages") -> bytes:
    """A request to send a message."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: chat", b"Authorization: Bearer " + key.encode()]
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def message(to: str, text: str) -> bytes:
    return json.dumps({"to": to, "text": text}).encode()


class Raw:
    """source: the address it comes from. first: sent at once, before TLS. unix: a path, in place of the port."""

    def __init__(
        self,
        port: int,
        source: str = "",
        tls: ssl.SSLContext | None = None,
        first: bytes = b"",
        unix: str = "",
        host: str = "127.0.0.1",
    ) -> None:
        if unix:
            self.sock: socket.socket = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(LIMIT_S)
            self.sock.connect(unix)
        else:
            where = (source, 0) if source else None
            self.sock = socket.create_connection((host, port), LIMIT_S, source_address=where)
        self._data = b""
        if first:
            self.sock.sendall(first)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, data: bytes) -> Said:
        self.send(data)
        return self.said()

    def said(self) -> Said:
        """The next answer. Raises EOFError if the connection ends before it."""
        head = self.until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        length = int(headers.get("content-length", 0))
        while len(self._data) < length:
            self._more()
        body, self._data = self._data[:length], self._data[length:]
        return Said(int(first.split()[1]), headers, body)

    def ended(self) -> bytes:
        """Whatever comes until the connection ends."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            return self._data

    def until(self, mark: bytes) -> bytes:
        """What comes before these bytes."""
        while mark not in self._data:
            self._more()
        found, _, self._data = self._data.partition(mark)
        return found

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self._data)
        self._data += data
