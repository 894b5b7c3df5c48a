"""The field `reply` of a message from a client in streaming mode.

Owns: reading it. In compatible mode it belongs to nobody, and is not looked at.
Elsewhere: the frames of messages (wire.chatserver.codec), whether there is such a message (the store).
Fails: ValueError for a field that is not a seq.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from chatd.protocol import Extras, SendMessage

_decode_seq = msgspec.json.Decoder(Annotated[int, Meta(gt=0, lt=1 << 62)]).decode


def with_reply(command: SendMessage, reply: Raw) -> SendMessage:
    """reply: the field. Raises: ValueError."""
    field = bytes(reply)
    if field == b"null":
        return command
    return msgspec.structs.replace(command, extras=Extras(reply_to=_decode_seq(field)))
