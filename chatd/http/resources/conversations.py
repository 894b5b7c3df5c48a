"""/v1/conversations and the conversations of users and groups: reading messages, and read marks.

Owns: the inputs and outputs of these routes.
Elsewhere: sending (http.messages), changing messages (http.resources.message_changes); what a user may read and has
deleted (core.requests.own_history), read marks and unread counts (core.requests.history).
Fails: Refused, Unavailable; HttpRefused 404 for a conversation that there is not.

The conversation of a number, or of a group, is read as the system: all of it. The conversation of a user is read as
that user sees it, without what they have deleted, or may not read.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.requests.history import heads_with_unread
from chatd.core.requests.own_history import Page as HistoryPage
from chatd.core.requests.own_history import own_messages
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.http.resources.shared import (
    Limit,
    Name,
    OneGroup,
    OneUser,
    Time,
    UserRef,
    exactly,
    ref,
    user_named,
)
from chatd.http.route import NoInput, Route
from chatd.model import ALL_MEMBERS, SYSTEM, Attachment, ConversationId, Message, User
from chatd.store.contract import Head, Tables, Unread

_Seq = Annotated[int, Meta(ge=1, lt=1 << 62, description="the number of a message in its conversation")]
_ConversationId = Annotated[
    int,
    Meta(gt=-(1 << 62), lt=1 << 62, description="of two users if positive; negative: of the group with this number"),
]
_FIRST = -(1 << 61)
"""Below the id of every conversation."""


class OneConversation(msgspec.Struct, frozen=True):
    """The path of a conversation."""

    id: _ConversationId


class OneMessage(msgspec.Struct, frozen=True):
    """The path of a message."""

    id: _ConversationId
    seq: _Seq


class ConversationOfUser(msgspec.Struct, frozen=True, rename={"other": "with"}):
    """The path of a conversation as one of its users sees it."""

    name: Name
    other: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description='the name of the other user, "0" for the system, or "#" (%23) and a group\'s number',
        ),
    ]


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages are wanted: the first after a number, or the last before one."""

    after: Annotated[int, Meta(ge=0, lt=1 << 62, description="those after this seq, the oldest first")] = 0
    before: Annotated[
        int, Meta(ge=0, lt=1 << 62, description="not 0: those before this seq, the newest first, in place of `after`")
    ] = 0
    limit: Limit = 50


class PastMessage(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}, gc=False):
    """A message, as it is now."""

    conversation: int
    seq: int
    sender: UserRef
    to: Annotated[UserRef | None, Meta(description="null: it was sent to a group")]
    group: Annotated[int | None, Meta(description="the number of the group it was sent to")]
    text: Annotated[str, Meta(description="empty if it was recalled, removed, erased, or has expired")]
    id: Annotated[str, Meta(description="the sender's own id of it, the Idempotency-Key of an application")]
    typeu: int
    sent_at_ms: Time
    state: Literal["sent", "edited", "recalled", "removed", "erased", "expired"]
    version: Annotated[int, Meta(description="how often it was changed")]
    reply_to: Annotated[int, Meta(description="seq of the message that it answers; 0: none")]
    mentions: Annotated[list[int], Meta(description="ids of the members whom it names")]
    mentions_all: Annotated[bool, Meta(description="it names every member")]
    files: Annotated[list[Attachment], Meta(description="GET /v1/files/{id} has their addresses")]


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """A page of messages."""

    messages: list[PastMessage]
    next: Annotated[
        int | None, Meta(description="`after`, or `before`, of the next page; null: there was no further message")
    ]


class ConversationHead(msgspec.Struct, frozen=True, kw_only=True, rename={"other": "with"}):
    """A conversation of a user, without its messages."""

    id: int
    other: Annotated[str, Meta(description='the name of the other user, or "#" and the number of a group')]
    user: Annotated[UserRef | None, Meta(description="the other user; null: a group")]
    last: Annotated[int, Meta(description="seq of the last message")]
    delivered: Annotated[int, Meta(description="up to this seq, the user's clients have received everything")]
    read: Annotated[int, Meta(description="up to this seq, the user has read it")]
    unread: Annotated[int, Meta(description="messages of others beyond that")]
    unread_more: Annotated[bool, Meta(description="there are more than were counted")]
    mentioned: Annotated[list[int], Meta(description="seqs of the first unread messages that mention the user")]


class Conversations(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a user's conversations, by id."""

    conversations: list[ConversationHead]
    next: Annotated[str | None, Meta(description="`after` of the next page; null: there is none")]


class ConversationPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of conversations is wanted."""

    after: Annotated[
        str, Meta(pattern=r"^(-?[0-9]{1,18})?$", description="`next` of the page before; left out: the first page")
    ] = ""
    limit: Limit = 50


class ReadUpTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to this message is read."""

    seq: Annotated[int, Meta(ge=0, lt=1 << 62)]


class ReadMark(msgspec.Struct, frozen=True):
    """Up to which message the conversation is read; a mark never moves back."""

    seq: int


def shown(message: Message) -> PastMessage:
    is_all = message.mentions == ALL_MEMBERS
    return PastMessage(
        conversation=message.conversation,
        seq=message.seq,
        sender=UserRef(message.sender_id, message.sender_name),
        to=None if message.group_id else UserRef(message.to_id, message.to_name),
        group=message.group_id or None,
        text=message.body,
        id=message.fp,
        typeu=message.typeu,
        sent_at_ms=message.sent_at_ms,
        state=message.state.name.lower(),  # type: ignore[arg-type]
        version=message.version,
        reply_to=message.reply_to,
        mentions=[] if is_all else list(message.mentions),
        mentions_all=is_all,
        files=list(message.attachments),
    )


def no_such_conversation() -> HttpRefused:
    return HttpRefused(ErrorCode.UNKNOWN_MESSAGE, "no such conversation")


# ---------------------------------------------------------------- reading


async def messages(call: Call, at: OneConversation, stretch: Stretch) -> Messages:
    def read(tables: Tables) -> list[Message]:
        check_exists(tables, at.id)
        return tables.history.messages(SYSTEM.id, at.id, stretch.after, stretch.before, _limit(call, stretch))

    return _page(call, stretch, await call.core.store.read(read))


def check_exists(tables: Tables, conversation: ConversationId) -> None:
    """Raises HttpRefused."""
    if conversation < 0:
        tables.groups.role(-conversation, SYSTEM.id)
    elif not conversation or tables.history.users_of(conversation) is None:
        raise no_such_conversation()


def _limit(call: Call, stretch: Stretch) -> int:
    return min(stretch.limit, call.config.limits.history_page)


def _page(call: Call, stretch: Stretch, found: list[Message]) -> Messages:
    """found: ascending."""
    rows = [shown(message) for message in call.core.delivery.recent.all_latest(found)]
    if stretch.before:
        rows.reverse()
    return Messages(messages=rows, next=rows[-1].seq if len(rows) == _limit(call, stretch) else None)


async def messages_of_group(call: Call, at: OneGroup, stretch: Stretch) -> Messages:
    return await messages(call, OneConversation(-at.number), stretch)


async def one_message(call: Call, at: OneMessage, _: NoInput) -> PastMessage:
    def read(tables: Tables) -> list[Message]:
        check_exists(tables, at.id)
        return tables.history.at(at.id, (at.seq,))

    found = await call.core.store.read(read)
    if not found:
        raise Refused(ErrorCode.UNKNOWN_MESSAGE)
    return shown(call.core.delivery.recent.latest(found[0]))


async def conversations_of_user(call: Call, at: OneUser, page: ConversationPage) -> Conversations:
    after = int(page.after) if page.after else _FIRST

    def read(tables: Tables) -> tuple[list[tuple[Head, Unread]], bool]:
        return heads_with_unread(tables, exactly(at.name)(tables).id, after, page.limit)

    found, more = await call.core.store.read(read)
    rows = [_head(head, unread) for head, unread in found]
    return Conversations(conversations=rows, next=str(rows[-1].id) if more and rows else None)


def _head(head: Head, unread: Unread) -> ConversationHead:
    other = head.other
    return ConversationHead(
        id=head.conversation,
        other=other.name if isinstance(other, User) else f"#{other.id}",
        user=ref(other) if isinstance(other, User) else None,
        last=head.last,
        delivered=head.delivered,
        read=head.seen,
        unread=unread.messages,
        unread_more=unread.more,
        mentioned=list(unread.mentioned),
    )


async def messages_of_user(call: Call, at: ConversationOfUser, stretch: Stretch) -> Messages:
    def read(tables: Tables) -> list[Message]:
        me = exactly(at.name)(tables)
        if group := _group(at.other):
            conversation = tables.history.conversation_of(me.id, 0, group)
        else:
            other = SYSTEM if at.other == SYSTEM.name else exactly(at.other)(tables)
            conversation = tables.history.conversation_of(me.id, other.id, 0)
        if not conversation:
            return []
        return own_messages(
            tables, me.id, conversation, HistoryPage(stretch.after, stretch.before, _limit(call, stretch))
        )

    return _page(call, stretch, await call.core.store.read(read))


def _group(place: str) -> int:
    """The number of the group; 0: a user is named. Raises HttpRefused."""
    if place[0] != "#":
        return 0
    number = int(place[1:]) if place[1:].isascii() and place[1:].isdigit() and len(place) < 20 else 0
    if not number:
        raise HttpRefused(ErrorCode.UNKNOWN_GROUP)
    return number


# ---------------------------------------------------------------- read marks


async def mark_read(call: Call, at: ConversationOfUser, mark: ReadUpTo) -> ReadMark:
    caller = await call.caller(at.name, "")
    is_no_user = _group(at.other) or at.other == SYSTEM.name
    place = at.other if is_no_user else (await user_named(call, at.other)).id
    return await call.calls.operate(caller, "read", {"with": place, "seq": mark.seq}, ReadMark, call.fp)


NO_CONVERSATION = (ErrorCode.UNKNOWN_MESSAGE, ErrorCode.UNKNOWN_GROUP)
_NO_PLACE = (ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.UNKNOWN_GROUP, ErrorCode.NOT_A_MEMBER)
ROUTES = (
    Route(
        method="GET",
        path="/v1/conversations/{id}/messages",
        scope="messages:read",
        handler=messages,
        text="Read a conversation of two users or of a group, forwards or backwards.",
        parameters=OneConversation,
        input=Stretch,
        output=Messages,
        refusals=NO_CONVERSATION,
    ),
    Route(
        method="GET",
        path="/v1/groups/{number}/messages",
        scope="messages:read",
        handler=messages_of_group,
        text="Read the messages of a group.",
        parameters=OneGroup,
        input=Stretch,
        output=Messages,
        refusals=(ErrorCode.UNKNOWN_GROUP,),
    ),
    Route(
        method="GET",
        path="/v1/conversations/{id}/messages/{seq}",
        scope="messages:read",
        handler=one_message,
        text="Read one message, as it is now.",
        parameters=OneMessage,
        output=PastMessage,
        refusals=NO_CONVERSATION,
    ),
    Route(
        method="GET",
        path="/v1/users/{name}/conversations",
        scope="messages:read",
        handler=conversations_of_user,
        text="List a user's conversations, with what is unread.",
        parameters=OneUser,
        input=ConversationPage,
        output=Conversations,
        refusals=(ErrorCode.UNKNOWN_RECIPIENT,),
    ),
    Route(
        method="GET",
        path="/v1/users/{name}/conversations/{with}/messages",
        scope="messages:read",
        handler=messages_of_user,
        text="Read a conversation as one of its users sees it.",
        parameters=ConversationOfUser,
        input=Stretch,
        output=Messages,
        refusals=_NO_PLACE,
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}/conversations/{with}/read",
        scope="messages:write",
        handler=mark_read,
        text="Mark a conversation as read by a user; the others are told, as by the user's client.",
        parameters=ConversationOfUser,
        input=ReadUpTo,
        output=ReadMark,
        refusals=(*_NO_PLACE, ErrorCode.ACCOUNT_LOCKED, ErrorCode.FP_REUSED),
        idempotent=True,
    ),
)
