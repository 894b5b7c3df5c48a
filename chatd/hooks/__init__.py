"""The names that authors of plug-ins import, and the plug-ins that come with chatd as examples.

Owns: the public names of the contract, and hooks.echo and hooks.translate.
Elsewhere: the contract itself (core.plugins.contract), its explanation for authors (docs/hooks.md).
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
