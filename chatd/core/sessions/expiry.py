"""Sessions that end when the token of their login expires.

Owns: Expiry: which sessions have an end, and which have reached it.
Elsewhere: until when a session may last (core.authentication), ending it (core.sessions.login).
Fails: never.

Ends are kept here and not in the sessions, most of which have none. A session may be renewed at any time, so an entry
of the heap only says when to look at it again.
"""

from __future__ import annotations

import heapq
import itertools

from chatd.core.sessions.session import Session

_STALE = 2
"""The entries are made anew when there are so many times more than sessions, and _FEW more."""
_FEW = 1000


class Expiry:
    """Of one worker. Costs nothing while no session has an end."""

    __slots__ = ("_ends", "_entries", "_number")

    def __init__(self) -> None:
        self._ends: dict[Session, int] = {}
        """Of each session that has an end: when it is, milliseconds since the epoch."""
        self._entries: list[tuple[int, int, Session]] = []
        """A heap: (when to look, in milliseconds since the epoch; a number, so that sessions need not be compared; the
        session)."""
        self._number = itertools.count()

    def watch(self, session: Session, ends_at_ms: int) -> None:
        """A live session has this end, in milliseconds since the epoch; 0 = none."""
        if ends_at_ms and not session.is_over:
            self._ends[session] = ends_at_ms
            heapq.heappush(self._entries, (ends_at_ms, next(self._number), session))

    def end_of(self, session: Session) -> int:
        """0 = it has none."""
        return self._ends.get(session, 0)

    def forget(self, session: Session) -> None:
        """It is over, or lives elsewhere. May be called for any session."""
        self._ends.pop(session, None)
        if len(self._entries) > _STALE * len(self._ends) + _FEW:
            self._entries = [(end, next(self._number), one) for one, end in self._ends.items()]
            heapq.heapify(self._entries)

    def due(self, now_ms: int) -> list[Session]:
        """The sessions whose end has come. Each is given once. Cost: one comparison while none is due."""
        found: list[Session] = []
        entries = self._entries
        while entries and entries[0][0] <= now_ms:
            _, _, session = heapq.heappop(entries)
            if self._ends.get(session, now_ms + 1) <= now_ms:  # otherwise it is over, or was renewed
                del self._ends[session]
                found.append(session)
        return found
