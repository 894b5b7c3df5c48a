"""Which of the UDP sockets of one address gets a client's datagrams.

Owns: the share of each socket, and the program in the kernel (SO_ATTACH_REUSEPORT_CBPF) that chooses by it.
Elsewhere: the sockets (master.udp_sockets), which of them are served (master.workers).
Fails: quietly; without the program the kernel chooses by a hash of its own, which moves many clients whenever the
number of sockets changes.

Addresses of clients are divided into BUCKETS by a hash of address and port, with a seed that nobody else knows: whoever
could choose addresses or ports of one bucket could aim everything at one worker. Every socket has a share of the
buckets that is its own. While nobody serves a socket, its buckets are lent to the others, and no other client is moved.
A new socket gets its share step by step, because a client that comes to another worker must log in again.
"""

from __future__ import annotations

import ctypes
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from chatd import log

BUCKETS = 256
"""The hash has eight bits."""
_STEP = 4
"""Buckets that a new socket is given at once."""
_SO_ATTACH_REUSEPORT_CBPF = 51

# The instructions of linux/bpf_common.h that are used.
_LD_WORD, _LD_HALF, _LD_BYTE = 0x20, 0x28, 0x30  # A = packet[k]
_LDX_MEM, _ST = 0x61, 0x02  # X = M[k], M[k] = A
_RSH, _MUL, _XOR, _XOR_X = 0x74, 0x24, 0xA4, 0xAC  # A = A op k; A ^= X
_JUMP_EQUAL, _JUMP_GREATER, _JUMP = 0x15, 0x25, 0x05
_RETURN = 0x06
_NETWORK_HEADER = -0x100000 & 0xFFFFFFFF
"""SKF_NET_OFF: offsets from here on count from the IP header."""


class _Instruction(NamedTuple):
    """A struct sock_filter. yes, no: instructions to skip if a jump's condition holds, or does not."""

    code: int
    yes: int
    no: int
    operand: int


class Seed(msgspec.Struct, frozen=True, array_like=True):
    """Of the hash: four numbers of 32 bits; the three factors are odd."""

    of_port: int
    mask: int
    first: int
    second: int

    @staticmethod
    def new() -> Seed:
        of_port, mask, first, second = (secrets.randbits(32) for _ in range(4))
        return Seed(of_port | 1, mask, first | 1, second | 1)


class SteeringState(msgspec.Struct, frozen=True, kw_only=True):
    """For a later program of the master. order: descriptors of the sockets in the kernel's order. home: of each bucket,
    the place of its socket in that order. seed: clients keep their buckets by it."""

    order: tuple[int, ...]
    home: tuple[int, ...]
    seed: Seed = msgspec.field(default_factory=Seed.new)


class Steering:
    """The sockets of one address. All but state() must be called as sockets are bound and closed: the kernel numbers
    them in the order in which they were bound, and gives the number of a closed one to the last."""

    def __init__(self, seed: Seed | None = None) -> None:
        """seed: None = a new one."""
        self._seed = seed or Seed.new()
        self._members: list[socket.socket] = []
        """In the kernel's order."""
        self._home: list[socket.socket] = []
        """Of each bucket; empty while there is no socket."""
        self._growing: list[socket.socket] = []
        """Sockets that do not have their share yet."""

    def state(self) -> SteeringState:
        places = {sock: place for place, sock in enumerate(self._members)}
        return SteeringState(
            order=tuple(sock.fileno() for sock in self._members),
            home=tuple(places[sock] for sock in self._home),
            seed=self._seed,
        )

    def resume(self, members: Sequence[socket.socket], before: SteeringState) -> None:
        """Take over what an earlier program had. The kernel still has its program."""
        self._seed = before.seed
        self._members = list(members)
        self._home = [self._members[place] for place in before.home]
        count = Counter(self._home)
        self._growing = [sock for sock in self._members if count[sock] < BUCKETS // len(self._members)]

    def add(self, sock: socket.socket, *, gradually: bool) -> None:
        """A socket was bound. gradually: it gets its share by step(), because others serve the address now."""
        self._members.append(sock)
        if not self._home:
            self._home = [sock] * BUCKETS
        elif gradually:
            self._growing.append(sock)
        else:
            self._give(sock, BUCKETS)

    def remove(self, sock: socket.socket) -> None:
        """A socket was closed everywhere. Its buckets go to those with the fewest."""
        place = self._members.index(sock)
        last = self._members.pop()
        if last is not sock:
            self._members[place] = last
        if sock in self._growing:
            self._growing.remove(sock)
        if not self._members:
            self._home = []
            return
        count = Counter(dict.fromkeys(self._members, 0))
        count.update(one for one in self._home if one is not sock)
        for bucket, owner in enumerate(self._home):
            if owner is sock:
                poorest = min(self._members, key=lambda one: count[one])
                self._home[bucket] = poorest
                count[poorest] += 1

    def step(self, away: Collection[socket.socket]) -> bool:
        """Give new sockets that are served some more of their share. True: something has changed."""
        served = [sock for sock in self._growing if sock not in away]
        for sock in served:
            if self._give(sock, _STEP):
                self._growing.remove(sock)
        return bool(served)

    def _give(self, sock: socket.socket, most: int) -> bool:
        """Take at most so many buckets from those with the most. True: the socket has its share."""
        share = BUCKETS // len(self._members)
        count = Counter(self._home)
        for _ in range(most):
            if count[sock] >= share:
                return True
            richest = max(self._members, key=lambda one: count[one])
            bucket = self._home.index(richest)
            self._home[bucket] = sock
            count[richest] -= 1
            count[sock] += 1
        return count[sock] >= share

    def apply(self, away: Collection[socket.socket]) -> None:
        """From now on the kernel chooses by the shares. away: sockets that nobody serves; if nobody serves any, they
        keep what they have."""
        served = [sock for sock in self._members if sock not in away] or self._members
        if not served:
            return
        places = {sock: place for place, sock in enumerate(self._members)}
        chosen = [
            places[owner if owner in served else served[bucket % len(served)]]
            for bucket, owner in enumerate(self._home)
        ]
        try:
            _attach(self._members[0], _program(chosen, self._seed))
        except OSError as error:
            log.get().warning("UDP clients are not steered, the kernel refuses", why=error.strerror)


def bucket_of(host: int, port: int, seed: Seed) -> int:
    """As the program computes it. host: the IPv4 address, or the last 32 bits of an IPv6 address. Every bit of both
    reaches the upper bits, of which the bucket is made, in a way that the seed decides."""
    mixed = (port * seed.of_port & _WORD) ^ host ^ seed.mask
    mixed = mixed * seed.first & _WORD
    mixed ^= mixed >> 16
    return (mixed * seed.second & _WORD) >> 24


_WORD = 0xFFFFFFFF


def _program(chosen: Sequence[int], seed: Seed) -> list[_Instruction]:
    """Returns chosen[bucket_of(the sender)]. IP options and extension headers only make the hash another one."""

    def at(offset: int) -> int:
        return _NETWORK_HEADER + offset & 0xFFFFFFFF

    made = [
        _Instruction(_LD_BYTE, 0, 0, at(0)),
        _Instruction(_RSH, 0, 0, 4),
        _Instruction(_JUMP_EQUAL, 4, 0, 6),
        _Instruction(_LD_WORD, 0, 0, at(12)),
        _Instruction(_ST, 0, 0, 0),
        _Instruction(_LD_HALF, 0, 0, at(20)),
        _Instruction(_JUMP, 0, 0, 3),
        _Instruction(_LD_WORD, 0, 0, at(20)),
        _Instruction(_ST, 0, 0, 0),
        _Instruction(_LD_HALF, 0, 0, at(40)),
        _Instruction(_MUL, 0, 0, seed.of_port),
        _Instruction(_LDX_MEM, 0, 0, 0),
        _Instruction(_XOR_X, 0, 0, 0),
        _Instruction(_XOR, 0, 0, seed.mask),
        _Instruction(_MUL, 0, 0, seed.first),
        _Instruction(_ST, 0, 0, 0),
        _Instruction(_RSH, 0, 0, 16),
        _Instruction(_LDX_MEM, 0, 0, 0),
        _Instruction(_XOR_X, 0, 0, 0),
        _Instruction(_MUL, 0, 0, seed.second),
        _Instruction(_RSH, 0, 0, 24),
    ]
    for bucket in range(BUCKETS):
        if bucket == BUCKETS - 1 or chosen[bucket] != chosen[bucket + 1]:
            made.append(_Instruction(_JUMP_GREATER, 1, 0, bucket))
            made.append(_Instruction(_RETURN, 0, 0, chosen[bucket]))
    made.append(_Instruction(_RETURN, 0, 0, chosen[-1]))  # the kernel wants a program to end so
    return made


def _attach(sock: socket.socket, program: list[_Instruction]) -> None:
    """Raises: OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    kept = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(program), ctypes.addressof(kept))
    )
