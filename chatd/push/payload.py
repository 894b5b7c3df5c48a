"""What a notification says (docs/push.md), as the service worker of the chat page reads it.

Owns: Note, its form, and how much of a message is in it.
Elsewhere: encrypting it (web_push.encryption), showing it (chatd/web/static/sw.js).
Fails: never.

The length of what is sent tells nothing of the length of a text: it is filled up to a multiple of PADDED_BYTES.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chatd.config.push_options import PushOptions
from chatd.model import Message
from chatd.store.push_contract import DuePush
from chatd.web_push.encryption import CONTENT_BYTES

TEXT_CHARS = 300
PADDED_BYTES = 512


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """for_: whom it is for. count: messages since the last notification. conversation: a name, or "#" and the number of
    a group; sender: who writes; both "" unless push.content says more than none. text: its beginning, unless
    it says less than text."""

    v: Literal[1]
    for_: str = msgspec.field(name="for")
    count: int
    conversation: str = ""
    sender: str = ""
    text: str = ""


_encode = msgspec.json.Encoder().encode


def note_of(one: DuePush, message: Message, options: PushOptions) -> Note:
    if options.content == "none":
        return Note(v=1, for_=one.user.name, count=one.waiting)
    conversation = f"#{message.group_id}" if message.group_id else message.sender_name
    text = _text_of(message)[:TEXT_CHARS] if options.content == "text" else ""
    return Note(
        v=1,
        for_=one.user.name,
        count=one.waiting,
        conversation=conversation,
        sender=message.sender_name,
        text=text,
    )


def _text_of(message: Message) -> str:
    """Of one that is nothing but files: their names."""
    return message.body or ", ".join(one.name for one in message.attachments)


def content_of(note: Note) -> bytes:
    """As JSON with spaces behind it, of at most CONTENT_BYTES."""
    content = _encode(note)
    while len(content) > CONTENT_BYTES:  # names and text of characters that take many bytes
        note = msgspec.structs.replace(note, text=note.text[: len(note.text) // 2])
        content = _encode(note)
    return content.ljust(min(CONTENT_BYTES, -(-len(content) // PADDED_BYTES) * PADDED_BYTES))
