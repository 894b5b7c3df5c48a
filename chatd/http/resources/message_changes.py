"""Changing messages: editing and recalling them in the name of their sender, removing them as the system.

Owns: the inputs and outputs of these routes.
Elsewhere: reading messages (http.resources.conversations); the rules (core.requests.changes, core.changes, the store).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.changes import Which
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.resources.conversations import NO_CONVERSATION, OneMessage, check_exists, no_such_conversation
from chatd.http.resources.shared import Name
from chatd.http.route import NoInput, Route
from chatd.model import SYSTEM, ConversationId, User
from chatd.store.contract import Tables


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A new text."""

    text: Annotated[str, Meta(min_length=1, description="at most limits.body_bytes bytes of UTF-8")]
    sender: Annotated[Name | None, Meta(description="the user who sent the message; left out: the system")] = None


class Recall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """In whose name a message is recalled."""

    sender: Annotated[Name | None, Meta(description="the user who sent the message; left out: the system")] = None


class ChangedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message has changed."""

    seq: int
    version: int
    state: Literal["edited", "recalled", "removed"]
    change: Annotated[int, Meta(description="the number of the change in the conversation")]


async def edit_message(call: Call, at: OneMessage, edit: Edit) -> ChangedMessage:
    return await _change_own(call, at, edit.sender, "message.edit", {"text": edit.text})


async def recall_message(call: Call, at: OneMessage, recall: Recall) -> ChangedMessage:
    return await _change_own(call, at, recall.sender, "message.recall", {})


async def _change_own(call: Call, at: OneMessage, sender: str | None, op: str, more: dict[str, str]) -> ChangedMessage:
    """Raises Refused, as the user's client would be refused."""
    caller = call.system() if sender is None else await call.caller(sender, "$.from")
    place = await call.core.store.read(lambda tables: _place(tables, at.id, caller.user))
    arguments = {"with": place, "seq": at.seq, **more}
    return await call.calls.operate(caller, op, arguments, ChangedMessage, call.fp)


def _place(tables: Tables, conversation: ConversationId, user: User) -> str | int:
    """The conversation as this user names it in a request. Raises Refused UNKNOWN_MESSAGE, NOT_ALLOWED."""
    if conversation < 0:
        return f"#{-conversation}"
    users = tables.history.users_of(conversation)
    if users is None:
        raise no_such_conversation()
    if user.id not in users:
        raise Refused(ErrorCode.NOT_ALLOWED if user == SYSTEM else ErrorCode.UNKNOWN_MESSAGE)
    other = users[1] if users[0] == user.id else users[0]
    if other == SYSTEM.id:  # who never wrote there
        raise Refused(ErrorCode.NOT_ALLOWED)
    return other


async def remove_message(call: Call, at: OneMessage, _: NoInput) -> ChangedMessage:
    def find(tables: Tables) -> ConversationId:
        check_exists(tables, at.id)
        return at.id

    change = call.core.changes.removing(call.calls.session(call.system()), Which(find, at.seq))
    revised = await change.apply(call.core.store)
    message = revised.message
    return ChangedMessage(seq=message.seq, version=message.version, state="removed", change=revised.number)


_CHANGING = (
    *NO_CONVERSATION,
    ErrorCode.UNKNOWN_RECIPIENT,
    ErrorCode.NOT_ALLOWED,
    ErrorCode.NOT_A_MEMBER,
    ErrorCode.TOO_LATE,
    ErrorCode.ACCOUNT_LOCKED,
    ErrorCode.FP_REUSED,
)
ROUTES = (
    Route(
        method="PATCH",
        path="/v1/conversations/{id}/messages/{seq}",
        scope="messages:write",
        handler=edit_message,
        text="Replace the text of a message, in the name of its sender; the system's own at any time.",
        parameters=OneMessage,
        input=Edit,
        output=ChangedMessage,
        refusals=(*_CHANGING, ErrorCode.TOO_LONG, ErrorCode.LIMIT_REACHED),
        idempotent=True,
    ),
    Route(
        method="POST",
        path="/v1/conversations/{id}/messages/{seq}/recall",
        scope="messages:write",
        handler=recall_message,
        text="Delete the text of a message for everybody, in the name of its sender; the system's own at any time.",
        parameters=OneMessage,
        input=Recall,
        output=ChangedMessage,
        refusals=_CHANGING,
        idempotent=True,
    ),
    Route(
        method="DELETE",
        path="/v1/conversations/{id}/messages/{seq}",
        scope="messages:write",
        handler=remove_message,
        text="Remove any message, whoever sent it: its text is deleted for everybody.",
        parameters=OneMessage,
        output=ChangedMessage,
        refusals=NO_CONVERSATION,
    ),
)
