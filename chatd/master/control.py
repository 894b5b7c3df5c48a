"""The control socket, on which chatctl asks the master.

Owns: runtime_dir/control.sock, who may use it, its framing (one JSON object per line each way) and its limits.
Every order is recorded with its caller and its result.
Elsewhere: the requests and replies, and which of them are orders (master.requests); what they do (master.master).
Fails: BootError, exit 73, when the socket cannot be created. Later, a client that breaks a rule gets an error and is
disconnected.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chatd import log, security_log
from chatd.errors import BootError, Exit
from chatd.master import requests
from chatd.master.directories import CONTROL
from chatd.master.replies import ControlReply, Respond, failed
from chatd.master.requests import ControlRequest, RecordRequest
from chatd.master.watcher import Watcher
from chatd.orders import MalformedMessage
from chatd.security_log import SecurityEvent

CLIENTS = 16
REQUEST_BYTES = 64 * 1024
PATIENCE_S = 10.0
"""Time for a client to finish its request, and again to take its reply."""
UNIX_PATH_BYTES = 107
"""Longest path of a Unix socket (sun_path without its final zero)."""
SO_PEERGROUPS = 59


class Caller(NamedTuple):
    """The process that connected, as the kernel tells (SO_PEERCRED). uid, gid: when it connected."""

    pid: int
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """Of the user; "" if this host knows none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return ""


@dataclass(slots=True)
class _ControlClient:
    """One connection, for one request."""

    sock: socket.socket
    caller: Caller
    deadline: float
    """Deadline to finish the request, or to take the reply; 0 while the request is carried out."""
    received: bytearray
    to_send: bytes = b""
    asked: bool = False
    """The request is complete; anything more that arrives is ignored."""
    order: _Order | None = None
    """Its request, while it is carried out."""


class ControlClientState(msgspec.Struct, frozen=True, kw_only=True):
    """A connection, for a later program of the master. waits: it has asked for the upgrade and is owed the reply.
    administrator: in whose name it asked (ControlRequest). The rest as in _ControlClient."""

    descriptor: int
    caller: tuple[int, int, int]
    deadline: float
    received: bytes
    to_send: bytes
    waits: bool
    administrator: str = ""


class AbandonedOrderState(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose client has gone, which goes on nevertheless: its end is to be recorded. As in
    ControlClientState."""

    caller: tuple[int, int, int]
    administrator: str


class ControlState(msgspec.Struct, frozen=True, kw_only=True):
    """descriptor: of the listening socket. given: it belongs to systemd. abandoned: unknown to earlier programs."""

    descriptor: int
    clients: tuple[ControlClientState, ...]
    given: bool = False
    abandoned: tuple[AbandonedOrderState, ...] = ()

    def descriptors(self) -> Iterator[int]:
        yield self.descriptor
        yield from (one.descriptor for one in self.clients)


class ControlSocket:
    """handle: carries out a request and calls its second argument with the reply, once, now or later."""

    def __init__(
        self,
        runtime_dir: str,
        handle: Callable[[ControlRequest, Respond], None],
        watcher: Watcher,
        start: ControlState | socket.socket | None = None,
    ) -> None:
        """start: of an earlier program of this process, with its clients, or of systemd. Raises BootError."""
        self._handle = handle
        self._watcher = watcher
        self._clients: dict[int, _ControlClient] = {}
        """By descriptor."""
        self._orders: set[_Order] = set()
        """That are being carried out."""
        self._path = Path(runtime_dir, CONTROL)
        match start:
            case None:
                self._listener, self._given = _bind(self._path), False
            case ControlState():
                self._listener, self._given = socket.socket(fileno=start.descriptor), start.given
            case _:
                self._listener, self._given = start, True
        self._listener.setblocking(False)
        watcher.watch(self._listener.fileno(), self._accept)

    def under_way(self, besides: type[ControlRequest]) -> list[str]:
        """The names of requests that are being carried out, apart from those of one kind. A request goes on when its
        client has gone."""
        requests = [one.request for one in self._orders if not isinstance(one.request, besides)]
        return sorted(str(one.__struct_config__.tag) for one in requests)

    def state(self) -> ControlState:
        """For a later program. Requests that are being carried out are taken for requests to upgrade."""
        clients = [
            ControlClientState(
                descriptor=number,
                caller=one.caller,
                deadline=one.deadline,
                received=bytes(one.received),
                to_send=one.to_send,
                waits=one.order is not None,
                administrator=one.order.request.administrator if one.order is not None else "",
            )
            for number, one in self._clients.items()
        ]
        awaited = {one.order for one in self._clients.values()}
        abandoned = [
            AbandonedOrderState(caller=one.caller, administrator=one.request.administrator)
            for one in self._orders
            if one not in awaited
        ]
        return ControlState(
            descriptor=self._listener.fileno(), clients=tuple(clients), given=self._given, abandoned=tuple(abandoned)
        )

    def resume(self, before: ControlState, request: ControlRequest) -> list[Respond]:
        """Go on with the clients of an earlier program. request: what those asked for who wait for a reply, or have
        gone since; the functions by which each of them is replied to."""
        waiting = []
        for gone in before.abandoned:
            asked = msgspec.structs.replace(request, administrator=gone.administrator)
            waiting.append(self._responder(None, _Order(asked, Caller(*gone.caller))))
        for one in before.clients:
            sock = socket.socket(fileno=one.descriptor)
            sock.setblocking(False)
            client = _ControlClient(sock, Caller(*one.caller), one.deadline, bytearray(one.received), one.to_send)
            self._clients[one.descriptor] = client
            client.asked = one.waits or bool(one.to_send)
            if one.to_send:
                self._watcher.watch(one.descriptor, self._sender(client), writable=True)
                continue
            self._watcher.watch(one.descriptor, self._receiver(client))
            if one.waits:
                asked = msgspec.structs.replace(request, administrator=one.administrator)
                client.order = _Order(asked, client.caller)
                waiting.append(self._responder(client, client.order))
        return waiting

    def _sender(self, client: _ControlClient) -> Callable[[], None]:
        return lambda: self._send(client)

    def _receiver(self, client: _ControlClient) -> Callable[[], None]:
        return lambda: self._receive(client)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        caller = _caller(sock)
        if not _allowed(sock, caller):
            text = "control: connection refused, the user is neither root nor in the server's group"
            log.get().warning(text, source="", uid=caller.uid, by=caller.name, caller_pid=caller.pid)
            sock.close()
            return
        client = _ControlClient(sock, caller, time.monotonic() + PATIENCE_S, bytearray())
        if len(self._clients) >= CLIENTS:
            text = f"too many chatctl at once, the limit is {CLIENTS}"
            self._reply(client, failed(Exit.TRY_AGAIN, text))
            return
        self._clients[sock.fileno()] = client
        self._watcher.watch(sock.fileno(), self._receiver(client))

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
        if isinstance(request, RecordRequest):
            request = msgspec.structs.replace(request, socket_uid=client.caller.uid)
        order = client.order = _Order(request, client.caller)
        self._handle(request, self._responder(client, order))
        order.taken()

    def _responder(self, client: _ControlClient | None, order: _Order) -> Respond:
        """client: None = it has gone."""
        self._orders.add(order)

        def respond(reply: ControlReply) -> None:
            self._orders.discard(order)
            order.ended(reply)
            if client is not None:
                client.order = None
                self._reply(client, reply)

        return respond

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
            self._watcher.watch(client.sock.fileno(), self._sender(client), writable=True)
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
        if not self._given:
            self._path.unlink(missing_ok=True)


def given(inherited: list[socket.socket], runtime_dir: str) -> socket.socket | None:
    """The control socket among those of systemd."""
    path = os.path.normpath(Path(runtime_dir, CONTROL))
    for sock in inherited:
        is_stream = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        if sock.family == socket.AF_UNIX and is_stream and os.path.normpath(sock.getsockname()) == path:
            return sock
    return None


def _bind(path: Path) -> socket.socket:
    """Only under the instance lock, so an existing file is left over from a crash."""
    if len(str(path).encode()) > UNIX_PATH_BYTES:
        text = f"the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes, this one has {len(str(path).encode())}"
        raise BootError(f"cannot create {path}: {text}", Exit.CANNOT_CREATE)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # not chmod() afterwards: the name could be another file's by then
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(CLIENTS)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno or errno.EIO)
        raise BootError(f"cannot create {path}: {reason}", Exit.CANNOT_CREATE) from None
    finally:
        os.umask(before)
    return listener


class _Order:
    """A request as the security trail records it: once when it has ended, and before that if it takes longer than a
    turn of the loop, because the master may be killed meanwhile."""

    def __init__(self, request: ControlRequest, caller: Caller) -> None:
        self.request, self.caller = request, caller
        self._is_over = False

    def taken(self) -> None:
        """The request was carried out, or is under way."""
        if not self._is_over:
            self._record("begun")

    def ended(self, reply: ControlReply) -> None:
        self._is_over = True
        self._record("ok" if reply.ok else "failed", "" if reply.ok else str(reply.error))

    def _record(self, result: str, why: str = "") -> None:
        request, caller = self.request, self.caller
        if request.is_order:
            by: dict[str, Any] = {"administrator": request.administrator} if request.administrator else {}
            security_log.record(
                SecurityEvent.ORDER,
                order=request.__struct_config__.tag,
                arguments={name: getattr(request, name) for name in request.recorded},
                result=result,
                why=why,
                uid=caller.uid,
                by=caller.name,
                caller_pid=caller.pid,
                **by,
            )


def _caller(sock: socket.socket) -> Caller:
    return Caller(*struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def _allowed(sock: socket.socket, caller: Caller) -> bool:
    """Whether the peer is root, the server's own user, or in the server's group."""
    if caller.uid in (0, os.geteuid()) or caller.gid == os.getegid():
        return True
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:
        return False
    return os.getegid() in struct.unpack(f"={len(groups) // 4}I", groups)
