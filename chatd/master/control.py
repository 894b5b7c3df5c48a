"""The control socket, on which chatctl asks the master.

Owns: runtime_dir/control.sock, who may use it, its framing (one JSON object per line each way) and its limits.
Elsewhere: the requests and replies (master.requests), what they do (master.master).
Fails: BootError, exit 73, when the socket cannot be created. Later, a client that breaks a rule gets an error and is
disconnected.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chatd import log
from chatd.errors import BootError, Exit
from chatd.master import requests
from chatd.master.directories import CONTROL
from chatd.master.requests import ControlReply, ControlRequest, Respond, failed
from chatd.master.watcher import Watcher
from chatd.orders import MalformedMessage

CLIENTS = 16
REQUEST_BYTES = 64 * 1024
PATIENCE_S = 10.0
"""Time for a client to finish its request, and again to take its reply."""
UNIX_PATH_BYTES = 107
"""Longest path of a Unix socket (sun_path without its final zero)."""
SO_PEERGROUPS = 59


@dataclass(slots=True)
class _ControlClient:
    """One connection, for one request."""

    sock: socket.socket
    deadline: float
    """Deadline to finish the request, or to take the reply; 0 while the request is carried out."""
    received: bytearray
    to_send: bytes = b""
    asked: bool = False
    """The request is complete; anything more that arrives is ignored."""


class ControlSocket:
    """handle: carries out a request and calls its second argument with the reply, once, now or later."""

    def __init__(self, runtime_dir: str, handle: Callable[[ControlRequest, Respond], None], watcher: Watcher) -> None:
        self._handle = handle
        self._watcher = watcher
        self._clients: dict[int, _ControlClient] = {}
        """By descriptor."""
        self._path = Path(runtime_dir, CONTROL)
        self._listener = _bind(self._path)
        watcher.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if not _allowed(sock):
            log.get().warning("control: connection refused, the user is neither root nor in the server's group")
            sock.close()
            return
        client = _ControlClient(sock, time.monotonic() + PATIENCE_S, bytearray())
        if len(self._clients) >= CLIENTS:
            text = f"too many chatctl at once, the limit is {CLIENTS}"
            self._reply(client, failed(Exit.TRY_AGAIN, text))
            return
        self._clients[sock.fileno()] = client
        self._watcher.watch(sock.fileno(), lambda: self._receive(client))

    def _receive(self, client: _ControlClient) -> None:
        try:
            data = client.sock.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(client)
            return
        if client.asked:  # one request per connection; more is ignored
            return
        client.received += data
        line, end, _ = client.received.partition(b"\n")
        if len(client.received) > REQUEST_BYTES:
            self._reply(client, failed(Exit.USAGE, f"request too long, the limit is {REQUEST_BYTES} bytes"))
        elif end:
            client.asked = True
            client.deadline = 0.0
            self._dispatch(client, bytes(line))

    def _dispatch(self, client: _ControlClient, line: bytes) -> None:
        try:
            request = requests.decode(line)
        except MalformedMessage as error:
            self._reply(client, failed(Exit.USAGE, str(error)))
            return
        self._handle(request, lambda reply: self._reply(client, reply))

    def _reply(self, client: _ControlClient, reply: ControlReply) -> None:
        """Once per client. Does nothing for one that has gone."""
        if client.sock.fileno() < 0:
            return
        client.to_send = msgspec.json.encode({"v": 1, **msgspec.to_builtins(reply)}) + b"\n"
        client.deadline = time.monotonic() + PATIENCE_S
        self._clients[client.sock.fileno()] = client
        self._send(client)

    def _send(self, client: _ControlClient) -> None:
        try:
            sent = client.sock.send(client.to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(client)
            return
        client.to_send = client.to_send[sent:]
        if client.to_send:
            self._watcher.watch(client.sock.fileno(), lambda: self._send(client), writable=True)
        else:
            self._close(client)

    def _close(self, client: _ControlClient) -> None:
        number = client.sock.fileno()
        if number >= 0:
            self._watcher.unwatch(number)
            self._clients.pop(number, None)
            client.sock.close()

    def close_overdue(self, now: float) -> None:
        """Once per turn of the loop: close clients that have used up PATIENCE_S."""
        for client in [one for one in self._clients.values() if one.deadline and now > one.deadline]:
            self._close(client)

    def flush(self) -> None:
        """At the end of the server: send the replies that are still waiting, within a second."""
        until = time.monotonic() + 1.0
        for client in [one for one in self._clients.values() if one.to_send]:
            client.sock.settimeout(max(until - time.monotonic(), 0.01))
            try:
                client.sock.sendall(client.to_send)
            except OSError:
                continue

    def leave(self) -> None:
        """In a forked worker: close its copies."""
        self._listener.close()
        for client in self._clients.values():
            client.sock.close()

    def close(self) -> None:
        self.leave()
        self._path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    """Only under the instance lock, so an existing file is left over from a crash."""
    if len(str(path).encode()) > UNIX_PATH_BYTES:
        text = f"the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes, this one has {len(str(path).encode())}"
        raise BootError(f"cannot create {path}: {text}", Exit.CANNOT_CREATE)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        os.chmod(path, 0o660)
        listener.listen(CLIENTS)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno or errno.EIO)
        raise BootError(f"cannot create {path}: {reason}", Exit.CANNOT_CREATE) from None
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _allowed(sock: socket.socket) -> bool:
    """Whether the peer is root, the server's own user, or in the server's group."""
    _, uid, gid = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid in (0, os.geteuid()) or gid == os.getegid():
        return True
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:
        return False
    return os.getegid() in struct.unpack(f"={len(groups) // 4}I", groups)
