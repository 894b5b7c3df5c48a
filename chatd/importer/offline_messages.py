"""The legacy offline messages, which wait for the same users in the new store.

Owns: the meaning of a text in `offlinemessage`, the numbering of conversations, cursors, and friend requests.
Elsewhere: reading (importer.legacy), the members of groups (importer.groups).
Fails: never by itself; a row that cannot be imported is reported.

The legacy server kept one row for each absent member of a group; chatd keeps one row for a group message, and each
member has a cursor. So equal rows of different members become one message, and a member's cursor is placed before the
first message that waits for that member. Where the legacy server lost rows in between, the member is given messages
that they may have had already: better twice than never.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Any

from chatd.importer.accounts import ImportedAccounts
from chatd.importer.groups import ImportedGroups
from chatd.importer.legacy import LegacyDatabase
from chatd.importer.report import ImportReport
from chatd.store.copy import Row

_ONE_CHAT, _FRIEND_REQUEST, _FRIEND_ANSWER, _GROUP_CHAT = 6, 7, 8, 11
"""Values of `msgid`."""
_AHEAD_MS = 24 * 3600 * 1000
"""A time further in the future than this is taken for nonsense."""
Conversation = int


class _Unusable(Exception):
    """This row cannot be imported; the text is the rule."""


class OfflineMessages:
    """messages() must be read to its end before the other methods are called."""

    def __init__(self, accounts: ImportedAccounts, groups: ImportedGroups, report: ImportReport, now_ms: int) -> None:
        self._accounts, self._groups, self._report, self._now_ms = accounts, groups, report, now_ms
        self._pairs: dict[tuple[int, int], Conversation] = {}
        self._last: Counter[Conversation] = Counter()
        """The last seq of each conversation."""
        self._first: dict[tuple[int, Conversation], int] = {}
        """For each user and conversation, the first seq that waits."""
        self._rows: Counter[tuple[int, Conversation]] = Counter()
        """For each user and conversation, how many messages wait."""
        self._sent: defaultdict[tuple[int, Conversation], list[int]] = defaultdict(list)
        """The seqs that each user sent to each conversation."""
        self._copies: Counter[tuple[int, bytes]] = Counter()
        """Number of times that a text (by its hash) was read for a user."""
        self._group_seqs: dict[tuple[int, bytes, int], int] = {}
        """The seq of a group message, by group, hash, and the number of equal ones that the same member had before."""
        self._requests: dict[tuple[int, int], int] = {}
        """(sender, asked user): epoch ms."""

    # ---------------------------------------------------------------- messages

    def messages(self, legacy: LegacyDatabase) -> Iterator[Row]:
        number = 0
        for user, data in legacy.offline():
            text = legacy.text(data)
            try:
                row = self._message(user, text, data)
            except _Unusable as unusable:
                self._report.reject("offlinemessage", str(unusable), {"userid": user, "message": text})
                continue
            if row is not None:
                number += 1
                self._report.imported["messages"] += 1
                yield (number, *row, None)  # no body_hash

    def _message(self, user: int | None, text: str, data: bytes) -> Row | None:
        """None: it becomes no row of `message`."""
        if user is None or user not in self._accounts.ids:
            raise _Unusable("its recipient does not exist")
        frame = _parse(text)
        kind = _number(frame, "msgid")
        if kind == _ONE_CHAT:
            return self._chat(user, frame)
        if kind == _GROUP_CHAT:
            return self._group_chat(user, frame, data)
        if kind == _FRIEND_REQUEST:
            self._request(user, frame)
            return None
        if kind == _FRIEND_ANSWER:
            raise _Unusable("it only reports the answer to a friend request")
        raise _Unusable("its msgid is not that of an offline message")

    def _chat(self, user: int, frame: dict[str, Any]) -> Row:
        sender, body = self._sender(frame), _text(frame)
        if _number(frame, "toid") != user:
            self._report.change("offlinemessage: toid differs from userid, which counts", f"userid {user}")
        conversation = self._pair(sender, user)
        seq = self._count(conversation, sender)
        self._waits(user, conversation, seq)
        return (conversation, seq, sender, "", self._time(frame), 1, -1, body)

    def _pair(self, one: int, other: int) -> Conversation:
        return self._pairs.setdefault((min(one, other), max(one, other)), len(self._pairs) + 1)

    def _group_chat(self, user: int, frame: dict[str, Any], data: bytes) -> Row | None:
        group, sender, body = _number(frame, "groupid"), self._sender(frame), _text(frame)
        members = self._groups.members.get(group)
        if members is None:
            raise _Unusable("its group does not exist")
        if user not in members:
            raise _Unusable("its recipient is not a member of the group")
        if user == sender:
            raise _Unusable("its recipient is its sender")
        conversation, digest = -group, blake2b(data, digest_size=16).digest()
        self._copies[user, digest] += 1
        key = (group, digest, self._copies[user, digest])  # the same text twice is two messages
        seq = self._group_seqs.get(key)
        fresh = seq is None
        if seq is None:
            seq = self._group_seqs[key] = self._count(conversation, sender)
        self._waits(user, conversation, seq)
        self._report.imported["copies of group messages"] += 1
        return (conversation, seq, sender, "", self._time(frame), 1, -1, body) if fresh else None

    def _sender(self, frame: dict[str, Any]) -> int:
        sender = _number(frame, "id")
        if sender not in self._accounts.ids:
            raise _Unusable("its sender does not exist")
        return sender

    def _count(self, conversation: Conversation, sender: int) -> int:
        self._last[conversation] += 1
        self._sent[sender, conversation].append(self._last[conversation])
        return self._last[conversation]

    def _waits(self, user: int, conversation: Conversation, seq: int) -> None:
        key = user, conversation
        self._first[key] = min(seq, self._first.get(key, seq))
        self._rows[key] += 1

    def _time(self, frame: dict[str, Any]) -> int:
        """As the sender's clock said, in the time zone of this host."""
        try:
            at_ms = int(datetime.fromisoformat(frame.get("time", "")).timestamp() * 1000)
            if 0 < at_ms < self._now_ms + _AHEAD_MS:
                return at_ms
        except (TypeError, ValueError, OverflowError, OSError):
            at_ms = 0
        text = "offlinemessage: its time is not plausible; it has that of the import"
        self._report.change(text, repr(frame.get("time"))[:40])
        return self._now_ms

    # ---------------------------------------------------------------- what belongs to them

    def pairs(self) -> Iterator[Row]:
        for (low, high), number in self._pairs.items():
            yield (number, low, high)

    def cursors(self) -> Iterator[Row]:
        """Of both users of each pair, and of every member of each group."""
        for (low, high), number in self._pairs.items():
            yield from self._cursors(number, sorted({low, high}))
        for group, members in sorted(self._groups.members.items()):
            yield from self._cursors(-group, sorted(members))

    def _cursors(self, conversation: Conversation, users: list[int]) -> Iterator[Row]:
        last = self._last[conversation]
        for user in users:
            key = user, conversation
            first = self._first.get(key, last + 1)
            own = self._sent.get(key, [])
            surplus = last + 1 - first - self._rows[key] - (len(own) - bisect_left(own, first))
            if conversation < 0 and surplus > 0:
                text = "offlinemessage: a group's message is given to a member who may have it already"
                self._report.change(text, f"{user} in {-conversation}: {surplus}", surplus)
            yield (user, conversation, first - 1, 0)

    # ---------------------------------------------------------------- friend requests

    def _request(self, user: int, frame: dict[str, Any]) -> None:
        sender = _number(frame, "from" if "from" in frame else "id")
        if sender not in self._accounts.ids:
            raise _Unusable("its sender does not exist")
        if sender == user:
            raise _Unusable("a user cannot be their own friend")
        self._requests.setdefault((sender, user), self._now_ms)

    def requests(self, friends: set[tuple[int, int]]) -> Iterator[Row]:
        """Except those in `friends`: (sender, user) pairs that are friends already."""
        for (sender, user), at_ms in sorted(self._requests.items()):
            if (sender, user) in friends:
                row: dict[str, int | str | None] = {"userid": user, "from": sender}
                self._report.reject("offlinemessage", "the two are friends already", row)
                continue
            self._report.imported["friend requests"] += 1
            yield (sender, user, 0, at_ms)

    def asked(self) -> set[tuple[int, int]]:
        return set(self._requests)


def _parse(text: str) -> dict[str, Any]:
    try:
        frame = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise _Unusable("it is not JSON") from None
    if not isinstance(frame, dict):
        raise _Unusable("it is not a JSON object")
    return frame


def _number(frame: dict[str, Any], name: str) -> int:
    """0 if it is missing. Some versions wrote numbers as text."""
    value = frame.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if type(value) is int else 0


def _text(frame: dict[str, Any]) -> str:
    text = frame.get("msg")
    if not isinstance(text, str):
        raise _Unusable("it has no text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unusable("its text is not valid Unicode") from None
    return text
