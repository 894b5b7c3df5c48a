"""The contract of a store: users of other servers, who are reached over a bridge. A part of store.contract, which has
the rest.

Owns: BridgeTables and OutgoingTables, and what they take and give.
Elsewhere: the SQL (store.sql.bridges), how far each bridge has read (store.event_contract.WebhookTables), the bridges
(bridges).
Fails: as store.contract says.

A bridged user has an account, so that conversations, blocks, quotas and history are those of any user. It is locked,
and stays so: nobody logs in with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chatd.model import Message, User, UserId

BRIDGE_READER = "bridge:"
"""Before the name of a bridge: its name as a reader of events (store.event_contract.WebhookState.name)."""


class NewBridged(NamedTuple):
    """A user of the other side. remote: the id there, exactly. name: of the account here. heard: the other side has
    named this user; otherwise somebody here believes that there is one."""

    bridge: str
    remote: str
    name: str
    heard: bool


class Outgoing(NamedTuple):
    """A message to a bridged user, as it is now."""

    message: Message
    remote: str


class OutgoingPart(NamedTuple):
    """What waiting() gives. upto: the message.id up to which there are no others."""

    messages: list[Outgoing]
    upto: int


class BridgeTables(Protocol):
    """Bridged users. Within a transaction, except bridge_of(), find() and users()."""

    def bridge_of(self, user_id: UserId) -> str:
        """The name of the bridge over which this user is reached; "" = the user is one of this server."""
        ...

    def find(self, bridge: str, remote: str) -> User | None:
        """The account of a user whom the other side has named."""
        ...

    def meet(self, new: NewBridged, now_ms: int) -> User:
        """The account of this user, which is made if there is none. One that was made for a user who was only believed
        to exist becomes the account of the first user who is heard of with the same name in another spelling.

        Raises: Refused NAME_TAKEN: another account, or that of another user of the other side, has this name."""
        ...

    def users(self, bridge: str) -> int:
        """How many bridged users there are."""
        ...

    def close(self, bridge: str) -> int:
        """The bridge is no more: nobody can write to its users until meet() or reopen(). How many there are."""
        ...

    def reopen(self, bridge: str) -> None:
        """Undo close()."""


class OutgoingTables(Protocol):
    """Messages to bridged users, in the order of message.id."""

    def waiting(self, bridge: str, after: int, upto: int, limit: int) -> OutgoingPart:
        """The first ones. upto: a message.id that has settled (store.event_contract.EventTables)."""
        ...

    def count(self, bridge: str, after: int, upto: int) -> int:
        """How many there are, at most COUNTED."""
        ...


COUNTED = 100_000
KINDS: Sequence[str] = ("message.stored",)
"""The kind of event that a bridge reads."""
