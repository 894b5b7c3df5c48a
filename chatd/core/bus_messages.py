"""What workers tell each other over the bus.

Owns: the signals and their bytes (MessagePack arrays, tagged). Who acts on them: core.dispatcher.Core.signal.
Fails: msgspec.DecodeError for bytes of a version that is not understood; the caller logs and drops.

Hosts of neighbouring versions talk to each other: a signal may grow at its end, by fields with a default, and a new
kind gets a new tag; nothing is ever moved, removed or given another meaning (bus.redis.envelope).
"""

from __future__ import annotations

import msgspec

from chatd.model import FriendRequest, GroupId, Message, User, UserId


class Arrived(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A stored message for sessions elsewhere."""

    message: Message


class Challenge(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Somebody logs in as a user whose mark another worker holds, or did so age_ms ago while nobody could be asked;
    that worker answers with a Verdict. fresh, or first_login_time 0: the login named none."""

    user_id: UserId
    protocol: int
    first_login_time: int
    ref: int
    age_ms: int = 0
    fresh: bool = False


class Verdict(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """yielded: the old session is ended and its mark will be free at once. Else the new one must go. silent: nobody
    need be told, the one that goes was replaced by its own reconnect. first_login_time: the old one's."""

    ref: int
    yielded: bool
    first_login_time: int = 0
    silent: bool = False


class GroupJoined(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """Sessions of the user elsewhere are members from now on."""

    user_id: UserId
    group_id: GroupId


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """A friend request for `request.to`."""

    request: FriendRequest


class Answered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    by: User
    to: UserId
    accepted: bool


class GroupLeft(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """Sessions of the user elsewhere are no members any more. kicked: by somebody else."""

    user_id: UserId
    group_id: GroupId
    kicked: bool


class GroupNews(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """A notice for the sessions of a group's members elsewhere."""

    group_id: GroupId
    text: str


class UserNews(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    """A notice for a user's sessions elsewhere."""

    user_id: UserId
    text: str


class PresenceChanged(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=10):
    """The user's first session on a worker began, or the last one ended; look again. doubtful: who watches the user
    may not any more."""

    user_id: UserId
    doubtful: bool = False


class EndSession(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """The user has ended their own session on this wire; 0 = every wire."""

    user_id: UserId
    protocol: int


class Present(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One session, as another worker tells of it."""

    protocol: int
    since_ms: int
    remote: str


class RollCall(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """Whoever has sessions of the user answers for each, with the same ref."""

    user_id: UserId
    ref: int


class RollAnswer(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=13):
    ref: int
    present: Present


class Expel(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=14):
    """An operator ends the user's sessions that had begun age_ms ago; every worker answers on topic_of_answer(ref)."""

    user_id: UserId
    reason: str
    ref: int
    age_ms: int = 0


class Expelled(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=15):
    """sessions: ended on this worker. who: its name on the bus."""

    ref: int
    sessions: int
    who: str = ""


Signal = (
    Arrived
    | Challenge
    | Verdict
    | GroupJoined
    | Asked
    | Answered
    | GroupLeft
    | GroupNews
    | UserNews
    | PresenceChanged
    | EndSession
    | RollCall
    | RollAnswer
    | Expel
    | Expelled
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Signal).decode
