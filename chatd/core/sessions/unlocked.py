"""Sessions that are served without their session lock, because the bus was cut off when they needed it.

Owns: which sessions these are, and when each asks for its lock again: after a gap (the bus may be back), every RETRY_S,
and at once where another worker turned out to hold the lock. At most AT_ONCE ask at the same time, and at most PER_TICK
begin per tick, so that a host that comes back with many sessions does not flood the bus.
Elsewhere: asking, and which session stays (core.sessions.exclusive).
Fails: never; a session that did not get its lock waits for the next time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from chatd import log
from chatd.background import BackgroundTasks
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable

RETRY_S = 5.0
"""Every session without a lock asks again this often; a gap or a lock that is lost makes it ask earlier."""
AT_ONCE = 64
"""Maximum lock requests in flight."""
PER_TICK = 250
"""Maximum started per tick."""


class UnlockedSessions:
    def __init__(self, background: BackgroundTasks, regain: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        """regain: asks for the session's lock. Returns when the session has it or has ended; raises Unavailable or
        TimeoutError when that cannot be said now."""
        self._background = background
        self._regain = regain
        self._waiting: dict[Session, None] = {}
        """Without a lock, and not asking."""
        self._due: dict[Session, None] = {}
        """Those of them that are to ask, the last one first."""
        self._asking: set[Session] = set()
        """Their lock requests are in flight."""
        self._budget = 0
        """How many may still begin in this tick."""
        self._retry_at = 0.0
        """When all sessions that wait become due, by the clock."""
        self._log = log.get()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._asking)

    def __contains__(self, session: Session) -> bool:
        """Whether it is without a lock and not asking for it."""
        return session in self._waiting

    @property
    def asking(self) -> int:
        """Lock requests in flight."""
        return len(self._asking)

    @property
    def due(self) -> int:
        """Sessions that are to ask as soon as there is room."""
        return len(self._due)

    def add(self, session: Session) -> None:
        """It has no lock. It asks at the next gap or retry."""
        if not len(self):
            self._log.warning("serving sessions without their session lock: the bus is cut off")
        self._waiting[session] = None

    def add_due(self, session: Session) -> None:
        """It has no lock any more. It asks in the next tick."""
        self._waiting[session] = None
        self.expedite(session)

    def expedite(self, session: Session) -> None:
        """Let it be the next to ask."""
        self._due.pop(session, None)
        self._due[session] = None

    def remove(self, session: Session) -> None:
        """It has ended."""
        self._waiting.pop(session, None)
        self._due.pop(session, None)

    def gap(self) -> None:
        """The bus may be back."""
        self._due.update(self._waiting)

    def tick(self) -> None:
        """About twenty times a second."""
        if not self._waiting:
            return
        now = time.monotonic()
        if now >= self._retry_at:
            self._retry_at = now + RETRY_S
            self._due.update(self._waiting)
        self._budget = PER_TICK
        self._start_due()

    def _start_due(self) -> None:
        while self._due and self._budget and len(self._asking) < AT_ONCE:
            self._budget -= 1
            session, _ = self._due.popitem()
            if session in self._waiting and session not in self._asking:
                del self._waiting[session]
                self._asking.add(session)
                self._background.start(self._ask(session))

    async def _ask(self, session: Session) -> None:
        try:
            await self._regain(session)
        except Unavailable:
            self._put_back(session)
            self._due.clear()  # the reason holds for all sessions: they wait for the next gap or retry
        except TimeoutError:
            self._put_back(session)
        finally:
            self._asking.discard(session)
            if not len(self):
                self._log.info("every session has its session lock again")
            self._start_due()

    def _put_back(self, session: Session) -> None:
        if not session.is_over:
            self._waiting[session] = None
