"""The events of the security trail, by name.

Owns: the stable names, which programs rely on.
Elsewhere: what each means and how it is recorded (security_log). chatctl names events at every start without the log.
Fails: never.
"""

from __future__ import annotations

import enum


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
    ACCOUNT_ERASED = "account_erased"
    ACCOUNT_EXPORTED = "account_exported"
    ACCOUNT_LOCKED = "account_locked"
    ACCOUNT_UNLOCKED = "account_unlocked"
    TOKEN_MINTED = "token_minted"
    INVITE_ADDED = "invite_added"
    INVITE_REVOKED = "invite_revoked"
    SESSIONS_ENDED = "sessions_ended"
    KICKED = "kicked"
    PENALTY_BEGUN = "penalty_begun"
    PENALTY_ENDED = "penalty_ended"
    PENALTIES_CLEARED = "penalties_cleared"
    CONNECTION_REFUSED = "connection_refused"
    DATAGRAM_REFUSED = "datagram_refused"
    CLAIMED_IDENTITY = "claimed_identity"
    RATE_EXCEEDED = "rate_exceeded"
    MAILBOX_FULL = "mailbox_full"
    ORDER = "order"
    SIGNAL = "signal"
    HOOK_SUSPENDED = "hook_suspended"
    BUS_FORGERY = "bus_forgery"
    API_KEY_ADDED = "api_key_added"
    API_KEY_ROTATED = "api_key_rotated"
    API_KEY_REVOKED = "api_key_revoked"
    API_KEY_REFUSED = "api_key_refused"
    API_SCOPE_MISSING = "api_scope_missing"
    ADMIN_ADDED = "admin_added"
    ADMIN_REVOKED = "admin_revoked"
    ADMIN_LOGIN = "admin_login"
    ADMIN_CODE_FAILED = "admin_code_failed"
