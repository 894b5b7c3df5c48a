"""The bus: publish/subscribe, exclusive locks and membership between the workers of one host or of a cluster.

Owns: what the rest of chatd may use. Every implementation (bus.local, bus.redis) passes tests/bus/contract.py.
Elsewhere: what the published bytes mean (core.bus_messages); what must not be lost (the store).
Fails: a publish is lost when a worker dies, a connection breaks or a queue overflows. The bus never hides that: each
worker that may have missed something has its `on_gap` called, and reads from the store what its sessions lack.

Three services:

* Publish/subscribe. A topic is an integer (topic_of_user() and its relatives). Delivery is at most once, in the order
  in which one worker published.
* Locks. At most one worker holds the lock of a key. A lock ends with its holder: at once on one host, when its lease
  expires in a cluster. A worker that was cut off for longer than its lease learns from `on_lock_lost` which locks other
  workers took meanwhile.
* Membership. other_workers() lists every worker that can be expected to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Protocol

from chatd.model import GroupId, UserId

Topic = int

LOST_WORKER_KEPT_S = 600.0
"""How long other_workers() goes on listing a worker that disappeared without leaving and is not known to be dead."""


def topic_of_user(user_id: UserId) -> Topic:
    """Subscribed by every worker where the user has a session."""
    return user_id << 2


def topic_of_group(group_id: GroupId) -> Topic:
    """Subscribed by every worker where a member of the group has a session."""
    return group_id << 2 | 1


def topic_of_presence(user_id: UserId) -> Topic:
    """Subscribed by every worker where somebody watches whether the user is online."""
    return user_id << 2 | 2


def topic_of_answer(ref: int) -> Topic:
    """Subscribed by the worker that asked a question, until it has its answers. ref: a number of at most 60 bits that
    no other question uses; 0 is EVERYBODY."""
    return ref << 2 | 3


EVERYBODY: Topic = topic_of_answer(0)
"""Subscribed by every worker for as long as it is open (by core, not by the bus)."""

OnMessage = Callable[[Topic, bytes], None]
OnGap = Callable[[], None]
OnLockLost = Callable[[int], None]


class LockShare(NamedTuple):
    """By which another worker of this host gives locks to a worker. name: of the one that is to have them.
    descriptors: open files, which whoever receives them closes."""

    name: bytes
    descriptors: tuple[int, ...] = ()


class Bus(Protocol):
    """One worker's end of the bus. Every method is called from the worker's event loop."""

    async def open(
        self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost, *, patient: bool = False
    ) -> None:
        """Join the bus. Call once, before anything else.

        patient: if the bus cannot be reached, it is open nevertheless, behaves as one that is cut off, and joins as
        soon as that is possible.

        on_message(topic, data): another worker published on a topic subscribed here.
        on_gap(): publishes may have been missed. Reasons that come together are reported once.
        on_lock_lost(key): another worker holds this lock now. It is no longer held here; lock() may ask for it again.

        The callbacks run from the loop, never inside a method of the bus. Exceptions they raise are logged.

        Raises:
            Unavailable: the bus cannot be reached; it stays closed. If patient, only the bus of one host raises it.
        """
        ...

    async def close(self) -> None:
        """Leave the bus, in at most about two seconds. Everything published before has been handed over to every
        worker that reads, and all locks are released. Never raises; may be called twice, and without open()."""
        ...

    def publish(self, topic: Topic, data: bytes) -> None:
        """Send data to every other worker subscribed to the topic; never back to this one.

        Everything published during one turn of the loop leaves in one write per connection at its end. Memory is
        bounded: what does not fit in the queue is dropped, and a gap is reported to the workers that miss it. Never
        blocks, never raises. Costs microseconds."""
        ...

    def has_subscribers(self, topic: Topic) -> bool:
        """False only if a publish would certainly reach nobody and may be skipped. From memory, one lookup; a bus
        that cannot know (Redis) answers True."""
        ...

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        """Subscribe to the topics. Afterwards every publish that begins reaches this worker, from every worker that
        answers. One that does not answer within a second is not waited for; on_gap is called when it does.

        Topics that are subscribed already cost nothing, but their confirmation is waited for. Cancelled, the topics
        may be subscribed or not: unsubscribe them. Never raises."""
        ...

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        """Unsubscribe from the topics; those not subscribed are ignored. A publish on its way is not delivered."""
        ...

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        """Those of the topics that another worker is subscribed to. May lag by moments.

        A topic about which nothing is known now (the bus is cut off, or other workers have not come back to it) is
        reported as last seen, or as subscribed if it was never seen: a user with a session is never shown as offline.
        Answers within a second; never raises. Costs a round trip for each server of the bus, nothing on one host."""
        ...

    async def lock(self, key: int) -> bool:
        """Take the lock of `key` (0 or more) for this worker. False: another worker holds it. A lock that this worker
        holds is granted again. Exact under races.

        Raises:
            Unavailable: the bus cannot tell now; raised within a second. If the lock was taken after all, it is
            released again; on_gap is called when locks work again.
        """
        ...

    def unlock(self, key: int) -> None:
        """Release the lock of `key`; one that is not held is ignored. If the bus is cut off, the lock is released when
        it is back. Never raises."""
        ...

    def lock_share(self) -> LockShare:
        """What another worker of this host needs to give locks to this one. The descriptors stay this bus's own: send
        copies."""
        ...

    async def give_lock(self, key: int, to: LockShare) -> bool:
        """Pass a lock that is held here to another worker of this host, without releasing it in between. True: the
        other worker has it, and notes it by keep_lock(). False: it was not held here, or a third worker has it. In
        either case it is not held here any more.

        Raises:
            Unavailable: the bus cannot tell now. It is not held here any more; the other worker may or may not have it.
        """
        ...

    async def take_lock_back(self, key: int, given: LockShare) -> bool:
        """Undo give_lock(), whether the other worker is alive or not. False: a third worker has the lock, or the other
        one has released it and it could not be taken.

        Raises:
            Unavailable: the bus cannot tell now.
        """
        ...

    def keep_lock(self, key: int) -> None:
        """This worker was given the lock of `key`: it is held here from now on."""
        ...

    @property
    def healthy(self) -> bool:
        """The bus works: publishes reach the other workers and theirs reach this one, as seen within the last five
        seconds, and other_workers() is complete. A worker that hangs does not make the bus unhealthy: other_workers()
        still lists it, and a worker that asks it something notices the missing answer."""
        ...

    @property
    def trouble(self) -> str:
        """Why the bus is not healthy, in one line for an operator; "" while it is."""
        ...

    @property
    def name(self) -> str:
        """This worker's name on the bus; no other worker has it, now or later. Valid once the bus is open."""
        ...

    def other_workers(self) -> dict[str, str]:
        """Every other worker: its name on the bus -> the name shown to an operator (its host; on the bus of one host,
        "worker SLOT").

        Includes workers that hang, and those that disappeared less than LOST_WORKER_KEPT_S ago unless they are known to
        be dead. From memory; while the bus is cut off, as last known."""
        ...

    @property
    def refused(self) -> int:
        """Messages and connections refused since the start, because they are not by a worker of this host or
        cluster."""
        ...

    @property
    def round_trip_us(self) -> int:
        """Microseconds taken by the latest message that this worker published to itself; 0 if the bus does not measure
        this (on one host it does not)."""
        ...
