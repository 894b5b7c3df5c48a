"""The socket on which chatctl asks (OPS-12).

Owns: runtime_dir/control.sock, who may use it, its framing and its limits. One JSON object per line each way, with
"v": 1. A request is {"v": 1, "cmd": NAME, ...}, an answer {"v": 1, "ok": bool, "exit": code, "error": text, ...}.
Not here: what commands do (supervise).
Fails: a client that breaks a rule is answered with an error and cut; the master goes on.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from chatd import log
from chatd.errors import BootError, Exit
from chatd.master.directories import CONTROL

CLIENTS = 16
REQUEST_BYTES = 64 * 1024
PATIENCE_S = 10.0
SO_PEERGROUPS = 59

Answer = Callable[[dict[str, Any]], None]
Command = Callable[[dict[str, Any], Answer], None]


@dataclass(slots=True)
class _Client:
    """deadline: to finish the request, or to take the answer; 0 while the command works."""

    sock: socket.socket
    deadline: float
    received: bytearray
    to_send: bytes = b""
    asked: bool = False


class Control:
    """watch(fd, on_readable, on_writable) and unwatch(fd) are the loop's."""

    def __init__(
        self,
        runtime_dir: str,
        commands: Mapping[str, Command],
        watch: Callable[[int, Callable[[], None], bool], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._commands = commands
        self._watch = watch
        self._unwatch = unwatch
        self._clients: dict[int, _Client] = {}
        self._path = Path(runtime_dir, CONTROL)
        self._listener = _bind(self._path)
        watch(self._listener.fileno(), self._accept, False)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if not _allowed(sock):
            log.get().warning("control: a stranger was turned away")
            sock.close()
            return
        client = _Client(sock, time.monotonic() + PATIENCE_S, bytearray())
        if len(self._clients) >= CLIENTS:
            self._answer(client, {"ok": False, "exit": Exit.TRY_AGAIN, "error": "too many chatctl at once"})
            return
        self._clients[sock.fileno()] = client
        self._watch(sock.fileno(), lambda: self._receive(client), False)

    def _receive(self, client: _Client) -> None:
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
            self._answer(client, {"ok": False, "exit": Exit.USAGE, "error": "request too long"})
        elif end:
            client.asked = True
            client.deadline = 0.0
            self._dispatch(client, bytes(line))

    def _dispatch(self, client: _Client, line: bytes) -> None:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            self._answer(client, {"ok": False, "exit": Exit.USAGE, "error": f"not a JSON object: {error}"})
            return
        command = self._commands.get(str(request.get("cmd")))
        if request.get("v") != 1 or command is None:
            known = ", ".join(sorted(self._commands))
            self._answer(client, {"ok": False, "exit": Exit.USAGE, "error": f"unknown request; version 1 has {known}"})
            return
        command(request, lambda result: self._answer(client, result))

    def _answer(self, client: _Client, result: dict[str, Any]) -> None:
        """Once per client. A client that has gone is nobody's loss."""
        if client.sock.fileno() < 0:
            return
        client.to_send = msgspec.json.encode({"v": 1, **result}) + b"\n"
        client.deadline = time.monotonic() + PATIENCE_S
        self._clients[client.sock.fileno()] = client
        self._send(client)

    def _send(self, client: _Client) -> None:
        try:
            sent = client.sock.send(client.to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(client)
            return
        client.to_send = client.to_send[sent:]
        if client.to_send:
            self._watch(client.sock.fileno(), lambda: self._send(client), True)
        else:
            self._close(client)

    def _close(self, client: _Client) -> None:
        number = client.sock.fileno()
        if number >= 0:
            self._unwatch(number)
            self._clients.pop(number, None)
            client.sock.close()

    def look(self, now: float) -> None:
        """At every turn of the loop: cut the slow."""
        for client in [one for one in self._clients.values() if one.deadline and now > one.deadline]:
            self._close(client)

    def flush(self) -> None:
        """At the end: what is answered leaves, within a second."""
        until = time.monotonic() + 1.0
        for client in [one for one in self._clients.values() if one.to_send]:
            client.sock.settimeout(max(until - time.monotonic(), 0.01))
            try:
                client.sock.sendall(client.to_send)
            except OSError:
                continue

    def leave(self) -> None:
        """In a worker: close our copies."""
        self._listener.close()
        for client in self._clients.values():
            client.sock.close()

    def close(self) -> None:
        self.leave()
        self._path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    """Only under the lock: whatever lies there is a leftover."""
    if len(str(path).encode()) > 107:
        raise BootError(f"{path}: the path of a Unix socket may have 107 bytes at most", Exit.CANNOT_CREATE)
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
        raise BootError(f"{path}: cannot be made: {reason}", Exit.CANNOT_CREATE) from None
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _allowed(sock: socket.socket) -> bool:
    """root, ourselves, and processes in our group."""
    _, uid, gid = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid in (0, os.geteuid()) or gid == os.getegid():
        return True
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:
        return False
    return os.getegid() in struct.unpack(f"={len(groups) // 4}I", groups)
