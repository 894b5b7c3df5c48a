"""The fields `reply`, `mentions` and `files` of a message from a client in streaming mode.

Owns: reading them. In compatible mode they belong to nobody, and are not looked at; without requests, neither are
`mentions` and `files`.
Elsewhere: the frames of messages (wire.chatserver.reading), whether there is such a message, member or file (store).
Fails: ValueError for a field that is not a seq, not a list of names and ids or "all", or not a list of ids.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from chatd.model import ALL_MEMBERS
from chatd.protocol import Extras, SendMessage

MAX_MENTIONS = 1000
"""Entries of `mentions` that are read at all; the option groups.mentions is the limit that counts."""
MAX_FILES = 100
"""Entries of `files` likewise; the option files.per_message is the limit that counts."""

_User = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(gt=0, lt=1 << 62)]
_decode_seq = msgspec.json.Decoder(Annotated[int, Meta(gt=0, lt=1 << 62)]).decode
_decode_mentions = msgspec.json.Decoder(
    Annotated[list[_User], Meta(max_length=MAX_MENTIONS)] | Literal["all"] | None
).decode
_decode_files = msgspec.json.Decoder(
    Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=MAX_FILES)]
).decode
_NOTHING = (b"", b"null")


class HasExtras(Protocol):
    """The frame of a message."""

    @property
    def reply(self) -> Raw | UnsetType: ...
    @property
    def mentions(self) -> Raw | UnsetType: ...
    @property
    def files(self) -> Raw | UnsetType: ...


def with_extras(command: SendMessage, read: HasExtras, *, requests: bool) -> SendMessage:
    """requests: the client has them. Raises: ValueError."""
    if read.reply is UNSET and read.mentions is UNSET and read.files is UNSET:  # of nearly every message
        return command
    answered = _bytes(read.reply)
    named, sent = (_bytes(read.mentions), _bytes(read.files)) if requests else (b"", b"")
    reply_to = 0 if answered in _NOTHING else _decode_seq(answered)
    found = None if named in _NOTHING else _decode_mentions(named)
    members = ALL_MEMBERS if found == "all" else tuple(found or ())
    files = () if sent in _NOTHING else tuple(_decode_files(sent))
    if not (reply_to or members or files):
        return command
    return msgspec.structs.replace(command, extras=Extras(reply_to=reply_to, mentions=members, files=files))


def _bytes(field: Raw | UnsetType) -> bytes:
    return b"" if isinstance(field, UnsetType) else bytes(field)
