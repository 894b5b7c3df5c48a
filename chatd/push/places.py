"""How many notifications of one push service may be on their way at the same time.

Owns: Places, so that a service that is slow, or does not answer, leaves room for the others.
Elsewhere: sending (push.sender), what is due (push.delivery).
Fails: never.
"""

from __future__ import annotations

from collections import Counter

AT_ONCE = 50
"""Notifications on their way at the same time, of all services."""
_MOST = 40
"""Of one service."""
_MOST_UNANSWERED = 5
"""Of a service that has not answered the last time."""


class Places:
    """Of one worker. Each that was taken is given back."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._unanswered: set[str] = set()

    def free(self) -> int:
        return AT_ONCE - self._taken.total()

    def full(self) -> set[str]:
        """Services for which there is none now."""
        return {service for service in self._taken if not self._has_room(service)}

    def _has_room(self, service: str) -> bool:
        return self._taken[service] < (_MOST_UNANSWERED if service in self._unanswered else _MOST)

    def take(self, service: str) -> bool:
        """False: there is none for it."""
        if not (self.free() and self._has_room(service)):
            return False
        self._taken[service] += 1
        return True

    def give_back(self, service: str, *, is_answered: bool | None) -> None:
        """is_answered: None = nothing was asked."""
        self._taken[service] -= 1
        if not self._taken[service]:
            del self._taken[service]
        if is_answered is False:
            self._unanswered.add(service)
        elif is_answered:
            self._unanswered.discard(service)
