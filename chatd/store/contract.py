"""The contract of a store, which both twins implement.

Owns: Tables and its parts: every read and write that chatd needs, as blocking calls.
Elsewhere: how the writes of many sessions become one commit (store.group_commit); SQL (store.sql, store.sqlite,
store.mysql); opening a store (store.open).
Fails: Refused (the request is not allowed; nothing changed), Unavailable (the store cannot answer now) and Again (two
transactions conflicted; this one was rolled back and is to be run again from begin()). One test suite checks both
twins: tests/store/contract.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from chatd.errors import ErrorCode
from chatd.model import Audience, ConversationId, Group, GroupId, Message, Seq, User, UserId
from chatd.protocol import SendMessage
from chatd.store.account_contract import Account as Account
from chatd.store.account_contract import AccountDetails as AccountDetails
from chatd.store.account_contract import AccountTables as AccountTables
from chatd.store.account_contract import CredentialsChange as CredentialsChange
from chatd.store.account_contract import Invite as Invite
from chatd.store.account_contract import InviteTables as InviteTables
from chatd.store.account_contract import ListedAccount as ListedAccount
from chatd.store.account_contract import NewInvite as NewInvite
from chatd.store.administrator_contract import Administrator as Administrator
from chatd.store.administrator_contract import AdministratorTables as AdministratorTables
from chatd.store.administrator_contract import AdminRole as AdminRole
from chatd.store.administrator_contract import AdminSession as AdminSession
from chatd.store.administrator_contract import FoundSession as FoundSession
from chatd.store.administrator_contract import NewAdministrator as NewAdministrator
from chatd.store.api_key_contract import ApiKey as ApiKey
from chatd.store.api_key_contract import ApiKeyTables as ApiKeyTables
from chatd.store.api_key_contract import NewApiKey as NewApiKey
from chatd.store.ban_contract import AddressBanTables as AddressBanTables
from chatd.store.bridge_contract import BRIDGE_READER as BRIDGE_READER
from chatd.store.bridge_contract import BridgeTables as BridgeTables
from chatd.store.bridge_contract import NewBridged as NewBridged
from chatd.store.bridge_contract import OutgoingTables as OutgoingTables
from chatd.store.consent_contract import Asked as Asked
from chatd.store.consent_contract import AskingRules as AskingRules
from chatd.store.consent_contract import Audiences as Audiences
from chatd.store.consent_contract import ConsentTables as ConsentTables
from chatd.store.consent_contract import FriendTables as FriendTables
from chatd.store.consent_contract import Purpose as Purpose
from chatd.store.event_contract import EventKind as EventKind
from chatd.store.event_contract import EventTables as EventTables
from chatd.store.event_contract import WebhookTables as WebhookTables
from chatd.store.file_contract import Content as Content
from chatd.store.file_contract import FileRow as FileRow
from chatd.store.file_contract import FileState as FileState
from chatd.store.file_contract import FileTables as FileTables
from chatd.store.file_contract import FileTotals as FileTotals
from chatd.store.file_contract import NewFile as NewFile
from chatd.store.group_contract import FIRST_VERSION as FIRST_VERSION
from chatd.store.group_contract import FOREVER as FOREVER
from chatd.store.group_contract import AdmissionLimits as AdmissionLimits
from chatd.store.group_contract import AdmissionState as AdmissionState
from chatd.store.group_contract import AdmissionTables as AdmissionTables
from chatd.store.group_contract import Ban as Ban
from chatd.store.group_contract import GroupDetails as GroupDetails
from chatd.store.group_contract import GroupOverview as GroupOverview
from chatd.store.group_contract import GroupRow as GroupRow
from chatd.store.group_contract import GroupTables as GroupTables
from chatd.store.group_contract import Joined as Joined
from chatd.store.group_contract import Left as Left
from chatd.store.group_contract import Membership as Membership
from chatd.store.group_contract import Pending as Pending
from chatd.store.group_contract import RulesChange as RulesChange
from chatd.store.person_contract import Person as Person
from chatd.store.person_contract import PersonTables as PersonTables
from chatd.store.person_contract import Scanned as Scanned
from chatd.store.push_contract import PUSH_READER as PUSH_READER
from chatd.store.push_contract import NewSubscription as NewSubscription
from chatd.store.push_contract import PushTables as PushTables
from chatd.store.retention_contract import Erasure as Erasure
from chatd.store.retention_contract import ErasureTables as ErasureTables
from chatd.store.retention_contract import Kind as Kind
from chatd.store.retention_contract import RetentionTables as RetentionTables
from chatd.store.retention_contract import Slice as Slice
from chatd.store.retention_contract import Space as Space
from chatd.store.revision_contract import OwnView as OwnView
from chatd.store.revision_contract import Revised as Revised
from chatd.store.revision_contract import Revision as Revision
from chatd.store.revision_contract import RevisionTables as RevisionTables

NEVER: Seq = 1 << 62
"""No message has a seq as high."""
KNOWN_SOURCES = 8
"""Maximum networks remembered for one user."""
UNREAD_WINDOW = 1000
"""Messages beyond the read mark among which unread ones are counted."""


class Again(Exception):
    """The store rolled the transaction back (a deadlock, a race for a unique key); it may be repeated at once. Caught
    where transactions are run: in store.group_commit, and in chatctl."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message to be stored. sender: the user who is logged in, or model.SYSTEM, from whom everybody accepts
    messages, and who may write to every group."""

    sender: User
    command: SendMessage
    body_hash: int | None = None
    """text_hash of the text as the client sent it, if a plug-in has changed it. A repetition is recognised by what the
    client sent, because a plug-in need not change the same text in the same way twice."""


class SendingRules(NamedTuple):
    """What the operator lets users do, as far as a transaction must know. may_write: for users who have not chosen.
    waiting_from_one, waiting: messages that may wait for one user in one conversation, and from all users together; 0 =
    no limit."""

    may_write: Audience = Audience.EVERYBODY
    waiting_from_one: int = 0
    waiting: int = 0


ANYTHING = SendingRules()
"""No rules."""


def text_hash(text: str) -> int:
    """A signed 64-bit hash, by which a store recognises a text that it does not keep."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The result for a draft that is in the store."""

    message: Message
    fresh: bool
    """False: the draft repeats `message`, which was stored earlier."""
    members_version: int = 0
    """Of its group, when it was stored. 0 for a message between two users, and for a repeated one, where it is not
    known."""
    members: int = 0
    """How many its group had then; 0 as for members_version."""


class Advance(NamedTuple):
    """The user has every message of the conversation up to and including `seq`."""

    user_id: UserId
    conversation: ConversationId
    seq: Seq


class Waiting(NamedTuple):
    """The messages beyond a user's cursors."""

    messages: list[Message]
    """In commit order, the user's own included: without them, the numbering would have holes."""
    more: bool
    """There are more messages than were asked for."""
    delivered: dict[ConversationId, Seq]
    """The cursors that were asked for."""
    complete_after: Mapping[ConversationId, Seq] = {}
    """Conversations of which `messages` has no gap after this seq: numbers that are missing are not in the store."""
    deleted: frozenset[tuple[ConversationId, Seq]] = frozenset()
    """Those of the messages that the user has deleted from their own history: they count in the order, but are not
    given. Filled in by callers (RevisionTables.deleted)."""


class Head(NamedTuple):
    """One of a user's conversations."""

    conversation: ConversationId
    other: User | Group
    last: Seq
    """Of the last message."""
    delivered: Seq
    """The user's cursor."""
    seen: Seq
    """How far the user has marked it as read."""


class Position(NamedTuple):
    """How far a user is in a conversation: what a client has received, and what the user has marked as read."""

    delivered: Seq
    seen: Seq


class Unread(NamedTuple):
    """What a user has not read of a conversation. Own messages, what is older than the user's membership, and what was
    recalled, removed or deleted from the user's own history do not count.

    messages: how many, among the first UNREAD_WINDOW beyond the read mark. more: there are messages beyond those.
    mentioned: the first messages, by seq, that mention the user or all members."""

    messages: int = 0
    more: bool = False
    mentioned: tuple[Seq, ...] = ()


class KnownSource(NamedTuple):
    """A network from which a user has logged in."""

    hidden: str
    """A salt and a hash of the network (core.login_guard), in hexadecimal digits."""
    seen_day: int
    """Of the last login; days since the epoch."""


class HistoryTables(Protocol):
    """Reading stored messages, and which of them a user has read."""

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting:
        """Messages beyond the user's cursors."""
        ...

    def conversation_of(self, user_id: UserId, other: UserId, group_id: GroupId) -> ConversationId:
        """0 when the two users have never written to each other. Raises: Refused as GroupTables.role()."""
        ...

    def users_of(self, conversation: ConversationId) -> tuple[UserId, UserId] | None:
        """Of a conversation between two users, the lower id first; None: there is none with this id."""
        ...

    def messages(
        self, reader: UserId, conversation: ConversationId, after: Seq, before: Seq, limit: int
    ) -> list[Message]:
        """Of those that the user may read (first_readable): after < seq, ascending; with before > 0 instead the last
        ones with seq < before, ascending."""
        ...

    def first_readable(self, reader: UserId, conversation: ConversationId) -> Seq:
        """The first message that the user may read. In a group: the first one after the user joined, or any if the
        group's past is open to its members; NEVER for a user who is not in it. The system (model.SYSTEM) reads all."""
        ...

    def at(self, conversation: ConversationId, seqs: Collection[Seq]) -> list[Message]:
        """Those of them that there are, ascending."""
        ...

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        """The user's conversations by id, those above `after` (ids may be negative)."""
        ...

    def positions(self, of: Sequence[tuple[UserId, ConversationId]]) -> dict[ConversationId, Position]:
        """How far each of these users is in the conversation beside it; one that has no position is left out. Cost: one
        row each."""
        ...

    def unread(self, user_id: UserId, heads: Sequence[Head]) -> list[Unread]:
        """Of each of these heads, as heads() gave them for this user. Cost: up to UNREAD_WINDOW rows of each
        conversation whose last message is beyond the read mark."""
        ...

    def seen(self, user_id: UserId, conversation: ConversationId) -> Seq:
        """The read mark."""
        ...

    def mark_seen(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> Seq:
        """Read up to `seq`, but at most to the last message; never back. Returns the position now in force."""
        ...


class KnownSourceTables(Protocol):
    """From where each user has logged in."""

    def of(self, user_id: UserId) -> tuple[KnownSource, ...]:
        """At most KNOWN_SOURCES. Cost: one statement."""
        ...

    def remember(self, user_id: UserId, source: KnownSource, credentials: int) -> None:
        """Add the source, or set its day. Beyond KNOWN_SOURCES those not seen for the longest time are forgotten.

        credentials: the version of the account's credentials with which the user logged in. Nothing is remembered if
        they have another one by now: the login was with an old password."""
        ...


class RequestLog(Protocol):
    """Answers already given to requests that changed something, so that a repeated request is answered once."""

    def answered(self, sender: UserId, fp: str, body_hash: int | None = None) -> str | None:
        """The answer that the request (sender, fp) was given, or None. body_hash: text_hash of the request's text; None
        asks for the answer to any text.

        Raises: Refused FP_REUSED: the answer was given to a request with another text."""
        ...

    def remember(self, sender: UserId, fp: str, answer: str, now_ms: int, body_hash: int | None = None) -> None:
        """Once per (sender, fp), after answered() returned None. Kept for 7 days (P2). body_hash: as for answered();
        None lets any text be taken for a repetition."""


class Tables(Protocol):
    """One connection to a store, used by one thread at a time. Writes only between begin() and commit()/rollback().

    The operations of a group commit batch are here; everything else is in the parts, one per subject."""

    @property
    def accounts(self) -> AccountTables: ...

    @property
    def invites(self) -> InviteTables: ...

    @property
    def friends(self) -> FriendTables: ...

    @property
    def consent(self) -> ConsentTables: ...

    @property
    def groups(self) -> GroupTables: ...

    @property
    def admission(self) -> AdmissionTables: ...

    @property
    def history(self) -> HistoryTables: ...

    @property
    def revisions(self) -> RevisionTables: ...

    @property
    def known_sources(self) -> KnownSourceTables: ...

    @property
    def address_bans(self) -> AddressBanTables: ...

    @property
    def api_keys(self) -> ApiKeyTables: ...

    @property
    def administrators(self) -> AdministratorTables: ...

    @property
    def request_log(self) -> RequestLog: ...

    @property
    def retention(self) -> RetentionTables: ...

    @property
    def erasure(self) -> ErasureTables: ...

    @property
    def person(self) -> PersonTables: ...

    @property
    def events(self) -> EventTables: ...

    @property
    def webhooks(self) -> WebhookTables: ...

    @property
    def bridges(self) -> BridgeTables: ...

    @property
    def outgoing(self) -> OutgoingTables: ...

    @property
    def files(self) -> FileTables: ...

    @property
    def push(self) -> PushTables: ...

    @property
    def gather_s(self) -> float:
        """Minimum time between the starts of two batches: about the cost of a small one, so that under load messages
        share a commit. A lone message does not wait."""
        ...

    def begin(self) -> None:
        """Take the write lock (blocking) and start a transaction. Raises: Unavailable."""

    def commit(self) -> None:
        """Durable when it returns. Raises: Unavailable; then nothing of the transaction is in the store, or (MySQL) it
        is not known whether it is."""

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    def append(self, drafts: Sequence[Draft], now_ms: int, rules: SendingRules = ANYTHING) -> list[Stored | ErrorCode]:
        """Number and insert; one result per draft, in order. A draft is refused with UNKNOWN_RECIPIENT, UNKNOWN_GROUP,
        NOT_A_MEMBER, MUTED or ANNOUNCEMENTS_ONLY, with NOT_ACCEPTED or BLOCKED_BY_YOU as ConsentTables.refusals() says
        for rules.may_write, with MAILBOX_FULL as store.sql.mailboxes says, and with FP_REUSED if its sender has stored
        another text, or for another recipient, under its fp. With extras, also as store.sql.extras.ExtrasWriter.check
        says. Must be the first call of a transaction, and its only append()."""
        ...

    def advance(self, advances: Sequence[Advance]) -> None:
        """Move cursors forward, never back."""

    def update_last_seen(self, seen: Sequence[tuple[UserId, int]]) -> None:
        """(user, epoch ms): the user was online until then. Never moved back."""
