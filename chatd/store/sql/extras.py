"""What a message has besides its text, in the SQL of both twins: the message it answers, the members it mentions, and
its files.

Owns: the table `mention`; whether a sender may answer that message, mention those members and send those files.
Elsewhere: the files themselves (store.sql.files), the column `meta` of `message` (store.sql.meta), numbering and
storing (store.sqlite.messages, store.mysql.messages), how many mentions and files a message may have (core.messages),
which are unread (store.sql.unread).
Fails: what the database raises passes through; extras that are not allowed get an ErrorCode.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chatd.errors import ErrorCode, Refused
from chatd.model import ALL_MEMBERS, Attachment, Message, Role, Seq, User, UserId
from chatd.protocol import Extras
from chatd.store.contract import Draft
from chatd.store.sql.database import Database
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.files import SqlFiles
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.meta import Meta

_ROWS = 200
"""Rows of one INSERT."""


class ExtrasWriter:
    def __init__(self, db: Database, groups: SqlGroups, directory: UserDirectory, files: SqlFiles) -> None:
        self._db = db
        self._groups = groups
        self._directory = directory
        self._files = files

    def check(self, draft: Draft, extras: Extras, last: Seq, before: Iterable[Message]) -> Meta | ErrorCode:
        """last: of the conversation. before: messages with extras that this transaction stores. UNKNOWN_MESSAGE: there
        is no message with that number to answer yet. UNKNOWN_RECIPIENT: somebody mentioned is not in the group; the
        same answer for a name that nobody has. NOT_ALLOWED: only the owner and admins mention everybody. BAD_FIELD:
        mentions between two users. UNKNOWN_FILE: as SqlFiles.waiting(). The sender is known to be in the group. Cost:
        one statement for mentions and one for files, and one for each name seen for the first time."""
        sender, command = draft.sender, draft.command
        if extras.reply_to > last:
            return ErrorCode.UNKNOWN_MESSAGE
        mentions: tuple[UserId, ...] = ()
        if extras.mentions:
            if not command.to_group:
                return ErrorCode.BAD_FIELD
            found = self._mentioned(sender, command.to_group, extras.mentions)
            if isinstance(found, ErrorCode):
                return found
            mentions = found
        attachments: tuple[Attachment, ...] = ()
        if extras.files:
            sent = {one.id for message in before for one in message.attachments}
            waiting = None if sent.intersection(extras.files) else self._files.waiting(sender.id, extras.files)
            if waiting is None:
                return ErrorCode.UNKNOWN_FILE
            attachments = waiting
        return Meta(reply_to=extras.reply_to, mentions=mentions, attachments=attachments)

    def _mentioned(self, sender: User, group_id: int, named: tuple[str | int, ...]) -> tuple[UserId, ...] | ErrorCode:
        if named == ALL_MEMBERS:
            try:
                role = self._groups.role(group_id, sender.id)
            except Refused:
                return ErrorCode.NOT_ALLOWED
            return ALL_MEMBERS if role is not Role.MEMBER else ErrorCode.NOT_ALLOWED
        ids: dict[UserId, None] = {}
        for name in named:
            user = self._directory.find("", name) if isinstance(name, int) else self._directory.find(name, 0)
            if user is None:
                return ErrorCode.UNKNOWN_RECIPIENT
            ids[user.id] = None
        _, members = self._groups.members_among(group_id, ids)
        return tuple(ids) if members.keys() == ids.keys() else ErrorCode.UNKNOWN_RECIPIENT

    def remember(self, messages: Collection[Message]) -> None:
        """Who is mentioned, and which files were sent, for messages that were just inserted. A user who mentions
        themselves is not notified."""
        rows = [
            (user_id, message.conversation, message.seq)
            for message in messages
            for user_id in message.mentions
            if user_id != message.sender_id
        ]
        for at in range(0, len(rows), _ROWS):
            part = rows[at : at + _ROWS]
            marks = ",".join(["(?,?,?)"] * len(part))
            self._db.execute(
                f"INSERT INTO mention (user_id, conversation, seq) VALUES {marks}",
                [value for row in part for value in row],
            )
        for message in messages:
            self._files.send(message)
