"""A message as a row and as a struct, in the SQL of both twins.

Owns: which columns are read, making a Message of them or of a draft, and which two users a one-to-one conversation
belongs to.
Elsewhere: numbering and storing (store.sqlite.messages, store.mysql.messages), choosing what to read
(store.sqlite.history, store.mysql.history).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.model import ConversationId, Message, MessageState, Seq, User, UserId
from chatd.store.contract import Draft
from chatd.store.sql.database import Database
from chatd.store.sql.meta import decode_meta, with_meta

CACHED = 200_000
"""Maximum entries of a cache before it is emptied."""
NO_USER = User(0, "")
"""The recipient of a group message."""
COLUMNS = (
    "m.id, m.conversation, m.seq, m.sender_id, m.fp, m.sent_at_ms, m.qos, m.typeu, m.body, m.state, m.version, m.meta"
)
SELECT = f"SELECT {COLUMNS} FROM message AS m"
MessageRow = tuple[int, ConversationId, Seq, UserId, str, int, int, int, str, int, int, str | None]
"""COLUMNS, read."""
_STATES = tuple(MessageState)
"""By their numbers: an index costs less than a call of the enum."""
Pair = tuple[UserId, UserId]
"""The two users of a one-to-one conversation, the lower id first."""


def pair_of(one: UserId, other: UserId) -> Pair:
    return (one, other) if one < other else (other, one)


def new_message(draft: Draft, recipient: User, conversation: ConversationId, seq: Seq, now_ms: int) -> Message:
    """The message that is stored for a draft. recipient: NO_USER for a group."""
    sender, command = draft.sender, draft.command
    return Message(
        conversation=conversation,
        seq=seq,
        sender_id=sender.id,
        sender_name=sender.name,
        to_id=recipient.id,
        to_name=recipient.name,
        group_id=command.to_group,
        body=command.body,
        fp=command.fp,
        qos=command.qos,
        typeu=command.typeu,
        sent_at_ms=now_ms,
    )


class Pairs:
    """A cache of the table `pair`, in both directions. A row never changes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.conversations: dict[Pair, ConversationId] = {}
        self.users: dict[ConversationId, Pair] = {}

    def clear(self) -> None:
        """Call it after a rollback: rows that the transaction made are not in the store."""
        self.conversations.clear()
        self.users.clear()

    def other(self, conversation: ConversationId, user_id: UserId) -> UserId:
        """The user that `user_id` has this one-to-one conversation with."""
        pair = self.users.get(conversation)
        if pair is None:
            if len(self.users) > CACHED:
                self.users.clear()
            pair = self._db.execute("SELECT low, high FROM pair WHERE id = ?", (conversation,)).fetchone()
            self.users[conversation] = pair
        low, high = pair
        return high if user_id == low else low


class MessageReader:
    """Makes messages of rows. user: also finds deleted users."""

    def __init__(self, pairs: Pairs, user: Callable[[UserId], User]) -> None:
        self._pairs = pairs
        self._user = user

    def message(self, row: MessageRow) -> Message:
        _, conversation, seq, sender_id, fp, sent_at_ms, qos, typeu, body, state, version, meta = row
        sender, recipient, group_id = self._user(sender_id), NO_USER, 0
        if conversation > 0:
            recipient = self._user(self._pairs.other(conversation, sender_id))
        else:
            group_id = -conversation
        message = Message(
            conversation=conversation,
            seq=seq,
            sender_id=sender_id,
            sender_name=sender.name,
            to_id=recipient.id,
            to_name=recipient.name,
            group_id=group_id,
            body=body,
            fp=fp,
            qos=bool(qos),
            typeu=typeu,
            sent_at_ms=sent_at_ms,
            state=_STATES[state],
            version=version,
        )
        return message if meta is None else with_meta(message, decode_meta(meta))
