"""Which process holds a file lock that others wait for.

Owns: reading /proc/locks. The write lock of the SQLite store is such a lock (store.sqlite.tables): a worker that is
stopped while it holds the lock keeps all others from writing.
Elsewhere: ending such a worker (master.workers).
Fails: never. Where /proc/locks cannot be read, no process is reported.
"""

from __future__ import annotations

import re
from pathlib import Path

LOCKS = Path("/proc/locks")
_LINE = re.compile(r"(\d+):\s*(->)?\s*FLOCK\s+\S+\s+\S+\s+(\d+)\s")
"""A line's lock number, the arrow that marks a waiting process, and the process id."""


def waiting(text: str) -> dict[int, set[int]]:
    """By process that holds a lock: the processes that wait for one of its locks. text: of /proc/locks."""
    found: dict[int, set[int]] = {}
    holders: dict[str, int] = {}
    for number, waits, process in _LINE.findall(text):
        if not waits:
            holders[number] = int(process)
        elif number in holders:
            found.setdefault(holders[number], set()).add(int(process))
    return found


def waiting_for(process: int) -> set[int]:
    """The processes that wait for a lock this one holds."""
    try:
        return waiting(LOCKS.read_text(encoding="ascii", errors="replace")).get(process, set())
    except OSError:
        return set()
