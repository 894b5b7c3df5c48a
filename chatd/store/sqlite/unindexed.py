"""The youngest messages: written to the file, not yet to its index tables.

Owns: Tail, the memory of every row of `message` above the mark, and the merge that moves the mark.
Elsewhere: numbering and reading (store.sqlite.tables), the tables (store.sqlite.schema).
Fails: sqlite3.Error passes through; then reset() must be called, and the next refresh() reads the tail again.

Why: an index entry of a random key dirties a page of its own, and a commit writes whole pages. Rows appended
to `message` alone share their pages; `place` and `sent` get theirs sorted, a span of rows at a time. Many rows at
once would hold up one commit, the longer the larger the store is; so a span that is full is merged in slices, one
every few hundred messages, while the next one fills. A worker knows the tail by reading the rows that others have
appended (at most some thousands), so nothing depends on memory that a crash can lose. docs/decisions/0002 and 0017
have the figures.
"""

from __future__ import annotations

import functools
import sqlite3
from bisect import bisect_left, bisect_right

from chatd.model import ConversationId, Seq

SPAN = 8192
"""Rows that are merged together: message.id from n * SPAN to (n + 1) * SPAN - 1, as far as they are above the mark.
A store that is half-way through a span depends on it: another number needs a migration that ends that merge."""
SLICE = 256
"""Of them are indexed in one commit, in each table. A slice is due after half as many new rows, so that a span is in
before the next one is full."""


@functools.cache
def _insert_rows(table: str, width: int, rows: int) -> str:
    return f"INSERT INTO {table} VALUES " + ",".join(["(" + ",".join("?" * width) + ")"] * rows)


class _Span:
    """keys: send_key -> message.id. places: conversation -> [(seq, message.id)], ascending."""

    __slots__ = ("_key_order", "_place_order", "keys", "places")

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}
        self.places: dict[ConversationId, list[tuple[Seq, int]]] = {}
        self._place_order: list[tuple[ConversationId, Seq, int]] = []
        self._key_order: list[int] = []

    def entries(self, begin: int, end: int) -> tuple[list[int], list[int]]:
        """Rows of `place` and of `sent`, flat, by their position in the order of each table's key. To be asked for when
        the span is whole: then they are the same in every process. Steps in Python are counted here: the loop needs the
        interpreter more."""
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


class Tail:
    """mark: the highest message.id with all its index entries. end: the highest there is."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._version = -1
        self._spans: dict[int, _Span] = {}
        """By their number, ascending. The last one is being filled, the first one merged."""
        self._filling = _Span()
        self._full_at = 0
        self._sliced = 0
        """So many of the first span's entries are in each table."""
        self._due = 0
        self.mark = 0
        self.end = 0

    def reset(self) -> None:
        """Forget everything; what memory says may not be in the file."""
        self._version = -1
        self.mark = self.end = self._full_at = self._sliced = 0
        self._spans.clear()

    def refresh(self) -> bool:
        """Learn what other connections have written; False if there was nothing. Cost: their rows."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return False
        state = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN ('merged', 'sliced')"))
        mark, self._sliced = int(state["merged"]), int(state.get("sliced", 0))
        if mark != self.mark:
            self._move_mark(mark)
        rows = self._db.execute("SELECT id, conversation, seq, send_key FROM message WHERE id > ?", (self.end,))
        for number, conversation, seq, key in rows:
            self.add(number, conversation, seq, key)
        self._version = version  # last: a read that fails half-way is taken up where it ended
        return True

    def _move_mark(self, mark: int) -> None:
        """It moves over whole spans only, but for a store that was filled by other means than appending."""
        self.mark = mark
        self.end = max(self.end, mark)
        for number in [number for number in self._spans if (number + 1) * SPAN - 1 <= mark]:
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
        return self.end > self.mark

    def known(self, keys: set[int]) -> set[int]:
        """Those that are in the tail."""
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

    def after(self, conversation: ConversationId, seq: Seq, limit: int) -> list[int]:
        """message.id of the first ones above seq."""
        found: list[int] = []
        for span in self._spans.values():
            places = span.places.get(conversation, [])
            begin = bisect_right(places, (seq, self.end))
            found += [number for _, number in places[begin : begin + limit - len(found)]]
        return found

    def before(self, conversation: ConversationId, seq: Seq, limit: int) -> list[int]:
        """message.id of the last ones below seq, in no order."""
        found: list[int] = []
        for span in reversed(self._spans.values()):
            places = span.places.get(conversation, [])
            end = bisect_left(places, (seq, 0))
            found += [number for _, number in places[max(0, end - limit + len(found)) : end]]
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
            self._move_mark((number + 1) * SPAN - 1)
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('merged', ?), ('sliced', ?)", (str(self.mark), str(self._sliced))
        )

    def _insert(self, table: str, width: int, values: list[int]) -> None:
        if values:
            self._db.execute(_insert_rows(table, width, len(values) // width), values)
