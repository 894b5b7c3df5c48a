"""Which calls of one function of a plug-in are made.

Owns: PointGuard: a breaker for the function, and one for each user whose calls fail, so that one user cannot suspend
the function for everybody.
Elsewhere: the states of a breaker (core.plugins.breaker), the calls (core.plugins.plugin); the time is a parameter.
Fails: never.

The function is suspended when `failures` calls in a row have failed for at least SUSPENDING_USERS different users. A
failure is counted only if no other call succeeded while it was under way: then the function works, and the failure is
due to what it was asked. A user is held back when `failures` calls in a row have failed for this user; nobody else is
affected. A user is also held back while a call made for this user goes on although its time is over: otherwise a few
such calls would take all threads of the plug-in.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import NamedTuple

from chatd.core.plugins.breaker import Breaker, Permit

Cause = int | str
"""For whom a call is made: the id of a user, or, before a login, the source network of the client."""

SUSPENDING_USERS = 3
"""Different users whose failures are needed to suspend a function for all."""
HELD_FACTOR = 2
"""A user is held back this many times as long as a function is suspended, so that the call which tries a suspended
function again is made for somebody else."""
MAX_CAUSES = 10_000
"""Users remembered per function because of a failed call; the one remembered longest is forgotten first."""


class Verdict(enum.Enum):
    """What the end of a call means."""

    NOTHING = enum.auto()
    HELD = enum.auto()
    """The user is held back from now on."""
    RELEASED = enum.auto()
    """The user was held back, and is no longer."""
    SUSPENDED = enum.auto()
    """The function is suspended from now on."""
    RESUMED = enum.auto()
    """The function was suspended, and is called again."""


class Admission(NamedTuple):
    """A call that may be made; its end is reported once. successes: of the function, when the call began. own: of the
    user's breaker, 0 if the user had none."""

    cause: Cause
    permit: Permit
    own: Permit
    successes: int


class _Record:
    """A user for whom a call has failed. overdue: calls that go on although their time is over."""

    __slots__ = ("breaker", "overdue")

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.overdue = 0


class PointGuard:
    def __init__(self, failures: int, open_s: float) -> None:
        """failures: in a row. open_s: how long a function is suspended."""
        self._failures = failures
        self._open_s = open_s
        self._breaker = Breaker(failures, open_s)
        self._records: OrderedDict[Cause, _Record] = OrderedDict()
        self._held_until: dict[Cause, float] = {}
        """Users who are held back, the first to be free first."""
        self._overdue: set[Cause] = set()
        """Users held back because a call goes on."""
        self._failing: set[Cause] = set()
        """For whom calls have failed since one succeeded; no more than are needed to suspend the function."""
        self._successes = 0

    @property
    def is_suspended(self) -> bool:
        return self._breaker.is_open

    def held(self, now: float) -> int:
        """Users who are held back."""
        held = self._held_until
        while held and held[first := next(iter(held))] <= now:
            del held[first]
        return len(held.keys() | self._overdue) if self._overdue else len(held)

    # ---------------------------------------------------------------- calls

    def admit(self, cause: Cause, now: float) -> Admission | None:
        """May a call be made for this user at this time?"""
        if self._breaker.is_open and not self._breaker.is_due(now):
            return None
        record = self._records.get(cause)
        if record is not None and (record.overdue or self._leaves_the_trial_to_others(now)):
            return None
        own = record.breaker.admit(now) if record is not None else 0
        if own is None:
            return None
        permit = self._breaker.admit(now)
        assert permit is not None, "it is closed, or due"
        return Admission(cause, permit, own, self._successes)

    def _leaves_the_trial_to_others(self, now: float) -> bool:
        """A user for whom calls have failed does not make the call that tries a suspended function again, unless nobody
        else has for as long again."""
        return self._breaker.is_open and not self._breaker.is_due(now, self._open_s)

    def succeeded(self, call: Admission) -> Verdict:
        self._successes += 1
        self._failing.clear()
        record = self._records.get(call.cause)
        released = record is not None and record.breaker.succeeded(call.own)
        if record is not None and not record.overdue and not record.breaker.is_open:
            self._forget(call.cause)
        if self._breaker.succeeded(call.permit):
            self._forgive()
            return Verdict.RESUMED
        return Verdict.RELEASED if released else Verdict.NOTHING

    def failed(self, call: Admission, now: float) -> Verdict:
        verdict = Verdict.HELD if self._failed_for(call, now) else Verdict.NOTHING
        if self._successes != call.successes and not self._breaker.is_open:
            return verdict
        if len(self._failing) < SUSPENDING_USERS:
            self._failing.add(call.cause)
        if self._breaker.failed(call.permit, now, may_open=len(self._failing) >= SUSPENDING_USERS):
            return Verdict.SUSPENDED
        return verdict

    def _failed_for(self, call: Admission, now: float) -> bool:
        """True: the user is held back from now on."""
        breaker = self._record(call.cause).breaker
        held = breaker.failed(call.own, now)
        if breaker.is_open:
            self._held_until.pop(call.cause, None)
            self._held_until[call.cause] = now + HELD_FACTOR * self._open_s
        return held

    # ---------------------------------------------------------------- calls whose time is over

    def overdue(self, cause: Cause) -> None:
        """A call made for this user goes on although its time is over."""
        self._record(cause).overdue += 1
        self._overdue.add(cause)

    def overdue_ended(self, cause: Cause) -> None:
        record = self._records.get(cause)
        if record is not None and record.overdue:
            record.overdue -= 1
        if record is None or not record.overdue:
            self._overdue.discard(cause)

    # ---------------------------------------------------------------- what is remembered

    def _record(self, cause: Cause) -> _Record:
        record = self._records.get(cause)
        if record is None:
            if len(self._records) >= MAX_CAUSES:
                self._forget(next(iter(self._records)))
            record = self._records[cause] = _Record(Breaker(self._failures, HELD_FACTOR * self._open_s))
        return record

    def _forget(self, cause: Cause) -> None:
        del self._records[cause]
        self._held_until.pop(cause, None)
        self._overdue.discard(cause)

    def _forgive(self) -> None:
        """The function works again: what failed before was not the fault of those it was asked for."""
        for cause, record in tuple(self._records.items()):
            if record.overdue:
                record.breaker = Breaker(self._failures, HELD_FACTOR * self._open_s)
                self._held_until.pop(cause, None)
            else:
                self._forget(cause)
