"""What was sent or asked before: the keys of (sender, fp), and the answers to requests that changed something.

Owns: SendKeys, looking for a free key, the table request. Elsewhere: finding the keys messages have
(store.sqlite.tables, store.mysql.tables).
Fails: Refused LIMIT_REACHED to who makes fps that share a key; what the database raises passes through.
"""

from __future__ import annotations

import abc
from zlib import crc32

from chatd.errors import ErrorCode, Refused
from chatd.model import Message, UserId
from chatd.protocol import SendMessage
from chatd.store.contract import Stored
from chatd.store.sql.accounts import name_key
from chatd.store.sql.database import Database
from chatd.store.sql.history import Archive
from chatd.store.sql.parts import AccountPart, FriendPart, GroupPart, HistoryPart, RequestPart

PROBES = 16
_KEEP_MS = 7 * 24 * 3600 * 1000


class SendKeys:
    """Maps (sender, fp) to a 64-bit key: the sender in the upper half, a checksum of fp below.

    Neighbouring in the index for one sender, and half the cost of an index on text. Two fps of one sender
    that share a key take the next free one (at most PROBES away), so the map stays exact. Who makes fps that
    collide makes them for themselves alone.
    """

    __slots__ = ()

    @staticmethod
    def first(sender: UserId, fp: str) -> int:
        return sender << 32 | crc32(fp.encode("utf-8", "surrogatepass"))

    @staticmethod
    def after(key: int) -> int:
        return key & ~0xFFFFFFFF | (key + 1) & 0xFFFFFFFF


class Answers(Archive, abc.ABC):
    """The part of Tables about requests; a base of every twin."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._keys = SendKeys()
        self.accounts, self.friends, self.groups = AccountPart(self), FriendPart(self), GroupPart(self)
        self.history, self.request_log = HistoryPart(self), RequestPart(self)

    def _probe(self, key: int, sender: UserId, fp: str, fresh: dict[int, Message]) -> tuple[int | None, Message | None]:
        """The key to insert with, or the message that (sender, fp) already is. (None, None): no key is free, which
        only a sender who looks for such fps can bring about, for themselves."""
        for _ in range(PROBES):
            found = fresh.get(key) or self._sent(key)
            if found is None:
                return key, None
            if found.sender_id == sender and found.fp == fp:
                return key, found
            key = SendKeys.after(key)
        return None, None

    def _repetition(self, first: Message, command: SendMessage) -> Stored | ErrorCode:
        """The result for a message whose fp its sender has used before, for `first`."""
        same = command.body == first.body and command.to_group == first.group_id and self._is_recipient(first, command)
        version = self._version(first.group_id) if first.group_id else 0
        return Stored(first, False, version) if same else ErrorCode.FP_REUSED

    def _is_recipient(self, message: Message, command: SendMessage) -> bool:
        """Whether a command that is not for another group is for the recipient of `message`. An account deleted since
        is still known by its number and its name."""
        if not command.to_name:
            return command.to_id == message.to_id
        if name_key(command.to_name) == name_key(message.to_name):
            return True
        recipient = self.user(command.to_name, 0)
        return recipient is not None and recipient.id == message.to_id

    @abc.abstractmethod
    def _sent(self, key: int) -> Message | None:
        """The message with this key."""

    # ---------------------------------------------------------------- requests

    def answered(self, sender: UserId, fp: str) -> str | None:
        row = self._request(self._keys.first(sender, fp), sender, fp)[1]
        return row[2] if row else None

    def remember(self, sender: UserId, fp: str, answer: str, now_ms: int) -> None:
        self._remember(sender, fp, answer, now_ms)

    def _remember(self, sender: UserId, fp: str, answer: str, now_ms: int) -> int:
        """The key it has now."""
        key = self._request(self._keys.first(sender, fp), sender, fp)[0]
        self._db.execute("INSERT INTO request VALUES (?, ?, ?, ?, ?)", (key, sender, fp, answer, now_ms))
        old = self._db.execute("SELECT send_key FROM request WHERE at_ms < ? LIMIT 10", (now_ms - _KEEP_MS,)).fetchall()
        if old:
            self._db.execute(
                f"DELETE FROM request WHERE send_key IN ({','.join('?' * len(old))})", [row[0] for row in old]
            )
        return key

    def _request(self, key: int, sender: UserId, fp: str) -> tuple[int, tuple[UserId, str, str] | None]:
        """The key to insert with, or the row that (sender, fp) is."""
        keys = [key]
        while len(keys) < PROBES:
            keys.append(SendKeys.after(keys[-1]))
        rows = self._db.execute(
            f"SELECT send_key, sender_id, fp, answer FROM request WHERE send_key IN ({','.join('?' * PROBES)})", keys
        ).fetchall()  # all of them: one that lay between may have expired
        for taken, *row in rows:
            if row[:2] == [sender, fp]:
                return taken, (sender, fp, row[2])
        free = [key for key in keys if key not in {row[0] for row in rows}]
        if not free:
            raise Refused(ErrorCode.LIMIT_REACHED)
        return free[0], None
