"""Results of requests, as far as the client uses them.

Owns: one struct per form of result. Fields that a server leaves out have defaults, further ones are ignored.
Elsewhere: asking (requests), notices (notices).
Fails: never.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from chatd_client.model import Attachment, Mentions, User


class Nothing(msgspec.Struct, frozen=True):
    """Whatever the result holds, it is not needed."""


class Seen(msgspec.Struct, frozen=True):
    """A user and their presence. last_seen: ms since the epoch, 0 or None = not known."""

    id: int
    name: str
    online: bool = False
    last_seen: int | None = None
    role: str = "member"
    muted: bool = False
    until_ms: int | None = None


class Users(msgspec.Struct, frozen=True):
    users: tuple[Seen, ...] = ()
    more: bool = False


class Friends(msgspec.Struct, frozen=True):
    friends: tuple[Seen, ...] = ()
    requests: tuple[User, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """friends: the other side had asked already."""

    user: User
    friends: bool = False


class OneUser(msgspec.Struct, frozen=True):
    """joined: of somebody who was invited or added: is a member now."""

    user: User
    joined: bool = False


class GroupAbout(msgspec.Struct, frozen=True):
    id: int
    name: str
    description: str = ""


class OneGroup(msgspec.Struct, frozen=True):
    group: GroupAbout
    joined: bool = True


class Groups(msgspec.Struct, frozen=True):
    groups: tuple[GroupAbout, ...] = ()


class Members(msgspec.Struct, frozen=True):
    members: tuple[Seen, ...] = ()
    more: bool = False


class GroupRules(msgspec.Struct, frozen=True):
    """Of group.get and group.set. The rest of what a server tells of a group is in GroupDetails."""

    join: str = ""
    history: str = ""
    announcements: bool = False


class GroupDetails(msgspec.Struct, frozen=True):
    group: GroupAbout
    join: str = ""
    history: str = ""
    announcements: bool = False
    members: int = 0
    role: str = ""
    muted: bool = False
    until_ms: int | None = None
    requests: int | None = None
    invitations: int | None = None
    bans: int | None = None


class Left(msgspec.Struct, frozen=True):
    owner: int | None = None
    ended: bool = False


class Invitation(msgspec.Struct, frozen=True):
    group: GroupAbout
    by: User | None = None
    at_ms: int = 0


class Invitations(msgspec.Struct, frozen=True):
    invitations: tuple[Invitation, ...] = ()
    more: bool = False


class Entry(msgspec.Struct, frozen=True):
    """Somebody who asks to join, or is banned."""

    user: User
    at_ms: int = 0
    by: User | None = None


class JoinRequests(msgspec.Struct, frozen=True):
    requests: tuple[Entry, ...] = ()
    more: bool = False


class Bans(msgspec.Struct, frozen=True):
    bans: tuple[Entry, ...] = ()
    more: bool = False


class PastMessage(msgspec.Struct, frozen=True):
    """state: sent, edited, recalled, removed, erased or expired; in the last four, the text is gone. sm: ms since the
    epoch. cut: only so many characters of the text fitted; 0 = all."""

    seq: int
    sender: str = field(name="from")
    text: str = ""
    sm: int = 0
    fp: str = ""
    state: str = "sent"
    reply: int = 0
    cut: int = 0
    typeu: int = -1
    mentions: Mentions = ()
    version: int = 0
    files: tuple[Attachment, ...] = ()


class PastChange(msgspec.Struct, frozen=True):
    """A message that was changed, as it is now. seq 0: one that the user cannot read."""

    place: str = field(name="with")
    change: int
    seq: int = 0
    sender: str = field(name="from", default="")
    text: str = ""
    state: str = "sent"


class ChangeMade(msgspec.Struct, frozen=True):
    """change: its number in the conversation; 0 from a server that does not tell."""

    change: int = 0


class History(msgspec.Struct, frozen=True):
    messages: tuple[PastMessage, ...] = ()
    more: bool = False


class Head(msgspec.Struct, frozen=True):
    """A conversation. unread: messages of others after `read`; there are more if unread_more. mentioned: the seqs of
    those that mention the user. user: the other one, 0 for a group. delivered: how far the other one's client has
    received it; None without the feature `delivered`, and where this user may not know. other_read: how far the other
    one has read it; None without the feature. changes: the number of the last
    change; None from a server that does not number them."""

    place: str = field(name="with")
    id: int = 0
    last: int = 0
    read: int = 0
    unread: int = 0
    unread_more: bool = False
    mentioned: tuple[int, ...] = ()
    user: int = 0
    delivered: int | None = None
    other_read: int | None = None
    changes: int | None = None


class Sync(msgspec.Struct, frozen=True):
    conversations: tuple[Head, ...] = ()
    changes: tuple[PastChange, ...] = ()
    more: bool = False


class ReadMark(msgspec.Struct, frozen=True):
    seq: int = 0


class Profile(msgspec.Struct, frozen=True):
    user: User | None = None
    profile: dict[str, str] = {}


class FileLimits(msgspec.Struct, frozen=True):
    """max_bytes: of one file, 0 = this server takes none. types: media types, also image/* and */*. quota_bytes: of all
    files of the user, used_bytes of which are taken; 0 = no limit."""

    max_bytes: int = 0
    types: tuple[str, ...] = ()
    quota_bytes: int = 0
    used_bytes: int = 0
    per_message: int = 0


class Upload(msgspec.Struct, frozen=True):
    """offset: bytes that the server has."""

    file: str
    url: str
    base: str = ""
    offset: int = 0


class FileLink(msgspec.Struct, frozen=True):
    file: str
    url: str


class FileLinks(msgspec.Struct, frozen=True):
    """url of a link: below `base`, or where the server's files are. expires: seconds since the epoch."""

    links: tuple[FileLink, ...] = ()
    base: str = ""
    expires: int = 0


class Whoami(msgspec.Struct, frozen=True):
    """wire: that the session is on. since: ms since the epoch."""

    id: int
    name: str
    wire: str
    since: int


class PushKey(msgspec.Struct, frozen=True):
    """key: of the server, for Web Push; "" = it has none. gateways: names of others. content: what a notification says,
    "none", "sender" or "text"."""

    key: str = ""
    gateways: tuple[str, ...] = ()
    content: str = "none"


class Found(msgspec.Struct, frozen=True):
    found: bool


class OwnSession(msgspec.Struct, frozen=True):
    """since: ms since the epoch. this: the one that asks."""

    wire: str
    since: int
    peer: str
    this: bool = False


class OwnSessions(msgspec.Struct, frozen=True):
    sessions: tuple[OwnSession, ...] = ()
    complete: bool = True


class Choices(msgspec.Struct, frozen=True):
    """Whom the user admits: an audience, or "default"."""

    write: str = "default"
    ask: str = "default"
    see: str = "default"
    add: str = "default"


class Privacy(msgspec.Struct, frozen=True):
    """defaults: what "default" stands for."""

    privacy: Choices
    defaults: Choices = Choices()
