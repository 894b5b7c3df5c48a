"""What is told to a client besides messages: notices of the server, and what happens to the connection.

Owns: one struct per notice that the client understands, and those of the client itself.
Elsewhere: what becomes of them (the program; session for Draining).
Fails: never; a notice that this client does not know is None.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import field

from chatd_client.model import PendingMessage, User
from chatd_client.results import GroupAbout
from chatd_client.state import State


class FriendAsks(msgspec.Struct, frozen=True, tag_field="event", tag="friend.request"):
    user: User = field(name="from")


class FriendAccepted(msgspec.Struct, frozen=True, tag_field="event", tag="friend.accepted"):
    user: User = field(name="from")


class FriendRefused(msgspec.Struct, frozen=True, tag_field="event", tag="friend.refused"):
    user: User = field(name="from")


class PresenceChanged(msgspec.Struct, frozen=True, tag_field="event", tag="presence"):
    user: User
    online: bool


class MemberJoined(msgspec.Struct, frozen=True, tag_field="event", tag="group.joined"):
    group: int
    user: User


class MemberLeft(msgspec.Struct, frozen=True, tag_field="event", tag="group.left"):
    """owner: the new one, if the owner left."""

    group: int
    user: User
    owner: int | None = None


class MemberKicked(msgspec.Struct, frozen=True, tag_field="event", tag="group.kicked"):
    """user None: this client's user."""

    group: int
    user: User | None = None
    by: User | None = None


class GroupRenamed(msgspec.Struct, frozen=True, tag_field="event", tag="group.renamed"):
    group: int
    details: GroupAbout
    by: User | None = None


class RoleGiven(msgspec.Struct, frozen=True, tag_field="event", tag="group.role"):
    group: int
    user: User
    role: str


class GroupEntered(msgspec.Struct, frozen=True, tag_field="event", tag="group.entered"):
    """This client's user is a member now."""

    group: int
    details: GroupAbout
    by: User | None = None


class GroupInvited(msgspec.Struct, frozen=True, tag_field="event", tag="group.invited"):
    """This client's user can join. waiting: was invited before this login."""

    group: int
    details: GroupAbout
    by: User | None = None
    waiting: bool = False


class InvitationDeclined(msgspec.Struct, frozen=True, tag_field="event", tag="group.declined"):
    group: int
    user: User


class JoinRequested(msgspec.Struct, frozen=True, tag_field="event", tag="group.requested"):
    """waiting: asked before this login."""

    group: int
    user: User
    waiting: bool = False


class JoinRejected(msgspec.Struct, frozen=True, tag_field="event", tag="group.rejected"):
    """This client's user will not be a member."""

    group: int
    details: GroupAbout


class RulesChanged(msgspec.Struct, frozen=True, tag_field="event", tag="group.changed"):
    group: int
    join: str = ""
    history: str = ""
    announcements: bool = False
    by: User | None = None


class MemberBanned(msgspec.Struct, frozen=True, tag_field="event", tag="group.banned"):
    group: int
    user: User
    by: User | None = None


class MemberUnbanned(msgspec.Struct, frozen=True, tag_field="event", tag="group.unbanned"):
    group: int
    user: User
    by: User | None = None


class MemberMuted(msgspec.Struct, frozen=True, tag_field="event", tag="group.muted"):
    """until_ms: None = until somebody ends it."""

    group: int
    user: User
    until_ms: int | None = None
    by: User | None = None


class MemberUnmuted(msgspec.Struct, frozen=True, tag_field="event", tag="group.unmuted"):
    group: int
    user: User
    by: User | None = None


class GroupDissolved(msgspec.Struct, frozen=True, tag_field="event", tag="group.dissolved"):
    group: int
    by: User | None = None


class MessageChanged(msgspec.Struct, frozen=True, tag_field="event", tag="message.changed"):
    """state: edited, recalled or removed. text: of an edited one. change: its number in the conversation."""

    place: str = field(name="with")
    seq: int
    state: str
    text: str = ""
    by: User | None = None
    change: int = 0


class MessageCut(msgspec.Struct, frozen=True, tag_field="event", tag="message.cut"):
    """The user's client was given only the beginning of the message."""

    place: str = field(name="with")
    seq: int
    user: User


class SomebodyTypes(msgspec.Struct, frozen=True, tag_field="event", tag="typing"):
    place: str = field(name="with")
    by: User


class ReadElsewhere(msgspec.Struct, frozen=True, tag_field="event", tag="read"):
    """The user `by` has read the conversation up to seq: the other side, or this user at another client."""

    place: str = field(name="with")
    by: User
    seq: int


class Delivered(msgspec.Struct, frozen=True, tag_field="event", tag="delivered"):
    """A client of the other user has received the conversation up to seq. Needs the feature `delivered`."""

    place: str = field(name="with")
    by: User
    seq: int


class HistoryDeleted(msgspec.Struct, frozen=True, tag_field="event", tag="history.deleted"):
    """This user has deleted messages from their own history at another client: up to up_to, and seqs."""

    place: str = field(name="with")
    up_to: int = 0
    seqs: tuple[int, ...] = ()


class Draining(msgspec.Struct, frozen=True, tag_field="event", tag="draining"):
    """The server is about to end this connection. The client comes back by itself, after retry_after_ms and before
    resume_before (milliseconds since the epoch)."""

    resume_before: int = 0
    retry_after_ms: int = 0


class OperatorSays(msgspec.Struct, frozen=True, tag_field="event", tag="broadcast"):
    """at: milliseconds since the epoch."""

    text: str
    at: int = 0


AnyNotice = (
    FriendAsks
    | FriendAccepted
    | FriendRefused
    | PresenceChanged
    | MemberJoined
    | MemberLeft
    | MemberKicked
    | GroupRenamed
    | RoleGiven
    | GroupEntered
    | GroupInvited
    | InvitationDeclined
    | JoinRequested
    | JoinRejected
    | RulesChanged
    | MemberBanned
    | MemberUnbanned
    | MemberMuted
    | MemberUnmuted
    | GroupDissolved
    | MessageChanged
    | MessageCut
    | SomebodyTypes
    | ReadElsewhere
    | Delivered
    | HistoryDeleted
    | Draining
    | OperatorSays
)


class StateChanged(msgspec.Struct, frozen=True):
    """The client has entered this state. why: what a person is told of it, "" = nothing."""

    state: State
    why: str = ""


class EventsLost(msgspec.Struct, frozen=True):
    """So many events were dropped, because the program did not read them. Lists that it keeps by them are to be asked
    for again."""

    count: int


class JournalLost(msgspec.Struct, frozen=True):
    """The journal cannot be written any more. The client goes on, and remembers only until it ends."""

    text: str


class SendRefused(msgspec.Struct, frozen=True, kw_only=True):
    """The server has refused a message for whose acknowledgement nobody waits: of an earlier run, for example."""

    message: PendingMessage
    code: int
    text: str


AnyEvent = AnyNotice | StateChanged | EventsLost | JournalLost | SendRefused

_decode: Callable[[bytes], AnyNotice] = msgspec.json.Decoder(AnyNotice).decode


def decode(notice: bytes) -> AnyNotice | None:
    """notice: JSON with an "event". None: not known to this client, or not in the form that it knows."""
    try:
        return _decode(notice)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
