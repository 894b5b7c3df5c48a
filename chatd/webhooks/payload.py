"""What a webhook is sent: events as JSON.

Owns: the form of a request's body (docs/webhooks.md).
Elsewhere: reading events (store.event_contract), signing (webhooks.signature).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from chatd.model import Attachment, Message, MessageState
from chatd.store.event_contract import EventKind, StoredEvent


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A user: the number, and the name of today."""

    id: int
    name: str


class MessageData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as it is now. `to` in a conversation of two; `group` is a group's number. text: "" once it is gone, as
    `state` says. Times in milliseconds since the epoch."""

    conversation: int
    seq: int
    sender: Person
    to: Person | None = None
    group: int = 0
    text: str
    fp: str = ""
    typeu: int
    sent_at_ms: int
    state: str = MessageState.SENT.name.lower()
    version: int = 0
    reply_to: int = 0
    mentions: tuple[int, ...] = ()
    files: tuple[Attachment, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """id: the same whenever this event is sent. timestamp: when it happened, RFC 3339. data: MessageData for
    message.stored; otherwise what the kind has (docs/webhooks.md)."""

    id: str
    type: str
    timestamp: str
    data: MessageData | dict[str, object]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request. events: in the order in which they happened."""

    webhook: str
    events: list[Event]


_encode = msgspec.json.Encoder().encode
_NAMES = {state: state.name.lower() for state in MessageState}
_USERS = ("user", "by")


def body_of(webhook: str, events: Sequence[StoredEvent]) -> bytes:
    """Cost: about 5 µs for each message."""
    return _encode(Batch(webhook=webhook, events=[_event(one) for one in events]))


def test_body(webhook: str, at_ms: int) -> bytes:
    """A request that tells of nothing."""
    event = Event(id="test", type="webhook.test", timestamp=_timestamp(at_ms), data={})
    return _encode(Batch(webhook=webhook, events=[event]))


def _event(one: StoredEvent) -> Event:
    data: MessageData | dict[str, object]
    if one.kind is EventKind.MESSAGE_STORED and one.message is not None:
        data = message_data(one.message)
    else:
        data = _details(one)
    return Event(id=one.id, type=one.kind, timestamp=_timestamp(one.at_ms), data=data)


def message_data(message: Message) -> MessageData:
    return MessageData(
        conversation=message.conversation,
        seq=message.seq,
        sender=Person(id=message.sender_id, name=message.sender_name),
        to=None if message.group_id else Person(id=message.to_id, name=message.to_name),
        group=message.group_id,
        text=message.body,
        fp=message.fp,
        typeu=message.typeu,
        sent_at_ms=message.sent_at_ms,
        state=_NAMES[message.state],
        version=message.version,
        reply_to=message.reply_to,
        mentions=message.mentions,
        files=message.attachments,
    )


def _details(one: StoredEvent) -> dict[str, object]:
    """Users by number and name, and the message as it is now."""
    data = dict(one.details)
    for name in _USERS:
        if isinstance(number := data.get(name), int):
            data[name] = _person(one, number)
    if isinstance(numbers := data.get("users"), list):
        data["users"] = [_person(one, number) for number in numbers]
    if one.message is not None:
        data["message"] = message_data(one.message)
    return data


def _person(one: StoredEvent, number: int) -> Person:
    return Person(id=number, name=one.users[number].name)


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
