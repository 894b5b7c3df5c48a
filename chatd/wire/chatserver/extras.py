"""The fields `reply` and `mentions` of a message from a client in streaming mode.

Owns: reading them. In compatible mode they belong to nobody, and are not looked at; without requests, neither are
`mentions`.
Elsewhere: the frames of messages (wire.chatserver.reading), whether there is such a message or member (the store).
Fails: ValueError for a field that is not a seq, or not a list of names and ids or "all".
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from chatd.model import ALL_MEMBERS
from chatd.protocol import Extras, SendMessage

MAX_MENTIONS = 1000
"""Entries of `mentions` that are read at all; the option groups.mentions is the limit that counts."""

_User = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(gt=0, lt=1 << 62)]
_decode_seq = msgspec.json.Decoder(Annotated[int, Meta(gt=0, lt=1 << 62)]).decode
_decode_mentions = msgspec.json.Decoder(
    Annotated[list[_User], Meta(max_length=MAX_MENTIONS)] | Literal["all"] | None
).decode
_NOTHING = (b"", b"null")


def with_extras(command: SendMessage, reply: Raw | UnsetType, mentions: Raw | UnsetType) -> SendMessage:
    """Raises: ValueError."""
    if reply is UNSET and mentions is UNSET:  # of nearly every message
        return command
    answered, named = _bytes(reply), _bytes(mentions)
    reply_to = 0 if answered in _NOTHING else _decode_seq(answered)
    found = None if named in _NOTHING else _decode_mentions(named)
    members = ALL_MEMBERS if found == "all" else tuple(found or ())
    return msgspec.structs.replace(command, extras=Extras(reply_to=reply_to, mentions=members))


def _bytes(field: Raw | UnsetType) -> bytes:
    return b"" if isinstance(field, UnsetType) else bytes(field)
