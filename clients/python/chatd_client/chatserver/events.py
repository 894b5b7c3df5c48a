"""What the client tells its program: logins, lost connections, and what has no request on this wire.

Owns: one struct per event of this wire, and Listener, to which they are told.
Elsewhere: messages and frames (frames), notices of the server (chatd_client.events), when they are told (session).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from chatd_client.chatserver.frames import Chat, Friend, FriendReplyNotice, FriendRequestNotice, Group, GroupAck
from chatd_client.events import AnyNotice, SendRefused
from chatd_client.model import User


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Logged in, for the first time or again after a lost connection. What the server kept meanwhile comes next."""

    user: User
    again: bool
    """The client came back by itself."""
    friends: tuple[Friend, ...]
    groups: tuple[Group, ...]
    """With the members that fitted into the answer."""
    sent_again: int
    """Messages of an earlier run that are not yet acknowledged, and are sent now."""
    newest_seen: Mapping[int, int]
    """The highest number of the messages that were given before, by conversation: minus a group's number, or the
    number of the other user. Empty where the server has no requests."""


class ConnectionLost(msgspec.Struct, frozen=True, kw_only=True):
    """The connection of a login has ended; the client comes back by itself."""

    why: str
    doubtful: str = ""
    """The command that may not have arrived, as Session.tell was told what it is; "" = none."""
    retry_after_s: float | None = None
    """The server had announced it (draining), and is left alone for so long. None = it had not."""


class LoggedOut(msgspec.Struct, frozen=True):
    """The login is over, and the client does not come back by itself. elsewhere: another client has logged in as this
    user; otherwise the server did not let the client in again."""

    user: User
    why: str
    elsewhere: bool


class Disagreement(msgspec.Struct, frozen=True):
    """The server has refused something that nobody waits for. why: "" = it gave no reason."""

    why: str


Happening = (
    LoggedIn
    | ConnectionLost
    | LoggedOut
    | Disagreement
    | GroupAck
    | FriendRequestNotice
    | FriendReplyNotice
    | SendRefused
    | AnyNotice
)
"""GroupAck: the user has made or joined this group."""


class Listener(Protocol):
    """Is told of everything, at once and in order; must not block. An exception ends Client.keep()."""

    def message(self, chat: Chat) -> None:
        """Each message once. It counts as taken when this returns: it is then remembered, and acknowledged."""
        ...

    def happened(self, event: Happening) -> None: ...

    def changed(self) -> None:
        """The login or the connection has changed: Client.user, Client.online."""
        ...
