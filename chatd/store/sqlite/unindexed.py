"""Unindexed rows: the youngest messages, which are in the file but not yet in its index tables.

Owns: UnindexedRows, the memory of every row of `message` above meta.merged, and the merge that raises meta.merged.
Elsewhere: numbering and storing (store.sqlite.messages), reading (store.sqlite.history), the tables
(store.sqlite.schema).
Fails: sqlite3.Error passes through; then reset() must be called, and the next refresh() reads the rows again.

Why: an index entry with a random key dirties a page for itself, and a commit writes whole pages. Rows that are only
appended to `message` share their pages; `place` and `sent` get their entries sorted, a span of rows at a time. Merging
a whole span at once would delay one commit, the longer the larger the store is; so a full span is merged in slices, one
every few hundred messages, while the next one fills. A worker learns the unindexed rows by reading what others have
appended (some thousands at most), so nothing depends on memory that a crash can lose. Decisions 0002 and 0017 have the
figures.
"""

from __future__ import annotations

import functools
import sqlite3
from bisect import bisect_left, bisect_right

from chatd.model import ConversationId, Seq

SPAN = 8192
"""Rows that are merged together: message.id from n * SPAN to (n + 1) * SPAN - 1, as far as they are above meta.merged.
A store that is half-way through a span depends on it: changing the number needs a migration that ends that merge."""
SLICE = 256
"""Rows of a span that one commit adds to each index table. A slice is due after half as many new rows, so that a span
is merged before the next one is full."""


@functools.cache
def _insert_rows(table: str, width: int, rows: int) -> str:
    return f"INSERT INTO {table} VALUES " + ",".join(["(" + ",".join("?" * width) + ")"] * rows)


class _Span:
    """Up to SPAN rows of `message` as the two index tables will have them."""

    __slots__ = ("_key_order", "_place_order", "keys", "places")

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}
        """message.id by send_key."""
        self.places: dict[ConversationId, list[tuple[Seq, int]]] = {}
        """(seq, message.id) of each conversation, ascending."""
        self._place_order: list[tuple[ConversationId, Seq, int]] = []
        self._key_order: list[int] = []

    def entries(self, begin: int, end: int) -> tuple[list[int], list[int]]:
        """Rows `begin` to `end` of `place` and of `sent`, in the order of each table's key, flattened. Only for a span
        that is full: then every process has the same. Few steps in Python, because the event loop waits for the
        interpreter meanwhile."""
        if not self._place_order:
            self._place_order = [
                (conversation, seq, number)
                for conversation in sorted(self.places)
                for seq, number in self.places[conversation]
            ]
            self._key_order = sorted(self.keys)
        number_of = self.keys
        places = [value for row in self._place_order[begin:end] for value in row]
        return places, [value for key in self._key_order[begin:end] for value in (key, number_of[key])]


class UnindexedRows:
    """The rows that the index tables do not have yet, as of the last refresh() and add()."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._data_version = -1
        """SQLite's number for "another connection has committed"."""
        self._spans: dict[int, _Span] = {}
        """By their number, ascending. The last one is being filled, the first one merged."""
        self._filling = _Span()
        self._full_at = 0
        """The first message.id that belongs to the next span."""
        self._sliced = 0
        """How many entries of the first span are in each index table; meta.sliced."""
        self._due = 0
        """New rows since the last slice was merged."""
        self.merged = 0
        """The highest message.id with all its index entries; meta.merged."""
        self.end = 0
        """The highest message.id."""

    def reset(self) -> None:
        """Forget everything, because rows in memory may not be in the file."""
        self._data_version = -1
        self.merged = self.end = self._full_at = self._sliced = 0
        self._spans.clear()

    def refresh(self) -> bool:
        """Learn what other connections have committed; False if nothing. Cost: the rows they appended."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return False
        state = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN ('merged', 'sliced')"))
        merged, self._sliced = int(state["merged"]), int(state.get("sliced", 0))
        if merged != self.merged:
            self._set_merged(merged)
        rows = self._db.execute("SELECT id, conversation, seq, send_key FROM message WHERE id > ?", (self.end,))
        for number, conversation, seq, key in rows:
            self.add(number, conversation, seq, key)
        self._data_version = version  # last, so that a read that fails half-way goes on where it stopped
        return True

    def _set_merged(self, merged: int) -> None:
        """It moves over whole spans, except in a store that was filled by chatctl."""
        self.merged = merged
        self.end = max(self.end, merged)
        for number in [number for number in self._spans if (number + 1) * SPAN - 1 <= merged]:
            del self._spans[number]

    def add(self, number: int, conversation: ConversationId, seq: Seq, key: int | None) -> None:
        if number >= self._full_at:
            self._filling = self._spans[number // SPAN] = _Span()
            self._full_at = (number // SPAN + 1) * SPAN
        self.end = number
        span = self._filling
        if key is not None:
            span.keys[key] = number
        places = span.places.get(conversation)
        if places is None:
            span.places[conversation] = [(seq, number)]
        else:
            places.append((seq, number))

    # ---------------------------------------------------------------- asking

    def __bool__(self) -> bool:
        return self.end > self.merged

    def known(self, keys: set[int]) -> set[int]:
        """Which of them unindexed messages have."""
        found: set[int] = set()
        for span in self._spans.values():
            found |= keys & span.keys.keys()
        return found

    def sent(self, key: int) -> int | None:
        """message.id"""
        for span in self._spans.values():
            if (number := span.keys.get(key)) is not None:
                return number
        return None

    def last_seq(self, conversation: ConversationId) -> Seq | None:
        for span in reversed(self._spans.values()):
            if places := span.places.get(conversation):
                return places[-1][0]
        return None

    def number_of(self, conversation: ConversationId, seq: Seq) -> int | None:
        """message.id"""
        for span in self._spans.values():
            places = span.places.get(conversation, [])
            at = bisect_left(places, (seq, 0))
            if at < len(places) and places[at][0] == seq:
                return places[at][1]
        return None

    def after(self, conversation: ConversationId, seq: Seq, limit: int) -> list[int]:
        """message.id of the first ones above seq."""
        found: list[int] = []
        for span in self._spans.values():
            places = span.places.get(conversation, [])
            begin = bisect_right(places, (seq, self.end))
            found += [number for _, number in places[begin : begin + limit - len(found)]]
        return found

    def before(self, conversation: ConversationId, seq: Seq, limit: int, after: Seq = 0) -> list[int]:
        """message.id of the last ones below seq and above `after`, in no order."""
        found: list[int] = []
        for span in reversed(self._spans.values()):
            places = span.places.get(conversation, [])
            begin, end = bisect_right(places, (after, self.end)), bisect_left(places, (seq, 0))
            found += [number for _, number in places[max(begin, end - limit + len(found)) : end]]
        return found

    # ---------------------------------------------------------------- merging

    def merge(self, written: int) -> None:
        """Index as much as `written` new rows make due. Inside a transaction, under the write lock."""
        self._due += written
        while self._due >= SLICE // 2:
            self._due -= SLICE // 2
            if len(self._spans) > 1:
                self._merge_slice()

    def _merge_slice(self) -> None:
        number, span = next(iter(self._spans.items()))
        end = self._sliced + SLICE
        places, sent = span.entries(self._sliced, end)
        self._insert("place", 3, places)
        self._insert("sent", 2, sent)
        if len(places) == 3 * SLICE:
            self._sliced = end
        else:
            self._sliced = 0
            self._set_merged((number + 1) * SPAN - 1)
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('merged', ?), ('sliced', ?)", (str(self.merged), str(self._sliced))
        )

    def _insert(self, table: str, width: int, values: list[int]) -> None:
        if values:
            self._db.execute(_insert_rows(table, width, len(values) // width), values)
