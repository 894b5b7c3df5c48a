"""`python -m tests.retention.planted VARIANT -c FILE …` is chatd that does retention in seconds, mostly with a bug.

Owns: `quick`, the one without; the bugs, by name: each a guard of retention that is switched off.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main

SPAN, SLICE = 64, 8
"""Rows that are merged together: so that the store of a short test has index entries, and rows are deleted."""
SETTLE_MS = 500


def quick() -> None:
    from chatd.core import retention
    from chatd.store.sql import erasure
    from chatd.store.sqlite import retention as sqlite_retention
    from chatd.store.sqlite import unindexed

    unindexed.SPAN, unindexed.SLICE = SPAN, SLICE
    retention.CHECK_S = 0.5
    erasure.SETTLE_MS = SETTLE_MS  # type: ignore[attr-defined]
    sqlite_retention.KEPT_PAGES = 8


def young_ones_too() -> None:
    """The age is not looked at."""
    from chatd.store.sql.retention import SqlRetention

    quick()
    expire = SqlRetention.expire

    def eager(self: Any, kind: Any, before_ms: int, now_ms: int, limit: int) -> Any:
        return expire(self, kind, now_ms + 1000, now_ms, limit)

    SqlRetention.expire = eager  # type: ignore[method-assign]


def the_last_one_too() -> None:
    """A conversation of which everything is old has no message left to count on from."""
    from chatd.store.sqlite.retention import SqliteRetention

    quick()
    SqliteRetention._last_seqs = lambda self, conversations: dict.fromkeys(conversations, 1 << 60)  # type: ignore[method-assign]


def sessions_wait_for_ever() -> None:
    """What the store no longer has is taken for a gap."""
    from chatd.core.catch_up import CatchUp

    quick()
    give_all = CatchUp._give_all

    def waiting(self: Any, session: Any, cursors: Any, waiting: Any, *rest: Any) -> Any:
        return give_all(self, session, cursors, waiting._replace(complete_after={}), *rest)

    CatchUp._give_all = waiting  # type: ignore[method-assign]


def erased_texts_stay_in_the_file() -> None:
    """SQLite forgets a text without overwriting it."""
    import sqlite3

    from chatd.store.sqlite import file

    quick()
    connect = file.connect

    def careless(path: Any) -> sqlite3.Connection:
        db = connect(path)
        db.execute("PRAGMA secure_delete = OFF")
        return db

    file.connect = careless


def the_clock_is_believed() -> None:
    """A clock that has jumped ahead makes everything old."""
    from chatd.core.retention import Retention

    quick()

    async def right(self: Any) -> bool:
        return True

    Retention._clock_is_right = right  # type: ignore[method-assign]


BUGS = {
    bug.__name__: bug
    for bug in (
        young_ones_too,
        the_last_one_too,
        sessions_wait_for_ever,
        erased_texts_stay_in_the_file,
        the_clock_is_believed,
    )
}

if __name__ == "__main__":
    sys.exit(main(BUGS | {"quick": quick}))
