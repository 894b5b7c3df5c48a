"""Recording events for applications, in the SQL of both twins.

Owns: inserting into the table `event`, and the key "events" of `meta`: which kinds of events are wanted.
Elsewhere: reading events (store.sql.events), who wants them (store.sql.webhooks).
Fails: what the database raises passes through.

after_message: the highest message.id that was visible when the event was recorded. All messages of the event's
conversation that came before it have a lower id or that one; all that came later, a higher one: they are numbered after
this transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from chatd import wall_clock
from chatd.store.event_contract import EventKind
from chatd.store.sql.database import Database

WANTED = "events"
"""Key in `meta`: the kinds that are wanted, separated by spaces."""


def _nothing() -> None:
    pass


class EventLog:
    """enter: called before the first row is inserted, to be seen by those who wait for this transaction."""

    def __init__(self, db: Database, enter: Callable[[], None] = _nothing) -> None:
        self._db = db
        self._enter = enter

    def wants(self, kind: EventKind) -> bool:
        row = self._db.execute("SELECT value FROM meta WHERE `key` = ?", (WANTED,)).fetchone()
        return bool(row) and kind in str(row[0]).split()

    def record(self, kind: EventKind, details: Mapping[str, object], message_id: int = 0) -> None:
        """As store.event_contract.EventTables.record()."""
        if not self.wants(kind):
            return
        self._enter()
        (last,) = self._db.execute("SELECT max(id) FROM message").fetchone()
        self._db.execute(
            "INSERT INTO event (after_message, at_ms, kind, message_id, details) VALUES (?, ?, ?, ?, ?)",
            (last or 0, wall_clock.now_ms(), str(kind), message_id, json.dumps(details, ensure_ascii=False)),
        )
