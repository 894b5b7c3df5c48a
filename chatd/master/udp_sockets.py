"""The UDP sockets: one per listener and place in the worker pool.

Owns: binding them with SO_REUSEPORT, keeping them open while a dead worker is replaced, and closing those of a slot
that is given up. The kernel chooses among the sockets of an address by a hash of the sender's address, so a client
keeps its slot while the number of sockets does not change. When that number changes (`chatctl scale`), many clients
reach another worker; it answers 301, and they log in again by themselves.
Elsewhere: handling datagrams (net.udp).
Fails: BootError at the start; later an error is logged, and the slot has no socket of that listener.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatd import log
from chatd.config import urls
from chatd.config.schema import ListenerOptions
from chatd.master.listeners import CRASH_WAIT_S, Bound, bind_by, takes_both, target_of
from chatd.master.privileges import Identity

_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_DISCARD_PORT = 9
"""Of the host itself. A socket that is connected to it gets no datagram from anybody else."""


def is_udp(one: ListenerOptions) -> bool:
    return urls.parse(one.address).transport == "udp"


class UdpSocketState(msgspec.Struct, frozen=True, kw_only=True):
    """One socket, for a later program of the master. address: as configured."""

    slot: int
    address: str
    descriptor: int


class UdpState(msgspec.Struct, frozen=True, kw_only=True):
    """All sockets, for a later program of the master. targets: by configured address, as UdpSockets binds them."""

    sockets: tuple[UdpSocketState, ...]
    targets: dict[str, tuple[int, tuple[str | int, ...]]]

    def descriptors(self) -> Iterator[int]:
        yield from (one.descriptor for one in self.sockets)


class UdpSockets:
    """owner: the user the server will run as. All sockets of an address must belong to one user (socket(7),
    SO_REUSEPORT), and the first may be bound by root."""

    def __init__(self, listen: Sequence[ListenerOptions], owner: Identity | None) -> None:
        self._listen = [one for one in listen if is_udp(one)]
        self._owner = owner
        self._targets: dict[str, tuple[int, Any]] = {}
        """By configured address: its family, and what is bound (with the port the kernel chose for port 0)."""
        self._of: dict[int, tuple[Bound, ...]] = {}
        """By slot. A worker and its successor, which have one place, have the same sockets."""
        self._held: dict[ListenerOptions, socket.socket] = {}
        """After shut(): the address is bound by these, which take nothing."""

    def state(self) -> UdpState:
        """For a later program."""
        return UdpState(
            sockets=tuple(
                UdpSocketState(slot=slot, address=one.address, descriptor=sock.fileno())
                for slot, bound in self._of.items()
                for one, sock in bound
            ),
            targets={address: (int(family), target) for address, (family, target) in self._targets.items()},
        )

    def resume(self, before: UdpState) -> None:
        """Take the sockets of an earlier program."""
        self._targets = {address: (family, tuple(target)) for address, (family, target) in before.targets.items()}
        options = {one.address: one for one in self._listen}
        sockets = {one.descriptor: socket.socket(fileno=one.descriptor) for one in before.sockets}
        for sock in sockets.values():
            sock.setblocking(False)
        for one in before.sockets:
            if one.address in options:
                self._of[one.slot] = (*self._of.get(one.slot, ()), (options[one.address], sockets[one.descriptor]))

    def bind_first(self, slots: int, after_crash: bool) -> None:
        """Bind the sockets of slots 0 to slots - 1. Raises BootError."""
        deadline = time.monotonic() + (CRASH_WAIT_S if after_crash else 0.0)
        for one in self._listen:
            bind_by(one, deadline, self._probe).close()
        for slot in range(slots):
            self._of[slot] = tuple((one, bind_by(one, 0.0, self._bind)) for one in self._listen)

    def first(self) -> tuple[Bound, ...]:
        """One socket per listener, for the status."""
        return self._of[min(self._of)] if self._of else tuple(self._held.items())

    def of(self, slot: int) -> tuple[Bound, ...]:
        """The slot's own sockets; missing ones are bound now. If that fails, the slot does without: other slots have
        the address, and the next worker of this slot tries again."""
        bound = dict(self._of.get(slot, ()))
        for one in self._listen:
            if one not in bound:
                try:
                    bound[one] = self._take(one)
                except OSError as error:
                    log.get().error("cannot bind a UDP socket", slot=slot, address=one.address, why=error.strerror)
        self._of[slot] = tuple(bound.items())
        return self._of[slot]

    def _take(self, one: ListenerOptions) -> socket.socket:
        """A new socket, or the one that is held. Raises: OSError."""
        held = self._held.pop(one, None)
        try:
            sock = self._bind(one)
        except OSError:
            if held is None:
                raise
            _disconnect(held)
            return held
        if held is not None:
            held.close()
        return sock

    def share(self, slot: int, place_of: int) -> None:
        """Give the slot the sockets of the slot `place_of`, so that a worker there can take them over."""
        self._of[slot] = self.of(place_of)

    def release(self, slot: int) -> None:
        """Give up the slot, and the place unless another slot has it: datagrams for its sockets then go to others as
        soon as its worker has closed them too."""
        given_up = self._of.pop(slot, ())
        kept = {sock for bound in self._of.values() for _, sock in bound}
        for _, sock in given_up:
            if sock not in kept:
                sock.close()

    def keep_only(self, slot: int) -> None:
        """In a forked child: close the other places' sockets, which would stay bound while the child lives."""
        for other in tuple(self._of):
            if other != slot:
                self.release(other)

    def shut(self) -> None:
        """No slot has sockets any more, and no worker may have any: the kernel answers that the port is unreachable.
        What has come is dropped. One socket of each listener stays, so that nobody else takes the address; of() gives
        it up when it has bound others, and uses it where it cannot (a port below 1024)."""
        for one, sock in self.first():
            kept = socket.socket(fileno=os.dup(sock.fileno()))
            with contextlib.suppress(OSError):
                kept.connect((kept.getsockname()[0], _DISCARD_PORT))
            self._held[one] = kept
        for slot in tuple(self._of):
            self.release(slot)

    def close(self) -> None:
        for sock in self._held.values():
            sock.close()
        self._held.clear()
        for slot in tuple(self._of):
            self.release(slot)

    def _probe(self, one: ListenerOptions) -> socket.socket:
        """Bind without SO_REUSEPORT: with it, the address would be shared with another server of the same user."""
        where = urls.parse(one.address)
        family, target = target_of(where)
        probe = self._socket(one, family)
        try:
            probe.bind(target)
        except OSError:
            probe.close()
            raise
        self._targets[one.address] = family, probe.getsockname()
        return probe

    def _bind(self, one: ListenerOptions) -> socket.socket:
        family, target = self._targets[one.address]
        sock = self._socket(one, family)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for kind, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
                sock.setsockopt(socket.SOL_SOCKET, kind, _BUFFER_BYTES)
                with contextlib.suppress(OSError):  # only root may exceed net.core.rmem_max and wmem_max
                    sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            if self._owner is not None and os.geteuid() == 0:
                os.fchown(sock.fileno(), self._owner.uid, self._owner.gid)
            sock.bind(target)
        except OSError:
            sock.close()
            raise
        return sock

    def _socket(self, one: ListenerOptions, family: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not takes_both(one, self._listen))
        return sock


def _disconnect(sock: socket.socket) -> None:
    """connect(2) to AF_UNSPEC, which the socket module cannot express. The address stays bound. Raises: OSError."""
    unspecified = (ctypes.c_char * 16)()
    if _libc.connect(sock.fileno(), unspecified, len(unspecified)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)
