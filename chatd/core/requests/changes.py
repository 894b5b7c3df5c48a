"""Requests that change messages: edit, recall, remove, and delete from one's own history.

Owns: the arguments and answers of these operations, and asking plug-ins about them.
Elsewhere: the rules (store.revision_contract), telling others (core.changes).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, field

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.allowance import WRITE
from chatd.core.bus_messages import HistoryDeleted
from chatd.core.change import Change
from chatd.core.changes import Changes, Which
from chatd.core.delivery import Delivery
from chatd.core.plugins import actions
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.history import (
    Place,
    PlaceName,
    SeqNumber,
    find_conversation,
    group_number,
    other_named,
)
from chatd.core.requests.notices import Notices, notice, state_of
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, Seq
from chatd.protocol import SendMessage
from chatd.store.contract import Revised, Tables

_MOST_SEQS = 100
_MessageNumber = Annotated[int, Meta(gt=0, lt=1 << 62)]


class OneMessage(msgspec.Struct, frozen=True):
    place: Place = field(name="with")
    seq: _MessageNumber


class Edit(msgspec.Struct, frozen=True):
    place: Place = field(name="with")
    seq: _MessageNumber
    text: str


class Deletion(msgspec.Struct, frozen=True):
    """Everything up to `up_to`, and the single messages `seqs`."""

    place: PlaceName = field(name="with")
    up_to: SeqNumber = 0
    seqs: Annotated[list[_MessageNumber], Meta(min_length=0, max_length=_MOST_SEQS)] = []


class _Deleted(NamedTuple):
    """up_to: as it is now."""

    conversation: ConversationId
    up_to: Seq
    seqs: tuple[Seq, ...]


class ChangeOperations:
    def __init__(
        self, services: Services, changes: Changes, delivery: Delivery, notices: Notices, plugins: PluginPipeline
    ) -> None:
        self._services = services
        self._changes = changes
        self._delivery = delivery
        self._notices = notices
        self._plugins = plugins

    def table(self) -> OperationTable:
        return {
            "message.edit": Operation(
                Edit,
                "replace the text of a message that the caller has sent, for `people.edit_s`",
                '{"seq":int,"version":int,"state":str,"change":int}',
                asks=Point.BEFORE_MESSAGE_EDIT,
                write=self._edit,
                shown=_revised,
                cost=WRITE,
            ),
            "message.recall": Operation(
                OneMessage,
                "delete the text of a message that the caller has sent, for everybody, for `people.recall_s`",
                '{"seq":int,"version":int,"state":str,"change":int}',
                asks=Point.BEFORE_MESSAGE_RECALL,
                write=self._recall,
                shown=_revised,
                cost=WRITE,
            ),
            "message.remove": Operation(
                OneMessage,
                "delete the text of a message of a group, for everybody (owner; admins: of members)",
                '{"seq":int,"version":int,"state":str,"change":int}',
                asks=Point.BEFORE_MESSAGE_REMOVE,
                write=self._remove,
                shown=_revised,
                cost=WRITE,
            ),
            "history.delete": Operation(
                Deletion,
                "delete messages from the caller's own history; others keep them",
                '{"up_to":int}',
                asks=NotAsked("it changes only what the caller is shown"),
                write=self._delete,
                shown=lambda deleted: {"up_to": deleted.up_to},
                cost=WRITE,
            ),
        }

    async def _edit(self, session: Session, arguments: Edit) -> Change[Revised]:
        place, seq = arguments.place, arguments.seq
        self._spend(session, place)
        text = self._checked(arguments.text)
        await self._plugins.before_action(
            session,
            Point.BEFORE_MESSAGE_EDIT,
            lambda tables, who: actions.EditMessage(**who, **other_named(tables, place), seq=seq, text=text),
        )
        if self._plugins.has(Point.BEFORE_MESSAGE):
            text = await self._as_plugins_want(session, arguments, text)
        return self._changes.editing(session, _which(session, arguments.place, seq), text)

    def _spend(self, session: Session, place: str | int) -> None:
        """A change reaches as many people as a message. Raises Refused."""
        if group_id := group_number(place):
            self._services.allowances.spend_recipients(session, group_id)

    def _checked(self, text: str) -> str:
        """Raises Refused."""
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise Refused(ErrorCode.BAD_FIELD, "text: not Unicode") from None
        if size > (limit := self._services.config().limits.body_bytes):
            raise Refused(ErrorCode.TOO_LONG, f"the text has {size} bytes, the limit is {limit}")
        return text

    async def _as_plugins_want(self, session: Session, arguments: Edit, text: str) -> str:
        """A filter of messages is also asked about what they become. Raises Refused, Unavailable."""
        place, seq, user = arguments.place, arguments.seq, session.user

        def typeu_of(tables: Tables) -> int:
            _, conversation = find_conversation(tables, user, place)
            return next((message.typeu for message in tables.history.at(conversation, (seq,))), -1)

        typeu = await self._services.store.read(typeu_of)
        to_name, to_id = ("", place) if isinstance(place, int) else (place, 0)
        if to_group := group_number(place):
            to_name = ""
        command = SendMessage(to_name, to_id, to_group, text, typeu=typeu)
        return (await self._plugins.before_message(session, command)).body

    async def _recall(self, session: Session, arguments: OneMessage) -> Change[Revised]:
        place, seq = arguments.place, arguments.seq
        self._spend(session, place)
        await self._plugins.before_action(
            session,
            Point.BEFORE_MESSAGE_RECALL,
            lambda tables, who: actions.RecallMessage(**who, **other_named(tables, place), seq=seq),
        )
        return self._changes.recalling(session, _which(session, place, seq))

    async def _remove(self, session: Session, arguments: OneMessage) -> Change[Revised]:
        place, seq = arguments.place, arguments.seq
        self._spend(session, place)
        await self._plugins.before_action(
            session,
            Point.BEFORE_MESSAGE_REMOVE,
            lambda tables, who: actions.RemoveMessage(**who, **other_named(tables, place), seq=seq),
        )
        return self._changes.removing(session, _which(session, place, seq))

    async def _delete(self, session: Session, arguments: Deletion) -> Change[_Deleted]:
        user, place = session.user, arguments.place

        def write(tables: Tables) -> _Deleted:
            _, conversation = find_conversation(tables, user, place)
            if not conversation:
                raise Refused(ErrorCode.BAD_FIELD, "with: nothing was written there yet")
            tables.revisions.hide(user.id, conversation, arguments.seqs)
            up_to = tables.revisions.clear(user.id, conversation, arguments.up_to)
            return _Deleted(conversation, up_to, tuple(arguments.seqs))

        return Change(write, lambda deleted: self._tell_deleted(session, place, deleted))

    def _tell_deleted(self, session: Session, place: str, deleted: _Deleted) -> None:
        text = notice("history.deleted", **{"with": place, "up_to": deleted.up_to, "seqs": deleted.seqs})
        message = HistoryDeleted(session.user.id, *deleted, text)
        self._services.bus.publish(topic_of_user(session.user.id), bus_messages.encode(message))
        self.history_deleted(message, session)

    def history_deleted(self, message: HistoryDeleted, but: Session | None = None) -> None:
        """The user's sessions on this worker are not sent these messages again, and all but one are told."""
        for session in self._services.hub.of_user(message.user_id):
            self._delivery.deleted(session, message.conversation, message.up_to, message.seqs)
            if session is not but:
                self._notices.tell(session, message.text)


def _which(session: Session, place: str | int, seq: Seq) -> Which:
    return Which(partial(_existing, session=session, place=place), seq)


def _existing(tables: Tables, session: Session, place: str | int) -> ConversationId:
    """Raises Refused."""
    _, conversation = find_conversation(tables, session.user, place)
    if not conversation:
        raise Refused(ErrorCode.UNKNOWN_MESSAGE)
    return conversation


def _revised(revised: Revised) -> object:
    return {"seq": revised.message.seq, **state_of(revised.message), "change": revised.number}
