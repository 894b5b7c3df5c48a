"""The listening sockets of streams.

Owns: binding them, or taking them from systemd, explaining why an address cannot be bound, and describing them in the
status.
Elsewhere: accepting (net.acceptor), UDP sockets (master.udp_sockets).
Fails: BootError, exit 71 (77 if permission is missing), naming the address and the process that uses it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chatd.config import urls
from chatd.config.schema import ListenerOptions
from chatd.errors import BootError, Exit
from chatd.master.port_holders import used_by

Bound = tuple[ListenerOptions, socket.socket]

CRASH_WAIT_S = 3.0
"""How long to wait for the workers of a crashed server to release an address."""


def bind_all(
    listen: Sequence[ListenerOptions], inherited: list[socket.socket], after_crash: bool
) -> tuple[tuple[Bound, ...], list[socket.socket]]:
    """One listening, non-blocking socket per [[listen]], and the inherited ones that match none of them."""
    left = list(inherited)
    deadline = time.monotonic() + (CRASH_WAIT_S if after_crash else 0.0)
    bound: list[Bound] = []
    for one in listen:
        adopted = next((candidate for candidate in left if matches(one, candidate, listen)), None)
        if adopted is not None:
            left.remove(adopted)
            adopted.setblocking(False)
            bound.append((one, adopted))
        else:
            bound.append((one, bind_by(one, deadline, partial(_bind, listen=listen))))
    return tuple(bound), left


class Place(Protocol):
    """Where to listen: a [[listen]], or [metrics]."""

    @property
    def address(self) -> str: ...

    @property
    def backlog(self) -> int: ...


P = TypeVar("P", bound=Place)


def bind_alone(one: Place, deadline: float) -> socket.socket:
    """A listening, non-blocking socket beside those of the [[listen]]. The rest as bind_by()."""
    return bind_by(one, deadline, partial(_bind, listen=(one,)))


def bind_by(one: P, deadline: float, bind: Callable[[P], socket.socket]) -> socket.socket:
    """Return bind(one), which is tried again until the deadline while another process has the address. Raises
    BootError."""
    while True:
        try:
            return bind(one)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            code = Exit.PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else Exit.OS
            raise BootError(f"cannot listen on {one.address}: {_reason(one, error)}", code) from None


def _reason(one: Place, error: OSError) -> str:
    """Why the address cannot be bound, for the operator."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"address already in use{used_by(urls.parse(one.address))}"
        case errno.EADDRNOTAVAIL:
            return "this host does not have the address"
        case errno.EACCES | errno.EPERM if not one.address.startswith("unix:"):
            return "permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
        case number if number and number > 0:
            return os.strerror(number).lower()
    return str(error)


def takes_both(one: Place, listen: Sequence[Place]) -> bool:
    """Whether a socket at [::] also takes IPv4 clients: it does, unless another listener has the port on IPv4."""
    where = urls.parse(one.address)
    if where.host != "::":
        return False
    others = [there for other in listen if (there := urls.parse(other.address)).port == where.port != 0]
    return not any(
        (there.transport == "udp") == (where.transport == "udp") and target_of(there)[0] == socket.AF_INET
        for there in others
    )


def target_of(where: urls.ListenAddress) -> tuple[socket.AddressFamily, Any]:
    """The family, and what is bound."""
    kind = _kind_of(where)
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(where.host, where.port, type=kind, flags=flags)[0]
    return found[0], found[4]


def _bind(one: Place, listen: Sequence[Place]) -> socket.socket:
    where = urls.parse(one.address)
    if where.transport == "unix":
        return bind_unix(where.path, one.backlog)
    family, target = target_of(where)
    only_v6 = family == socket.AF_INET6 and not takes_both(one, listen)
    if where.port:
        return _listen(_bind_tcp(family, target, only_v6=only_v6), one.backlog)
    # A port that the kernel chooses at bind() is given up when the socket stops listening (master.rolling.listening).
    with contextlib.closing(_bind_tcp(family, target, only_v6=only_v6)) as chosen:
        listener = _bind_tcp(family, chosen.getsockname(), only_v6=only_v6)
    return _listen(listener, one.backlog)


def _bind_tcp(family: socket.AddressFamily, target: Any, *, only_v6: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
        bound.setblocking(False)
        bound.bind(target)
    except OSError:
        bound.close()
        raise
    return bound


def _listen(bound: socket.socket, backlog: int) -> socket.socket:
    try:
        bound.listen(backlog)
    except OSError:
        bound.close()
        raise
    return bound


def bind_unix(path: str, backlog: int) -> socket.socket:
    """A listening socket at this path. Raises: OSError. Called under the instance lock, so a socket file on which
    nobody answers is left over from a crash."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if _is_leftover(path):
            os.unlink(path)
        before = os.umask(0o111)  # not chmod() afterwards: the name could be another file's by then
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _is_leftover(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


def matches(one: ListenerOptions, candidate: socket.socket, listen: Sequence[ListenerOptions]) -> bool:
    """Whether a socket of systemd is for this listener. systemd binds ListenStream=PORT and ListenDatagram=PORT to [::]
    for both families: 0.0.0.0 has it where no listener is at [::]."""
    if _is_at(one, candidate):
        return True
    where = urls.parse(one.address)
    if where.host != "0.0.0.0" or any(_is_at(other, candidate) for other in listen):
        return False
    has_kind = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == _kind_of(where)
    return has_kind and candidate.family == socket.AF_INET6 and candidate.getsockname()[:2] == ("::", where.port)


def _kind_of(where: urls.ListenAddress) -> socket.SocketKind:
    return socket.SOCK_DGRAM if where.transport == "udp" else socket.SOCK_STREAM


def _is_at(one: ListenerOptions, candidate: socket.socket) -> bool:
    where = urls.parse(one.address)
    kind = _kind_of(where)
    if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != kind:
        return False
    name = candidate.getsockname()
    if where.transport == "unix":
        return candidate.family == socket.AF_UNIX and os.path.normpath(name) == os.path.normpath(where.path)
    if candidate.family not in (socket.AF_INET, socket.AF_INET6) or name[1] != where.port:
        return False
    wanted = socket.getaddrinfo(where.host, where.port, type=kind)
    return any(entry[0] == candidate.family and entry[4][0] == name[0] for entry in wanted)


def close_all(bound: Sequence[Bound], adopted: Collection[socket.socket]) -> None:
    """At the end of the server: close them, and remove the files of Unix sockets, but for those that are systemd's."""
    for one, listener in bound:
        listener.close()
        where = urls.parse(one.address)
        if where.transport == "unix" and listener not in adopted:
            Path(where.path).unlink(missing_ok=True)


def actual_address(one: Place, listener: socket.socket) -> str:
    """As configured, with the port the kernel chose for port 0."""
    where = urls.parse(one.address)
    if where.transport == "unix":
        return one.address
    host = f"[{where.host}]" if ":" in where.host else where.host
    return f"{where.transport}://{host}:{listener.getsockname()[1]}{where.path}"


def waiting(listener: socket.socket) -> int:
    """Connections in the kernel's queue that no worker has accepted yet; -1 for Unix sockets, where it is not known."""
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    except OSError:
        return -1
    return int(struct.unpack_from("=I", info, 24)[0])  # tcpi_unacked: of a listener, the length of its queue
