"""Every error that chatd can report to a peer or an operator.

Owns: the codes a client sees, whether a failure is temporary, why a connection is ended and whether the
client should come back, and the exception classes, each caught in one place (docs/architecture.md).
Elsewhere: how a code looks on a wire (wire.*), which failure has which exit code (master).
Fails: never.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Exit(enum.IntEnum):
    """Process exit codes, from sysexits(3)."""

    OK = 0
    USAGE = 64
    UNAVAILABLE = 69
    BUG = 70
    OS = 71
    CANNOT_CREATE = 73
    TRY_AGAIN = 75
    PERMISSION = 77
    CONFIG = 78


class ErrorCode(enum.IntEnum):
    """The codes sent to clients. Below 1025: numbers that MobileIMSDK clients know; from 1025: chatd's own."""

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
    UNKNOWN_KEY = 1059
    SCOPE_MISSING = 1060
    UNKNOWN_ROUTE = 1061
    METHOD_NOT_ALLOWED = 1062
    UNKNOWN_CONTENT_TYPE = 1063
    NOT_JSON = 1064
    TOO_SLOW = 1065
    TOKEN_EXPIRED = 1066
    UNKNOWN_WEBHOOK = 1067
    UNKNOWN_FILE = 1068
    FILE_TYPE_NOT_ALLOWED = 1069
    FILE_TOO_LARGE = 1070
    QUOTA_REACHED = 1071
    OFFSET_MISMATCH = 1072
    FILE_DAMAGED = 1073
    CODE_NEEDED = 1074
    WRONG_CODE = 1075


class Meaning(NamedTuple):
    """text: shown to people. temporary: the same request may succeed later."""

    text: str
    temporary: bool


MEANINGS: dict[ErrorCode, Meaning] = {
    ErrorCode.UNKNOWN: Meaning("unknown error", False),
    ErrorCode.INVALID_PACKET: Meaning("invalid packet", False),
    ErrorCode.NOT_LOGGED_IN: Meaning("not logged in", False),
    ErrorCode.BAD_CREDENTIALS: Meaning("unknown user or wrong password", False),
    ErrorCode.ALREADY_LOGGED_IN: Meaning("this account is already logged in", False),
    ErrorCode.NAME_TAKEN: Meaning("this name is taken", False),
    ErrorCode.NAME_NOT_ALLOWED: Meaning("this name is not allowed", False),
    ErrorCode.PASSWORD_NOT_ALLOWED: Meaning("this password is not allowed", False),
    ErrorCode.REGISTRATION_CLOSED: Meaning("registration is closed on this server", False),
    ErrorCode.CLAIMED_IDENTITY: Meaning("the sender is not the user logged in", False),
    ErrorCode.UNKNOWN_RECIPIENT: Meaning("no such user", False),
    ErrorCode.NOT_A_MEMBER: Meaning("you are not a member of this group", False),
    ErrorCode.UNKNOWN_GROUP: Meaning("no such group", False),
    ErrorCode.TOO_LONG: Meaning("too long", False),
    ErrorCode.BAD_FIELD: Meaning("a field is missing or has the wrong type", False),
    ErrorCode.UNKNOWN_REQUEST: Meaning("unknown request", False),
    ErrorCode.TOO_FAST: Meaning("too many requests", True),
    ErrorCode.NOT_ALLOWED: Meaning("not allowed", False),
    ErrorCode.UNAVAILABLE: Meaning("the server cannot store this now, try again", True),
    ErrorCode.BUSY: Meaning("the server is busy, try again", True),
    ErrorCode.LIMIT_REACHED: Meaning("a limit of this server is reached", False),
    ErrorCode.INTERNAL: Meaning("internal error", True),
    ErrorCode.FP_REUSED: Meaning("this fp was already used for something else: send it again with a new fp", False),
    ErrorCode.TOO_MANY_ATTEMPTS: Meaning("too many attempts, try again later", True),
    ErrorCode.ACCOUNT_LOCKED: Meaning("this account is locked", False),
    ErrorCode.INVITE_NEEDED: Meaning("an invite code is needed to register, and this one is not valid", False),
    ErrorCode.TLS_NEEDED: Meaning("this needs a connection with TLS", False),
    ErrorCode.NOT_ACCEPTED: Meaning("this user does not accept this from you", False),
    ErrorCode.BLOCKED_BY_YOU: Meaning("you have blocked this user", False),
    ErrorCode.MUTED: Meaning("you may not write in this group at the moment", False),
    ErrorCode.ANNOUNCEMENTS_ONLY: Meaning("only the owner and the admins write in this group", False),
    ErrorCode.MAILBOX_FULL: Meaning("too many messages wait for this user, try again later", True),
    ErrorCode.BANNED: Meaning("you cannot join this group again unless you are invited", False),
    ErrorCode.INVITATION_NEEDED: Meaning("this group is joined by invitation", False),
    ErrorCode.APPROVAL_PENDING: Meaning("you have asked to join: the owner or an admin of the group decides", False),
    ErrorCode.UNKNOWN_MESSAGE: Meaning("no such message", False),
    ErrorCode.TOO_LATE: Meaning("it is too late to change this message", False),
    ErrorCode.UNKNOWN_KEY: Meaning("no valid key was given", False),
    ErrorCode.SCOPE_MISSING: Meaning("the key does not have the scope that this needs", False),
    ErrorCode.UNKNOWN_ROUTE: Meaning("there is nothing at this path", False),
    ErrorCode.METHOD_NOT_ALLOWED: Meaning("this path does not have this method", False),
    ErrorCode.UNKNOWN_CONTENT_TYPE: Meaning("the body must be application/json", False),
    ErrorCode.NOT_JSON: Meaning("the body is not JSON", False),
    ErrorCode.TOO_SLOW: Meaning("the request did not arrive in time", True),
    ErrorCode.UNKNOWN_WEBHOOK: Meaning("no such webhook", False),
    ErrorCode.UNKNOWN_FILE: Meaning("no such file, or it cannot be used for this", False),
    ErrorCode.FILE_TYPE_NOT_ALLOWED: Meaning("files of this type are not accepted here", False),
    ErrorCode.FILE_TOO_LARGE: Meaning("this file is too large", False),
    ErrorCode.QUOTA_REACHED: Meaning("your files would take more space than you have", False),
    ErrorCode.OFFSET_MISMATCH: Meaning("the file does not continue at this offset", False),
    ErrorCode.FILE_DAMAGED: Meaning("the content is not the one that was announced", False),
    ErrorCode.CODE_NEEDED: Meaning("this needs a code of the second factor that was not used before", False),
    ErrorCode.WRONG_CODE: Meaning("this code is wrong, or was used before", False),
    ErrorCode.TOKEN_EXPIRED: Meaning("this login token has expired: log in with a fresh one", False),
}


def meaning(code: int) -> Meaning:
    """Also for a code that is a plug-in's own."""
    return MEANINGS.get(code, _OF_A_PLUGIN)  # type: ignore[call-overload,no-any-return]


_OF_A_PLUGIN = Meaning("refused by this server", False)


class Disconnect(enum.Enum):
    """Why the server ends a connection: (text, should the client come back by itself?)."""

    PEER_LEFT = ("the peer closed the connection", True)
    LOGGED_OUT = ("logged out", False)
    SERVED = ("all requests were answered", True)
    LOGIN_REFUSED = ("login refused", False)
    LOGIN_TIMEOUT = ("no login in time", False)
    SILENT = ("silent for too long", True)
    SLOW_CONSUMER = ("does not read what it is sent", True)
    WIRE_ERROR = ("protocol error", False)
    TLS_FAILED = ("the TLS handshake failed", False)
    NOT_LOGGED_IN = ("not logged in", True)
    KICKED_DUPLICATE = ("logged in elsewhere", False)
    KICKED_BY_ADMIN = ("ended by an administrator", False)
    CREDENTIALS_CHANGED = ("the password was changed, or the account was locked", False)
    TOKEN_EXPIRED = ("the login token has expired", False)
    TOO_MANY_ATTEMPTS = ("too many attempts", False)
    ADDRESS_BANNED = ("this address is banned", False)
    REPLACED = ("replaced by a reconnect", False)
    BUSY = ("the server is full", True)
    DRAINING = ("the server is going away", True)
    INTERNAL = ("internal error", True)

    @property
    def text(self) -> str:
        return str(self.value[0])

    @property
    def come_back(self) -> bool:
        return bool(self.value[1])


class ChatdError(Exception):
    """Base of every error chatd raises on purpose."""


class ConfigError(ChatdError):
    """The configuration cannot be used. problems: one line `file: key: what` for each mistake. Caught by __main__,
    chatctl and master.reload; exit 78."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MalformedMessage(ChatdError):
    """Bytes between two processes of chatd that are none of their messages. Caught where the socket is read, which logs
    it."""


class BootError(ChatdError):
    """A process cannot start. Caught by __main__; `exit` is its exit code."""

    def __init__(self, text: str, exit_code: Exit) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class WireError(ChatdError):
    """Bytes that cannot be trusted any further: told to the peer, then the connection is closed."""

    def __init__(self, code: ErrorCode, text: str = "", ref: int = 0) -> None:
        super().__init__(text or MEANINGS[code].text)
        self.code = code
        self.text = text or MEANINGS[code].text
        self.ref = ref


class Refused(ChatdError):
    """A command is refused; nothing changed. Caught in core.dispatcher, which answers with the code: an ErrorCode, or a
    plug-in's own. retry_after_s: when the same command may succeed; 0 = that is not known, or it will not."""

    def __init__(self, code: int, text: str = "", retry_after_s: int = 0) -> None:
        super().__init__(text or meaning(code).text)
        self.code = code
        self.retry_after_s = retry_after_s
        self.text = text or meaning(code).text


class Unavailable(ChatdError):
    """Store or bus cannot be used now. Nothing was acknowledged; the same request is safe to repeat."""
