"""Requests about past messages: history, synchronising, read marks.

Owns: the arguments and answers of these operations, and the permission to read: only members of a conversation have it.
Elsewhere: the rows (store); what a client is given without asking (core.delivery).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, NamedTuple, TypedDict

import msgspec
from msgspec import Meta, field

from chatd.bus.contract import topic_of_group
from chatd.core import bus_messages, consent
from chatd.core.allowance import LIST, SYNC
from chatd.core.bus_messages import GroupNotice
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.groups.finding import existing
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.recent_changes import RecentChanges
from chatd.core.requests.arguments import user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import Notices, notice, of_user, state_of
from chatd.core.requests.own_history import Page, PastChange, changes_since, own_messages
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import ALL_MEMBERS, SYSTEM, Audience, ConversationId, Group, GroupId, Message, Seq, User, UserId
from chatd.store.contract import UNREAD_WINDOW, Head, Position, Purpose, Tables, Unread

_MAX_UNREAD_ROWS = 20 * UNREAD_WINDOW
"""Messages that one `sync` looks at to count what is unread. Beyond them the page ends."""
SeqNumber = Annotated[int, Meta(ge=0, lt=1 << 62)]
PlaceName = Annotated[str, Meta(min_length=1, max_length=64)]
"""A user's name or id, "0" for the system, or "#" and a group's number."""
Place = PlaceName | Annotated[int, Meta(gt=0, lt=1 << 62)]
"""The same, or a number, which is always a user's id."""


class History(msgspec.Struct, frozen=True):
    """before > 0: the messages before this seq, newest first; otherwise those after the seq `after`, oldest first.
    start: leave out this many characters of each text. A text that was cut ("cut": n) is read further with start n and
    limit 1."""

    place: Place = field(name="with")
    after: SeqNumber = 0
    before: SeqNumber = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    start: Annotated[int, Meta(ge=0, le=1 << 24)] = 0


class Sync(msgspec.Struct, frozen=True):
    """cursors: the last seq the client has, by conversation. changes: the last change the client knows, by
    conversation; it is told the later changes of these. after: the last conversation id of the previous page."""

    cursors: dict[str, SeqNumber] = {}
    changes: dict[str, SeqNumber] | None = None
    after: Annotated[int, Meta(gt=-(1 << 62), lt=1 << 62)] = -(1 << 61)
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class ReadMark(msgspec.Struct, frozen=True):
    place: Place = field(name="with")
    seq: SeqNumber


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
    if message.attachments and not start:
        entry["files"] = list(message.attachments)
    if message.version:
        entry |= state_of(message)
    if start:
        entry["start"] = start
    return entry


def heads_with_unread(
    tables: Tables, user_id: UserId, after: ConversationId, limit: int
) -> tuple[list[tuple[Head, Unread]], bool]:
    """A page of the user's conversations by id, those above `after`, and whether there are more."""
    heads = tables.history.heads(user_id, after, limit)
    counted = _countable(heads)
    found = list(zip(counted, tables.history.unread(user_id, counted), strict=True))
    return found, len(heads) == limit or len(counted) < len(heads)


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


def group_number(place: str | int) -> GroupId:
    """The number in "#<number>"; 0: the place is a user. Raises Refused UNKNOWN_GROUP."""
    if isinstance(place, int) or place[0] != "#":
        return 0
    digits = place[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19 and int(digits)):
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return int(digits)


def partner_named(place: str | int) -> Find:
    """The other side of a conversation of two: a user, or the system."""
    return (lambda tables: SYSTEM) if place == SYSTEM.name else user_named(place)


def find_conversation(tables: Tables, user: User, place: str | int) -> tuple[str, ConversationId]:
    """The place by its proper name, and the conversation: 0 if nothing was written there yet. Refused if there is no
    such user or group, or the user is not a member."""
    if group_id := group_number(place):
        return str(place), tables.history.conversation_of(user.id, 0, group_id)
    partner = partner_named(place)(tables)
    return partner.name, tables.history.conversation_of(user.id, partner.id, 0)


class _Other(TypedDict):
    user: User | None
    group: Group | None


def other_named(tables: Tables, place: str | int) -> _Other:
    """The user or group that the place names, for plug-ins. Raises Refused if there is none."""
    if group_id := group_number(place):
        return {"user": None, "group": existing(tables, group_id)}
    return {"user": partner_named(place)(tables), "group": None}


class _Marked(NamedTuple):
    """other: the other user of the conversation, None for a group. seq: where the user's read mark is now. moved: it
    was elsewhere before. welcome: the other user accepts messages, and so is told."""

    conversation: ConversationId
    other: User | None
    seq: Seq
    moved: bool
    welcome: bool


class _Synced(NamedTuple):
    """What a client misses of one conversation. last_change: None for a client that did not ask for changes. other:
    how far the other user is, as of _of_others(); None for a client that does not ask."""

    head: Head
    unread: Unread
    messages: list[Message]
    changes: list[PastChange]
    last_change: int | None
    other: Position | None

    @property
    def place(self) -> str:
        return place_of(self.head.other)


def _synced(
    tables: Tables, me: UserId, arguments: Sync, limit: int, sees: Audience | None
) -> tuple[list[_Synced], bool]:
    """A page of the conversations, and whether there are more. sees: as of _of_others(); None = that is not asked."""
    found, room, room_for_changes = [], limit, limit
    heads, more = heads_with_unread(tables, me, arguments.after, limit)
    positions = {} if sees is None else _of_others(tables, me, [head for head, _ in heads], sees)
    for head, unread in heads:
        place = place_of(head.other)
        has = arguments.cursors.get(place, head.delivered)
        messages: list[Message] = []
        if room and head.last > has:
            messages = own_messages(tables, me, head.conversation, Page(has, 0, room))
        room -= len(messages)
        changes: list[PastChange] = []
        last_change = None
        if arguments.changes is not None:
            last_change = tables.revisions.last(head.conversation)
            knows = arguments.changes.get(place, last_change)
            if knows < last_change:
                changes = changes_since(tables, me, head.conversation, knows, room_for_changes)
        room_for_changes -= len(changes)
        other = positions.get(head.conversation)
        found.append(_Synced(head, unread, messages, changes, last_change, other))
    return found, more


def _of_others(tables: Tables, me: UserId, heads: Sequence[Head], sees: Audience) -> dict[ConversationId, Position]:
    """How far the other user of each conversation of two is. Where the user may not know whether the other one is
    online, `delivered` is -1. sees: the operator's default of who may."""
    others = {head.conversation: head.other.id for head in heads if isinstance(head.other, User) and head.other.id}
    codes = tables.consent.refusals(Purpose.SEE, [(me, other) for other in others.values()], sees)
    hidden = {key for key, code in zip(others, codes, strict=True) if code is not None}
    found = tables.history.positions([(other, key) for key, other in others.items()])
    return {key: one._replace(delivered=-1) if key in hidden else one for key, one in found.items()}


def _shown_head(synced: _Synced) -> dict[str, object]:
    head, unread = synced.head, synced.unread
    entry: dict[str, object] = {
        "id": head.conversation,
        "with": synced.place,
        "last": head.last,
        "read": head.seen,
        "unread": unread.messages,
    }
    if isinstance(head.other, User):
        entry["user"] = head.other.id
    if unread.more:
        entry["unread_more"] = True
    if unread.mentioned:
        entry["mentioned"] = unread.mentioned
    if synced.other is not None:
        entry["other_read"] = synced.other.seen
        if synced.other.delivered >= 0:
            entry["delivered"] = synced.other.delivered
    if synced.last_change is not None:
        entry["changes"] = synced.last_change
    return entry


class HistoryOperations:
    def __init__(self, services: Services, notices: Notices, plugins: PluginPipeline, recent: RecentChanges) -> None:
        self._services = services
        self._recent = recent
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
                cost=LIST,
            ),
            "sync": Operation(
                Sync,
                "the user's conversations, with the messages that the client does not have yet",
                '{"conversations":[{"id":int,"with":str,"user":int?,"last":seq,"read":seq,"delivered":seq?,"other_read":seq?,"unread":int,"unread_more":true?,'
                '"mentioned":[seq]?,"changes":int?}],"messages":[M with "with"],'
                '"changes":[M with "with","change"]?,"more":bool}',
                asks=Point.BEFORE_HISTORY,
                read=self._sync,
                cost=SYNC,
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
            lambda tables, who: actions.ReadHistory(**who, **other_named(tables, place)),
        )

        def read(tables: Tables) -> tuple[str, list[Message]]:
            named, conversation = find_conversation(tables, session.user, place)
            if not conversation:
                return named, []
            page = Page(arguments.after, arguments.before, limit)
            return named, own_messages(tables, session.user.id, conversation, page)

        named, found = await self._services.store.read(read)
        messages = self._recent.all_latest(found)
        if arguments.before:
            messages.reverse()
        return {"with": named, "messages": [shown(message, arguments.start) for message in messages]}

    async def _sync(self, session: Session, arguments: Sync) -> object:
        me, limit = session.user.id, min(arguments.limit, self._services.config().limits.history_page)
        await self._plugins.before_action(session, Point.BEFORE_HISTORY, lambda tables, who: actions.ReadHistory(**who))

        sees = consent.default_of(self._services.config(), Purpose.SEE) if session.hears_delivered else None
        read = partial(_synced, me=me, arguments=arguments, limit=limit, sees=sees)
        found, more = await self._services.store.read(read)
        answer: dict[str, object] = {
            "conversations": [_shown_head(one) for one in found],
            "messages": [
                {"with": one.place, **shown(message)}
                for one in found
                for message in self._recent.all_latest(one.messages)
            ],
        }
        if arguments.changes is not None:
            answer["changes"] = [self._past_change(one.place, change) for one in found for change in one.changes]
        return {**answer, "more": more}

    def _past_change(self, place: str, change: PastChange) -> dict[str, object]:
        of_message = {} if change.message is None else shown(self._recent.all_latest([change.message])[0])
        return {"with": place, "change": change.number, **of_message}

    async def _mark(self, session: Session, arguments: ReadMark) -> Change[_Marked]:
        """The other members of the conversation are notified, except one who does not accept messages from the user;
        and the user's other sessions. In a group this costs as many recipients as a message."""
        user, place, config = session.user, arguments.place, self._services.config()
        group_id = group_number(place)
        if group_id:
            self._services.allowances.spend_recipients(session, group_id)
        await self._plugins.before_action(
            session,
            Point.BEFORE_READ_MARK,
            lambda tables, who: actions.MarkRead(**who, **other_named(tables, place), seq=arguments.seq),
        )

        def write(tables: Tables) -> _Marked:
            _, conversation = find_conversation(tables, user, place)
            if not conversation:
                raise Refused(ErrorCode.BAD_FIELD, "with: nothing was written there yet")
            other = None if group_id else partner_named(place)(tables)
            welcome = other is not None and other != SYSTEM and consent.may_write(tables, config, user.id, other.id)
            before = tables.history.seen(user.id, conversation)
            seq = tables.history.mark_seen(user.id, conversation, arguments.seq)
            return _Marked(conversation, other, seq, seq != before, welcome)

        return Change(write, lambda marked: self._tell_marked(session, marked))

    def _tell_marked(self, session: Session, marked: _Marked) -> None:
        user = session.user
        if not marked.moved:
            return
        if marked.other is not None:
            if marked.welcome and marked.other.id != user.id:
                text = notice("read", **{"with": user.name, "by": of_user(user), "seq": marked.seq})
                self._notices.tell_user(marked.other.id, text)
            text = notice("read", **{"with": marked.other.name, "by": of_user(user), "seq": marked.seq})
            self._notices.tell_user(user.id, text, apart_from=session)
            return
        group_id = -marked.conversation
        text = notice("read", **{"with": f"#{group_id}", "by": of_user(user), "seq": marked.seq})
        self._services.bus.publish(topic_of_group(group_id), bus_messages.encode(GroupNotice(group_id, text)))
        for member in tuple(self._services.hub.of_group(group_id)):
            if member is not session:
                self._notices.tell(member, text)
