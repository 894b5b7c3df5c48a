"""Ranking: which of many keys has the most, at any moment.

Owns: Ranking, the keys by their counts.
Elsewhere: what is counted, and what becomes of the one with the most (net.admission, core.admission).
Fails: KeyError when a count is told that the key does not have, which is a bug.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")


class Ranking(Generic[K]):
    """Every operation takes constant time, whatever the number of keys: it is done during an attack.

    most: the highest count, 0 = there is no key. _ranks: the keys by their counts; in each rank the first came to it
    first.
    """

    __slots__ = ("_ranks", "most")

    def __init__(self) -> None:
        self.most = 0
        self._ranks: dict[int, dict[K, None]] = {}

    def move(self, key: K, before: int, now: int) -> None:
        """The count of the key was `before`, and is `now`: one more or one less. 0: the key is not ranked."""
        if before:
            rank = self._ranks[before]
            del rank[key]
            if not rank:
                del self._ranks[before]
        if now:
            self._ranks.setdefault(now, {})[key] = None
        if now > self.most or self.most not in self._ranks:
            self.most = now

    def first(self) -> K:
        """Of the keys with the most, the one that has had that many for longest. There is one."""
        return next(iter(self._ranks[self.most]))

    def last(self) -> K:
        """Of the keys with the most, the one that came to have that many last. There is one."""
        return next(reversed(self._ranks[self.most]))
