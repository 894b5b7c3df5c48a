"""Deleting old messages in slices, in the SQL of both twins.

Owns: which messages go and which stay without their text, what goes with them, the cursors, and the position in `meta`.
Elsewhere: the tables of one twin (store.sqlite.retention, store.mysql.retention), erased accounts (store.sql.erasure),
pace and options (core.retention).
Fails: what the database raises passes through.

Messages are looked at in the order of message.id, which is their age; those of the other kind of conversation are
passed over. For each conversation met, everything up to the highest old seq goes: so a last message that had to stay
goes as soon as a later one is old.

A message stays without its text:
* if it is the last one of its conversation, because the next number is made from it;
* if another message of its sender has the next send key, which is only found by way of this one
  (store.sql.repetitions). Very few have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from chatd.model import ConversationId, MessageState, Seq, UserId
from chatd.store.retention_contract import Kind, Slice
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.files import forget
from chatd.store.sql.send_keys import SendKeys

_POSITIONS = {Kind.PRIVATE: "retained_private", Kind.GROUPS: "retained_groups"}
_CLOCK = "retention_clock"
_LEFTOVERS = 4
"""How many times `limit` rows a slice deletes at most: those that had to stay in earlier slices come on top."""
_OLDEST = 500
"""Rows looked at for the oldest message with a text."""


class OldRow(NamedTuple):
    """A message, as far as deleting it needs it."""

    id: int
    conversation: ConversationId
    seq: Seq
    send_key: int | None
    state: int


class CursorRow(NamedTuple):
    """A row of `cursor`."""

    user_id: UserId
    conversation: ConversationId
    delivered: Seq
    seen: Seq


def numbers(values: Collection[int]) -> str:
    """For IN (…)."""
    return ",".join(map(str, values)) or "NULL"


class SqlRetention:
    """The part of store.contract.RetentionTables that is the same in both twins; their base."""

    _for_update = ""
    """Appended to a SELECT whose rows must not change until the commit."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend
        self._dissolved_at: dict[ConversationId, Seq] = {}
        """How far the messages of dissolved groups were deleted by this process: those that must stay are passed."""

    def transaction_lost(self) -> None:
        """It was rolled back, or may have been: nothing of it was done."""
        self._dissolved_at.clear()

    # ---------------------------------------------------------------- of the twin

    def _take_turn(self) -> bool:
        """False: another host is at work now."""
        return True

    def _end_turn(self) -> None:
        """Before the commit."""

    def _highest(self) -> int:
        """Only rows up to this message.id can be deleted."""
        raise NotImplementedError

    def _rows_upto(self, tops: dict[ConversationId, Seq], limit: int) -> list[OldRow]:
        """Of each conversation the messages up to this seq that can be deleted, at most `limit` in all."""
        raise NotImplementedError

    def _first_rows(self, conversation: ConversationId, after: Seq, limit: int) -> list[OldRow]:
        """Messages of a conversation that can be deleted, by seq."""
        raise NotImplementedError

    def _last_seqs(self, conversations: Collection[ConversationId]) -> dict[ConversationId, Seq]:
        raise NotImplementedError

    def _cursors_below(self, tops: dict[ConversationId, Seq]) -> list[CursorRow]:
        """Cursors of the members of these conversations that are, or whose read marks are, below this seq."""
        raise NotImplementedError

    def _set_cursors(self, rows: Sequence[CursorRow]) -> None:
        """Never back."""
        raise NotImplementedError

    def _keys_in_use(self, keys: Collection[int]) -> set[int]:
        """Which of these send keys messages have."""
        raise NotImplementedError

    def _delete(self, rows: Sequence[OldRow]) -> None:
        raise NotImplementedError

    def _blank_undeletable(self, kind: Kind, before_ms: int, now_ms: int, limit: int) -> Slice:
        """Blank old messages above _highest()."""
        return Slice()

    def _is_empty(self, conversation: ConversationId) -> bool:
        """A dissolved group has nothing left that is to be deleted later. Called after _first_rows() found nothing."""
        return True

    def _forget_group(self, conversation: ConversationId) -> None:
        """It has no messages any more: delete what else this twin keeps of it."""

    # ---------------------------------------------------------------- by age

    def expire(self, kind: Kind, before_ms: int, now_ms: int, limit: int) -> Slice:
        if not self._take_turn():
            return Slice()
        try:
            done, met_young = self._expire(kind, before_ms, now_ms, limit)
            if done.more or met_young:
                return done
            return _sum(done, self._blank_undeletable(kind, before_ms, now_ms, limit))
        finally:
            self._end_turn()

    def _expire(self, kind: Kind, before_ms: int, now_ms: int, limit: int) -> tuple[Slice, bool]:
        """Also whether a message was met that is too young; then those after it are not looked at."""
        position = self._meta(_POSITIONS[kind], self._for_update)
        rows = self._db.execute(
            "SELECT id, conversation, seq, sent_at_ms FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (position, self._highest(), limit),
        ).fetchall()
        old = old_rows(rows, before_ms, now_ms)
        met_young = len(old) < len(rows)
        if not old:
            return Slice(len(rows)), met_young
        tops = tops_of(kind, old)
        found = self._rows_upto(tops, _LEFTOVERS * limit) if tops else []
        deleted, blanked = self._remove(found)
        self._forget(tops)
        self._move_cursors(tops)
        complete = len(found) < _LEFTOVERS * limit
        if complete:
            self._set_meta(_POSITIONS[kind], old[-1][0])
        return Slice(len(old), deleted, blanked, not complete or len(old) == limit), met_young

    def _looked_at(self, kind: Kind) -> int:
        """The message.id up to which all messages of the kind are gone or blanked, as far as is known."""
        return self._meta(_POSITIONS[kind])

    def _remove(self, rows: Sequence[OldRow]) -> tuple[int, int]:
        """(how many were deleted, how many lost their text)"""
        last = self._last_seqs({row.conversation for row in rows})
        chained = self._chained(rows)
        staying = [row for row in rows if row.seq >= last.get(row.conversation, 0) or row.id in chained]
        stay = {row.id for row in staying}
        going = [row for row in rows if row.id not in stay]
        if going:
            self._delete(going)
        return len(going), self._blank([row.id for row in staying if row.state != MessageState.EXPIRED])

    def _chained(self, rows: Sequence[OldRow]) -> set[int]:
        """message.id of those after which another message of the sender is found."""
        following = {SendKeys.after(row.send_key): row.id for row in rows if row.send_key is not None}
        return {following[key] for key in self._keys_in_use(following)} if following else set()

    def _blank(self, ids: Collection[int]) -> int:
        if ids:
            self._db.execute(
                f"UPDATE message SET body = '', body_hash = NULL, meta = NULL, state = {int(MessageState.EXPIRED)}"
                f" WHERE id IN ({numbers(ids)})"
            )
        return len(ids)

    def _forget(self, tops: dict[ConversationId, Seq]) -> None:
        """What belongs to the messages up to these. The last revision of a conversation stays, because the next number
        is made from it."""
        if not tops:
            return
        union = " UNION ALL ".join(
            f"SELECT DISTINCT '{table}', conversation FROM {table} WHERE conversation IN ({numbers(tops)})"
            for table in ("revision", "hidden", "mention", "file")
        )
        for table, conversation in self._db.execute(union).fetchall():
            upto = (conversation, tops[conversation])
            if table == "revision":
                query = "SELECT max(number) FROM revision WHERE conversation = ?"
                (newest,) = self._db.execute(query, upto[:1]).fetchone()
                self._db.execute(
                    "DELETE FROM revision WHERE conversation = ? AND seq <= ? AND number < ?", (*upto, newest)
                )
            elif table == "file":
                forget(self._db, "conversation = ? AND seq <= ?", upto)
            else:
                self._db.execute(f"DELETE FROM {table} WHERE conversation = ? AND seq <= ?", upto)

    def _move_cursors(self, tops: dict[ConversationId, Seq]) -> None:
        """Beyond what is deleted: nobody waits for it, and nobody has it unread."""
        if tops and (behind := self._cursors_below(tops)):
            self._set_cursors(
                [
                    row._replace(
                        delivered=max(row.delivered, tops[row.conversation]), seen=max(row.seen, tops[row.conversation])
                    )
                    for row in sorted(set(behind))
                ]
            )

    # ---------------------------------------------------------------- dissolved groups

    def expire_dissolved(self, before_ms: int, now_ms: int, limit: int) -> Slice:
        if not self._take_turn():
            return Slice()
        try:
            self._db.execute("UPDATE dissolved SET at_ms = ? WHERE at_ms = 0", (now_ms,))
            query = f"SELECT team_id FROM dissolved WHERE at_ms < ? ORDER BY team_id{self._for_update}"
            for (group_id,) in self._db.execute(query, (before_ms,)).fetchall():
                done = self._expire_group(-group_id, limit)
                if done.more:
                    return done
            return Slice()
        finally:
            self._end_turn()

    def _expire_group(self, conversation: ConversationId, limit: int) -> Slice:
        after = self._dissolved_at.get(conversation, 0)
        rows = self._first_rows(conversation, after, limit)
        if rows:
            chained = self._chained(rows)
            going = [row for row in rows if row.id not in chained]
            if going:
                self._delete(going)
            blanked = self._blank(chained)
            self._forget({conversation: rows[-1].seq})
            self._dissolved_at[conversation] = rows[-1].seq
            return Slice(len(rows), len(going), blanked, True)
        if self._is_empty(conversation):
            self._db.execute("DELETE FROM revision WHERE conversation = ?", (conversation,))
            self._db.execute("DELETE FROM dissolved WHERE team_id = ?", (-conversation,))
            self._forget_group(conversation)
            self._dissolved_at.pop(conversation, None)
        return Slice()

    # ---------------------------------------------------------------- the clock and the oldest

    def clock(self) -> int:
        return self._meta(_CLOCK)

    def set_clock(self, now_ms: int) -> None:
        if now_ms > self.clock():
            self._set_meta(_CLOCK, now_ms)

    def _meta(self, key: str, lock: str = "") -> int:
        """lock: _for_update, or nothing."""
        row = self._db.execute(f"SELECT value FROM meta WHERE `key` = ?{lock}", (key,)).fetchone()
        return int(row[0]) if row else 0

    def _set_meta(self, key: str, value: int) -> None:
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (key, str(value)))

    def _oldest_ms(self) -> int:
        """Of the first messages that were not looked at; those that stay without a text may come before."""
        begin = min(self._looked_at(kind) for kind in Kind)
        row = self._db.execute(
            "SELECT min(sent_at_ms) FROM (SELECT sent_at_ms, state FROM message WHERE id > ? ORDER BY id"
            f" LIMIT {_OLDEST}) AS m WHERE state <> {int(MessageState.EXPIRED)}",
            (begin,),
        ).fetchone()
        return int(row[0] or 0)


def old_rows(
    rows: Sequence[tuple[int, ConversationId, Seq, int]], before_ms: int, now_ms: int
) -> list[tuple[int, ConversationId, Seq, int]]:
    """The rows (id, conversation, seq, sent_at_ms) before the first one that is too young."""
    for index, row in enumerate(rows):
        if before_ms <= row[3] <= now_ms:
            return list(rows[:index])
    return list(rows)


def tops_of(kind: Kind, rows: Sequence[tuple[int, ConversationId, Seq, int]]) -> dict[ConversationId, Seq]:
    """The highest seq of each conversation of this kind. Rows of one conversation come in the order of their seq."""
    private = kind is Kind.PRIVATE
    return {conversation: seq for _, conversation, seq, _ in rows if (conversation > 0) is private}


def _sum(one: Slice, other: Slice) -> Slice:
    return Slice(one.looked_at + other.looked_at, one.deleted + other.deleted, one.blanked + other.blanked, other.more)
