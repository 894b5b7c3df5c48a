"""Reading events for applications, in the SQL of both twins.

Owns: reading `event` and `message` as one ordered log, and deleting events.
Elsewhere: recording events (store.sql.event_log), how far each webhook has come (store.sql.webhooks), which rows may be
read yet (feeds.feed).
Fails: what the database raises passes through.

An event stands after the messages up to its after_message. On MySQL that may fall from one event to the next; then the
highest one so far counts. (A later message of the event's conversation has an id above that, too: it was numbered after
this event was, and so after the events with lower ids.)
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chatd.model import Message, User, UserId
from chatd.store.event_contract import EventKind, Position, ReadLimits, StoredEvent, Stretch
from chatd.store.sql.database import Database
from chatd.store.sql.event_log import EventLog
from chatd.store.sql.messages import SELECT, MessageRow

_IDS_AT_ONCE = 500
_COUNTED = 1_000_000
"""Events beyond this are not counted."""
_KINDS = frozenset(map(str, EventKind))
_NONE: Mapping[str, object] = {}
_NOBODY: Mapping[int, User] = {}


class EventReading(NamedTuple):
    """What the twins do differently. messages: makes messages of rows, with the present names of their users. user:
    also finds deleted users. message_id: of a conversation and seq. slots, free: see EventTables; `free` is a
    statement, "" where transactions never overlap."""

    messages: Callable[[Sequence[MessageRow]], list[Message]]
    user: Callable[[UserId], User]
    message_id: Callable[[int, int], int | None]
    log: EventLog
    slots: frozenset[int] = frozenset()
    free: str = ""


class _EventRow(NamedTuple):
    id: int
    after_message: int
    at_ms: int
    kind: str
    message_id: int
    details: str


_EVENT_COLUMNS = ", ".join(_EventRow._fields)


class SqlEvents:
    """store.event_contract.EventTables."""

    def __init__(self, db: Database, reading: EventReading) -> None:
        self._db = db
        self._reading = reading

    def record(self, kind: EventKind, details: Mapping[str, object], message: tuple[int, int] | None = None) -> None:
        number = self._reading.message_id(*message) if message is not None else None
        self._reading.log.record(kind, details, number or 0)

    # ---------------------------------------------------------------- what may be read

    def marks(self) -> Position:
        query = "SELECT (SELECT max(id) FROM message), (SELECT max(id) FROM event)"
        message, event = self._db.execute(query).fetchone()
        return Position(message or 0, event or 0)

    def slots(self) -> frozenset[int]:
        return self._reading.slots

    def free(self) -> frozenset[int]:
        if not self._reading.free:
            return frozenset()
        return frozenset(row[0] for row in self._db.execute(self._reading.free))

    # ---------------------------------------------------------------- reading

    def read(self, after: Position, upto: Position, kinds: Collection[EventKind], limits: ReadLimits) -> Stretch:
        wants_messages = EventKind.MESSAGE_STORED in kinds
        messages = self._message_rows(after.message, upto.message, limits.events) if wants_messages else []
        events = self._event_rows(after.event, upto.event, limits.events)
        found = _Found(
            messages=messages,
            upto_message=messages[-1][0] if len(messages) == limits.events else upto.message,
            events=events,
            all_events=len(events) < limits.events,
        )
        chosen, reached = _choose(found, after, kinds, limits)
        seen = reached.message >= found.upto_message or not messages or reached.message == messages[-1][0]
        is_all = seen and found.all_events and found.upto_message == upto.message
        if is_all and (not events or reached.event == events[-1].id):
            return Stretch(self._made(chosen), upto, False)
        return Stretch(self._made(chosen), reached, True)

    def count(self, after: Position, upto: Position, kinds: Collection[EventKind]) -> int:
        found = 0
        if EventKind.MESSAGE_STORED in kinds:
            found += max(0, upto.message - after.message)
        others = [kind for kind in kinds if kind is not EventKind.MESSAGE_STORED]
        if others and upto.event > after.event:
            marks = ",".join("?" * len(others))
            row = self._db.execute(
                "SELECT count(*) FROM (SELECT id FROM event WHERE id > ? AND id <= ?"
                f" AND kind IN ({marks}) LIMIT {_COUNTED}) AS e",
                (after.event, upto.event, *map(str, others)),
            ).fetchone()
            found += int(row[0])
        return found

    def _message_rows(self, after: int, upto: int, limit: int) -> list[MessageRow]:
        query = f"{SELECT} WHERE m.id > ? AND m.id <= ? ORDER BY m.id LIMIT ?"
        return [tuple(row) for row in self._db.execute(query, (after, upto, limit))]

    def _event_rows(self, after: int, upto: int, limit: int) -> list[_EventRow]:
        if upto <= after:
            return []
        query = f"SELECT {_EVENT_COLUMNS} FROM event WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        return [_EventRow(*row) for row in self._db.execute(query, (after, upto, limit))]

    # ---------------------------------------------------------------- making events of rows

    def _made(self, rows: Sequence[MessageRow | _EventRow]) -> list[StoredEvent]:
        about = [row.message_id for row in rows if isinstance(row, _EventRow) and row.message_id]
        raw = [row for row in rows if not isinstance(row, _EventRow)]
        stored = iter(self._reading.messages(raw))
        changed = self._by_id(about)
        return [
            self._event(row, changed) if isinstance(row, _EventRow) else _stored(row[0], next(stored)) for row in rows
        ]

    def _event(self, row: _EventRow, changed: Mapping[int, Message]) -> StoredEvent:
        details = json.loads(row.details)
        users = {number: self._reading.user(number) for number in _users_in(details)}
        message = changed.get(row.message_id)
        return StoredEvent(f"e{row.id}", EventKind(row.kind), row.at_ms, message, details, users)

    def _by_id(self, ids: Sequence[int]) -> dict[int, Message]:
        found: dict[int, Message] = {}
        for at in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[at : at + _IDS_AT_ONCE]
            rows = self._db.execute(f"{SELECT} WHERE m.id IN ({','.join('?' * len(some))})", tuple(some)).fetchall()
            found |= zip((row[0] for row in rows), self._reading.messages(rows), strict=True)
        return found

    # ---------------------------------------------------------------- deleting

    def trim(self, before_ms: int, most: int, limit: int) -> int:
        first, last = self._db.execute("SELECT min(id), max(id) FROM event").fetchone()
        if first is None:
            return 0
        (read,) = self._db.execute("SELECT min(event) FROM webhook").fetchone()
        upto = last if read is None else read
        old = self._db.execute(
            "SELECT max(id) FROM (SELECT id, at_ms FROM event ORDER BY id LIMIT ?) AS e WHERE at_ms < ?",
            (limit, before_ms),
        ).fetchone()[0]
        upto = min(max(upto, old or 0, last - most), first + limit - 1)
        if upto < first:
            return 0
        if read is not None and upto > read:
            self._drop(upto)
        self._db.execute("DELETE FROM event WHERE id <= ?", (upto,))
        return int(upto - first + 1)

    def _drop(self, upto: int) -> None:
        """Move the webhooks that have not read these beyond them."""
        for name, kinds, event in self._db.execute(
            "SELECT name, kinds, event FROM webhook WHERE event < ?", (upto,)
        ).fetchall():
            wanted = [EventKind(kind) for kind in str(kinds).split() if kind in _KINDS]
            lost = self.count(Position(0, event), Position(0, upto), [one for one in wanted if one != "message.stored"])
            self._db.execute(
                "UPDATE webhook SET event = ?, claimed_event = CASE WHEN claimed_event < ? THEN ? ELSE claimed_event"
                " END, dropped = dropped + ? WHERE name = ?",
                (upto, upto, upto, lost, name),
            )


class _Found(NamedTuple):
    """The rows of one read. upto_message: messages with higher ids were not read. all_events: no event is left beyond
    these."""

    messages: Sequence[MessageRow]
    upto_message: int
    events: Sequence[_EventRow]
    all_events: bool


def _choose(
    found: _Found, after: Position, kinds: Collection[EventKind], limits: ReadLimits
) -> tuple[list[MessageRow | _EventRow], Position]:
    """The rows to be given, in order, and the position after them."""
    chosen: list[MessageRow | _EventRow] = []
    reached, chars = after, 0
    for standing, row in _merged(found):
        if len(chosen) == limits.events:
            break
        if isinstance(row, _EventRow):
            reached = Position(max(reached.message, standing), row.id)
            if row.kind in kinds:
                chosen.append(row)
            continue
        chars += len(row[8])
        if chosen and chars > limits.chars:
            break
        reached = reached._replace(message=row[0])
        chosen.append(row)
    return chosen, reached


def _merged(found: _Found) -> Iterable[tuple[int, MessageRow | _EventRow]]:
    """Each row with the message.id up to which everything comes before it; as far as the order is certain: beyond the
    last rows that were read, there may be others."""
    left = deque(found.messages)
    standing = 0
    for event in found.events:
        standing = max(standing, event.after_message)
        while left and left[0][0] <= standing:
            yield left[0][0], left.popleft()
        if standing > found.upto_message:
            return
        yield standing, event
    while left and found.all_events:
        yield left[0][0], left.popleft()


def _stored(number: int, message: Message) -> StoredEvent:
    return StoredEvent(f"m{number}", EventKind.MESSAGE_STORED, message.sent_at_ms, message, _NONE, _NOBODY)


def _users_in(details: Mapping[str, Any]) -> set[UserId]:
    found = {int(details[name]) for name in ("user", "by") if name in details}  # 0 is the system
    return found | {int(one) for one in details.get("users", ())}
