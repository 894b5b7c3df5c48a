"""Numbering and storing messages in MySQL.

Owns: appending a batch: the locks on its conversations, the numbers, whether a draft repeats an earlier message.
Elsewhere: transactions (store.mysql.tables), where each draft goes (store.mysql.recipients), reading
(store.mysql.history).
Fails: Again and Unavailable as store.mysql.connection; a draft that is not allowed gets an ErrorCode as its result.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, ConversationId, GroupId, Message, Seq, UserId
from chatd.store.contract import Again, Draft, SendingRules, Stored
from chatd.store.mysql import barrier
from chatd.store.mysql.backend import MysqlBackend
from chatd.store.mysql.connection import DuplicateKey, MysqlConnection
from chatd.store.mysql.cursors import MysqlCursors
from chatd.store.mysql.recipients import Destination, Recipients
from chatd.store.mysql.statements import number_list, pair_list
from chatd.store.sql.extras import ExtrasWriter
from chatd.store.sql.files import SqlFiles
from chatd.store.sql.groups import SqlGroups, refusal_of, standing_of
from chatd.store.sql.mailboxes import Mailboxes
from chatd.store.sql.messages import COLUMNS, MessageRow, new_message
from chatd.store.sql.meta import Meta, meta_of, with_meta
from chatd.store.sql.repetitions import Repetitions
from chatd.store.sql.send_keys import SendKeys

_LOOKING_S = 10.0
"""After one repeated message, others are expected for this long: a client that was cut off sends again."""
STATEMENT_BYTES = 1 << 20
"""Maximum rows of one INSERT, if the server accepts a statement of that size."""
INSERT_MESSAGES = (
    b"INSERT INTO message (conversation, seq, sender_id, send_key, fp, sent_at_ms, qos, typeu, body) VALUES "
)
LOCK_CONVERSATIONS = b"SELECT id, last FROM conversation FORCE INDEX (PRIMARY) WHERE id IN (%s) ORDER BY id FOR UPDATE"
_MEMBERS = (
    b"SELECT m.team_id, m.user_id, t.members_version, t.member_count, m.role, m.muted_until_ms, t.announcements"
    b" FROM member AS m JOIN team AS t ON t.id = m.team_id WHERE (m.team_id, m.user_id) IN (%s)"
)
_COUNTS = "SELECT id, members_version, member_count FROM team WHERE id IN"
_SENT = f"SELECT m.send_key, {COLUMNS} FROM message AS m WHERE m.send_key IN (%s)".encode()
_HASH = b"SELECT body_hash FROM message WHERE send_key = %d"
_SET_HASH = b"UPDATE message SET body_hash = %d WHERE send_key = %d"
_SET_META = "UPDATE message SET meta = ? WHERE conversation = ? AND seq = ?"
_COUNT = b"UPDATE conversation SET last = last + %d WHERE id IN (%s)"
_NOTHING = b"SELECT 1 FROM DUAL WHERE FALSE"
_ENTER = barrier.ENTER.encode()


class _Append(msgspec.Struct, kw_only=True):
    """One call of append(), on its way through the steps."""

    drafts: Sequence[Draft]
    places: list[Destination | ErrorCode]
    """Where each draft goes, or why it is refused."""
    keys: Sequence[int | None]
    """The first send key of each draft; None for one without an fp."""
    members: dict[GroupId, tuple[int, int]] = {}
    """members_version and member_count of the groups that are written to, read when they were locked."""
    now_ms: int


class MysqlMessages:
    """The rows of `message`, written. Within a transaction."""

    def __init__(self, db: MysqlConnection, backend: MysqlBackend, groups: SqlGroups, files: SqlFiles) -> None:
        self._db = db
        self._backend = backend
        self._recipients = Recipients(db, backend)
        self._extras = ExtrasWriter(db, groups, backend.directory, files)
        self._keys = SendKeys()
        self._repetitions = Repetitions(backend.directory, self._sent, self._body_hash)
        self._cursors = MysqlCursors(db)
        self._mailboxes = Mailboxes(self._cursors)
        self._looking_until = 0.0
        """Until then (monotonic seconds), every batch is checked for repeated messages before it is inserted."""

    def append(self, drafts: Sequence[Draft], now_ms: int, rules: SendingRules) -> list[Stored | ErrorCode]:
        """Cost: two round trips for any number of drafts, up to three more for recipients seen for the first time, and
        one for pairs of users whose permission to write cannot be remembered. Drafts are compared with stored messages
        only after an insert found its key in use: then, and for every batch of the next _LOOKING_S."""
        keys = self._keys.of(drafts)
        places = self._recipients.destinations(drafts, rules.may_write)
        batch = _Append(drafts=drafts, places=places, keys=keys, now_ms=now_ms)
        last = self._lock(batch)
        if self._mailboxes.begin(rules, now_ms):
            self._refuse_full(batch, last)
        if time.monotonic() >= self._looking_until:
            refused = [key for place, key in zip(batch.places, keys, strict=True) if isinstance(place, ErrorCode)]
            try:
                return self._store(batch, dict(last), self._known(refused))
            except DuplicateKey:
                self._looking_until = time.monotonic() + _LOOKING_S
        return self._store(batch, last, self._known(keys))

    def _store(
        self, batch: _Append, last: dict[ConversationId, Seq], sent: dict[int, Message]
    ) -> list[Stored | ErrorCode]:
        """last: the numbers of the locked conversations, counted up here. sent: the messages known to have the keys;
        those stored here are added."""
        results: list[Stored | ErrorCode] = []
        rows: list[bytes] = []
        hashes: dict[int, int] = {}
        with_extras: list[Message] = []
        given: Counter[ConversationId] = Counter()
        for draft, place, key in zip(batch.drafts, batch.places, batch.keys, strict=True):
            if key is not None and key in sent:
                key, result = self._repetitions.look_up(key, draft, sent, hashes)
                if result is not None:
                    results.append(result)
                    continue
            if isinstance(place, ErrorCode):
                results.append(place)
                continue
            conversation, recipient = place
            meta: Meta | None = None
            if draft.command.extras is not None:
                checked = self._extras.check(draft, draft.command.extras, last[conversation], with_extras)
                if isinstance(checked, ErrorCode):
                    results.append(self._first_result(key, draft, sent, hashes) or checked)
                    continue
                meta = checked
            seq = last[conversation] = last[conversation] + 1
            given[conversation] += 1
            message = new_message(draft, recipient, conversation, seq, batch.now_ms)
            if meta is not None:
                message = with_meta(message, meta)
                with_extras.append(message)
            rows.append(self._row(message, key))
            if key is not None:
                sent[key] = message
                if draft.body_hash is not None:
                    hashes[key] = draft.body_hash
            group_id = draft.command.to_group
            results.append(Stored(message, True, *(batch.members[group_id] if group_id else ())))
        self._insert(rows, given)
        self._complete(hashes, with_extras)
        return results

    def _first_result(
        self, key: int | None, draft: Draft, sent: dict[int, Message], hashes: Mapping[int, int]
    ) -> Stored | ErrorCode | None:
        """Of a draft whose extras cannot be: its files may be sent because it repeats a message. None: it does not."""
        known = self._known((key,))
        if key is None or key not in known:
            return None
        sent.update(known)
        return self._repetitions.look_up(key, draft, sent, hashes)[1]

    def _complete(self, hashes: Mapping[int, int], with_extras: Sequence[Message]) -> None:
        """Write what few of the inserted messages have. hashes: body_hash by key."""
        if hashes:
            self._db.query_all(*(_SET_HASH % (body_hash, key) for key, body_hash in hashes.items()))
        for message in with_extras:
            self._db.execute(_SET_META, (meta_of(message), message.conversation, message.seq))
        if with_extras:
            self._extras.remember(with_extras)

    def _row(self, message: Message, key: int | None) -> bytes:
        """In the order of INSERT_MESSAGES."""
        literal = self._db.literal
        return b"(%d,%d,%d,%s,%s,%d,%d,%d,%s)" % (
            message.conversation, message.seq, message.sender_id, literal(key), literal(message.fp),
            message.sent_at_ms, message.qos, message.typeu, literal(message.body),
        )  # fmt: skip

    def _insert(self, rows: list[bytes], given: Counter[ConversationId]) -> None:
        """The new last numbers go with the last rows, in one round trip. Raises DuplicateKey: nothing was written."""
        by_count: dict[int, list[ConversationId]] = {}
        for conversation, count in given.items():
            by_count.setdefault(count, []).append(conversation)
        counted = [_COUNT % (count, number_list(sorted(numbers))) for count, numbers in by_count.items()]
        parts = list(_parts(rows, min(STATEMENT_BYTES, self._db.packet_bytes // 2)))
        for index, part in enumerate(parts):
            following = counted if index == len(parts) - 1 else []
            try:
                answer = self._db.query_all(INSERT_MESSAGES + b",".join(part), *following)[0]
            except DuplicateKey as error:
                if index:
                    self._looking_until = time.monotonic() + _LOOKING_S
                    raise Again("a key of a long batch is taken") from error
                raise
            assert answer.lastrowid
            self._backend.witness = self._backend.witness or ("message", answer.lastrowid)

    def _lock(self, batch: _Append) -> dict[ConversationId, Seq]:
        """The last numbers of all conversations, and into the batch what it needs of groups: until the commit, no
        other transaction can count them up. A draft to a group to which the sender may not write is refused in
        `places`."""
        conversations = sorted({place[0] for place in batch.places if not isinstance(place, ErrorCode)})
        if not conversations:
            return {}
        outsiders = {(draft.command.to_group, draft.sender.id) for draft in batch.drafts if draft.command.to_group}
        locked, members = self._db.query_all(
            *((_ENTER,) if self._backend.has_webhooks else ()),
            LOCK_CONVERSATIONS % number_list(conversations),
            _MEMBERS % pair_list(sorted(outsiders)) if outsiders else _NOTHING,
        )[-2:]
        refused: dict[tuple[GroupId, UserId], ErrorCode] = {}
        for group_id, user_id, version, count, *member in members:
            batch.members[group_id] = version, count
            outsiders.discard((group_id, user_id))
            refusal = refusal_of(standing_of(*member), batch.now_ms)
            if refusal is not None:
                refused[group_id, user_id] = refusal
        if of_system := {pair for pair in outsiders if pair[1] == SYSTEM.id}:
            outsiders -= self._open_to_system(of_system, batch)
        if outsiders:
            refused |= self._outside(outsiders)
        if refused:
            self._refuse(refused, batch)
        return dict(locked.fetchall())

    def _open_to_system(self, asked: set[tuple[GroupId, UserId]], batch: _Append) -> set[tuple[GroupId, UserId]]:
        """Of these pairs of a group and the system, those whose group exists; their versions go into the batch."""
        found = self._backend.select_in(_COUNTS, {group_id for group_id, _ in asked})
        for group_id, version, count in found:
            batch.members[group_id] = version, count
        return {(group_id, SYSTEM.id) for group_id, _, _ in found}

    def _outside(self, outsiders: set[tuple[GroupId, UserId]]) -> dict[tuple[GroupId, UserId], ErrorCode]:
        asked = {group_id for group_id, _ in outsiders}
        known = {row[0] for row in self._backend.select_in("SELECT id FROM team WHERE id IN", asked)}
        return {pair: ErrorCode.NOT_A_MEMBER if pair[0] in known else ErrorCode.UNKNOWN_GROUP for pair in outsiders}

    @staticmethod
    def _refuse(refused: dict[tuple[GroupId, UserId], ErrorCode], batch: _Append) -> None:
        for index, draft in enumerate(batch.drafts):
            group_id = draft.command.to_group
            if group_id and (group_id, draft.sender.id) in refused:
                batch.places[index] = refused[group_id, draft.sender.id]

    # ---------------------------------------------------------------- what waits

    def _refuse_full(self, batch: _Append, last: dict[ConversationId, Seq]) -> None:
        """In `places`: drafts to users for whom too many messages wait, except repetitions, which take no room. Cost:
        one round trip where something is not cached, and one where something is refused."""
        private = [
            (index, draft.sender.id, place[0], place[1].id)
            for index, (draft, place) in enumerate(zip(batch.drafts, batch.places, strict=True))
            if not isinstance(place, ErrorCode) and place[0] > 0
        ]
        self._cursors.learn(self._mailboxes, {(conversation, to) for _, _, conversation, to in private})
        reserved: set[int] = set()
        full = set(self._full(private, last, reserved))
        if full:
            known = self._known(batch.keys)
            for index, _, _, to in private:
                if index not in full:  # it is counted again
                    shares = self._mailboxes.reserve if index in reserved else self._mailboxes.spare
                    shares[to] = shares.get(to, 0) + 1
            for index in self._full([one for one in private if batch.keys[one[0]] not in known], last, set()):
                batch.places[index] = ErrorCode.MAILBOX_FULL

    def _full(
        self,
        private: Sequence[tuple[int, UserId, ConversationId, UserId]],
        last: dict[ConversationId, Seq],
        reserved: set[int],
    ) -> list[int]:
        """The indexes of those that may not be stored. private: (index, sender, conversation, recipient) of each draft.
        reserved: the indexes of those that take what is kept for friends are added."""
        mailboxes, seqs, full = self._mailboxes, dict(last), []
        rooms, spare = mailboxes.rooms, mailboxes.spare
        self._cursors.admitted.clear()
        for index, sender, conversation, to in private:
            seq = seqs[conversation] + 1
            left = spare.get(to)  # as Mailboxes.take(), whose call is saved where the answer is cached
            if left and seq <= rooms.get((conversation, to), 0):
                spare[to] = left - 1
            elif (shares := mailboxes.take(conversation, to, seq, sender)) is None:
                full.append(index)
                continue
            elif shares is mailboxes.reserve:
                reserved.add(index)
            seqs[conversation] = seq
            self._cursors.admitted.append(to)
        return full

    # ---------------------------------------------------------------- repetitions

    def _known(self, keys: Sequence[int | None]) -> dict[int, Message]:
        """The messages that have one of the keys."""
        wanted = sorted(key for key in keys if key is not None)
        return self._by_key(self._db.query(_SENT % number_list(wanted)).fetchall()) if wanted else {}

    def _by_key(self, rows: list[tuple[Any, ...]]) -> dict[int, Message]:
        found: list[MessageRow] = [row[1:] for row in rows]
        return dict(zip((row[0] for row in rows), self._backend.messages(found), strict=True))

    def _body_hash(self, key: int) -> int | None:
        """Of the message that has this key."""
        found = self._db.query(_HASH % key).fetchone()
        return found[0] if found else None

    def _sent(self, key: int) -> Message | None:
        return self._by_key(self._db.query(_SENT % b"%d" % key).fetchall()).get(key)


def _parts(rows: list[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """Cut where a part would become longer than most_bytes; a longer row becomes a separate part."""
    part: list[bytes] = []
    size = 0
    for row in rows:
        if part and size + len(row) > most_bytes:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    if part:
        yield part
