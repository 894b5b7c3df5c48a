"""Requests about what was written: history, synchronising, read marks.

Owns: the arguments and answers of these operations, and who may read what: the members of a conversation.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.change import Change
from chatd.core.requests.dispatch import Op, Table
from chatd.core.requests.notices import Notices, notice, of_user
from chatd.core.requests.people import whom
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, Group, Message, Seq, User
from chatd.store.contract import Head, Tables

_Seq = Annotated[int, Meta(ge=0, lt=1 << 62)]
_Place = Annotated[str, Meta(min_length=1, max_length=64)]
"""A user's name or id, or "#" and a group's number."""


class History(msgspec.Struct, frozen=True):
    """before > 0: those before it, newest first; else those after `after`, oldest first. start: leave out that
    many characters of each text; so a text that was cut ("cut": n) is read on with start n and limit 1."""

    place: _Place = field(name="with")
    after: _Seq = 0
    before: _Seq = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    start: Annotated[int, Meta(ge=0, le=1 << 24)] = 0


class Sync(msgspec.Struct, frozen=True):
    """cursors: what the client has, by conversation; after: the last conversation id of the page before."""

    cursors: dict[str, _Seq] = {}
    after: Annotated[int, Meta(gt=-(1 << 62), lt=1 << 62)] = -(1 << 61)
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class Mark(msgspec.Struct, frozen=True):
    place: _Place = field(name="with")
    seq: _Seq


def shown(message: Message, start: int = 0) -> dict[str, object]:
    """A message as answers hold it, its text from character `start`."""
    entry: dict[str, object] = {
        "seq": message.seq,
        "from": message.sender_name,
        "fp": message.fp,
        "text": message.body[start:],
        "typeu": message.typeu,
        "sm": message.sent_at_ms,
    }
    return {**entry, "start": start} if start else entry


def place_of(other: User | Group) -> str:
    return f"#{other.id}" if isinstance(other, Group) else other.name


def _group_number(place: str) -> int:
    digits = place[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return int(digits)


def find_conversation(tables: Tables, user: User, place: str) -> ConversationId:
    """0 when there is none yet. Refused when there is no such user or group, or one is no member."""
    if place[0] == "#":
        return tables.history.conversation_of(user.id, 0, _group_number(place))
    return tables.history.conversation_of(user.id, whom(place)(tables).id, 0)


class HistoryRequests:
    def __init__(self, services: Services, notices: Notices) -> None:
        self._store = services.store
        self._hub = services.hub
        self._bus = services.bus
        self._config = services.config
        self._notices = notices

    def table(self) -> Table:
        return {
            "history": Op(History, "messages of a conversation", '{"with":str,"messages":[M]}', read=self._history),
            "sync": Op(
                Sync,
                "one's conversations, with what the client does not have yet",
                '{"conversations":[{"id":int,"with":str,"last":seq,"read":seq}],"messages":[M with "with"],'
                '"more":bool}',
                read=self._sync,
            ),
            "read": Op(
                Mark,
                "mark a conversation as read up to a seq",
                '{"seq":int}',
                write=self._mark,
                shown=lambda r: {"seq": r[1]},
            ),
        }

    async def _history(self, session: Session, arguments: History) -> object:
        limit = min(arguments.limit, self._config().limits.history_page)

        def read(tables: Tables) -> list[Message]:
            conversation = find_conversation(tables, session.user, arguments.place)
            if not conversation:
                return []
            return tables.history.messages(conversation, arguments.after, arguments.before, limit)

        messages = await self._store.read(read)
        if arguments.before:
            messages.reverse()
        return {"with": arguments.place, "messages": [shown(message, arguments.start) for message in messages]}

    async def _sync(self, session: Session, arguments: Sync) -> object:
        me, limit = session.user.id, min(arguments.limit, self._config().limits.history_page)

        def read(tables: Tables) -> list[tuple[Head, list[Message]]]:
            found, room = [], limit
            for head in tables.history.heads(me, arguments.after, limit):
                has = arguments.cursors.get(place_of(head.other), head.delivered)
                messages = tables.history.messages(head.conversation, has, 0, room) if room and head.last > has else []
                room -= len(messages)
                found.append((head, messages))
            return found

        found = await self._store.read(read)
        return {
            "conversations": [
                {"id": head.conversation, "with": place_of(head.other), "last": head.last, "read": head.seen}
                for head, _ in found
            ],
            "messages": [
                {"with": place_of(head.other), **shown(message)} for head, messages in found for message in messages
            ],
            "more": len(found) == limit,
        }

    async def _mark(self, session: Session, arguments: Mark) -> Change[tuple[ConversationId, Seq, int]]:
        """The others of the conversation are told."""
        user, place = session.user, arguments.place

        def write(tables: Tables) -> tuple[ConversationId, Seq, int]:
            conversation = find_conversation(tables, user, place)
            if not conversation:
                raise Refused(ErrorCode.BAD_FIELD, "with: nothing was written there yet")
            other = 0 if place[0] == "#" else whom(place)(tables).id
            return conversation, tables.history.mark_seen(user.id, conversation, arguments.seq), other

        def after(result: tuple[ConversationId, Seq, int]) -> None:
            conversation, seq, other = result
            if other == user.id:
                return
            if other:
                text = notice("read", **{"with": user.name, "by": of_user(user), "seq": seq})
                self._tell_user(other, text)
            else:
                group_id = -conversation
                text = notice("read", **{"with": place, "by": of_user(user), "seq": seq})
                news = bus_messages.GroupNotice(group_id, text)
                self._bus.publish(topic_of_group(group_id), bus_messages.encode(news))
                for member in tuple(self._hub.of_group(group_id)):
                    if member is not session:
                        self._notices.tell(member, text)

        return Change(write, after)

    def _tell_user(self, user_id: int, text: str) -> None:
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(bus_messages.UserNotice(user_id, text)))
        self.heard(bus_messages.UserNotice(user_id, text))

    def heard(self, news: bus_messages.UserNotice) -> None:
        """Tell the user's sessions on this worker."""
        for session in self._hub.of_user(news.user_id):
            self._notices.tell(session, news.text)
