"""The security trail: who came in, who tried, and what was done about it.

Owns: the events with their stable names, and the fields that every record of the trail has. Programs (fail2ban, a log
collector) rely on the names and on `source`.
Elsewhere: writing records (log), deciding what is refused (core, net).
Fails: never, like the log.

A record of the trail is an ordinary log record with two more fields: `security`, the name of the event, and `source`,
the client's address without its port ("" = not caused by a client over a network). Passwords, tokens and invite codes
are never in it.
"""

from __future__ import annotations

import enum
from typing import Any, Literal, NamedTuple

from chatd import log


class SecurityEvent(enum.StrEnum):
    """Names of events. A name is never changed and never given another meaning."""

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGIN_REFUSED = "login_refused"
    REGISTERED = "registered"
    REGISTRATION_REFUSED = "registration_refused"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_CHANGE_FAILED = "password_change_failed"
    ACCOUNT_CREATED = "account_created"
    ACCOUNT_DELETED = "account_deleted"
    ACCOUNT_LOCKED = "account_locked"
    ACCOUNT_UNLOCKED = "account_unlocked"
    INVITE_ADDED = "invite_added"
    INVITE_REVOKED = "invite_revoked"
    SESSIONS_ENDED = "sessions_ended"
    KICKED = "kicked"
    PENALTY_BEGUN = "penalty_begun"
    PENALTY_ENDED = "penalty_ended"
    PENALTIES_CLEARED = "penalties_cleared"
    CONNECTION_REFUSED = "connection_refused"
    CLAIMED_IDENTITY = "claimed_identity"
    ORDER = "order"
    HOOK_SUSPENDED = "hook_suspended"
    BUS_FORGERY = "bus_forgery"


class Kind(NamedTuple):
    """text: the log record's own text. level: of the record. meaning: for the documentation."""

    text: str
    level: Literal["info", "warning", "error"]
    meaning: str


EVENTS: dict[SecurityEvent, Kind] = {
    SecurityEvent.LOGIN: Kind("logged in", "info", "a user logged in"),
    SecurityEvent.LOGIN_FAILED: Kind("login failed", "warning", "unknown user or wrong password"),
    SecurityEvent.LOGIN_REFUSED: Kind(
        "login refused", "warning", "refused without checking the password, or in spite of it; `reason` says why"
    ),
    SecurityEvent.REGISTERED: Kind("account registered", "info", "a client registered an account"),
    SecurityEvent.REGISTRATION_REFUSED: Kind("registration refused", "warning", "`reason` says why"),
    SecurityEvent.PASSWORD_CHANGED: Kind("password changed", "info", "by the user, or by an operator's order"),
    SecurityEvent.PASSWORD_CHANGE_FAILED: Kind("password change failed", "warning", "the old password was wrong"),
    SecurityEvent.ACCOUNT_CREATED: Kind("account created", "info", "by an operator"),
    SecurityEvent.ACCOUNT_DELETED: Kind("account deleted", "info", "by an operator"),
    SecurityEvent.ACCOUNT_LOCKED: Kind("account locked", "info", "by an operator"),
    SecurityEvent.ACCOUNT_UNLOCKED: Kind("account unlocked", "info", "by an operator"),
    SecurityEvent.INVITE_ADDED: Kind("invite added", "info", "by an operator"),
    SecurityEvent.INVITE_REVOKED: Kind("invite revoked", "info", "by an operator"),
    SecurityEvent.SESSIONS_ENDED: Kind("sessions ended", "info", "because the account's credentials changed"),
    SecurityEvent.KICKED: Kind("sessions kicked", "info", "by an operator"),
    SecurityEvent.PENALTY_BEGUN: Kind(
        "penalty begun", "warning", "logins from a source, or for an account, are refused for a time"
    ),
    SecurityEvent.PENALTY_ENDED: Kind("penalty ended", "info", "its time is over"),
    SecurityEvent.PENALTIES_CLEARED: Kind("penalties cleared", "info", "by an operator"),
    SecurityEvent.CONNECTION_REFUSED: Kind(
        "connection refused", "warning", "a source has too many connections, or too many without a login"
    ),
    SecurityEvent.CLAIMED_IDENTITY: Kind(
        "claimed identity refused", "warning", "a user sent something in another user's name"
    ),
    SecurityEvent.ORDER: Kind("order", "info", "an operator's order on the control socket; `uid` and `pid` say whose"),
    SecurityEvent.HOOK_SUSPENDED: Kind(
        "plug-in suspended", "error", "a plug-in that decides is not called for a while, because it failed repeatedly"
    ),
    SecurityEvent.BUS_FORGERY: Kind(
        "bus message refused", "error", "its signature is missing or wrong: somebody else publishes on Redis"
    ),
}
"""Every event, with its text, level and meaning; the table in docs/security.md is made from it."""


def record(event: SecurityEvent, *, source: str = "", **fields: Any) -> None:
    """Write one record of the trail. source: the client's address without its port. fields: more fields of the record;
    `name` for an account's name, `user` for its id, `wire`, `reason`."""
    kind = EVENTS[event]
    getattr(log.get(), kind.level)(kind.text, security=event.value, source=source, **fields)
