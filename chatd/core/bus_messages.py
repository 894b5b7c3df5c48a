"""The messages between workers over the bus, and their bytes.

Owns: one struct per kind of message, encoded as a MessagePack array with a tag.
Elsewhere: acting on them (core.core), the bytes around it (bus.redis.envelope).
Fails: decode() raises msgspec.DecodeError for a message of a later version that this one does not understand, and
UnicodeDecodeError or RecursionError for bytes that no version writes; the caller logs it and drops it.

Hosts of neighbouring versions share one bus while a cluster is upgraded. So a struct may only grow: new fields
go to its end and have a default, a new kind of message gets a new tag. No field and no tag is moved, removed or given
another meaning. Names of structs and fields are not part of the bytes (see also bus.redis.envelope).

A question (SessionChallenge, SessionsAsked, WorkerSessionsAsked, ClientsAsked, KickAsked, BroadcastAsked, BansChanged)
carries a `ref`, which its answers repeat: see bus.survey.
"""

from __future__ import annotations

import msgspec

from chatd.client_list import ClientPage, ClientQuery
from chatd.model import ConversationId, FriendRequest, Group, GroupId, Message, Seq, User, UserId

# ---------------------------------------------------------------- messages and notices


class MessageStored(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A message is in the store: give it to its recipients' sessions. On the topic of its recipient or group.

    members_version: the group's when the message was stored. 0: a message between two users, or not known. tells: the
    sender wants to know when it is delivered (core.requests.delivered_notices)."""

    message: Message
    members_version: int = 0
    tells: bool = False


class GroupNotice(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """Tell the members of a group. text: the notice, as core.requests.notices makes it. On the group's topic.

    members_version: the group's when this became so; 0 for what has nothing to do with who is a member. departed: the
    user who stopped being a member with that version; 0: nobody did."""

    group_id: GroupId
    text: str
    members_version: int = 0
    departed: UserId = 0


class UserNotice(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    """Tell a user's sessions. text: the notice, as core.requests.notices makes it. On the user's topic.

    fp: what clients acknowledge; "" = each worker makes one."""

    user_id: UserId
    text: str
    fp: str = ""


class TypingNoticed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=30):
    """`by` is writing to the user, or in the group (the other one is 0). On the user's topic, or the group's."""

    by: User
    user_id: UserId
    group_id: GroupId


class DeliveredNoticed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=42):
    """`by` has received the conversation with the user, up to seq. On the user's topic."""

    by: User
    user_id: UserId
    seq: Seq


# ---------------------------------------------------------------- messages that change


class MessageChanged(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=27):
    """`by` has changed a message. message: as it is now. number: of the change, in its conversation. at_ms: epoch. On
    the topics of its two users or of its group; with a ref on EVERYBODY, and every worker answers with a ChangeApplied
    on topic_of_answer(ref).

    members_version, excluded: see store.contract.Revised."""

    message: Message
    by: User
    number: int
    at_ms: int
    members_version: int = 0
    excluded: tuple[UserId, ...] = ()
    ref: int = 0

    def with_ref(self, ref: int) -> MessageChanged:
        return msgspec.structs.replace(self, ref=ref)


class ChangeApplied(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=34):
    """No earlier version of the message is given to anybody by this worker any more. worker: its name on the bus."""

    ref: int
    worker: str


class HistoryDeleted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=28):
    """The user has deleted messages from their own history: everything up to `up_to`, and the messages `seqs`. text:
    the notice, as core.requests.notices makes it. On the user's topic."""

    user_id: UserId
    conversation: ConversationId
    up_to: Seq
    seqs: tuple[Seq, ...]
    text: str


# ---------------------------------------------------------------- friends, groups, presence


class FriendRequestSent(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """On the topic of the user `request.to`."""

    request: FriendRequest


class FriendRequestAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """`by` has accepted or refused the request of the user `to`. On the topic of `to`."""

    by: User
    to: UserId
    accepted: bool


class GroupJoined(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """The user's sessions are given the group's messages from now on. On the user's topic.

    since_version: the membership's (store.group_contract.Membership). 0: not known, ask the store."""

    user_id: UserId
    group_id: GroupId
    since_version: int = 0


class GroupRenamed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=31):
    """The group has another name, which the store has. On the group's topic."""

    group_id: GroupId


class GroupLeft(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """The user's sessions are given nothing of the group any more. kicked: somebody else removed the user. On the
    user's topic.

    members_version: the group's afterwards. 0: not known, ask the store."""

    user_id: UserId
    group_id: GroupId
    kicked: bool
    members_version: int = 0


class GroupEntered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=24):
    """Somebody else made the user a member: tell the user's sessions. text: the notice, as core.requests.notices makes
    it. On the user's topic, after the GroupJoined."""

    user_id: UserId
    group: Group
    text: str


class GroupDissolved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=25):
    """The group has ended, and all memberships with it: the members' sessions are told, and given nothing of it any
    more. text: the notice. members_version: with which they ended. On the group's topic.

    An older chatd drops it. There, the members learn nothing, and nothing can be written to the group."""

    group_id: GroupId
    text: str
    members_version: int


class PresenceChanged(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=10):
    """A session of the user began or ended: look up again whether the user is online. doubtful: also check whether
    those who watch the user still may. On the topic of the user's presence."""

    user_id: UserId
    doubtful: bool = False


# ---------------------------------------------------------------- sessions


class SessionChallenge(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """A session needs the session lock that another worker holds; that worker answers with a SessionVerdict. On the
    user's topic, the answer too.

    protocol: the wire (model.Protocol). first_login_time: the session's; 0 or fresh: its login named none.
    age_ms: since the session's login; more than 0 where it was served without its lock because the bus was cut off.
    takes_over: its login asked for the place of the other session.
    """

    user_id: UserId
    protocol: int
    first_login_time: int
    ref: int
    age_ms: int = 0
    fresh: bool = False
    takes_over: bool = False


class SessionVerdict(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """yielded: the session of the worker that answers is ended, its lock will be released at once. Otherwise the
    session that asks must end. first_login_time: of the session of the worker that answers. silent: the client of the
    session that ends is not told, because the other session is its own reconnect."""

    ref: int
    yielded: bool
    first_login_time: int = 0
    silent: bool = False


class SessionEnded(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """The user has asked to end their own session on this wire (0: on every wire). On the user's topic.

    credentials: if not 0, the user's credentials have this version now: only sessions with an earlier one end."""

    user_id: UserId
    protocol: int
    credentials: int = 0


class SessionInfo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One session, for its user or an operator. protocol: the wire (model.Protocol). since_ms: epoch, of its login.
    remote: the client's address."""

    protocol: int
    since_ms: int
    remote: str


class SessionsAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """Which sessions has the user? Each worker answers with one SessionsAnswered per session, or not at all. On the
    user's topic, the answers too."""

    user_id: UserId
    ref: int


class SessionsAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=13):
    ref: int
    session: SessionInfo


class WorkerSessionsAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=18):
    """The same for an operator. On the topic EVERYBODY; every worker answers with one WorkerSessionsAnswered on
    topic_of_answer(ref)."""

    user_id: UserId
    ref: int


class WorkerSessionsAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=19):
    """worker: its name on the bus. host, slot: where it is, for people."""

    ref: int
    worker: str
    host: str
    slot: int
    sessions: tuple[SessionInfo, ...]


class ClientsAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=39):
    """Which sessions match? On the topic EVERYBODY; every worker answers with one ClientsAnswered on
    topic_of_answer(ref). query: tagged by the names of its fields, so that hosts of other versions understand it."""

    query: ClientQuery
    ref: int


class ClientsAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=40):
    """worker: its name on the bus."""

    ref: int
    worker: str
    page: ClientPage


class TracingAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=41):
    """Trace the user's messages for this time, 0 = no longer (core.tracing). On the topic EVERYBODY."""

    user_id: UserId
    for_s: float


class KickAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=14):
    """An operator ends the user's sessions that had begun age_ms ago. On the topic EVERYBODY; every worker answers with
    one KickAnswered on topic_of_answer(ref).

    credentials: if not 0, the account's credentials have this version now: only sessions with an earlier one end, and
    age_ms does not matter. protocol: only sessions on this wire (model.Protocol); 0 = on all, which an older chatd
    always takes it for. network: if not "", the sessions of every user from there, and user_id is 0; an older chatd
    ends none."""

    user_id: UserId
    reason: str
    ref: int
    age_ms: int = 0
    credentials: int = 0
    protocol: int = 0
    network: str = ""


class KickAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=15):
    """sessions: how many were ended on this worker. worker: its name on the bus."""

    ref: int
    sessions: int
    worker: str = ""


class BroadcastAsked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=35):
    """An operator tells all connected users something. On the topic EVERYBODY; every worker begins to tell its
    sessions when it first hears of this ref, and answers each question with a BroadcastAnswered on
    topic_of_answer(ref).

    at_ms: epoch. protocol: only sessions on this wire; 0 = on all. user_id, group_id: only those of this user, or of
    the members of this group; 0 = of everybody."""

    ref: int
    text: str
    at_ms: int
    protocol: int = 0
    user_id: UserId = 0
    group_id: GroupId = 0


class BroadcastAnswered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=36):
    """How far a worker is: sessions that were told, that cannot take it now, and that are still to be told. worker: its
    name on the bus."""

    ref: int
    worker: str
    told: int
    skipped: int
    left: int


# ---------------------------------------------------------------- penalties and bans


class PenaltyRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record of the penalty table, as it is on the host that publishes it. kind: penalty_table.Kind.

    offences_milli: offences in thousandths, as of offended_ago_ms. remaining_ms: of the penalty; 0 = there is none."""

    kind: int
    subject: str
    offences_milli: int
    offended_ago_ms: int
    remaining_ms: int


class PenaltiesCounted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=16):
    """Records that have changed: of each, every host keeps the worse one of this and its own, so it does not matter how
    often, and in which order, they arrive. On the topic EVERYBODY."""

    records: tuple[PenaltyRecord, ...]


class PenaltiesCleared(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=17):
    """An operator removes all records about these sources and accounts; () = every record. On the topic EVERYBODY."""

    subjects: tuple[str, ...]


class BansChanged(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=37):
    """The store has other address bans than before: read them, and end the connections that they are about. On the
    topic EVERYBODY; every worker answers with one BansApplied on topic_of_answer(ref) when it has."""

    ref: int


class BansApplied(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=38):
    """ended: connections, since the worker first heard of this ref. worker: its name on the bus."""

    ref: int
    worker: str
    ended: int


# ---------------------------------------------------------------- rates


class AllowanceSpent(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=22):
    """The user has made so many of the changes that limits.changes_per_hour counts. On the topic EVERYBODY."""

    user_id: UserId
    changes: int


BusMessage = (
    AllowanceSpent
    | MessageStored
    | SessionChallenge
    | SessionVerdict
    | GroupJoined
    | FriendRequestSent
    | FriendRequestAnswered
    | GroupLeft
    | GroupEntered
    | GroupDissolved
    | GroupNotice
    | UserNotice
    | PresenceChanged
    | SessionEnded
    | SessionsAsked
    | SessionsAnswered
    | KickAsked
    | KickAnswered
    | BroadcastAsked
    | BroadcastAnswered
    | BansChanged
    | BansApplied
    | PenaltiesCounted
    | PenaltiesCleared
    | WorkerSessionsAsked
    | WorkerSessionsAnswered
    | ClientsAsked
    | ClientsAnswered
    | TracingAsked
    | MessageChanged
    | HistoryDeleted
    | ChangeApplied
    | TypingNoticed
    | DeliveredNoticed
    | GroupRenamed
)

SurveyAnswer = (
    SessionVerdict
    | SessionsAnswered
    | WorkerSessionsAnswered
    | KickAnswered
    | BroadcastAnswered
    | BansApplied
    | ChangeApplied
    | ClientsAnswered
)
"""What carries the `ref` of a question."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(BusMessage).decode
