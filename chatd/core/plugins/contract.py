"""What a plug-in is: the points at which it is asked or told, what it is given there, and what it may answer.

Owns: this contract, and the check of answers. docs/hooks.md explains it to authors, who import these names from
chatd.hooks.
Elsewhere: what a plug-in is given about a user's actions (core.plugins.actions), one call and its limits
(core.plugins.plugin), the order of several plug-ins (core.plugins.pipeline), events told afterwards
(core.plugins.notifier), which plug-ins are loaded (worker).
Fails: ValueError for an invalid answer; core.plugins.plugin counts it as a failure of the plug-in.

A plug-in is what its entry point returns when it is called with the table of options: any object with one or more
methods named like the points, plain or async. A plain method runs in a small pool of threads, an async one in an event
loop in a separate thread. The worker's own loop never waits for a plug-in.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chatd.errors import ErrorCode
from chatd.model import GroupId, Message, User, UserId


class Point(enum.StrEnum):
    """before_…: the plug-in decides, and the client waits for the answer. push: it delivers a notification, and says
    what became of it. The others: it is told, nobody waits, and its answer is ignored."""

    BEFORE_LOGIN = "before_login"
    LOGIN_FAILED = "login_failed"
    AFTER_LOGIN = "after_login"
    AFTER_LOGOUT = "after_logout"
    BEFORE_REGISTER = "before_register"
    BEFORE_MESSAGE = "before_message"
    AFTER_STORED = "after_stored"
    RECIPIENT_OFFLINE = "recipient_offline"
    PUSH = "push"
    BEFORE_REQUEST = "before_request"
    BEFORE_ACTION = "before_action"
    BEFORE_FRIEND_REQUEST = "before_friend_request"
    BEFORE_FRIEND_ANSWER = "before_friend_answer"
    BEFORE_FRIEND_REMOVE = "before_friend_remove"
    BEFORE_GROUP_CREATE = "before_group_create"
    BEFORE_GROUP_JOIN = "before_group_join"
    BEFORE_GROUP_LEAVE = "before_group_leave"
    BEFORE_GROUP_KICK = "before_group_kick"
    BEFORE_GROUP_RENAME = "before_group_rename"
    BEFORE_GROUP_ROLE = "before_group_role"
    BEFORE_GROUP_RULES = "before_group_rules"
    BEFORE_GROUP_DISSOLVE = "before_group_dissolve"
    BEFORE_GROUP_INVITE = "before_group_invite"
    BEFORE_GROUP_DECLINE = "before_group_decline"
    BEFORE_GROUP_ANSWER = "before_group_answer"
    BEFORE_GROUP_ADD = "before_group_add"
    BEFORE_GROUP_BAN = "before_group_ban"
    BEFORE_GROUP_MUTE = "before_group_mute"
    BEFORE_MESSAGE_EDIT = "before_message_edit"
    BEFORE_MESSAGE_RECALL = "before_message_recall"
    BEFORE_MESSAGE_REMOVE = "before_message_remove"
    BEFORE_HISTORY = "before_history"
    BEFORE_READ_MARK = "before_read_mark"
    BEFORE_PROFILE_CHANGE = "before_profile_change"
    BEFORE_PROFILE_VIEW = "before_profile_view"
    BEFORE_PASSWORD_CHANGE = "before_password_change"
    BEFORE_PRESENCE = "before_presence"
    BEFORE_SESSION_END = "before_session_end"
    BEFORE_BLOCK = "before_block"
    BEFORE_UNBLOCK = "before_unblock"
    BEFORE_PRIVACY_CHANGE = "before_privacy_change"

    @property
    def decides(self) -> bool:
        """Whether a plug-in can refuse something here."""
        return self.startswith("before_")


NOT_ACTIONS = frozenset((Point.BEFORE_LOGIN, Point.BEFORE_REGISTER, Point.BEFORE_MESSAGE, Point.BEFORE_REQUEST))
"""Deciding points that before_action does not stand in for."""
ACTIONS = frozenset(point for point in Point if point.decides) - NOT_ACTIONS - {Point.BEFORE_ACTION}
"""What a logged-in user may do, besides sending a message. A plug-in with before_action is asked there about every
action for which it has no method of its own."""


class NotAsked(str):
    """In a table of commands or operations, in place of a point: why plug-ins are not asked about this one."""


Asks = Point | NotAsked

Factory = Callable[[Mapping[str, Any]], object]
"""What an entry point is: a class or a function, called once per worker with the options."""

# ---------------------------------------------------------------- what a plug-in is given


class LoginAttempt(msgspec.Struct, frozen=True):
    """before_login: nobody is authenticated yet. The login is by name, or by user_id if name is "" (chatserver).

    secret: the password or token as the client sent it. wire: "chatserver" or "mobileimsdk". remote: the client's
    address. user: the account that the login names, in whatever way (by its name in any spelling, or by its number);
    None = there is no such account. With accounts.login = "open" an account is then created, and name is its name.
    """

    name: str
    user_id: UserId
    secret: str
    wire: str
    remote: str
    user: User | None = None

    def __repr__(self) -> str:
        """Without the secret, because this may be logged."""
        named = f"{self.name!r}, {self.user_id}, wire={self.wire!r}, remote={self.remote!r}, user={self.user!r}"
        return f"LoginAttempt({named})"


class FailedLogin(msgspec.Struct, frozen=True, kw_only=True):
    """login_failed: no session has begun, or a repeated login was refused. user: as in LoginAttempt. code: what the
    client is told, one of docs/protocols/errors.md or a plug-in's own. reason: a fixed word, as in the security trail:
    wrong_password, unknown_user, plug_in, …"""

    name: str
    user_id: UserId
    user: User | None
    wire: str
    remote: str
    code: int
    reason: str


class LoggedIn(msgspec.Struct, frozen=True):
    """after_login: the session has begun."""

    user: User
    wire: str
    remote: str


class LoggedOut(msgspec.Struct, frozen=True):
    """after_logout: the session has ended, for any reason."""

    user: User
    wire: str
    remote: str


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """before_register: somebody, who need not be logged in, wants a new account; or, with accounts.login = "open", the
    first login with this name would create it. name: as it would be stored. There is no password here: a plug-in has no
    use for it, and what it does not have it cannot leak."""

    name: str
    wire: str
    remote: str


class OutgoingMessage(msgspec.Struct, frozen=True):
    """before_message: somebody writes to a user or a group. Exactly one of to_name, to_id, to_group is not "" or 0.

    The message is not stored yet. fp: the sender's own id of the message, or "". remote: the sender's address. to: the
    user who is written to, whether by name or by number; None = a group is, or there is no such user.
    """

    sender: User
    to_name: str
    to_id: UserId
    to_group: GroupId
    body: str
    typeu: int
    fp: str
    wire: str
    remote: str = ""
    to: User | None = None


class Request(msgspec.Struct, frozen=True):
    """before_request: a text for the server (C2S). op: the operation of chatd that it names, "" if it names none. There
    are such texts on the mobileimsdk wire only; an operation has a point of its own, which holds on every wire.

    A client that missed the acknowledgement sends the text again with the same fp; the plug-in is then asked again.
    """

    sender: User
    body: str
    typeu: int
    fp: str
    op: str
    wire: str


class StoredMessage(msgspec.Struct, frozen=True):
    """after_stored: told once per message, on the worker that stored it."""

    message: Message


class MissedMessage(msgspec.Struct, frozen=True):
    """recipient_offline: these recipients of a stored message, at least one, have no session anywhere."""

    message: Message
    users: tuple[User, ...]


class PushNote(msgspec.Struct, frozen=True, kw_only=True):
    """push: a user who is away is to be notified through a gateway that is not Web Push. gateway, token: as the user's
    client gave them in push.subscribe; other gateways than its own, the plug-in leaves to others. message: the last one
    that waits. count: messages since the last notification. It may be called twice for the same message, after a
    crash."""

    user: User
    gateway: str
    token: str
    message: Message
    count: int


# ---------------------------------------------------------------- what a plug-in may answer


class Veto(msgspec.Struct, frozen=True):
    """Refuse it. code: one of chatd's own from 1025 (docs/protocols/errors.md), or 2000..9999, the plug-in's own."""

    text: str = ""
    code: int = ErrorCode.NOT_ALLOWED


class Rewrite(msgspec.Struct, frozen=True):
    """Replace the text, the typeu or both; None = leave as it is. The next plug-in sees the new ones."""

    body: str | None = None
    typeu: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """Only to before_request: this text is the answer. No other plug-in is asked, and chatd does not serve it."""

    text: str


class Taken(msgspec.Struct, frozen=True):
    """Only to push: the gateway has the notification."""


class Gone(msgspec.Struct, frozen=True):
    """Only to push: the token has ended, so the subscription is removed."""


Verdict = Veto | Rewrite | Reply | Taken | Gone | None
"""None: go on. To push: this is not a gateway of this plug-in."""

_CHATD_CODES = frozenset(int(code) for code in ErrorCode if code >= 1025)
_OWN_CODES = range(2000, 10000)
_TEXT_CHARS = 1000
_ALLOWED: dict[Point, tuple[type, ...]] = {
    **{point: (Veto,) for point in Point if point.decides},
    Point.BEFORE_MESSAGE: (Veto, Rewrite),
    Point.BEFORE_REQUEST: (Veto, Rewrite, Reply),
    Point.PUSH: (Taken, Gone),
}


def verdict_of(point: Point, answer: object, body_bytes: int) -> Verdict:
    """`answer`, made of plain values only. Raises ValueError, whose text contains nothing of the answer."""
    kind = type(answer)
    if answer is None or point not in _ALLOWED:
        return None
    if kind not in _ALLOWED[point]:
        raise ValueError(f"{kind.__name__} is not an answer to {point}")
    if isinstance(answer, Taken | Gone):
        return answer
    if isinstance(answer, Veto):
        code = _whole(answer.code)
        if code not in _CHATD_CODES and code not in _OWN_CODES:
            raise ValueError("a plug-in may not use this code")
        return Veto(_plain(answer.text)[:_TEXT_CHARS], code)
    if isinstance(answer, Reply):
        return Reply(_plain(answer.text))
    assert isinstance(answer, Rewrite)
    body = None if answer.body is None else _plain(answer.body)
    if body is not None and len(body.encode()) > body_bytes:
        raise ValueError("the new text is too long")
    typeu = None if answer.typeu is None else _whole(answer.typeu)
    if typeu is not None and abs(typeu) >= 2**31:
        raise ValueError("the new typeu is too large")
    return Rewrite(body, typeu)


def _plain(text: object) -> str:
    """A plain str: a subclass could later run its own code in the worker's loop."""
    if not isinstance(text, str):
        raise ValueError(f"a text is {type(text).__name__}")
    text = str.__str__(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text cannot be encoded") from None
    return text


def _whole(number: object) -> int:
    if not isinstance(number, int):
        raise ValueError(f"a number is {type(number).__name__}")
    return int.__index__(number)


_RESERVED = ("before_", "after_", "recipient_", "push_")
"""A name that begins so is a point, or misspelt."""


def functions_of(made: object) -> dict[Point, Callable[[Any], Any]]:
    """The points of a plug-in, with its functions. Raises ValueError if it has none, or one that does not exist."""
    found: dict[Point, Callable[[Any], Any]] = {}
    for name in dir(made):
        if name not in set(Point):
            if name.startswith(_RESERVED):
                raise ValueError(f"there is no point {name} (known: {', '.join(Point)})")
            continue
        function = getattr(made, name)
        if not callable(function):
            raise ValueError(f"{name} is not a function")
        found[Point(name)] = function
    if not found:
        raise ValueError(f"it has none of {', '.join(Point)}")
    for_all = found.pop(Point.BEFORE_ACTION, None)
    return found if for_all is None else {**dict.fromkeys(ACTIONS, for_all), **found}


def is_async(function: Callable[[Any], Any]) -> bool:
    """Whether a function, a method, or an object that can be called, is async."""
    if inspect.iscoroutinefunction(function):
        return True
    called = getattr(type(function), "__call__", None)  # noqa: B004  the method itself is wanted
    return inspect.iscoroutinefunction(called)
