"""The contract of a store: everything about one person, to be handed to them. A part of store.contract.

Owns: PersonTables and the structs it gives; they are written to the archive as JSON, under these names.
Elsewhere: the SQL (store.sql.person), messages of conversations (store.contract.HistoryTables), the archive
(core.person_archive).
Fails: as store.contract says.

Times are milliseconds since the epoch, 0 = never. Other people are named, and nothing else is told of them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from chatd.model import GroupId, Message, UserId


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """Another person, and since when."""

    id: UserId
    name: str
    at_ms: int


class InGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group that the person is in."""

    id: GroupId
    name: str
    description: str
    role: str
    joined_at_ms: int
    muted_until_ms: int


class WithGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How the person, or somebody whom they invited, stands to a group. state: of store.group_contract.AdmissionState,
    or "banned". other: who invited or banned the person, or whom the person invited; 0 and "" = nobody."""

    group_id: GroupId
    group: str
    state: str
    other_id: UserId
    other: str
    at_ms: int


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network from which the person has logged in. hidden: a salted hash; the address itself is not stored."""

    hidden: str
    last_seen_day: int


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the person's client that changed something, and its answer; kept for 7 days."""

    fp: str
    answer: str
    at_ms: int


class Notified(msgspec.Struct, frozen=True, kw_only=True):
    """A browser or device that is notified while the person is away. gateway: "" = Web Push, then endpoint is its URL.
    used_at_ms: when it was notified last."""

    gateway: str
    endpoint: str
    created_at_ms: int
    used_at_ms: int


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """All rows about one account, without messages. may_*: one of model.Audience. The password is left out: a hash of
    it is all that is stored."""

    id: UserId
    name: str
    created_at_ms: int
    last_seen_at_ms: int
    locked_at_ms: int
    lock_reason: str
    has_password: bool
    profile: dict[str, str]
    may_write: str
    may_ask: str
    may_see: str
    may_add: str
    friends: list[Other]
    friend_requests_sent: list[Other]
    friend_requests_received: list[Other]
    friend_requests_refused_by: list[Other]
    friend_requests_refused: list[Other]
    blocked: list[Other]
    groups: list[InGroup]
    may_answer: list[Other]
    """People to whom the person has written, and who may therefore write although others may not. at_ms: 0."""

    admissions: list[WithGroup]
    invitations_sent: list[WithGroup]
    bans: list[WithGroup]
    known_networks: list[Network]
    answered_requests: list[Answered]
    push_subscriptions: list[Notified]


class Scanned(NamedTuple):
    """A page of a scan over all messages. position: where the next page begins. more: there is one."""

    messages: list[Message]
    position: int
    more: bool


class PersonTables(Protocol):
    def everything(self, user_id: UserId) -> Person:
        """Cost: all rows about the account; their number is limited by the limits for friends and groups."""
        ...

    def sent_to_groups(self, user_id: UserId, position: int) -> Scanned:
        """The next page of the user's messages in groups they are not in any more. position: 0 for the first page.
        Cost: some thousand rows; all pages together read every message of the store."""
        ...
