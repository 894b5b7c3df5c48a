"""The security trail: who came in, who tried, and what was done about it.

Owns: what each event means, the fields that every record of the trail has, counting the events in the scoreboard, and
how many records a client can cause. Programs (fail2ban, a log collector) rely on names and fields.
Elsewhere: the names of the events (security_events), writing and holding back records (log, repeats), deciding what is
refused (core, net).
Fails: never, like the log.

A record of the trail is an ordinary log record with these fields first, in this order:

    security    the name of the event
    source      the client's single address, without port: what a firewall can block; "" = no client over a network
    forgeable   true, if somebody else could have sent the client's packets in its name (datagrams); left out otherwise.
                No program may block such a source
    reason      why, as a fixed word, for what failed or was refused

Then `network` for a penalty, which is counted for the source network (sources.source_of: an IPv6 /64), `peer` (address
and port), `wire`, `name` (of an account, as the client wrote it), `user` (its id), and others. Passwords, tokens and
invite codes are never in a record. An event is counted also when its record is held back, or when the level of the log
is too high for it.
"""

from __future__ import annotations

import enum
from typing import Any, Literal, NamedTuple

from chatd import log
from chatd.repeats import Limits
from chatd.security_events import SecurityEvent as SecurityEvent
from chatd.sources import address_of

FIELD_CHARS = 200
"""Maximum characters of a field: names come from strangers."""


class By(enum.Enum):
    """Who causes an event, from which follows how many records of it are written within repeats.WINDOW_S.

    STRANGER: anybody who reaches a port; limited per address, and over all addresses. USER: somebody with a valid
    account; limited per address and user, so that users behind one address do not hide each other. OPERATOR, SERVER:
    nobody on the network; never held back.
    """

    STRANGER = "anybody"
    USER = "a user"
    OPERATOR = "an operator"
    SERVER = "the server"


USER_LIMITS = Limits(per_source=5, per_key=2000)
_LIMITS = {By.STRANGER: log.CLIENT_LIMITS, By.USER: USER_LIMITS}


class Kind(NamedTuple):
    """text: the log record's own text. level: of the record. by: who causes it. meaning: for the documentation.
    counter: the number of the scoreboard that counts it; "" = none."""

    text: str
    level: Literal["info", "warning", "error"]
    by: By
    meaning: str
    counter: str = ""


EVENTS: dict[SecurityEvent, Kind] = {
    SecurityEvent.LOGIN: Kind("logged in", "info", By.USER, "a user logged in", "logins"),
    SecurityEvent.LOGIN_FAILED: Kind(
        "login failed",
        "warning",
        By.STRANGER,
        "unknown user, wrong password, or a token or secret that lets nobody in; `reason` says which",
        "logins_failed",
    ),
    SecurityEvent.LOGIN_REFUSED: Kind(
        "login refused",
        "warning",
        By.STRANGER,
        "refused without checking the password, or in spite of it; `reason` says why",
        "logins_refused",
    ),
    SecurityEvent.REGISTERED: Kind(
        "account registered", "info", By.USER, "a client registered an account", "registrations"
    ),
    SecurityEvent.REGISTRATION_REFUSED: Kind(
        "registration refused", "warning", By.STRANGER, "`reason` says why", "registrations_refused"
    ),
    SecurityEvent.PASSWORD_CHANGED: Kind(
        "password changed", "info", By.USER, "by the user, or by an operator's order", "passwords_changed"
    ),
    SecurityEvent.PASSWORD_CHANGE_FAILED: Kind(
        "password change failed", "warning", By.USER, "the old password was wrong", "password_changes_failed"
    ),
    SecurityEvent.ACCOUNT_CREATED: Kind("account created", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.ACCOUNT_DELETED: Kind("account deleted", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.ACCOUNT_ERASED: Kind(
        "account erased", "info", By.OPERATOR, "with its messages, by an operator; the record has the id only"
    ),
    SecurityEvent.ACCOUNT_EXPORTED: Kind(
        "account exported", "info", By.OPERATOR, "everything of a person was written to an archive, by an operator"
    ),
    SecurityEvent.ACCOUNT_LOCKED: Kind("account locked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.ACCOUNT_UNLOCKED: Kind("account unlocked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.TOKEN_MINTED: Kind(
        "login token made", "info", By.OPERATOR, "by an operator or an application, for the account with this name"
    ),
    SecurityEvent.INVITE_ADDED: Kind("invite added", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.INVITE_REVOKED: Kind("invite revoked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.SESSIONS_ENDED: Kind(
        "sessions ended",
        "info",
        By.USER,
        "because the account's credentials changed, or with reason `token_expired`, because its token has expired",
    ),
    SecurityEvent.KICKED: Kind("sessions kicked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.PENALTY_BEGUN: Kind(
        "penalty begun",
        "warning",
        By.STRANGER,
        "logins from a source, or for an account, are refused for a time",
        "penalties_begun",
    ),
    SecurityEvent.PENALTY_ENDED: Kind("penalty ended", "info", By.STRANGER, "its time is over"),
    SecurityEvent.PENALTIES_CLEARED: Kind("penalties cleared", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.CONNECTION_REFUSED: Kind(
        "connection refused",
        "warning",
        By.STRANGER,
        "a source has too many connections, or too many without a login, or is banned, or a page of another origin; "
        "`reason` says which: `connections_per_source`, `unauthenticated`, `banned`, `origin`",
        "connections_refused",
    ),
    SecurityEvent.DATAGRAM_REFUSED: Kind(
        "datagram refused",
        "warning",
        By.STRANGER,
        "a datagram of a logged-in client without its token, or with a wrong one",
        "datagrams_refused",
    ),
    SecurityEvent.CLAIMED_IDENTITY: Kind(
        "claimed identity refused",
        "warning",
        By.USER,
        "a user sent something in another user's name",
        "identities_refused",
    ),
    SecurityEvent.RATE_EXCEEDED: Kind(
        "rate exceeded",
        "warning",
        By.USER,
        "a user does more than limits allow, recorded every 10 s; `reason` says of what: `commands`, `recipients`, "
        "`changes`. Each refusal is counted as `rate_refused`",
    ),
    SecurityEvent.MAILBOX_FULL: Kind(
        "mailbox full",
        "warning",
        By.USER,
        "a message was refused because too many wait for its recipient, `to`; counted as `mailbox_refused`",
    ),
    SecurityEvent.ORDER: Kind(
        "order",
        "info",
        By.OPERATOR,
        "a request on the control socket, a command of chatctl that works on the store itself, one of its kind over "
        "HTTP, or a change on the operator's page; `administrator`, or `api_key`, or else `uid`, `by` and "
        "`caller_pid`, say whose, `result` is begun, ok or failed",
    ),
    SecurityEvent.SIGNAL: Kind(
        "signal",
        "info",
        By.OPERATOR,
        'a signal to the master, `name`; from whom is not known (`by` is "unknown"), so use chatctl where that matters',
    ),
    SecurityEvent.HOOK_SUSPENDED: Kind(
        "plug-in suspended",
        "error",
        By.SERVER,
        "a plug-in that decides is not called for a while, because it failed repeatedly",
        "hooks_suspended",
    ),
    SecurityEvent.BUS_FORGERY: Kind(
        "bus message refused",
        "error",
        By.STRANGER,
        "its signature is missing or wrong: somebody else publishes on Redis",
        "bus_forgeries",
    ),
    SecurityEvent.API_KEY_ADDED: Kind("API key added", "info", By.OPERATOR, "by an operator; `name` is the key's"),
    SecurityEvent.API_KEY_ROTATED: Kind("API key rotated", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.API_KEY_REVOKED: Kind("API key revoked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.API_KEY_REFUSED: Kind(
        "API key refused", "warning", By.STRANGER, "a request with a key that is not valid", "api_keys_refused"
    ),
    SecurityEvent.API_SCOPE_MISSING: Kind(
        "API scope missing",
        "warning",
        By.USER,
        "a request with the key `api_key`, which does not have the scope `scope`",
        "api_scopes_missing",
    ),
    SecurityEvent.ADMIN_ADDED: Kind(
        "administrator added", "info", By.OPERATOR, "an account may use the operator's page, or has a new second factor"
    ),
    SecurityEvent.ADMIN_REVOKED: Kind("administrator revoked", "info", By.OPERATOR, "by an operator"),
    SecurityEvent.ADMIN_LOGIN: Kind(
        "administrator logged in", "info", By.OPERATOR, "on the operator's page, with the second factor", "logins"
    ),
    SecurityEvent.ADMIN_CODE_FAILED: Kind(
        "code of an administrator refused",
        "warning",
        By.USER,
        "a logged-in administrator gave a wrong code for a dangerous order; `reason` says why",
        "logins_failed",
    ),
}
"""Every event, with its text, level and meaning; the table in docs/security.md is made from it."""


def record(
    event: SecurityEvent,
    *,
    source: str = "",
    peer: str = "",
    reason: str = "",
    forgeable: bool = False,
    **fields: Any,
) -> None:
    """Count the event, and write one record of it unless it is held back.

    source: the client's address without its port; left out, it is taken from peer, the address as shown in logs
    (config.urls.shown). A network is not a source, and becomes the field `network`. fields: more fields of the
    record, with the names of the module's docstring; a text longer than FIELD_CHARS is cut.
    """
    kind = EVENTS[event]
    if kind.counter:
        log.count(kind.counter)
    if "/" in source:
        fields, source = {"network": source, **fields}, ""
    source = source or address_of(peer)
    head: dict[str, Any] = {"security": event.value, "source": source}
    if forgeable:
        head["forgeable"] = True
    if reason:
        head["reason"] = reason
    if peer:
        head["peer"] = peer
    rest = {key: _bounded(value) for key, value in fields.items()}
    getattr(log.get(), kind.level)(kind.text, **head, **rest, hold=_hold(kind, source, fields))


def _hold(kind: Kind, source: str, fields: dict[str, Any]) -> log.Hold | None:
    limits = _LIMITS.get(kind.by)
    if limits is None:
        return None
    who = fields.get("user", 0) if kind.by is By.USER else 0
    return log.Hold(limits, log.client_key(source, who))


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > FIELD_CHARS:
        return f"{value[:FIELD_CHARS]}…[{len(value) - FIELD_CHARS} characters cut]"
    return value
