"""The names that authors of plug-ins import, and the plug-ins that come with chatd as examples.

Owns: the public names of the contract, and hooks.echo and hooks.translate.
Elsewhere: the contract itself (core.plugins.contract, core.plugins.actions), its explanation for authors
(docs/hooks.md).
Fails: never.
"""

from __future__ import annotations

from chatd.core.plugins.actions import (
    Action,
    AnswerFriend,
    AskFriend,
    BlockUser,
    ChangePassword,
    ChangePrivacy,
    ChangeProfile,
    CreateGroup,
    EndSession,
    JoinGroup,
    KickMember,
    LeaveGroup,
    MarkRead,
    ReadHistory,
    RemoveFriend,
    RenameGroup,
    SetRole,
    UnblockUser,
    ViewPresence,
    ViewProfile,
)
from chatd.core.plugins.contract import (
    Factory,
    FailedLogin,
    LoggedIn,
    LoggedOut,
    LoginAttempt,
    MissedMessage,
    OutgoingMessage,
    Point,
    Registration,
    Reply,
    Request,
    Rewrite,
    StoredMessage,
    Verdict,
    Veto,
)
from chatd.model import Group, Message, Role, User

__all__ = [
    "Action",
    "AnswerFriend",
    "AskFriend",
    "BlockUser",
    "ChangePassword",
    "ChangePrivacy",
    "ChangeProfile",
    "CreateGroup",
    "EndSession",
    "Factory",
    "FailedLogin",
    "Group",
    "JoinGroup",
    "KickMember",
    "LeaveGroup",
    "LoggedIn",
    "LoggedOut",
    "LoginAttempt",
    "MarkRead",
    "Message",
    "MissedMessage",
    "OutgoingMessage",
    "Point",
    "ReadHistory",
    "Registration",
    "RemoveFriend",
    "RenameGroup",
    "Reply",
    "Request",
    "Rewrite",
    "Role",
    "SetRole",
    "StoredMessage",
    "UnblockUser",
    "User",
    "Verdict",
    "Veto",
    "ViewPresence",
    "ViewProfile",
]
