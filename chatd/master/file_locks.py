"""Who holds a file lock that others wait for, as the kernel tells it.

Owns: reading /proc/locks. The store's write lock is such a lock (store.sqlite.tables): a worker that is stopped while
it has it keeps all others from writing.
Elsewhere: what becomes of such a worker (master.workers).
Fails: never. Where the kernel tells nothing, nobody is blamed.
"""

from __future__ import annotations

import re
from pathlib import Path

LOCKS = Path("/proc/locks")
_LINE = re.compile(r"(\d+):\s*(->)?\s*FLOCK\s+\S+\s+\S+\s+(\d+)\s")
"""Its number, the arrow of one who waits, the process."""


def waiting(text: str) -> dict[int, set[int]]:
    """text: as /proc/locks has it. By the process that holds a lock, the processes that wait for one of its locks."""
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
