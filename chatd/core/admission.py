"""Admission to password hashing: whose hash is made next, and who is told BUSY.

Owns: AdmissionQueue, the hashes of one worker that wait: their order, how many may wait, and dropping those that nobody
waits for any more.
Elsewhere: hashing (core.passwords), what is refused before (core.penalties).
Fails: Refused BUSY for what does not fit, or was dropped for a client of another source.

Every hash has a class. A class that has work is given at least its share of the threads, and what one class does not
use goes to the others. Inside a class the source networks take turns, and each source's hashes are made in the order in
which they came. So a flood delays others by a few hashes, not by the length of its own queue.

The queue is as long as the threads can serve within timeouts.login_s, by the measured time of a hash, and at most
limits.login_queue. When it is full, the class that is furthest over its share gives up the newest hash of its source
with the most. So a source that has less waiting than another always gets in.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

from chatd.errors import ErrorCode, Refused
from chatd.ranking import Ranking

T = TypeVar("T")

FILLED = 0.8
"""Share of timeouts.login_s that may be spent waiting; the rest is for the store and the answer."""
_SMOOTHING = 0.1
"""Weight of the latest hash in the measured time of a hash."""


class Work(enum.Enum):
    """Classes of hashes."""

    KNOWN = enum.auto()
    """Clients of a source from which this account's user has logged in before, and users who are logged in."""

    STREAM = enum.auto()
    """Other clients over TCP, TLS, WebSocket or a Unix socket."""

    SUSPECT = enum.auto()
    """The same, where a wrong password came from the source lately. A flood of guesses from many sources soon consists
    of these, and does not keep newcomers waiting."""

    DATAGRAM = enum.auto()
    """Clients over UDP. Their source may be forged."""


SHARES = {Work.KNOWN: 0.5, Work.STREAM: 0.25, Work.SUSPECT: 0.125, Work.DATAGRAM: 0.125}
"""Each class's share of the threads."""


class Applicant(NamedTuple):
    """For whom a hash is made. check: called when its turn has come, before the hash; raises Refused if it is not to be
    made any more (the client has gone, its source got a penalty meanwhile)."""

    source: str
    work: Work
    check: Callable[[], None]


def _nothing() -> None:
    pass


OPERATOR = Applicant("", Work.KNOWN, _nothing)
"""For tests, and for work that no client asked for."""


class _Ticket:
    """One hash that waits. turn: done when its thread is free, or with Refused."""

    __slots__ = ("applicant", "turn")

    def __init__(self, applicant: Applicant, turn: asyncio.Future[None]) -> None:
        self.applicant = applicant
        self.turn = turn


class _FairQueue:
    """The tickets of one class: by source, the sources in turns."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.size = 0
        self.position = 0.0
        """How much of its share the class has used, in the time of AdmissionQueue."""
        self._sources: dict[str, deque[_Ticket]] = {}
        """In the order of their turns."""
        self._ranking: Ranking[str] = Ranking()
        """The sources by how many tickets they have."""

    def add(self, ticket: _Ticket) -> None:
        source = ticket.applicant.source
        tickets = self._sources.setdefault(source, deque())
        tickets.append(ticket)
        self._resized(source, len(tickets) - 1, len(tickets))

    def take(self) -> _Ticket:
        """The next one; there is one."""
        source = next(iter(self._sources))
        tickets = self._sources.pop(source)
        ticket = tickets.popleft()
        if tickets:
            self._sources[source] = tickets  # behind the other sources
        self._resized(source, len(tickets) + 1, len(tickets))
        return ticket

    def give_up(self) -> _Ticket:
        """The newest one of the source with the most; there is one."""
        source = self._ranking.last()
        tickets = self._sources[source]
        ticket = tickets.pop()
        if not tickets:
            del self._sources[source]
        self._resized(source, len(tickets) + 1, len(tickets))
        return ticket

    def _resized(self, source: str, before: int, now: int) -> None:
        self._ranking.move(source, before, now)
        self.size += now - before


class AdmissionQueue:
    """Runs work in `pool`, `threads` at a time. Everything is called from the worker's loop.

    hash_s: measured time of one hash.
    """

    def __init__(self, pool: Executor, threads: int, hash_s: float) -> None:
        self.hash_s = hash_s
        self._pool = pool
        self._threads = threads
        self._running = 0
        self._classes = {work: _FairQueue(share) for work, share in SHARES.items()}
        self._time = 0.0
        """Of stride scheduling: the position of the class that was served last. A class that had no work starts from
        here, so that it does not save up its share."""

    @property
    def waiting(self) -> int:
        """Hashes that wait for a thread."""
        return sum(one.size for one in self._classes.values())

    async def run(self, work: Callable[[], T], applicant: Applicant, most: int, patience_s: float) -> T:
        """The result of `work`, run in a thread when its turn has come. most: maximum that wait. patience_s: for how
        long a client waits.

        Raises: Refused BUSY, or what applicant.check raises; then `work` was not run.
        """
        if self._running < self._threads and not self.waiting:
            self._running += 1
        else:
            await self._wait(applicant, max(1, min(most, self._capacity(patience_s))))
        # From here on one thread is ours.
        try:
            applicant.check()
            loop = asyncio.get_running_loop()
            began = loop.time()
            result = await loop.run_in_executor(self._pool, work)
            self.hash_s += _SMOOTHING * (loop.time() - began - self.hash_s)
            return result
        finally:
            self._running -= 1
            self._start_next()

    def _capacity(self, patience_s: float) -> int:
        return int(FILLED * patience_s * self._threads / max(self.hash_s, 1e-6))

    async def _wait(self, applicant: Applicant, capacity: int) -> None:
        ticket = _Ticket(applicant, asyncio.get_running_loop().create_future())
        queue = self._classes[applicant.work]
        if not queue.size:
            queue.position = max(queue.position, self._time)
        queue.add(ticket)
        while self.waiting > capacity:
            fullest = max((one for one in self._classes.values() if one.size), key=lambda one: one.size / one.share)
            dropped = fullest.give_up()
            if not dropped.turn.done():
                dropped.turn.set_exception(Refused(ErrorCode.BUSY))
        try:
            await ticket.turn
        except asyncio.CancelledError:
            if ticket.turn.done() and not ticket.turn.cancelled() and ticket.turn.exception() is None:
                self._running -= 1  # its turn had come
                self._start_next()
            raise

    def _start_next(self) -> None:
        """Give free threads to those that wait."""
        while self._running < self._threads and self.waiting:
            ticket = self._take()
            if not ticket.turn.done():  # otherwise nobody waits for it any more
                self._running += 1
                ticket.turn.set_result(None)

    def _take(self) -> _Ticket:
        """From the class that has used the least of its share."""
        queue = min((one for one in self._classes.values() if one.size), key=lambda one: one.position)
        self._time = queue.position
        queue.position += 1 / queue.share
        return queue.take()
