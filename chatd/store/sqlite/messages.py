"""Numbering and storing messages in SQLite.

Owns: appending a batch: where each draft goes, whether it repeats an earlier message, its number.
Elsewhere: transactions (store.sqlite.tables), the rows without an index entry (store.sqlite.unindexed), reading
(store.sqlite.history).
Fails: sqlite3.Error passes through; a draft that is not allowed gets an ErrorCode as its result.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, ConversationId, GroupId, Message, User, UserId
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, SendingRules, Stored
from chatd.store.sql.extras import ExtrasWriter
from chatd.store.sql.files import SqlFiles
from chatd.store.sql.groups import MAY_WRITE, SqlGroups, refusal_of
from chatd.store.sql.mailboxes import Mailboxes
from chatd.store.sql.messages import CACHED, NO_USER, SELECT, MessageReader, pair_of
from chatd.store.sql.meta import Meta, meta_of, with_meta
from chatd.store.sql.repetitions import Repetitions
from chatd.store.sql.send_keys import SendKeys
from chatd.store.sql.verdicts import CODES, LASTING, Ground
from chatd.store.sqlite.backend import SqliteBackend
from chatd.store.sqlite.cursors import SqliteCursors

_CHUNK = 64
"""Rows of one INSERT. SQLite releases the interpreter lock once per statement, and gets it back only when the event
loop lets go, up to a millisecond later. So what can be one statement is one (decision 0016)."""
_KEYS = (1, 4, 16, 64, 256)
"""Send keys of one SELECT; it is filled up with the last one, so that there are few different statements."""
_SENT = {size: f"SELECT send_key FROM sent WHERE send_key IN ({','.join('?' * size)})" for size in _KEYS}
_WIDTH = 10
"""Columns of a row."""


@functools.cache
def _insert_rows(size: int) -> str:
    return (
        "INSERT INTO message (id, conversation, seq, sender_id, send_key, fp, sent_at_ms, qos, typeu, body) VALUES "
        + ",".join(["(?,?,?,?,?,?,?,?,?,?)"] * size)
    )


_Place = tuple[ConversationId, User]
"""Where a draft goes: the conversation, and the recipient, or NO_USER for a group."""


class _Append(msgspec.Struct, kw_only=True):
    """One call of append(), on its way through the steps."""

    drafts: Sequence[Draft]
    keys: Sequence[int | None]
    """The first send key of each draft; None for one without an fp."""
    used: set[int]
    """Those of the keys that stored messages have."""
    now_ms: int
    fresh: dict[int, Message] = {}
    """The new messages, by their keys."""
    hashes: dict[int, int] = {}
    """body_hash by key, of the drafts that have one."""
    values: list[int | str | None] = []
    """The rows to insert, of _WIDTH values each, one after the other."""
    with_extras: dict[int, Message] = {}
    """The new messages that have extras, by their numbers."""


class SqliteMessages:
    """The rows of `message`, written. Within a transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        backend: SqliteBackend,
        groups: SqlGroups,
        files: SqlFiles,
        reader: MessageReader,
    ) -> None:
        self._db = db
        self._backend = backend
        self._groups = groups
        self._unindexed = backend.unindexed
        self._directory = backend.directory
        self._conversations = backend.pairs.conversations
        self._permissions = backend.permissions
        self._writers = backend.permissions.writers
        self._members = backend.members
        self._members_versions = backend.members_versions
        self._reader = reader
        self._repetitions = Repetitions(backend.directory, self._sent, self._body_hash)
        self._extras = ExtrasWriter(db, groups, backend.directory, files)
        self._keys = SendKeys()
        self._mailboxes = Mailboxes(SqliteCursors(db, backend))

    def append(self, drafts: Sequence[Draft], now_ms: int, rules: SendingRules) -> list[Stored | ErrorCode]:
        """Cost: per draft one look-up of its send key and one appended row; now and then, a slice of a merge."""
        self._permissions.use_default(rules.may_write)
        keys = self._keys.of(drafts)
        batch = _Append(drafts=drafts, keys=keys, used=self._known(keys), now_ms=now_ms)
        results = self._give_numbers(batch, has_quotas=self._mailboxes.begin(rules, now_ms))
        self._write(batch.values, batch.hashes)
        if batch.with_extras:
            changed = [(meta_of(message), number) for number, message in batch.with_extras.items()]
            self._db.executemany("UPDATE message SET meta = ? WHERE id = ?", changed)
            self._extras.remember(batch.with_extras.values())
        return results

    def _give_numbers(self, batch: _Append, *, has_quotas: bool) -> list[Stored | ErrorCode]:
        """The hottest loop of chatd: what is unusual about a draft is in functions of its own, everything else is here,
        because a call costs 1 % of an append."""
        results: list[Stored | ErrorCode] = []
        used, fresh, values, now_ms = batch.used, batch.fresh, batch.values, batch.now_ms
        unindexed, last = self._unindexed, self._backend.last_seqs
        mailboxes, rooms, spare = self._mailboxes, self._mailboxes.rooms, self._mailboxes.spare
        meta = Meta()  # of a draft that has extras
        for draft, key in zip(batch.drafts, batch.keys, strict=True):
            sender, command = draft.sender, draft.command
            if key in used or key in fresh:
                key, place = self._repeated(key, draft, batch)
            else:
                place = self._place(sender, command, now_ms)
            if command.extras is not None:
                place, meta = self._with_extras(draft, place, batch)
            if not isinstance(place, tuple):
                results.append(place)
                continue
            conversation, recipient = place
            seq = (last.get(conversation) or self._backend.last_seq(conversation)) + 1
            to = recipient.id
            if has_quotas and to:
                left = spare.get(to)  # as Mailboxes.take(), whose call is saved where the answer is cached
                if left and seq <= rooms.get((conversation, to), 0):
                    spare[to] = left - 1
                elif mailboxes.take(conversation, to, seq, sender.id) is None:
                    results.append(ErrorCode.MAILBOX_FULL)
                    continue
            last[conversation] = seq
            number = unindexed.end + 1
            unindexed.add(number, conversation, seq, key)
            fp, body, qos, typeu = command.fp, command.body, command.qos, command.typeu
            values += (number, conversation, seq, sender.id, key, fp, now_ms, qos, typeu, body)
            message = Message(  # as new_message()
                conversation=conversation, seq=seq, sender_id=sender.id, sender_name=sender.name, to_id=to, body=body,
                to_name=recipient.name, group_id=command.to_group, fp=fp, qos=qos, typeu=typeu, sent_at_ms=now_ms,
            )  # fmt: skip
            if command.extras is not None:
                message = batch.with_extras[number] = with_meta(message, meta)
            if key is not None:
                fresh[key] = message
                if draft.body_hash is not None:
                    batch.hashes[key] = draft.body_hash
            results.append(self._stored(message) if command.to_group else Stored(message, True))
        return results

    def _repeated(
        self, key: int | None, draft: Draft, batch: _Append
    ) -> tuple[int | None, _Place | Stored | ErrorCode]:
        """For a draft whose key is in use: the key to store it with and its place, or None and its result."""
        assert key is not None
        free, result = self._repetitions.look_up(key, draft, batch.fresh, batch.hashes)
        return free, self._place(draft.sender, draft.command, batch.now_ms) if result is None else result

    def _with_extras(
        self, draft: Draft, place: _Place | Stored | ErrorCode, batch: _Append
    ) -> tuple[_Place | Stored | ErrorCode, Meta]:
        """The place of a draft whose extras are allowed, and these; otherwise its result."""
        if not isinstance(place, tuple):
            return place, Meta()
        assert draft.command.extras is not None
        conversation, _ = place
        reached = self._backend.last_seqs.get(conversation) or self._backend.last_seq(conversation)
        checked = self._extras.check(draft, draft.command.extras, reached, batch.with_extras.values())
        if isinstance(checked, ErrorCode):
            return checked, Meta()
        return place, checked

    def _write(self, values: list[int | str | None], hashes: Mapping[int, int]) -> None:
        """values: rows of _WIDTH values each, one after the other. hashes: body_hash by key, of those that have one."""
        chunk = _CHUNK * _WIDTH
        for at in range(0, len(values), chunk):
            rows = values[at : at + chunk]
            self._db.execute(_insert_rows(len(rows) // _WIDTH), rows)
        if hashes:
            changed = [(body_hash, self._number(key)) for key, body_hash in hashes.items()]
            self._db.executemany("UPDATE message SET body_hash = ? WHERE id = ?", changed)
        self._unindexed.merge(len(values) // _WIDTH)

    def _known(self, keys: Sequence[int | None]) -> set[int]:
        """Which of the keys messages have; nearly always none."""
        wanted = [key for key in keys if key is not None]
        known = self._unindexed.known(set(wanted))
        for at in range(0, len(wanted), _KEYS[-1]):
            asked = wanted[at : at + _KEYS[-1]]
            size = next(size for size in _KEYS if size >= len(asked))
            asked += asked[-1:] * (size - len(asked))
            known.update(row[0] for row in self._db.execute(_SENT[size], asked))
        return known

    def _sent(self, key: int) -> Message | None:
        """The message that has this key."""
        number = self._number(key)
        if number is None:
            return None
        return self._reader.message(self._db.execute(f"{SELECT} WHERE m.id = ?", (number,)).fetchone())

    def _number(self, key: int) -> int | None:
        """message.id of the message that has this key."""
        number = self._unindexed.sent(key)
        if number is None:
            found = self._db.execute("SELECT id FROM sent WHERE send_key = ?", (key,)).fetchone()
            number = found[0] if found else None
        return number

    def _body_hash(self, key: int) -> int | None:
        found = self._db.execute("SELECT body_hash FROM message WHERE id = ?", (self._number(key),)).fetchone()
        return found[0] if found else None

    def _place(self, sender: User, command: SendMessage, now_ms: int) -> _Place | ErrorCode:
        """Conversation and recipient (NO_USER for a group), or why the draft is refused. Called for every message, so
        what is cached is found without another call."""
        if command.to_group:
            return self._group_place(sender.id, command.to_group, now_ms)
        name = command.to_name
        recipient = self._directory.by_name.get(name) if name else self._directory.by_id.get(command.to_id)
        if recipient is None:
            recipient = self._directory.find(name, command.to_id)
            if recipient is None:
                return ErrorCode.UNKNOWN_RECIPIENT
        conversation = self._writers.get((sender.id, recipient.id))
        if conversation is None:
            return self._first_place(sender, recipient)
        return conversation, recipient

    def _first_place(self, sender: User, recipient: User) -> _Place | ErrorCode:
        """For a sender who is not known to be accepted."""
        pairing = sender.id, recipient.id
        is_system = sender.id == SYSTEM.id
        ground = Ground.EVERYBODY if is_system else self._permissions.writing([pairing])[pairing].ground
        if (code := CODES.get(ground)) is not None:
            return code
        pair = pair_of(*pairing)
        conversation = self._conversations.get(pair)
        if conversation is None:
            conversation = self._open_pair(pair)
        if ground in LASTING:
            if len(self._writers) > CACHED:
                self._writers.clear()
            self._writers[pairing] = conversation
        return conversation, recipient

    def _group_place(self, user_id: UserId, group_id: int, now_ms: int) -> _Place | ErrorCode:
        standing = self._members.get((group_id, user_id))
        if standing is None:
            if len(self._members) > CACHED:
                self._backend.clear_members()
            version, standing = self._groups.standing(group_id, user_id)
            self._members[group_id, user_id] = standing
            self._members_versions[group_id] = version
        if standing == MAY_WRITE:
            return -group_id, NO_USER
        refusal = refusal_of(standing, now_ms)
        if refusal is None:  # the mute has ended by itself
            self._members[group_id, user_id] = MAY_WRITE
            return -group_id, NO_USER
        if refusal is ErrorCode.NOT_A_MEMBER and not self._members_version(group_id):
            return ErrorCode.UNKNOWN_GROUP
        return refusal

    def _stored(self, message: Message) -> Stored:
        """The result for a new message of a group."""
        group_id = message.group_id
        count = self._backend.member_counts.get(group_id)
        if count is None:
            count = self._backend.member_counts[group_id] = self._groups.member_count(group_id)
        return Stored(message, True, self._members_version(group_id), count)

    def _members_version(self, group_id: GroupId) -> int:
        """From the cache where possible; 0 for a group that does not exist."""
        version = self._members_versions.get(group_id)
        if version is None:
            version = self._members_versions[group_id] = self._groups.members_version(group_id)
        return version

    def _open_pair(self, pair: tuple[UserId, UserId]) -> ConversationId:
        found = self._db.execute("SELECT id FROM pair WHERE low = ? AND high = ?", pair).fetchone()
        if found is None:
            made = self._db.execute("INSERT INTO pair (low, high) VALUES (?, ?)", pair).lastrowid
            assert made is not None
            found = (made,)
            self._db.executemany(
                "INSERT OR IGNORE INTO cursor (user_id, conversation, delivered) VALUES (?, ?, 0)",
                [(user, made) for user in pair if user != SYSTEM.id],
            )
        if len(self._conversations) > CACHED:
            self._conversations.clear()
        self._conversations[pair] = int(found[0])
        return int(found[0])
