"""/v1/messages: sending, as a user, as a bot (which is a user that only applications use), or as the system.

Owns: NewMessage, StoredMessage, the routes.
Elsewhere: sending (core.calls, core.messages).
Fails: as core.calls.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.errors import ErrorCode
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.http.route import NoInput, Route
from chatd.model import UserId
from chatd.protocol import Extras, SendMessage
from chatd.texts.sizes import over

UserRef = (
    Annotated[str, Meta(min_length=1, max_length=64, description="the name of a user")]
    | Annotated[int, Meta(ge=1, lt=1 << 62, description="the id of a user")]
)


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}, forbid_unknown_fields=True):
    """A message to a user or to a group."""

    text: Annotated[str, Meta(description="at most limits.body_bytes bytes of UTF-8; empty only with files")]
    to: Annotated[UserRef | None, Meta(description="the user who is to receive it, or")] = None
    group: Annotated[Annotated[int, Meta(ge=1, lt=1 << 62)] | None, Meta(description="the number of a group")] = None
    sender: Annotated[
        UserRef | None, Meta(description="the user in whose name it is sent; left out: the system, whose name is 0")
    ] = None
    typeu: Annotated[int, Meta(ge=-1, lt=1 << 31, description="the application's own type of the message")] = -1
    reply_to: Annotated[
        int, Meta(ge=0, lt=1 << 62, description="seq of the message of the same conversation that it answers; 0 = none")
    ] = 0
    mentions: Annotated[
        tuple[UserRef, ...], Meta(max_length=100, description="members of the group whom it names")
    ] = ()
    files: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...],
        Meta(max_length=50, description="ids of complete files of the user in `from`, at most files.per_message"),
    ] = ()


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that is stored, and will be delivered."""

    conversation: Annotated[
        int, Meta(description="the conversation that it belongs to; negative: of the group with this number")
    ]
    seq: Annotated[int, Meta(description="its number in the conversation: 1, 2, 3 …")]
    id: Annotated[str, Meta(description="its fp: the Idempotency-Key, or one that was made")]
    sent_at_ms: Annotated[int, Meta(description="when it was stored, milliseconds since the epoch")]


async def send(call: Call, _: NoInput, new: NewMessage) -> StoredMessage:
    """Raises Refused, Unavailable."""
    if (new.to is None) == (new.group is None):
        raise HttpRefused(ErrorCode.BAD_FIELD, 'either "to" or "group" is needed', field="$.to")
    if not (new.text or new.files):
        raise HttpRefused(ErrorCode.BAD_FIELD, "a text or a file is needed", field="$.text")
    check_size(new.text, call.config.limits.body_bytes, "$.text")
    caller = call.system() if new.sender is None else await call.caller(new.sender, "$.from")
    to_name, to_id = "", 0
    if isinstance(new.to, int):
        to_id = new.to
    elif new.to is not None:
        to_name, to_id = await recipient(call, new.to, "$.to")
    fp, has_extras = call.own_fp(), bool(new.reply_to or new.mentions or new.files)
    command = SendMessage(
        to_name=to_name,
        to_id=to_id,
        to_group=new.group or 0,
        body=new.text,
        fp=fp,
        qos=True,
        typeu=new.typeu,
        extras=Extras(reply_to=new.reply_to, mentions=new.mentions, files=new.files) if has_extras else None,
    )
    stored = await call.calls.send(caller, command)
    return StoredMessage(conversation=stored.conversation, seq=stored.seq, id=fp, sent_at_ms=stored.sent_at_ms)


async def recipient(call: Call, name: str, field: str) -> tuple[str, UserId]:
    """SendMessage.to_name and to_id for the user with this name; one of them says whom it is for. A name of digits is
    looked up here: it is never the id of somebody else. field: where the request has it. Raises Refused,
    Unavailable."""
    if name.isdigit():
        return "", (await call.caller(name, field)).user.id
    return name, 0


def check_size(text: str, most: int, field: str) -> None:
    """Raises HttpRefused."""
    if over(text, most):
        raise HttpRefused(ErrorCode.TOO_LONG, f"a text has at most {most} bytes of UTF-8", field=field)


ROUTES = (
    Route(
        method="POST",
        path="/v1/messages",
        scope="messages:write",
        handler=send,
        text="Send a message; it is stored when the answer comes.",
        input=NewMessage,
        output=StoredMessage,
        status=HTTPStatus.CREATED,
        refusals=(
            ErrorCode.UNKNOWN_RECIPIENT,
            ErrorCode.UNKNOWN_GROUP,
            ErrorCode.NOT_A_MEMBER,
            ErrorCode.NOT_ACCEPTED,
            ErrorCode.BLOCKED_BY_YOU,
            ErrorCode.MUTED,
            ErrorCode.ANNOUNCEMENTS_ONLY,
            ErrorCode.MAILBOX_FULL,
            ErrorCode.ACCOUNT_LOCKED,
            ErrorCode.TOO_LONG,
            ErrorCode.UNKNOWN_FILE,
            ErrorCode.FP_REUSED,
        ),
        idempotent=True,
    ),
)
