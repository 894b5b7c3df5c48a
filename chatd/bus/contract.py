"""The bus between workers: a doorbell, never the record.

Owns: the contract, kept by bus.local.bus and by any other bus, and checked by one suite (tests/bus/contract.py).
Not here: what the bytes mean (core.bus_messages); what must not be lost (store).
Fails: quietly. A publish may be lost when a peer or link dies; then `on_gap` is called on every worker
that may have missed something, and it reads what its sessions miss from the store.

A topic is an int: topic_of_user(id) or topic_of_group(id). LocalLocks are exclusive locks that die with their
holder: at most one worker of the host (or cluster) holds a key. A worker that was cut off for longer than its
lease may find, when it is back, that others hold locks it had: it is told by on_lock_lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from chatd.model import GroupId, UserId

Topic = int

ABSENT_S = 600.0
"""A worker that was lost without a word is remembered for so long: it may only be cut off, and alive."""


def topic_of_user(user_id: UserId) -> Topic:
    """Subscribed by the workers where the user has a session."""
    return user_id << 2


def topic_of_group(group_id: GroupId) -> Topic:
    """Subscribed by the workers where a member has a session."""
    return group_id << 2 | 1


def topic_of_presence(user_id: UserId) -> Topic:
    """Subscribed by the workers where somebody watches whether the user is online."""
    return user_id << 2 | 2


def topic_of_answer(ref: int) -> Topic:
    """Subscribed by the worker that has asked the others something, for a while. ref: of 60 bits, its own."""
    return ref << 2 | 3


OnMessage = Callable[[Topic, bytes], None]
OnGap = Callable[[], None]
OnLockLost = Callable[[int], None]
EVERYBODY: Topic = topic_of_answer(0)
"""Subscribed by every worker."""


class Bus(Protocol):
    """All methods are called from the worker's loop."""

    async def open(self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost) -> None:
        """Join. on_message: a publish of another worker on a topic subscribed here, in the order that
        worker published. on_gap: something may have been missed. on_lock_lost: the lock `key` is another worker's now;
        it is no longer held here, and lock() may ask for it again. All are called from the loop, never inside one
        of these methods. Raises Unavailable."""
        ...

    async def close(self) -> None: ...

    def publish(self, topic: Topic, data: bytes) -> None:
        """To every other worker subscribed to topic; never to this one. Leaves at the end of the loop turn,
        all of a turn to one peer in one write. Never raises, never blocks, bounded memory (overflow = gap there)."""
        ...

    def wanted(self, topic: Topic) -> bool:
        """False only where a publish would reach nobody: then it need not be made."""
        ...

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        """Returns when every publish that starts after now reaches us, on every peer that answers. A peer that
        does not answer within a second is not waited for; when it answers later, on_gap is called."""
        ...

    def unsubscribe(self, topics: Iterable[Topic]) -> None: ...

    async def elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        """Those of the topics that another worker is subscribed to (users online elsewhere). May lag by moments.
        What cannot be known now (the bus is cut off, or others have not yet returned to it) is answered as it was
        last seen, else as subscribed: a live user is never shown offline. Never raises; answers within a second."""
        ...

    async def lock(self, key: int) -> bool:
        """Take the lock `key` (>= 0) for this worker; False if another worker holds it. Idempotent here.
        Exact under races; a holder that is killed loses its locks at once (local) or with its lease (redis).
        Raises Unavailable when the bus cannot say now, within a second; on_gap is called when it can again."""
        ...

    def unlock(self, key: int) -> None: ...

    @property
    def healthy(self) -> bool:
        """Publishes reach the others and theirs reach us, as far as it was seen within the last five seconds."""
        ...

    @property
    def name(self) -> str:
        """This worker's on the bus. No other has it, now or later. Once it is open."""
        ...

    def others(self) -> dict[str, str]:
        """Every other worker by its name, and what people call the place where it is: the host, or on the bus of one
        host the worker. Those that were lost less than ABSENT_S ago are among them, unless it is known that they are
        dead. From memory: cut off, it says who was there."""
        ...

    @property
    def round_trip_us(self) -> int:
        """How long the last canary took, published by this worker to itself; 0 where there is none."""
        ...
