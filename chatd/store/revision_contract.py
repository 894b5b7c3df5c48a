"""The part of a store's contract about messages that change after they were sent.

Owns: RevisionTables: editing, recalling and removing messages, their changes by number, and what a user has deleted
from their own history.
Elsewhere: the whole contract (store.contract, which also exports these names); the SQL (store.sql.revisions).
Fails: Refused; then nothing was changed.

A changed message keeps its seq, its sender and its time; its version rises by one. Every change also gets a number in
its conversation, 1, 2, 3 … without gaps, by which a client that was away asks for the changes it has missed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from chatd.model import ConversationId, Message, MessageState, Seq, UserId

HAS_TEXT = frozenset((MessageState.SENT, MessageState.EDITED))
"""States in which a message has its text."""
MAX_VERSIONS = 100
"""How often one message can be edited."""
MAX_HIDDEN = 1000
"""Maximum single messages of one conversation that a user has deleted from their own history; clear() has no limit."""


class Revised(NamedTuple):
    """The result of a change. message: as it is now. number: of the change, in its conversation.

    members_version: of the message's group at the change; 0 between two users. excluded: members of the group who may
    not read the message, because it is older than their membership."""

    message: Message
    number: int
    members_version: int = 0
    excluded: tuple[UserId, ...] = ()


class Revision(NamedTuple):
    """One change of the past: its number, and the message that was changed."""

    number: int
    seq: Seq


class OwnView(NamedTuple):
    """What a user has deleted from their own history of a conversation: everything up to `cleared`, and the single
    messages `hidden` after it."""

    cleared: Seq
    hidden: frozenset[Seq]


class RevisionTables(Protocol):
    """Where a message is named, Refused UNKNOWN_MESSAGE means that there is no such message, that `by` may not read it,
    or that its text is gone already. Refused NOT_A_MEMBER, UNKNOWN_GROUP: as GroupTables.role(). Only the conversation
    named is looked at, so a seq of another one changes nothing there."""

    def edit(self, by: UserId, conversation: ConversationId, seq: Seq, text: tuple[str, int], now_ms: int) -> Revised:
        """text: the new one, and for how many milliseconds after sending a message may be edited. In a group, `by` must
        be allowed to write there now.

        Raises: Refused UNKNOWN_MESSAGE; NOT_ALLOWED: somebody else sent it; TOO_LATE; LIMIT_REACHED: it was edited
        MAX_VERSIONS times; what forbids a new message of `by` here."""
        ...

    def recall(self, by: UserId, conversation: ConversationId, seq: Seq, within_ms: int, now_ms: int) -> Revised:
        """The text is deleted from the store. Also allowed to somebody who may no longer write here.

        Raises: Refused UNKNOWN_MESSAGE; NOT_ALLOWED: somebody else sent it; TOO_LATE."""
        ...

    def remove(self, by: UserId, conversation: ConversationId, seq: Seq, now_ms: int) -> Revised:
        """By the owner of a group or an admin, at any time; the text is deleted from the store. The rank decides, as
        for a kick: the owner removes every message, an admin those of plain and former members, and their own. The
        system (model.SYSTEM) removes every message of every conversation.

        Raises: Refused UNKNOWN_MESSAGE, NOT_ALLOWED."""
        ...

    def last(self, conversation: ConversationId) -> int:
        """The number of the last change; 0 if there was none."""
        ...

    def since(self, conversation: ConversationId, after: int, limit: int) -> list[Revision]:
        """The first changes with a number above `after`, ascending. A message that was changed again is named only with
        its last change, so numbers may be missing. Cost: one statement; at most `limit` changes are looked at."""
        ...

    def hide(self, user_id: UserId, conversation: ConversationId, seqs: Collection[Seq]) -> None:
        """Delete single messages from the user's own history. Seqs that do not exist are ignored.

        Raises: Refused LIMIT_REACHED: more than MAX_HIDDEN."""

    def clear(self, user_id: UserId, conversation: ConversationId, up_to: Seq) -> Seq:
        """Delete everything up to this seq from the user's own history; what waited of it counts as delivered. Returns
        the seq up to which it is deleted now, which never moves back and is never beyond the last message."""
        ...

    def own_view(self, user_id: UserId, conversation: ConversationId) -> OwnView: ...

    def deleted(self, user_id: UserId, messages: Iterable[Message]) -> frozenset[tuple[ConversationId, Seq]]:
        """Which of these messages the user has deleted from their own history. Cost: two statements if there is any
        message."""
        ...
