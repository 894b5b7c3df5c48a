"""Sending is idempotent: the answer to a draft whose sender has used its fp before.

Owns: deciding whether the draft repeats the message with its fp, or is a different one.
Elsewhere: the keys (store.sql.send_keys), looking up many of them at once (store.sqlite.messages,
store.mysql.messages).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from chatd.errors import ErrorCode
from chatd.model import Message
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, Stored, text_hash
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.send_keys import PROBES, SendKeys
from chatd.texts.names import name_key


class Repetitions:
    """Decides what an earlier message under the key of a draft means for the draft."""

    def __init__(
        self,
        directory: UserDirectory,
        message_with_key: Callable[[int], Message | None],
        body_hash_of_key: Callable[[int], int | None],
    ) -> None:
        """Both functions read a stored message by its key: itself, and its body_hash."""
        self._directory = directory
        self._message_with_key = message_with_key
        self._body_hash_of_key = body_hash_of_key

    def look_up(
        self, key: int, draft: Draft, fresh: Mapping[int, Message], fresh_hashes: Mapping[int, int]
    ) -> tuple[int | None, Stored | ErrorCode | None]:
        """For a draft with an fp whose first key is in use. fresh: messages of this transaction, by their keys;
        fresh_hashes: body_hash of those that have one.

        Returns (a free key, None): the draft is to be stored with it. Otherwise (None, the draft's result): it repeats
        an earlier message, or is refused with FP_REUSED (it does not) or LIMIT_REACHED (none of PROBES keys is free).
        """
        sender_id, fp = draft.sender.id, draft.command.fp
        for _ in range(PROBES):
            found = fresh.get(key) or self._message_with_key(key)
            if found is None:
                return key, None
            if found.sender_id == sender_id and found.fp == fp:
                body_hash = fresh_hashes.get if key in fresh_hashes else self._body_hash_of_key
                return None, self._result(found, draft, partial(body_hash, key))
            key = SendKeys.after(key)
        return None, ErrorCode.LIMIT_REACHED

    def _result(self, first: Message, draft: Draft, body_hash: Callable[[], int | None]) -> Stored | ErrorCode:
        """body_hash: reads that of `first`."""
        command = draft.command
        same = command.to_group == first.group_id and self._is_recipient(first, command)
        if same and (draft.body_hash is not None or first.version or command.body != first.body):
            same = self._has_same_origin(first, draft, body_hash())
        return Stored(first, False) if same else ErrorCode.FP_REUSED

    @staticmethod
    def _has_same_origin(first: Message, draft: Draft, first_hash: int | None) -> bool:
        """Whether the client sent the same text both times, although they are to be stored as different ones, or the
        first was changed since (store.sql.revisions)."""
        if first_hash is None and draft.body_hash is None:
            return False
        sent_first = text_hash(first.body) if first_hash is None else first_hash
        sent_now = text_hash(draft.command.body) if draft.body_hash is None else draft.body_hash
        return sent_first == sent_now

    def _is_recipient(self, message: Message, command: SendMessage) -> bool:
        """Whether a command that is not for another group is for the recipient of `message`. A user deleted since is
        still known by id and name."""
        if not command.to_name:
            return command.to_id == message.to_id
        if name_key(command.to_name) == name_key(message.to_name):
            return True
        recipient = self._directory.find(command.to_name, 0)
        return recipient is not None and recipient.id == message.to_id
