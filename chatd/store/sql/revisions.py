"""Messages that change after they were sent, in the SQL of both twins.

Owns: the tables `revision` and `hidden`, the columns state and version of `message` and cleared of `cursor`, and the
rules of who may change what, and until when.
Elsewhere: the contract (store.revision_contract); numbering and storing messages (store.sqlite.messages,
store.mysql.messages), reading them (store.sqlite.history, store.mysql.history).
Fails: Refused, before anything is written; what the database raises passes through.

The conversation is locked first: changes of one conversation, its new messages and the changes of its group's members
happen one after the other, so the numbers of changes have no gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import msgspec

from chatd.errors import ErrorCode, Refused
from chatd.model import SYSTEM, ConversationId, Message, MessageState, Role, Seq, UserId
from chatd.store.contract import EventKind, text_hash
from chatd.store.revision_contract import HAS_TEXT, MAX_HIDDEN, MAX_VERSIONS, OwnView, Revised, Revision
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.files import forget
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.meta import meta_of

_EVENTS = {
    MessageState.EDITED: EventKind.MESSAGE_EDITED,
    MessageState.RECALLED: EventKind.MESSAGE_RECALLED,
    MessageState.REMOVED: EventKind.MESSAGE_REMOVED,
}


class _Place(NamedTuple):
    """A message that somebody wants to change, and what they are in its group. role: None for a user between two
    users."""

    message: Message
    role: Role | None = None


class SqlRevisions:
    """store.contract.RevisionTables."""

    def __init__(
        self,
        db: Database,
        backend: Backend,
        groups: SqlGroups,
        messages_at: Callable[[ConversationId, Collection[Seq]], list[Message]],
    ) -> None:
        """messages_at: see store.contract.HistoryTables.at()."""
        self._db = db
        self._backend = backend
        self._groups = groups
        self._messages_at = messages_at

    # ---------------------------------------------------------------- changes for everybody

    def edit(self, by: UserId, conversation: ConversationId, seq: Seq, text: tuple[str, int], now_ms: int) -> Revised:
        body, within_ms = text
        place = self._own(by, conversation, seq, within_ms, now_ms)
        if place.message.group_id and by != SYSTEM.id:
            self._groups.check_writer(place.message.group_id, by, now_ms)
        if place.message.version >= MAX_VERSIONS:
            raise Refused(
                ErrorCode.LIMIT_REACHED, f"this message was edited {MAX_VERSIONS} times already, which is the limit"
            )
        return self._revise(place, MessageState.EDITED, body, by, now_ms)

    def recall(self, by: UserId, conversation: ConversationId, seq: Seq, within_ms: int, now_ms: int) -> Revised:
        return self._revise(self._own(by, conversation, seq, within_ms, now_ms), MessageState.RECALLED, "", by, now_ms)

    def remove(self, by: UserId, conversation: ConversationId, seq: Seq, now_ms: int) -> Revised:
        place = self._place(by, conversation, seq)
        if place.role is None or place.role is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        sender = place.message.sender_id
        if sender != by:
            row = self._db.execute(
                "SELECT role FROM member WHERE team_id = ? AND user_id = ?", (-conversation, sender)
            ).fetchone()
            if place.role >= (row[0] if row else Role.MEMBER):
                raise Refused(ErrorCode.NOT_ALLOWED)
        return self._revise(place, MessageState.REMOVED, "", by, now_ms)

    def _own(self, by: UserId, conversation: ConversationId, seq: Seq, within_ms: int, now_ms: int) -> _Place:
        """A message that `by` has sent, within the time."""
        place = self._place(by, conversation, seq)
        if place.message.sender_id != by:
            raise Refused(ErrorCode.NOT_ALLOWED)
        if not within_ms or now_ms - place.message.sent_at_ms > within_ms:
            raise Refused(ErrorCode.TOO_LATE)
        return place

    def _place(self, by: UserId, conversation: ConversationId, seq: Seq) -> _Place:
        """Lock the conversation; a message of it that has a text and that `by` may read."""
        self._backend.lock_conversation(conversation)
        role = self._role(by, conversation)
        message = next(iter(self._messages_at(conversation, (seq,))), None)
        if message is None or message.state not in HAS_TEXT:
            raise Refused(ErrorCode.UNKNOWN_MESSAGE)
        if role is Role.SYSTEM:
            is_readable = True
        elif role is None:
            is_readable = by in (message.sender_id, message.to_id)
        else:
            is_readable = seq >= self._groups.first_readable(message.group_id, by)
        if not is_readable:
            raise Refused(ErrorCode.UNKNOWN_MESSAGE)
        return _Place(message, role)

    def _role(self, by: UserId, conversation: ConversationId) -> Role | None:
        """Raises Refused."""
        if conversation < 0:
            return self._groups.role(-conversation, by)
        return Role.SYSTEM if by == SYSTEM.id else None

    def _revise(self, place: _Place, state: MessageState, body: str, by: UserId, now_ms: int) -> Revised:
        """The hash of the first text stays, so that a repetition of the message as it was sent is recognised."""
        message = place.message
        conversation, seq = message.conversation, message.seq
        self._db.execute(
            "UPDATE message SET body = ?, state = ?, version = version + 1, body_hash = coalesce(body_hash, ?)"
            " WHERE id = ?",
            (body, int(state), text_hash(message.body), self._backend.message_id(conversation, seq)),
        )
        if message.mentions and state is not MessageState.EDITED:
            marks = ",".join("?" * len(message.mentions))
            self._db.execute(
                f"DELETE FROM mention WHERE conversation = ? AND seq = ? AND user_id IN ({marks})",
                (conversation, seq, *message.mentions),
            )
        if message.attachments and state is not MessageState.EDITED:
            self._forget_files(message)
        number = self.last(conversation) + 1
        self._db.execute(
            "INSERT INTO revision (conversation, number, seq, by_id, at_ms) VALUES (?, ?, ?, ?, ?)",
            (conversation, number, seq, by, now_ms),
        )
        number_of_row = self._backend.message_id(conversation, seq) or 0
        self._backend.record(_EVENTS[state], {"by": by, "revision": number}, number_of_row)
        (revised,) = self._messages_at(conversation, (seq,))
        if not revised.group_id:
            return Revised(revised, number)
        return Revised(revised, number, self._groups.members_version(revised.group_id), self._excluded(revised))

    def _forget_files(self, message: Message) -> None:
        forget(self._db, "conversation = ? AND seq = ?", (message.conversation, message.seq))
        without = msgspec.structs.replace(message, attachments=())
        number = self._backend.message_id(message.conversation, message.seq)
        self._db.execute("UPDATE message SET meta = ? WHERE id = ?", (meta_of(without), number))

    def _excluded(self, message: Message) -> tuple[UserId, ...]:
        """Members who may not read it."""
        rows = self._db.execute(
            "SELECT m.user_id FROM member AS m JOIN team AS t ON t.id = m.team_id"
            " WHERE m.team_id = ? AND m.first_seq > ? AND t.whole_history = 0",
            (message.group_id, message.seq),
        )
        return tuple(row[0] for row in rows)

    # ---------------------------------------------------------------- their numbers

    def last(self, conversation: ConversationId) -> int:
        row = self._db.execute("SELECT max(number) FROM revision WHERE conversation = ?", (conversation,)).fetchone()
        return int(row[0] or 0)

    def since(self, conversation: ConversationId, after: int, limit: int) -> list[Revision]:
        rows = self._db.execute(
            "SELECT number, seq FROM revision WHERE conversation = ? AND number > ? ORDER BY number LIMIT ?",
            (conversation, after, limit),
        ).fetchall()
        numbers = {seq: number for number, seq in rows}  # of each message, its last one
        return [Revision(number, seq) for seq, number in sorted(numbers.items(), key=lambda item: item[1])]

    # ---------------------------------------------------------------- a user's own history

    def hide(self, user_id: UserId, conversation: ConversationId, seqs: Collection[Seq]) -> None:
        last = self._backend.last_seq(conversation)
        cleared, hidden = self.own_view(user_id, conversation)
        added = sorted({seq for seq in seqs if cleared < seq <= last} - hidden)
        if len(hidden) + len(added) > MAX_HIDDEN:
            raise Refused(ErrorCode.LIMIT_REACHED, f"at most {MAX_HIDDEN} single messages of a conversation")
        for seq in added:
            self._db.execute(
                "INSERT INTO hidden (user_id, conversation, seq) VALUES (?, ?, ?)", (user_id, conversation, seq)
            )

    def clear(self, user_id: UserId, conversation: ConversationId, up_to: Seq) -> Seq:
        where, up_to = (user_id, conversation), min(up_to, self._backend.last_seq(conversation))
        for column in ("cleared", "delivered"):
            self._db.execute(
                f"UPDATE `cursor` SET {column} = ? WHERE user_id = ? AND conversation = ? AND {column} < ?",
                (up_to, *where, up_to),
            )
        cleared = self._cleared(user_id, conversation)
        self._db.execute("DELETE FROM hidden WHERE user_id = ? AND conversation = ? AND seq <= ?", (*where, cleared))
        return cleared

    def _cleared(self, user_id: UserId, conversation: ConversationId) -> Seq:
        row = self._db.execute(
            "SELECT cleared FROM `cursor` WHERE user_id = ? AND conversation = ?", (user_id, conversation)
        ).fetchone()
        return int(row[0]) if row else 0

    def own_view(self, user_id: UserId, conversation: ConversationId) -> OwnView:
        rows = self._db.execute(
            "SELECT seq FROM hidden WHERE user_id = ? AND conversation = ?", (user_id, conversation)
        ).fetchall()
        return OwnView(self._cleared(user_id, conversation), frozenset(row[0] for row in rows))

    def deleted(self, user_id: UserId, messages: Iterable[Message]) -> frozenset[tuple[ConversationId, Seq]]:
        asked = {(message.conversation, message.seq) for message in messages}
        if not asked:
            return frozenset()
        conversations = sorted({conversation for conversation, _ in asked})
        of_user = f"user_id = ? AND conversation IN ({','.join('?' * len(conversations))})"
        hidden = self._db.execute(
            f"SELECT conversation, seq FROM hidden WHERE {of_user}", (user_id, *conversations)
        ).fetchall()
        cleared = dict(
            self._db.execute(
                f"SELECT conversation, cleared FROM `cursor` WHERE {of_user} AND cleared > 0", (user_id, *conversations)
            ).fetchall()
        )
        below = {(conversation, seq) for conversation, seq in asked if seq <= cleared.get(conversation, 0)}
        return frozenset(below | (asked & {(row[0], row[1]) for row in hidden}))
