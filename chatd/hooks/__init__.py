"""Plug-ins that come with chatd, and the names that authors of others import.

Owns: the public names of the contract, which is written in core.plugins.contract and explained in docs/hooks.md.
Fails: never.
"""

from __future__ import annotations

from chatd.core.plugins.contract import (
    Factory,
    LoggedIn,
    LoggedOut,
    LoginAttempt,
    MissedMessage,
    OutgoingMessage,
    Point,
    Reply,
    Request,
    Rewrite,
    StoredMessage,
    Verdict,
    Veto,
)
from chatd.model import Message, User

__all__ = [
    "Factory",
    "LoggedIn",
    "LoggedOut",
    "LoginAttempt",
    "Message",
    "MissedMessage",
    "OutgoingMessage",
    "Point",
    "Reply",
    "Request",
    "Rewrite",
    "StoredMessage",
    "User",
    "Verdict",
    "Veto",
]
