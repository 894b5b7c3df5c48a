"""Sending is idempotent: what a draft is answered whose sender has used its fp before.

Owns: whether the draft repeats the message that has its fp, or is another one.
Elsewhere: the keys (store.sql.send_keys), looking up many of them at once (store.sqlite.messages,
store.mysql.messages).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chatd.errors import ErrorCode
from chatd.model import Message
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, Stored
from chatd.store.sql.directory import UserDirectory, name_key
from chatd.store.sql.send_keys import PROBES, SendKeys


class Repetitions:
    """What an earlier message under the key of a draft means for the draft."""

    def __init__(self, directory: UserDirectory, message_with_key: Callable[[int], Message | None]) -> None:
        self._directory = directory
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
        return Stored(first, False) if same else ErrorCode.FP_REUSED

    def _is_recipient(self, message: Message, command: SendMessage) -> bool:
        """Whether a command that is not for another group is for the recipient of `message`. A user deleted since is
        still known by id and name."""
        if not command.to_name:
            return command.to_id == message.to_id
        if name_key(command.to_name) == name_key(message.to_name):
            return True
        recipient = self._directory.find(command.to_name, 0)
        return recipient is not None and recipient.id == message.to_id
