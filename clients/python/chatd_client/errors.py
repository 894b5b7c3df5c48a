"""Every error of the library, and the codes by which servers refuse.

Owns: the exception classes, which of them a code is raised as, and which refusals are temporary.
Elsewhere: chatd's own table of codes (docs/protocols/errors.md); a test compares the two.
Fails: never.

ChatError is the base of all. Its subclasses:

* Unreachable: there is no connection, or none that counts (Untrusted: the certificate does not prove the server).
* SessionEnded: this login is over and does not come back by itself: LoginRefused, Kicked, ClientClosed.
* Refused: the server did not do what was asked; subclasses by the kind of reason. Nothing has changed.
* NotAcknowledged, NoAnswer: no answer in time. Whether it was done is not known; doing it again is safe, see there.
* Overloaded: a queue of this client is full. Nothing was sent.
"""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Why a server refuses. Numbers of plug-ins and of later servers stay plain integers."""

    UNKNOWN = 2
    INVALID_PACKET = 4
    NOT_LOGGED_IN = 301
    BAD_CREDENTIALS = 1025
    ALREADY_LOGGED_IN = 1026
    NAME_TAKEN = 1027
    NAME_NOT_ALLOWED = 1028
    PASSWORD_NOT_ALLOWED = 1029
    REGISTRATION_CLOSED = 1030
    CLAIMED_IDENTITY = 1031
    UNKNOWN_RECIPIENT = 1032
    NOT_A_MEMBER = 1033
    UNKNOWN_GROUP = 1034
    TOO_LONG = 1035
    BAD_FIELD = 1036
    UNKNOWN_REQUEST = 1037
    TOO_FAST = 1038
    NOT_ALLOWED = 1039
    UNAVAILABLE = 1040
    BUSY = 1041
    LIMIT_REACHED = 1042
    INTERNAL = 1043
    FP_REUSED = 1044
    TOO_MANY_ATTEMPTS = 1045
    ACCOUNT_LOCKED = 1046
    INVITE_NEEDED = 1047
    TLS_NEEDED = 1048
    NOT_ACCEPTED = 1049
    BLOCKED_BY_YOU = 1050
    MUTED = 1051
    ANNOUNCEMENTS_ONLY = 1052
    MAILBOX_FULL = 1053
    BANNED = 1054
    INVITATION_NEEDED = 1055
    APPROVAL_PENDING = 1056
    UNKNOWN_MESSAGE = 1057
    TOO_LATE = 1058
    TOKEN_EXPIRED = 1066
    UNKNOWN_FILE = 1068
    FILE_TYPE_NOT_ALLOWED = 1069
    FILE_TOO_LARGE = 1070
    QUOTA_REACHED = 1071
    OFFSET_MISMATCH = 1072
    FILE_DAMAGED = 1073


TEMPORARY = frozenset(
    {Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY, Code.INTERNAL, Code.TOO_MANY_ATTEMPTS, Code.MAILBOX_FULL}
)
"""The same may succeed later."""


def is_temporary(code: int) -> bool:
    """Whether the same may succeed later; a code that this version does not know is final."""
    return code in TEMPORARY


def login_refusal(code: int) -> str:
    """A login answer has no text: what a person is told."""
    if code == Code.BAD_CREDENTIALS:
        return "unknown user, wrong password, or a token that is not valid"
    known = code in Code._value2member_map_
    return Code(code).name.replace("_", " ").lower() if known else f"refused with {code}"


class ChatError(Exception):
    """Base of every error of this library. str() is one line for a person.

    code: a Code, another number of the server's, or 0 where no server has spoken. temporary: doing the same again may
    succeed. retry_after: seconds to wait before that, None = not known.
    """

    temporary = False

    def __init__(self, text: str, *, code: int = 0, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.retry_after = retry_after


# ---------------------------------------------------------------- connections and logins


class Unreachable(ChatError):
    """There is no connection to the server. The client goes on trying, unless it was still entering its context."""

    temporary = True


class Broken(Unreachable):
    """The connection broke before the answer; whether the request was served is not known."""


class Untrusted(OSError):
    """The server's certificate does not prove that it is the server asked for; nothing was sent to it. str() says what
    to do."""


class UntrustedServer(Unreachable):
    """As Untrusted, told to whoever enters the client. Trying again does not help."""

    temporary = False


class SessionEnded(ChatError):
    """The login is over, and the client does not come back by itself. Messages that were not taken stay with the
    server, and messages that were not acknowledged in the journal, if there is one."""


class LoginRefused(SessionEnded):
    """The server does not let this user in: `code` says why."""


class EndReason(enum.Enum):
    """Why a server ends a session."""

    DUPLICATE = 1
    """The user has logged in elsewhere. Coming back by itself, this client would end that session in turn."""
    ADMIN = 2
    """An administrator has ended it, or the password was changed at another client."""
    EXPIRED = 3
    """The token of the login has expired. With a coroutine function as `token`, the client comes back with another."""


class Kicked(SessionEnded):
    """The server has ended the session. why: an EndReason; text: the server's reason."""

    def __init__(self, why: EndReason, text: str) -> None:
        super().__init__(text)
        self.why = why


class ClientClosed(SessionEnded):
    """The client was closed, or is not open yet."""


class NotLoggedIn(ChatError):
    """A user must be logged in for this (chatd_client.chatserver; a Client of the other wire always is)."""

    def __init__(self) -> None:
        super().__init__("not logged in")


# ---------------------------------------------------------------- requests and messages


class Refused(ChatError):
    """The server has refused; nothing was changed or stored. fp: of the message or request, "" where unknown."""

    def __init__(self, text: str, *, code: int = 0, retry_after: float | None = None, fp: str = "") -> None:
        super().__init__(text, code=code, retry_after=retry_after)
        self.fp = fp
        self.temporary = is_temporary(code)


class NotFound(Refused):
    """No such user, group or message."""


class NotPermitted(Refused):
    """The user may not do this: not a member, blocked, muted, banned, not the owner …"""


class Invalid(Refused):
    """The request cannot be served as it is: too long, a wrong field, a name that is taken or not allowed."""


class LimitReached(Refused):
    """A limit of the server, or a full mailbox."""


class TryLater(Refused):
    """Too fast, busy, or unavailable at the moment."""


class NotOffered(Refused):
    """This server does not have the operation, or no requests at all."""

    def __init__(self) -> None:
        super().__init__("this server does not offer this", code=Code.UNKNOWN_REQUEST)


_CLASSES: dict[int, type[Refused]] = {
    **dict.fromkeys((Code.UNKNOWN_RECIPIENT, Code.UNKNOWN_GROUP, Code.UNKNOWN_MESSAGE, Code.UNKNOWN_FILE), NotFound),
    **dict.fromkeys(
        (
            *(Code.CLAIMED_IDENTITY, Code.NOT_A_MEMBER, Code.NOT_ALLOWED, Code.NOT_ACCEPTED, Code.BLOCKED_BY_YOU),
            *(Code.MUTED, Code.ANNOUNCEMENTS_ONLY, Code.BANNED, Code.INVITATION_NEEDED, Code.APPROVAL_PENDING),
            *(Code.TOO_LATE, Code.BAD_CREDENTIALS, Code.ACCOUNT_LOCKED, Code.TLS_NEEDED, Code.REGISTRATION_CLOSED),
            *(Code.INVITE_NEEDED, Code.TOKEN_EXPIRED, Code.FILE_TYPE_NOT_ALLOWED),
        ),
        NotPermitted,
    ),
    **dict.fromkeys(
        (
            *(Code.INVALID_PACKET, Code.NAME_TAKEN, Code.NAME_NOT_ALLOWED, Code.PASSWORD_NOT_ALLOWED),
            *(Code.TOO_LONG, Code.BAD_FIELD, Code.FP_REUSED, Code.OFFSET_MISMATCH, Code.FILE_DAMAGED),
        ),
        Invalid,
    ),
    **dict.fromkeys((Code.LIMIT_REACHED, Code.MAILBOX_FULL, Code.FILE_TOO_LARGE, Code.QUOTA_REACHED), LimitReached),
    **dict.fromkeys((Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY, Code.INTERNAL, Code.TOO_MANY_ATTEMPTS), TryLater),
}


def refusal(code: int, text: str, *, fp: str = "", retry_after: float | None = None) -> Refused:
    """The exception for a refusal of the server."""
    if code == Code.UNKNOWN_REQUEST:
        return NotOffered()
    return _CLASSES.get(code, Refused)(text or "refused", code=code, retry_after=retry_after, fp=fp)


class NotAcknowledged(ChatError, TimeoutError):
    """The message was not acknowledged in time. It stays in the outbox and is still sent. To wait for it again, send
    the same text to the same recipient with fp=error.fp: it is stored once."""

    temporary = True

    def __init__(self, text: str, fp: str) -> None:
        super().__init__(text)
        self.fp = fp


class NoAnswer(ChatError, TimeoutError):
    """The server did not answer a request in time: whether it was carried out is not known."""

    temporary = True


class Overloaded(ChatError):
    """Too many messages wait for their acknowledgement, or requests for their answer. Nothing was sent."""

    temporary = True


class JournalUnusable(ChatError):
    """The journal file cannot be used: another client has it, it belongs to another user, or it cannot be written."""


class BadFrame(ValueError):
    """The server sent something that is not of this wire."""
