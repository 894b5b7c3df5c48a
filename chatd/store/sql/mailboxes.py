"""What may wait for a user: whether one more message to them may be stored.

Owns: Mailboxes: the quotas of one conversation of two and of a whole mailbox, and what is cached so that checking them
costs nearly nothing.
Elsewhere: the quotas (store.contract.SendingRules), reading cursors (store.sqlite.messages, store.mysql.messages).
Fails: what the database raises passes through.

What waits in a conversation is everything beyond the recipient's cursor. A cursor only moves forward, so the seq of the
last message that may be stored (cursor + quota) stays valid until it is reached: one look-up serves a whole quota of
messages, and is exact. Cursors are written a moment after an acknowledgement (store.group_commit), so a quota must be
larger than what a fast reader receives in that time.

What waits in a mailbox is the sum over its conversations of two. It is counted, a share of what is left is counted down
message by message, and then it is counted again. Several workers can each use up a share at the same time, so together
they may exceed the quota by a share each: a sixteenth of what was left, or one message per _CONVERSATIONS_PER_MESSAGE
conversations of the recipient, if that is more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from chatd.model import ConversationId, Seq, UserId
from chatd.store.contract import ANYTHING, SendingRules
from chatd.store.sql.messages import CACHED

COUNTED_CONVERSATIONS = 2000
"""Conversations of one mailbox that are counted, the youngest. A user who writes with more can have more waiting."""
_SHARES = 16
_CONVERSATIONS_PER_MESSAGE = 8
"""A message pays for counting at most this many conversations, on average."""
_FULL_MS = 1000
"""A mailbox that was found full is counted again only after this time."""
_UNLIMITED = 1 << 62


class Count(NamedTuple):
    """What waits for one user. conversations: how many were looked at."""

    waiting: int
    conversations: int


class Mailboxes:
    """Of one connection to the store, within a transaction.

    rooms: by (conversation, recipient), the highest seq that may be stored without looking at the cursor again.
    spare: by recipient, messages that may be stored before their mailbox is counted again.
    """

    def __init__(
        self,
        delivered: Callable[[UserId, ConversationId], Seq | None],
        count: Callable[[UserId], Count],
    ) -> None:
        """delivered: reads a cursor, None if there is none: then nothing waits there. count: of a mailbox."""
        self.rooms: dict[tuple[ConversationId, UserId], Seq] = {}
        self.spare: dict[UserId, int] = {}
        self._delivered = delivered
        self._count = count
        self._rules = ANYTHING
        self._now_ms = 0
        self._looked: set[tuple[ConversationId, UserId]] = set()
        """Cursors that were read during this append, and leave no room."""
        self._full_until_ms: dict[UserId, int] = {}

    def begin(self, rules: SendingRules, now_ms: int) -> bool:
        """Before the messages of an append are checked. False: there are no quotas, and nothing is to be checked."""
        if (rules.waiting_from_one, rules.waiting) != (self._rules.waiting_from_one, self._rules.waiting):
            self.clear()
        self._rules, self._now_ms = rules, now_ms
        self._looked.clear()
        if len(self.rooms) > CACHED or len(self.spare) > CACHED:
            self.clear()
        return bool(rules.waiting_from_one or rules.waiting)

    def clear(self) -> None:
        self.rooms.clear()
        self.spare.clear()
        self._full_until_ms.clear()

    # ---------------------------------------------------------------- one message

    def admits(self, conversation: ConversationId, recipient: UserId, seq: Seq) -> bool:
        """Whether the message may be stored with this seq; if so, it is counted. A caller in a hurry asks only when
        rooms or spare do not have the answer."""
        key = conversation, recipient
        if seq > self.rooms.get(key, 0) and seq > self._look(key):
            return False
        spare = self.spare.get(recipient, 0) or self._share(recipient)
        if not spare:
            return False
        self.spare[recipient] = spare - 1
        return True

    def _look(self, key: tuple[ConversationId, UserId]) -> Seq:
        """Read the cursor, at most once per append and full conversation. Returns the new room."""
        if key in self._looked:
            return 0
        self._looked.add(key)
        self.learn_cursor(key, self._delivered(key[1], key[0]))
        return self.rooms[key]

    def _share(self, recipient: UserId) -> int:
        if self._now_ms < self._full_until_ms.get(recipient, 0):
            return 0
        self.learn_count(recipient, self._count(recipient))
        return self.spare[recipient]

    # ---------------------------------------------------------------- what was read

    def unknown(
        self, places: Iterable[tuple[ConversationId, UserId]]
    ) -> tuple[set[tuple[ConversationId, UserId]], set[UserId]]:
        """The cursors and the mailboxes of which nothing is known, so that they can be read together."""
        cursors = {key for key in places if key not in self.rooms}
        return cursors, {user for _, user in cursors if user not in self.spare}

    def learn_cursor(self, key: tuple[ConversationId, UserId], delivered: Seq | None) -> None:
        quota = self._rules.waiting_from_one
        self.rooms[key] = _UNLIMITED if delivered is None or not quota else delivered + quota

    def learn_count(self, recipient: UserId, count: Count) -> None:
        if not self._rules.waiting:
            self.spare[recipient] = _UNLIMITED
            return
        left = max(0, self._rules.waiting - count.waiting)
        share = max(1, left // _SHARES, count.conversations // _CONVERSATIONS_PER_MESSAGE)
        self.spare[recipient] = min(left, share)
        if left:
            self._full_until_ms.pop(recipient, None)
        else:
            self._full_until_ms[recipient] = self._now_ms + _FULL_MS
