"""The nouns of the library: users, messages, and where a message goes.

Owns: frozen structs without behaviour of their own, beyond what can be computed from their fields.
Elsewhere: results of requests (results), events (events), the bytes of each wire (packets, chatserver).
Fails: ValueError from Destination.of() for what is no address.
"""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec

Mentions = tuple[int, ...] | Literal["all"]
"""Members of a group whom a message names, by number, or all of them."""

GONE = ("recalled", "removed", "erased", "expired")
"""States of a message whose text is gone."""


class User(msgspec.Struct, frozen=True):
    """id: the account's number; 0 where the server did not tell it."""

    id: int
    name: str


class Destination(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a message goes: exactly one field is set."""

    user_id: int = 0
    user_name: str = ""
    group_id: int = 0

    def __str__(self) -> str:
        return f"group {self.group_id}" if self.group_id else self.user_name or str(self.user_id)

    @property
    def place(self) -> str:
        """The conversation as requests name it: a user's name or number, or "#" and a group's number."""
        return f"#{self.group_id}" if self.group_id else self.user_name or str(self.user_id)

    @classmethod
    def of(cls, to: str | int) -> Destination:
        """A user's name, the number of an account, or "#" and the number of a group. Raises ValueError."""
        if isinstance(to, int):
            if not 0 < to < 1 << 63:
                raise ValueError(f"{to} is not the number of a user")
            return cls(user_id=to)
        if to.startswith("#"):
            if not is_number(to[1:]):
                raise ValueError(f"{to!r} is not a group: write # and its number")
            return cls(group_id=int(to[1:]))
        if not to or to in ("0", "-1"):
            raise ValueError(f"{to!r} is not a user")
        return cls(user_name=to)


class Attachment(msgspec.Struct, frozen=True):
    """A file of a message. type: its media type. width, height: of a picture, in pixels, as it is shown; else 0."""

    id: str
    name: str
    size: int
    type: str = "application/octet-stream"
    width: int = 0
    height: int = 0

    def __str__(self) -> str:
        """As servers write it for clients that know no files."""
        return f"[{self.name}, {size_text(self.size)}]"


class PendingMessage(msgspec.Struct, frozen=True):
    """A message of ours the server has not yet acknowledged. fp: our own id for it; the server stores it once."""

    fp: str
    to: Destination
    text: str
    written_at_ms: int
    reply: int = 0
    """The seq of the message that it answers."""
    mentions: tuple[str | int, ...] | Literal["all"] = ()
    """Names or numbers of members of the group."""
    typeu: int = -1
    """The application's sub-type, which the server passes through."""
    files: tuple[str, ...] = ()
    """Ids of files that were uploaded."""


class Answer(msgspec.Struct, frozen=True):
    """To the request with the number `ref`. result: JSON, if it is ok; otherwise code and text say why."""

    ref: int
    ok: bool
    result: msgspec.Raw
    code: int
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message that another user has sent.

    conversation: as send() and history() take it: the other user's name, or "#" and the group's number. seq: its number
    there, 1, 2, 3 …; 0 from a server that does not number. sent_at_ms: when it was stored, by the server's clock.
    """

    conversation: str
    sender: str
    text: str
    """"" if the message was recalled or removed before it was delivered (`state`)."""
    seq: int
    sent_at_ms: int
    fp: str
    """The sender's own id of it."""
    conversation_id: int = 0
    typeu: int = -1
    """The application's sub-type; -1 = none."""
    reply: int = 0
    """The seq of the message that this one answers; 0 = none."""
    mentions: Mentions = ()
    version: int = 0
    """How often it was changed before it was delivered."""
    state: str = "sent"
    """sent, edited, recalled, removed, erased or expired."""
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False
    """There are more files than fitted into the packet; history() has them all."""

    @property
    def group(self) -> int:
        """The group's number; 0 = a message from one user to another."""
        return int(self.conversation[1:]) if self.conversation.startswith("#") else 0

    @property
    def time(self) -> datetime.datetime:
        """When it was stored, in UTC."""
        return datetime.datetime.fromtimestamp(self.sent_at_ms / 1000, datetime.UTC)

    def names(self, user: User) -> bool:
        """Whether it mentions this user."""
        return self.mentions == "all" or user.id in self.mentions


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A message of ours that is durably stored. seq, sent_at_ms: as in Message; 0 from a server that does not say."""

    conversation: str
    seq: int
    sent_at_ms: int
    fp: str

    @property
    def time(self) -> datetime.datetime:
        """When it was stored, in UTC."""
        return datetime.datetime.fromtimestamp(self.sent_at_ms / 1000, datetime.UTC)


def is_number(word: str) -> bool:
    """Whether the wire can carry `word` as a numeric id (64 bits, signed)."""
    return word.isascii() and word.isdigit() and 0 < int(word[:20]) < 1 << 63


_UNITS = ("B", "kB", "MB", "GB")


def size_text(size: int) -> str:
    """A number of bytes for people, such as "1.2 MB"."""
    value, at = float(size), 0
    while value >= 999.5 and at < len(_UNITS) - 1:
        value, at = value / 1000, at + 1
    return f"{size} B" if not at else f"{value:.1f} {_UNITS[at]}" if value < 9.95 else f"{value:.0f} {_UNITS[at]}"
