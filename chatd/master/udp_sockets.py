"""The UDP sockets: one per listener and place in the worker pool.

Owns: binding them with SO_REUSEPORT, keeping them open while a dead worker is replaced, and closing those of a place
that is given up. A client keeps its place while the place is served; another worker answers 301, and the client logs in
again by itself.

Sockets from systemd are used instead, if there are some for an address: one or many, bound by systemd with
SO_REUSEPORT. None can be added, because they belong to root, and none may be left without a reader, because the kernel
would go on giving it datagrams. So each place has its share of them: with fewer sockets than places some have none, and
when a place is given up, another one takes its sockets (docs/decisions/0040-udp-sockets-from-systemd.md).
Elsewhere: which socket gets a client's datagrams (master.udp_steering), handling them (net.udp).
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
from chatd.errors import BootError, Exit
from chatd.master.listeners import CRASH_WAIT_S, Bound, bind_by, matches, takes_both, target_of
from chatd.master.privileges import Identity
from chatd.master.udp_rivals import rivals_of
from chatd.master.udp_steering import Steering, SteeringState

_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
NO_SLOT = -1
"""Instead of a slot's number: no place has the socket."""
_DISCARD_PORT = 9
"""Of the host itself. A socket that is connected to it gets no datagram from anybody else."""


def is_udp(one: ListenerOptions) -> bool:
    return urls.parse(one.address).transport == "udp"


class UdpSocketState(msgspec.Struct, frozen=True, kw_only=True):
    """One socket, for a later program of the master. address: as configured."""

    slot: int
    address: str
    descriptor: int
    given: bool = False
    """It belongs to systemd. slot: -1 = no place has it."""


class UdpState(msgspec.Struct, frozen=True, kw_only=True):
    """All sockets, for a later program of the master. targets: by configured address, as UdpSockets binds them."""

    sockets: tuple[UdpSocketState, ...]
    targets: dict[str, tuple[int, tuple[str | int, ...]]]
    steering: dict[str, SteeringState] = {}
    """By configured address. Without an entry the kernel goes on as it is."""
    away: tuple[int, ...] = ()

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
        self._given: dict[ListenerOptions, list[socket.socket]] = {}
        """By listener: the sockets of systemd."""
        self._unread: list[Bound] = []
        """Those of them that no place has."""
        self.places = 0
        """Places that the sockets of systemd are divided among; set by the pool when their number changes."""
        self._held: dict[ListenerOptions, socket.socket] = {}
        """After shut(): the address is bound by these, which take nothing."""
        self._steering = {one: Steering() for one in self._listen}
        self._away: set[int] = set()
        """Slots whose sockets nobody serves."""

    def state(self) -> UdpState:
        """For a later program."""
        return UdpState(
            sockets=tuple(
                UdpSocketState(
                    slot=slot, address=one.address, descriptor=sock.fileno(), given=sock in self._given.get(one, ())
                )
                for slot, bound in [*self._of.items(), (NO_SLOT, tuple(self._unread))]
                for one, sock in bound
            ),
            targets={address: (int(family), target) for address, (family, target) in self._targets.items()},
            steering={one.address: steering.state() for one, steering in self._steering.items()},
            away=tuple(self._away),
        )

    def resume(self, before: UdpState) -> None:
        """Take the sockets of an earlier program."""
        self._targets = {address: (family, tuple(target)) for address, (family, target) in before.targets.items()}
        options = {one.address: one for one in self._listen}
        sockets = {one.descriptor: socket.socket(fileno=one.descriptor) for one in before.sockets}
        for sock in sockets.values():
            sock.setblocking(False)
        for one in before.sockets:
            if one.address not in options:
                continue
            bound = options[one.address], sockets[one.descriptor]
            if one.given and bound[1] not in self._given.setdefault(bound[0], []):
                self._given[bound[0]].append(bound[1])
            if one.slot == NO_SLOT:
                self._unread.append(bound)
            else:
                self._of[one.slot] = (*self._of.get(one.slot, ()), bound)
        for address, steering in before.steering.items():
            if address in options and set(steering.order) <= sockets.keys():
                self._steering[options[address]].resume([sockets[one] for one in steering.order], steering)
        self._away = set(before.away)

    def bind_first(self, slots: int, after_crash: bool) -> None:
        """Bind the sockets of slots 0 to slots - 1. Raises BootError."""
        deadline = time.monotonic() + (CRASH_WAIT_S if after_crash else 0.0)
        ours = [one for one in self._listen if one not in self._given]
        for one in ours:
            bind_by(one, deadline, self._probe).close()
        self.places = slots
        for slot in range(slots):
            own = tuple((one, bind_by(one, 0.0, self._bind)) for one in ours)
            for one, sock in own:
                self._steering[one].add(sock, gradually=False)
            self._of[slot] = (*own, *self._share_for(slot))
        self._steer()

    def adopt(self, inherited: Sequence[socket.socket]) -> list[socket.socket]:
        """Before bind_first(): use these sockets of systemd for the listeners at their addresses. Returns those that
        are at none. Raises: BootError, if another program has bound a socket beside them."""
        left = []
        for sock in inherited:
            one = next((one for one in self._listen if matches(one, sock, self._listen)), None)
            if one is None:
                left.append(sock)
                continue
            sock.setblocking(False)
            for kind in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, kind, _BUFFER_BYTES)
            # systemd sets it, and while all sockets of an address have it, any user can bind one that gets datagrams.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._given.setdefault(one, []).append(sock)
            self._unread.append((one, sock))
        self._check_rivals()
        return left

    def _check_rivals(self) -> None:
        """Nobody can bind a socket beside those of systemd any more; whoever has done so gets what clients send."""
        for one, sockets in self._given.items():
            for rival in rivals_of(sockets):
                where = f"{rival.address} port {rival.port}"
                text = (
                    f"cannot use the socket of systemd for {one.address}: {rival.user} has bound another one beside it"
                )
                how = f"end that program; ss -lunp 'sport = :{rival.port}' shows it"
                raise BootError(f"{text} ({where}), which gets datagrams of clients; {how}", Exit.OS)

    def given(self) -> dict[str, int]:
        """By configured address: how many sockets of systemd it has, where it has some."""
        return {one.address: len(sockets) for one, sockets in self._given.items()}

    def first(self) -> tuple[Bound, ...]:
        """One socket per listener, for the status."""
        found: dict[ListenerOptions, socket.socket] = {}
        for one, sock in (*(pair for bound in self._of.values() for pair in bound), *self._unread):
            found.setdefault(one, sock)
        return tuple((self._held | found).items())

    def of(self, slot: int) -> tuple[Bound, ...]:
        """The slot's own sockets; missing ones are bound now, and get nothing until use(). If that fails, the slot does
        without: other slots have the address, and the next worker of this slot tries again."""
        bound = list(self._of.get(slot, ()))
        missing = [one for one in self._listen if one not in self._given and one not in dict(bound)]
        others_serve = bool(self._of.keys() - self._away - {slot})
        for one in missing:
            try:
                sock = self._take(one)
            except OSError as error:
                log.get().error("cannot bind a UDP socket", slot=slot, address=one.address, why=error.strerror)
                continue
            bound.append((one, sock))
            self._steering[one].add(sock, gradually=others_serve)
            self._away.add(slot)
        self._of[slot] = (*bound, *self._share_for(slot))
        if missing:
            self._steer()
        return self._of[slot]

    def take_unread(self, slot: int) -> tuple[Bound, ...]:
        """All sockets of systemd that no place has, for the worker of this slot, which runs already and is told to
        read them too."""
        taken, self._unread = tuple(self._unread), []
        self._of[slot] = (*self._of.get(slot, ()), *taken)
        return taken

    def _share_for(self, slot: int) -> list[Bound]:
        """Sockets of systemd that no place has: the slot's share of them, or all that are left when every place has
        some."""
        taken: list[Bound] = []
        for one in self._given:
            unread = [pair for pair in self._unread if pair[0] is one]
            if not unread:
                continue
            having = {tuple(sock for other, sock in bound if other is one) for bound in self._of.values()} - {()}
            without = max(0, self.places - len(having))
            has_some = any(other is one for other, _ in self._of.get(slot, ()))
            if without and not has_some:
                taken += unread[: -(-len(unread) // without)]
            elif not without:
                taken += unread
        self._unread = [pair for pair in self._unread if pair not in taken]
        return taken

    # ------------------------------------------------------------ who gets what

    def avoid(self, slot: int) -> None:
        """Nobody will serve the slot's sockets for a while, or any more: its clients go to the others. Those of systemd
        are given up; the caller finds another worker for them."""
        own = self._of.get(slot)
        if own is None or slot in self._away:
            return
        kept = {sock for other, bound in self._of.items() if other != slot for _, sock in bound}
        given = [(one, sock) for one, sock in own if one in self._given]
        self._unread += [pair for pair in given if pair[1] not in kept]
        self._of[slot] = tuple(pair for pair in own if pair not in given)
        self._away.add(slot)
        self._steer()

    def use(self, slot: int) -> None:
        """A worker serves the slot's sockets: its clients come back, and those of a new one come step by step."""
        if slot in self._away:
            self._away.discard(slot)
            self._steer()

    def step(self) -> None:
        """Once a second: new sockets get some more of their share."""
        away = self._unserved()
        for steering in self._steering.values():
            if steering.step(away):
                steering.apply(away)

    def _steer(self) -> None:
        away = self._unserved()
        for steering in self._steering.values():
            steering.apply(away)

    def _unserved(self) -> set[socket.socket]:
        """A socket is served if any slot that has it is."""
        served = {sock for slot, bound in self._of.items() if slot not in self._away for _, sock in bound}
        return {sock for bound in self._of.values() for _, sock in bound} - served

    # ------------------------------------------------------------ coming and going

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
        """Give up the slot, whose worker has ended, and the place unless another slot has it: its clients go to
        others."""
        for one, sock in self._only_of(slot):
            if sock in self._given.get(one, ()):
                self._unread.append((one, sock))
                continue
            sock.close()
            self._steering[one].remove(sock)
        self._steer()

    def _only_of(self, slot: int) -> list[Bound]:
        """Forget the slot. Returns the sockets that no other slot has."""
        given_up = self._of.pop(slot, ())
        self._away.discard(slot)
        kept = {sock for bound in self._of.values() for _, sock in bound}
        return [(one, sock) for one, sock in given_up if sock not in kept]

    def keep_only(self, slot: int) -> None:
        """In a forked child: close the other places' sockets, which would stay bound while the child lives."""
        others = [pair for other in tuple(self._of) if other != slot for pair in self._only_of(other)]
        for _, sock in (*others, *self._unread):
            sock.close()
        self._unread = []

    def shut(self) -> None:
        """No slot has sockets any more, and no worker may have any: the kernel answers that the port is unreachable.
        What has come is dropped. One socket of each listener stays, so that nobody else takes the address; of() gives
        it up when it has bound others, and uses it where it cannot (a port below 1024)."""
        if not self._of:
            return
        for one, sock in self.first():
            if one in self._given:  # what comes waits in it
                continue
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
        for _, sock in self._unread:
            sock.close()

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
