"""What may wait for a user: whether one more message to them may be stored.

Owns: Mailboxes: the quotas of one conversation of two and of a whole mailbox, and what is cached so that checking them
costs nearly nothing.
Elsewhere: the quotas (store.contract.SendingRules), reading cursors (store.sqlite.cursors, store.mysql.cursors).
Fails: what the database raises passes through.

A message waits in a conversation if it lies beyond the recipient's cursor. Own messages do not move a cursor by
themselves; only when a quota is reached, it is moved past those that follow it directly, so somebody who writes a lot
and is never answered does not fill their own mailbox. A cursor only moves forward, so the seq of the
last message that may be stored (cursor + quota) stays valid until it is reached: one look-up serves a whole quota of
messages, and is exact. Cursors are written a moment after an acknowledgement (store.group_commit), so a quota must be
larger than what a fast reader receives in that time.

The messages that wait in a mailbox are those of all its conversations of two. They are counted, a share of what is left
is counted down message by message, and then they are counted again. Several workers can each use up a share at the same
time, so together they may exceed the quota by a share each: a sixteenth of what was left, or one message per
_CONVERSATIONS_PER_MESSAGE conversations of the recipient, if that is more.

A few accounts could fill a mailbox, so the last part of it (FRIENDS_SHARE) is kept for the recipient's friends, and for
the recipient's own notes. Everybody takes from the rest first. Only when that is used up, the sender is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from chatd.model import ConversationId, Seq, UserId
from chatd.store.contract import ANYTHING, SendingRules
from chatd.store.sql.messages import CACHED

COUNTED_CONVERSATIONS = 2000
"""Conversations of one mailbox that are counted, the youngest. A user who writes with more can have more waiting."""
_SHARES = 16
_CONVERSATIONS_PER_MESSAGE = 8
"""A message pays for counting at most this many conversations, on average."""
_FULL_MS = 1000
"""A mailbox that was found full is counted again only after this time, and a sender looked at again."""
FRIENDS_SHARE = 4
"""The last 1/FRIENDS_SHARE of a mailbox is kept for friends."""
PASSED = 1000
"""Maximum own messages that a cursor is moved past at once."""
LONGEST = 32
"""Conversations in which a full mailbox is searched for own messages: those in which most waits."""
_UNLIMITED = 1 << 62


class Behind(NamedTuple):
    """A conversation in which something waits. delivered: the user's cursor. last: the last message."""

    conversation: ConversationId
    delivered: Seq
    last: Seq


class Count(NamedTuple):
    """What waits for one user. conversations: how many were looked at."""

    waiting: int
    conversations: int


class Cursors(Protocol):
    """What a twin reads and writes for Mailboxes, within the transaction."""

    def delivered(self, user: UserId, conversation: ConversationId) -> Seq | None:
        """A cursor; None if there is none: then nothing waits there."""
        ...

    def count(self, user: UserId) -> Count:
        """What waits in the user's youngest COUNTED_CONVERSATIONS conversations of two."""
        ...

    def longest(self, user: UserId) -> list[Behind]:
        """Those LONGEST of the same in which most waits."""
        ...

    def beyond(self, conversation: ConversationId, seq: Seq, limit: int) -> list[tuple[Seq, UserId]]:
        """(seq, sender) of the first messages after seq. Of messages of this transaction that cannot be read yet, at
        most the first, with sender 0."""
        ...

    def advance(self, user: UserId, conversation: ConversationId, seq: Seq) -> None:
        """Move a cursor forward."""

    def is_friend(self, user: UserId, other: UserId) -> bool:
        """Whether `user` has accepted `other` as a friend."""
        ...


class Mailboxes:
    """Of one connection to the store, within a transaction.

    rooms: by (conversation, recipient), the highest seq that may be stored without looking at the cursor again.
    spare: by recipient, messages of anybody that may be stored before their mailbox is counted again.
    reserve: the same of friends, of what is kept for them.
    """

    def __init__(
        self,
        cursors: Cursors,
    ) -> None:
        self.rooms: dict[tuple[ConversationId, UserId], Seq] = {}
        self.spare: dict[UserId, int] = {}
        self.reserve: dict[UserId, int] = {}
        self._cursors = cursors
        self._rules = ANYTHING
        self._now_ms = 0
        self._looked: set[tuple[ConversationId, UserId]] = set()
        """Conversations that were found full during this append, each with its recipient."""
        self._full_until_ms: dict[UserId, int] = {}
        """By recipient, if nothing is left but what is kept for friends."""
        self._reserve_full_until_ms: dict[UserId, int] = {}
        self._friends: dict[tuple[UserId, UserId], tuple[bool, int]] = {}
        """By recipient and sender: whether they are friends, and until when that is believed."""

    def begin(self, rules: SendingRules, now_ms: int) -> bool:
        """Before the messages of an append are checked. False: there are no quotas, and nothing is to be checked."""
        if (rules.waiting_from_one, rules.waiting) != (self._rules.waiting_from_one, self._rules.waiting):
            self.clear()
        self._rules, self._now_ms = rules, now_ms
        self._looked.clear()
        if max(len(self.rooms), len(self.spare), len(self._friends)) > CACHED:
            self.clear()
        return bool(rules.waiting_from_one or rules.waiting)

    def clear(self) -> None:
        self.rooms.clear()
        self.spare.clear()
        self.reserve.clear()
        self._full_until_ms.clear()
        self._reserve_full_until_ms.clear()
        self._friends.clear()

    # ---------------------------------------------------------------- one message

    def take(
        self, conversation: ConversationId, recipient: UserId, seq: Seq, sender: UserId
    ) -> dict[UserId, int] | None:
        """Count the message, if it may be stored with this seq: in spare or in reserve, which is returned. None: it may
        not. A caller in a hurry asks only when rooms or spare do not have the answer."""
        key = conversation, recipient
        if seq > self.rooms.get(key, 0) and seq > self._look(key, seq):
            return None
        shares, left = self.spare, self.spare.get(recipient, 0) or self._share(recipient)
        if not left and self._is_friend(recipient, sender):
            shares, left = self.reserve, self.reserve.get(recipient, 0) or self._share_for_friends(recipient)
        if not left:
            return None
        shares[recipient] = left - 1
        return shares

    def _is_friend(self, recipient: UserId, sender: UserId) -> bool:
        if recipient == sender:
            return True
        known, until_ms = self._friends.get((recipient, sender), (False, 0))
        if self._now_ms >= until_ms:
            known = self._cursors.is_friend(recipient, sender)
            self._friends[recipient, sender] = known, self._now_ms + _FULL_MS
        return known

    def _look(self, key: tuple[ConversationId, UserId], seq: Seq) -> Seq:
        """Read the cursor, unless the conversation was found full during this append. Returns the new room."""
        if key in self._looked:
            return 0
        delivered = self._cursors.delivered(key[1], key[0])
        self.learn_cursor(key, delivered)
        if delivered is not None and seq > self.rooms[key]:
            moved = self._pass_own(key[1], Behind(key[0], delivered, seq - 1))
            self.learn_cursor(key, moved)
            if moved - delivered >= PASSED:  # there may be more
                self.rooms[key] = max(seq, self.rooms[key])
            if seq > self.rooms[key]:
                self._looked.add(key)
        return self.rooms[key]

    def _pass_own(self, user: UserId, behind: Behind) -> Seq:
        """Move the cursor past what was deleted and what the user has sent, up to the first other message. Returns
        where it is now."""
        conversation, delivered, last = behind
        reached = last
        for limit in (1, PASSED):  # mostly, the first one is another user's
            rows = self._cursors.beyond(conversation, delivered, limit)
            others = next((seq for seq, sender in rows if sender != user), None)
            if others is not None:
                reached = others - 1
                break
            if not rows:
                break
            reached = rows[-1][0]
        if reached > delivered:
            self._cursors.advance(user, conversation, reached)
        return max(delivered, reached)

    def _share(self, recipient: UserId) -> int:
        if self._now_ms < self._full_until_ms.get(recipient, 0):
            return 0
        self._count(recipient)
        if not (share := self.spare.get(recipient, 0)):
            self._full_until_ms[recipient] = self._now_ms + _FULL_MS
        return share

    def _share_for_friends(self, recipient: UserId) -> int:
        if self._now_ms < self._reserve_full_until_ms.get(recipient, 0):
            return 0
        self._count(recipient)
        if not (share := self.reserve.get(recipient, 0)):
            self._reserve_full_until_ms[recipient] = self._now_ms + _FULL_MS
        return share

    def _count(self, recipient: UserId) -> None:
        count = self._cursors.count(recipient)
        passed = 0
        if 0 < self._rules.waiting - self._kept <= count.waiting:
            longest = self._cursors.longest(recipient)
            passed = sum(self._pass_own(recipient, behind) - behind.delivered for behind in longest)
        self.learn_count(recipient, count, passed)

    @property
    def _kept(self) -> int:
        """Messages of a mailbox that are kept for friends."""
        return self._rules.waiting // FRIENDS_SHARE

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

    def learn_count(self, recipient: UserId, count: Count, passed: int = 0) -> None:
        """passed: messages that were counted, but do not wait. As many may be stored, even if the rest is too much:
        there may be more of them. Nothing is noted of a full mailbox."""
        if not self._rules.waiting:
            self.spare[recipient] = _UNLIMITED
            return
        for shares, left, full_until_ms in (
            (self.spare, self._rules.waiting - self._kept - count.waiting, self._full_until_ms),
            (self.reserve, self._rules.waiting - count.waiting, self._reserve_full_until_ms),
        ):
            left = max(passed, left)
            if left > 0:
                share = max(1, left // _SHARES, count.conversations // _CONVERSATIONS_PER_MESSAGE)
                shares[recipient] = min(left, share)
                full_until_ms.pop(recipient, None)
            else:
                shares.pop(recipient, None)
