"""Requests about past messages: history, synchronising, read marks.

Owns: the arguments and answers of these operations, and the permission to read: only members of a conversation have it.
Elsewhere: the rows (store); what a client is given without asking (core.delivery).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypedDict

import msgspec
from msgspec import Meta, field

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import GroupNotice, UserNotice
from chatd.core.change import Change
from chatd.core.groups import existing
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.arguments import user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import Notices, notice, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import ALL_MEMBERS, ConversationId, Group, Message, Seq, User, UserId
from chatd.store.contract import UNREAD_WINDOW, Head, Tables, Unread

_MAX_UNREAD_ROWS = 20 * UNREAD_WINDOW
"""Messages that one `sync` looks at to count what is unread. Beyond them the page ends."""
_Seq = Annotated[int, Meta(ge=0, lt=1 << 62)]
_Place = Annotated[str, Meta(min_length=1, max_length=64)]
"""A user's name or id, or "#" and a group's number."""


class History(msgspec.Struct, frozen=True):
    """before > 0: the messages before this seq, newest first; otherwise those after the seq `after`, oldest first.
    start: leave out this many characters of each text. A text that was cut ("cut": n) is read further with start n and
    limit 1."""

    place: _Place = field(name="with")
    after: _Seq = 0
    before: _Seq = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    start: Annotated[int, Meta(ge=0, le=1 << 24)] = 0


class Sync(msgspec.Struct, frozen=True):
    """cursors: the last seq the client has, by conversation. after: the last conversation id of the previous page."""

    cursors: dict[str, _Seq] = {}
    after: Annotated[int, Meta(gt=-(1 << 62), lt=1 << 62)] = -(1 << 61)
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class ReadMark(msgspec.Struct, frozen=True):
    place: _Place = field(name="with")
    seq: _Seq


def shown(message: Message, start: int = 0) -> dict[str, object]:
    """A message as answers contain it; its text from character `start` on."""
    entry: dict[str, object] = {
        "seq": message.seq,
        "from": message.sender_name,
        "fp": message.fp,
        "text": message.body[start:],
        "typeu": message.typeu,
        "sm": message.sent_at_ms,
    }
    if message.reply_to:
        entry["reply"] = message.reply_to
    if message.mentions:
        entry["mentions"] = "all" if message.mentions == ALL_MEMBERS else message.mentions
    if start:
        entry["start"] = start
    return entry


def _shown_head(head: Head, unread: Unread) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": head.conversation,
        "with": place_of(head.other),
        "last": head.last,
        "read": head.seen,
        "unread": unread.messages,
    }
    if unread.more:
        entry["unread_more"] = True
    if unread.mentioned:
        entry["mentioned"] = unread.mentioned
    return entry


def _countable(heads: list[Head]) -> list[Head]:
    """The first of them, as many as one answer may look at the unread messages of."""
    left = _MAX_UNREAD_ROWS
    for index, head in enumerate(heads):
        left -= min(max(head.last - head.seen, 0), UNREAD_WINDOW)
        if left < 0 and index:
            return heads[:index]
    return heads


def place_of(other: User | Group) -> str:
    return f"#{other.id}" if isinstance(other, Group) else other.name


def _group_number(place: str) -> int:
    digits = place[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return int(digits)


def find_conversation(tables: Tables, user: User, place: str) -> ConversationId:
    """0 if nothing was written there yet. Refused if there is no such user or group, or the user is not a member."""
    if place[0] == "#":
        return tables.history.conversation_of(user.id, 0, _group_number(place))
    return tables.history.conversation_of(user.id, user_named(place)(tables).id, 0)


class _Other(TypedDict):
    user: User | None
    group: Group | None


def _other(tables: Tables, place: str) -> _Other:
    """The user or group that the place names, for plug-ins. Raises Refused if there is none."""
    if place[0] == "#":
        return {"user": None, "group": existing(tables, _group_number(place))}
    return {"user": user_named(place)(tables), "group": None}


class _Marked(NamedTuple):
    """other: the other user of the conversation, None for a group. seq: where the user's read mark is now."""

    conversation: ConversationId
    other: User | None
    seq: Seq


class HistoryOperations:
    def __init__(self, services: Services, notices: Notices, plugins: PluginPipeline) -> None:
        self._services = services
        self._notices = notices
        self._plugins = plugins

    def table(self) -> OperationTable:
        return {
            "history": Operation(
                History,
                "messages of a conversation",
                '{"with":str,"messages":[M]}',
                asks=Point.BEFORE_HISTORY,
                read=self._history,
            ),
            "sync": Operation(
                Sync,
                "the user's conversations, with the messages that the client does not have yet",
                '{"conversations":[{"id":int,"with":str,"last":seq,"read":seq,"unread":int,"unread_more":true?,'
                '"mentioned":[seq]?}],"messages":[M with "with"],'
                '"more":bool}',
                asks=Point.BEFORE_HISTORY,
                read=self._sync,
            ),
            "read": Operation(
                ReadMark,
                "mark a conversation as read up to a seq",
                '{"seq":int}',
                asks=Point.BEFORE_READ_MARK,
                write=self._mark,
                shown=lambda marked: {"seq": marked.seq},
            ),
        }

    async def _history(self, session: Session, arguments: History) -> object:
        limit, place = min(arguments.limit, self._services.config().limits.history_page), arguments.place
        await self._plugins.before_action(
            session,
            Point.BEFORE_HISTORY,
            lambda tables, who: actions.ReadHistory(**who, **_other(tables, place)),
        )

        def read(tables: Tables) -> list[Message]:
            conversation = find_conversation(tables, session.user, place)
            if not conversation:
                return []
            return tables.history.messages(session.user.id, conversation, arguments.after, arguments.before, limit)

        messages = await self._services.store.read(read)
        if arguments.before:
            messages.reverse()
        return {"with": place, "messages": [shown(message, arguments.start) for message in messages]}

    async def _sync(self, session: Session, arguments: Sync) -> object:
        me, limit = session.user.id, min(arguments.limit, self._services.config().limits.history_page)
        await self._plugins.before_action(session, Point.BEFORE_HISTORY, lambda tables, who: actions.ReadHistory(**who))

        def read(tables: Tables) -> tuple[list[tuple[Head, Unread, list[Message]]], bool]:
            found, room = [], limit
            heads = tables.history.heads(me, arguments.after, limit)
            counted = _countable(heads)
            for head, unread in zip(counted, tables.history.unread(me, counted), strict=True):
                has = arguments.cursors.get(place_of(head.other), head.delivered)
                messages = (
                    tables.history.messages(me, head.conversation, has, 0, room) if room and head.last > has else []
                )
                room -= len(messages)
                found.append((head, unread, messages))
            return found, len(heads) == limit or len(counted) < len(heads)

        found, more = await self._services.store.read(read)
        return {
            "conversations": [_shown_head(head, unread) for head, unread, _ in found],
            "messages": [
                {"with": place_of(head.other), **shown(message)} for head, _, messages in found for message in messages
            ],
            "more": more,
        }

    async def _mark(self, session: Session, arguments: ReadMark) -> Change[_Marked]:
        """The other members of the conversation are notified, and the user's other sessions."""
        user, place = session.user, arguments.place
        await self._plugins.before_action(
            session,
            Point.BEFORE_READ_MARK,
            lambda tables, who: actions.MarkRead(**who, **_other(tables, place), seq=arguments.seq),
        )

        def write(tables: Tables) -> _Marked:
            conversation = find_conversation(tables, user, place)
            if not conversation:
                raise Refused(ErrorCode.BAD_FIELD, "with: nothing was written there yet")
            other = None if place[0] == "#" else user_named(place)(tables)
            return _Marked(conversation, other, tables.history.mark_seen(user.id, conversation, arguments.seq))

        return Change(write, lambda marked: self._tell_marked(session, place, marked))

    def _tell_marked(self, session: Session, place: str, marked: _Marked) -> None:
        user = session.user
        if marked.other is not None:
            if marked.other.id != user.id:
                text = notice("read", **{"with": user.name, "by": of_user(user), "seq": marked.seq})
                self._tell(marked.other.id, text)
            text = notice("read", **{"with": marked.other.name, "by": of_user(user), "seq": marked.seq})
            self._tell(user.id, text, session)
            return
        group_id = -marked.conversation
        text = notice("read", **{"with": place, "by": of_user(user), "seq": marked.seq})
        self._services.bus.publish(topic_of_group(group_id), bus_messages.encode(GroupNotice(group_id, text)))
        for member in tuple(self._services.hub.of_group(group_id)):
            if member is not session:
                self._notices.tell(member, text)

    def _tell(self, user_id: UserId, text: str, apart_from: Session | None = None) -> None:
        """Tell the user's sessions on every worker, except one of this worker."""
        message = UserNotice(user_id, text)
        self._services.bus.publish(topic_of_user(user_id), bus_messages.encode(message))
        self.notify(message, apart_from)

    def notify(self, message: UserNotice, apart_from: Session | None = None) -> None:
        """Tell the user's sessions on this worker."""
        for session in self._services.hub.of_user(message.user_id):
            if session is not apart_from:
                self._notices.tell(session, message.text)
