"""The UDP sockets: one per listener and worker slot.

Owns: binding them with SO_REUSEPORT, holding them over the death of a worker, letting go of those of a slot that is
given up. The kernel chooses among the sockets of an address by a hash of the sender's address, so a client keeps its
slot as long as their number stays. When that number changes (scale) many addresses come to another worker; it answers
301, and their clients log in again by themselves.
Not here: what is done with a datagram (net.udp).
Fails: BootError at the start; later one error record, and the slot does without.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from chatd import log
from chatd.config import urls
from chatd.config.schema import ListenerOptions
from chatd.master.listeners import TAKEOVER_S, Bound, bind_by, takes_both, target_of
from chatd.master.privileges import Identity

_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


def is_datagram(one: ListenerOptions) -> bool:
    return urls.parse(one.address).transport == "udp"


class Datagrams:
    """owner: who the server will run as. Later sockets of an address must belong to the same user as the first ones,
    which may be bound by root (socket(7), SO_REUSEPORT)."""

    def __init__(self, listen: Sequence[ListenerOptions], owner: Identity | None) -> None:
        self._listen = [one for one in listen if is_datagram(one)]
        self._owner = owner
        self._targets: dict[str, tuple[int, Any]] = {}  # by configured address: family and what is bound
        self._of: dict[int, tuple[Bound, ...]] = {}

    def bind_first(self, slots: int, after_crash: bool) -> None:
        """The sockets of the slots 0 .. slots - 1. Raises BootError."""
        deadline = time.monotonic() + (TAKEOVER_S if after_crash else 0.0)
        for one in self._listen:
            bind_by(one, deadline, self._probe).close()
        for slot in range(slots):
            self._of[slot] = tuple((one, bind_by(one, 0.0, self._bind)) for one in self._listen)

    def first(self) -> tuple[Bound, ...]:
        """One socket per listener, to describe them by."""
        return self._of[min(self._of)] if self._of else ()

    def of(self, slot: int) -> tuple[Bound, ...]:
        """The slot's own sockets, bound now as far as it has none. Where that fails the slot does without: other
        slots have the address, and the next worker here tries again."""
        bound = dict(self._of.get(slot, ()))
        for one in self._listen:
            if one not in bound:
                try:
                    bound[one] = self._bind(one)
                except OSError as error:
                    log.get().error("udp socket cannot be bound", slot=slot, address=one.address, why=error.strerror)
        self._of[slot] = tuple(bound.items())
        return self._of[slot]

    def release(self, slot: int) -> None:
        """The slot is given up: what comes to its sockets from now on goes to the others, once its worker lets go."""
        for _, sock in self._of.pop(slot, ()):
            sock.close()

    def keep_only(self, slot: int) -> None:
        """In a forked child: the others' sockets would stay bound as long as we live."""
        for other in tuple(self._of):
            if other != slot:
                self.release(other)

    def close(self) -> None:
        for slot in tuple(self._of):
            self.release(slot)

    def _probe(self, one: ListenerOptions) -> socket.socket:
        """Look whether the address is free: SO_REUSEPORT would share it with another server of this user."""
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
                with contextlib.suppress(OSError):  # only root may pass the system's limit
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
