"""Records that repeat: how many of them are written, and how many only counted.

Owns: the decision for each record, by its key (what happened) and its source (who caused it), and the counts of those
held back.
Elsewhere: which records are limited, and how (log, security_log); writing the summaries (log.tick).
Fails: never. A key for which there is no room is not limited.

Two limits hold in every window: one per key and source, so that a single client cannot drown what others cause, and one
per key over all sources, so that any number of clients together cannot fill the disk. Records that the first limit
holds back do not count for the second. Memory: at most MAX_KEYS keys, each with at most `per_key` sources.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

WINDOW_S = 10.0
"""Length of a window. It begins with the first record of a key after the last window."""
GRACE_S = 5.0
"""A window that over() has not ended this long after its time, because the process is stuck, is ended by the next
record. What its sources caused is then told as one number."""
MAX_KEYS = 1000
"""Maximum keys watched at a time. Keys are fixed texts of the source code, so this is not reached."""


class Limits(NamedTuple):
    """Maximum records written in WINDOW_S. per_source: of one key and one source. per_key: of one key."""

    per_source: int
    per_key: int


class HeldBack(NamedTuple):
    """source "": of several sources, or of none."""

    key: str
    source: str
    times: int


class _Count:
    __slots__ = ("admitted", "held")

    def __init__(self, held: int = 0) -> None:
        self.admitted = 0
        self.held = held


class _Window(_Count):
    """held: what the limit over all sources held back."""

    __slots__ = ("began", "sources")

    def __init__(self, began: float, held: int = 0) -> None:
        super().__init__(held)
        self.began = began
        self.sources: dict[str, _Count] = {}
        """Sources with an admitted record, so at most Limits.per_key."""


class Repeats:
    """May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def admit(self, key: str, source: str, limits: Limits, now: float) -> bool:
        """Whether to write this record. now: time.monotonic()."""
        with self._lock:
            window = self._window(key, now)
            if window is None:
                return True
            count = window.sources.get(source)
            if count is not None and count.admitted >= limits.per_source:
                count.held += 1
                return False
            if window.admitted >= limits.per_key:
                window.held += 1
                return False
            if count is None:
                count = window.sources[source] = _Count()
            count.admitted += 1
            window.admitted += 1
            return True

    def _window(self, key: str, now: float) -> _Window | None:
        window = self._windows.get(key)
        if window is not None and now - window.began <= WINDOW_S + GRACE_S:
            return window
        if window is None and len(self._windows) >= MAX_KEYS:
            return None
        held = window.held + sum(count.held for count in window.sources.values()) if window else 0
        window = self._windows[key] = _Window(now, held)
        return window

    def over(self, now: float) -> list[HeldBack]:
        """End the windows whose time has passed: what they held back. To be called about once a second."""
        with self._lock:
            ended = [key for key, window in self._windows.items() if now - window.began > WINDOW_S]
            return [told for key in ended for told in _told(key, self._windows.pop(key))]


def _told(key: str, window: _Window) -> list[HeldBack]:
    by_source = [HeldBack(key, source, count.held) for source, count in window.sources.items() if count.held]
    return [*by_source, HeldBack(key, "", window.held)] if window.held else by_source
