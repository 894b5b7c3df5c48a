"""The contract of a store: where users want to be notified while they are away. A part of store.contract, which has the
rest.

Owns: PushTables and what they take and give.
Elsewhere: the SQL (store.sql.push), how far messages were looked at (store.event_contract.WebhookTables, under the name
PUSH_READER), notifying (push).
Fails: as store.contract says.

A subscription holds at most one notification that is due: further messages are counted in it. So the number of rows
does not depend on how much waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chatd.model import ConversationId, Message, Seq, User, UserId

PUSH_READER = "push:"
"""The name of what looks for messages to absent users, as a reader of events."""
KINDS = ("message.stored",)
"""What it reads."""


class NewSubscription(NamedTuple):
    """gateway: "" = Web Push, then endpoint is a URL, and p256dh and auth are the browser's keys, as it encodes them.
    Otherwise a gateway of a plug-in, whose token is in endpoint."""

    user_id: UserId
    gateway: str
    endpoint: str
    p256dh: str = ""
    auth: str = ""


class Missed(NamedTuple):
    """Messages of one conversation to a user with a subscription. seq: of the last one. messages: how many."""

    user_id: UserId
    conversation: ConversationId
    seq: Seq
    messages: int


class MissedPart(NamedTuple):
    """What missed() gives. upto: the message.id up to which there are no others."""

    found: list[Missed]
    upto: int


class DuePush(NamedTuple):
    """A notification that is due. valid: False = the account was locked or deleted, or its password changed, since the
    user subscribed: nothing may be sent there any more. waits: the message is not delivered to the user, and the user
    may still read it. seq: of the message that it tells of; message: None = it is not in the store, or has no text any
    more. waiting: messages since the last notification. failures: attempts that failed since the last success.
    worked_at_ms: of that success; 0 = there was none."""

    id: int
    user: User
    gateway: str
    endpoint: str
    p256dh: str
    auth: str
    valid: bool
    waits: bool
    conversation: ConversationId
    seq: Seq
    message: Message | None
    waiting: int
    failures: int
    worked_at_ms: int

    @property
    def service(self) -> str:
        """Who takes it: the gateway, or the endpoint up to its path, in small letters."""
        return self.gateway or f"{'/'.join(self.endpoint.split('/')[:3])}/".lower()


class PushTables(Protocol):
    """Within a transaction, except missed(), due() and next_due_ms()."""

    def subscribe(self, new: NewSubscription, most: int, now_ms: int) -> None:
        """Add it, or take it over from another user: a browser that somebody else uses now. Of more than `most`, those
        go that were made or renewed first. Raises: Refused NOT_ALLOWED if somebody else has it with other keys."""
        ...

    def unsubscribe(self, user_id: UserId, gateway: str, endpoint: str) -> bool:
        """Whether the user had it."""
        ...

    def unsubscribe_all(self, user_id: UserId) -> bool:
        """Whether the user had any."""
        ...

    def missed(self, after: int, upto: int) -> MissedPart:
        """What users with subscriptions were sent by others after this message.id; without what was recalled, and what
        is by users whom they block. Cost: a scan of some thousand messages at most."""
        ...

    def put_off(self, missed: Sequence[Missed], due_at_ms: int, pause_ms: int) -> None:
        """They are due then, but no sooner than pause_ms after the last notification, unless one is due already, which
        counts them in."""

    def due(self, now_ms: int, limit: int, without: Sequence[str] = ()) -> list[DuePush]:
        """Those that have been due for the longest time, first. without: services (DuePush.service) that are left out.
        Cost: what is due of these is read, too."""
        ...

    def next_due_ms(self, after_ms: int) -> int:
        """When the next one after this time is due; 0 = none is."""
        ...

    def told(self, one: DuePush, now_ms: int, pause_ms: int) -> None:
        """It was sent. What came meanwhile is due after the pause."""

    def drop(self, one: DuePush) -> None:
        """There is nothing to tell any more. What came meanwhile is due."""

    def failed(self, one: DuePush, due_at_ms: int) -> None:
        """An attempt failed. due_at_ms: of the next one."""

    def remove(self, one: DuePush) -> None:
        """Nobody is there any more."""

    def count(self) -> int:
        """Subscriptions of all users."""
        ...
