"""What the store said a moment ago, so that it need not be asked again.

Owns: Remembered, bounded in number and in time.
Elsewhere: what is remembered, and when it must be forgotten earlier (core.calls, bridges.people).
Fails: never.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_S = 10.0
"""For how long."""
_MOST = 20_000
"""Of each kind; beyond it, all are forgotten."""


class Remembered(Generic[K, V]):
    """Values by key. Cost of each call but forget(): one look-up."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[K, tuple[V, float]] = {}
        """With the end of its time, by the monotonic clock."""

    def find(self, key: K) -> V | None:
        found = self._known.get(key)
        return found[0] if found is not None and time.monotonic() < found[1] else None

    def add(self, key: K, value: V) -> V:
        """Returns the value."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = value, time.monotonic() + _S
        return value

    def forget(self, is_meant: Callable[[V], bool]) -> None:
        """Forget all such values. Cost: a look at each."""
        for key in [key for key, (value, _) in self._known.items() if is_meant(value)]:
            del self._known[key]
