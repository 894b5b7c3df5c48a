"""The column `meta` of `message`: what a message has besides its text, as JSON.

Owns: its form.
Elsewhere: whether a sender may do that (store.sql.extras), reading and writing the column (store.sql.messages,
store.sqlite.messages, store.mysql.messages).
Fails: never, with what this module has written.

The column is NULL for a message without extras, so that reading and writing the others costs nothing.
"""

from __future__ import annotations

import msgspec

from chatd.model import Attachment, Message, Seq, UserId


class Meta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The JSON of `meta`. As the fields of model.Message."""

    reply_to: Seq = msgspec.field(name="reply", default=0)
    mentions: tuple[UserId, ...] = ()
    attachments: tuple[Attachment, ...] = msgspec.field(name="files", default=())


_encode = msgspec.json.Encoder().encode
decode_meta = msgspec.json.Decoder(Meta).decode


def with_meta(message: Message, meta: Meta) -> Message:
    return msgspec.structs.replace(
        message, reply_to=meta.reply_to, mentions=meta.mentions, attachments=meta.attachments
    )


def meta_of(message: Message) -> str:
    """For the column `meta`."""
    meta = Meta(reply_to=message.reply_to, mentions=message.mentions, attachments=message.attachments)
    return _encode(meta).decode()
