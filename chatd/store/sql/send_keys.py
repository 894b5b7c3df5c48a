"""Sending is idempotent: the integer keys that make (sender, fp) unique, and what a draft with a used fp is answered.

Owns: SendKeys; Repetitions: whether a draft repeats the message that has its fp, or is another one.
Elsewhere: reading messages by their keys (store.sqlite.messages, store.mysql.messages), the keys of requests
(store.sql.request_log).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from zlib import crc32

from chatd.errors import ErrorCode
from chatd.model import Message, UserId
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, Stored
from chatd.store.sql.directory import UserDirectory, name_key
from chatd.store.sql.groups import SqlGroups

PROBES = 16
"""Keys tried for one (sender, fp) before it is refused with LIMIT_REACHED."""


class SendKeys:
    """Maps (sender, fp) to a 64-bit key: the sender in the upper half, a checksum of fp below.

    The keys of one sender are neighbours in the index, which costs half as much as an index on text. If two fps of one
    sender share a key, the second takes the next free one, so the map stays exact. Only a sender who looks for such fps
    has many of them, and only that sender is refused for it.
    """

    __slots__ = ()

    @staticmethod
    def first(sender: UserId, fp: str) -> int:
        return sender << 32 | crc32(fp.encode("utf-8", "surrogatepass"))

    @staticmethod
    def after(key: int) -> int:
        return key & ~0xFFFFFFFF | (key + 1) & 0xFFFFFFFF


class Repetitions:
    """What an earlier message under the key of a draft means for the draft."""

    def __init__(
        self, directory: UserDirectory, groups: SqlGroups, message_with_key: Callable[[int], Message | None]
    ) -> None:
        self._directory = directory
        self._groups = groups
        self._message_with_key = message_with_key

    def look_up(
        self, key: int, draft: Draft, fresh: Mapping[int, Message]
    ) -> tuple[int | None, Stored | ErrorCode | None]:
        """For a draft with an fp whose first key is in use. fresh: messages of this transaction, by their keys.

        Returns (a free key, None): the draft is to be stored with it. Otherwise (None, the draft's result): it repeats
        an earlier message, or is refused with FP_REUSED (it does not) or LIMIT_REACHED (none of PROBES keys is free).
        """
        sender_id, fp = draft.sender.id, draft.command.fp
        for _ in range(PROBES):
            found = fresh.get(key) or self._message_with_key(key)
            if found is None:
                return key, None
            if found.sender_id == sender_id and found.fp == fp:
                return None, self._repetition(found, draft.command)
            key = SendKeys.after(key)
        return None, ErrorCode.LIMIT_REACHED

    def _repetition(self, first: Message, command: SendMessage) -> Stored | ErrorCode:
        same = command.body == first.body and command.to_group == first.group_id and self._is_recipient(first, command)
        version = self._groups.members_version(first.group_id) if first.group_id else 0
        return Stored(first, False, version) if same else ErrorCode.FP_REUSED

    def _is_recipient(self, message: Message, command: SendMessage) -> bool:
        """Whether a command that is not for another group is for the recipient of `message`. A user deleted since is
        still known by id and name."""
        if not command.to_name:
            return command.to_id == message.to_id
        if name_key(command.to_name) == name_key(message.to_name):
            return True
        recipient = self._directory.find(command.to_name, 0)
        return recipient is not None and recipient.id == message.to_id
