"""What a plug-in is given about a user's actions: one struct per point, the same on every wire.

Owns: these structs. docs/hooks.md lists them for authors, who import them from chatd.hooks.
Elsewhere: the points (core.plugins.contract); asking (core.plugins.pipeline), which the functions do that carry out an
action (core.friends, core.groups, core.requests), so that no wire can go around it.
Fails: never.

A struct has what would be done: names without the spaces that are not stored, users and groups as they are found, by
name or by number. chatd's own rules (is this user a member?) are checked after the plug-in was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypedDict

import msgspec

from chatd.core.plugins.contract import Point
from chatd.model import Group, GroupRules, JoinPolicy, Role, User


class Who(TypedDict):
    """The fields that every action has."""

    actor: User
    wire: str
    remote: str


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """before_action: a logged-in user wants to do something. actor: the user. wire: "chatserver" or "mobileimsdk".
    remote: the client's address. point: at which a plug-in is asked about this action in particular."""

    point: ClassVar[Point] = Point.BEFORE_ACTION

    actor: User
    wire: str
    remote: str


class AskFriend(Action, frozen=True, kw_only=True):
    """before_friend_request: ask a user to be friends; if that user has asked already, this accepts."""

    point = Point.BEFORE_FRIEND_REQUEST
    user: User


class AnswerFriend(Action, frozen=True, kw_only=True):
    """before_friend_answer: accept or refuse the user's request."""

    point = Point.BEFORE_FRIEND_ANSWER
    user: User
    accept: bool


class RemoveFriend(Action, frozen=True, kw_only=True):
    """before_friend_remove: end a friendship, or withdraw a request."""

    point = Point.BEFORE_FRIEND_REMOVE
    user: User


class CreateGroup(Action, frozen=True, kw_only=True):
    """before_group_create"""

    point = Point.BEFORE_GROUP_CREATE
    name: str
    description: str
    rules: GroupRules = GroupRules()


class JoinGroup(Action, frozen=True, kw_only=True):
    """before_group_join: join, or ask to, as the group's policy says."""

    point = Point.BEFORE_GROUP_JOIN
    group: Group


class LeaveGroup(Action, frozen=True, kw_only=True):
    """before_group_leave"""

    point = Point.BEFORE_GROUP_LEAVE
    group: Group


class KickMember(Action, frozen=True, kw_only=True):
    """before_group_kick: remove a member; also asked about when a member is banned."""

    point = Point.BEFORE_GROUP_KICK
    group: Group
    user: User


class RenameGroup(Action, frozen=True, kw_only=True):
    """before_group_rename: group is as it is now; description None = it stays."""

    point = Point.BEFORE_GROUP_RENAME
    group: Group
    name: str
    description: str | None


class SetRole(Action, frozen=True, kw_only=True):
    """before_group_role"""

    point = Point.BEFORE_GROUP_ROLE
    group: Group
    user: User
    role: Role


class SetGroupRules(Action, frozen=True, kw_only=True):
    """before_group_rules: how the group is joined, who reads its past, who writes; None = it stays."""

    point = Point.BEFORE_GROUP_RULES
    group: Group
    join: JoinPolicy | None
    whole_history: bool | None
    announcements: bool | None


class DissolveGroup(Action, frozen=True, kw_only=True):
    """before_group_dissolve: end the group for all its members."""

    point = Point.BEFORE_GROUP_DISSOLVE
    group: Group


class InviteUser(Action, frozen=True, kw_only=True):
    """before_group_invite"""

    point = Point.BEFORE_GROUP_INVITE
    group: Group
    user: User


class DeclineInvitation(Action, frozen=True, kw_only=True):
    """before_group_decline: the actor's own."""

    point = Point.BEFORE_GROUP_DECLINE
    group: Group


class AnswerJoinRequest(Action, frozen=True, kw_only=True):
    """before_group_answer: approve or reject the user's request to join."""

    point = Point.BEFORE_GROUP_ANSWER
    group: Group
    user: User
    accept: bool


class AddMember(Action, frozen=True, kw_only=True):
    """before_group_add: make the user a member, or invite the user if that is all the user accepts."""

    point = Point.BEFORE_GROUP_ADD
    group: Group
    user: User


class BanUser(Action, frozen=True, kw_only=True):
    """before_group_ban: keep the user out of the group; banned False: let the user join again."""

    point = Point.BEFORE_GROUP_BAN
    group: Group
    user: User
    banned: bool


class MuteMember(Action, frozen=True, kw_only=True):
    """before_group_mute: until_ms: until when, milliseconds since the epoch; 0 = the member may write again; 1 << 62 =
    until somebody ends it."""

    point = Point.BEFORE_GROUP_MUTE
    group: Group
    user: User
    until_ms: int


class ReadHistory(Action, frozen=True, kw_only=True):
    """before_history: past messages of the conversation with a user, or of a group; both None = of all conversations of
    the actor (the operation sync)."""

    point = Point.BEFORE_HISTORY
    user: User | None = None
    group: Group | None = None


class EditMessage(Action, frozen=True, kw_only=True):
    """before_message_edit: replace the text of the message seq, in the conversation with a user or of a group, by this
    one. A plug-in that has before_message is asked there, too, about the new text, and may rewrite it."""

    point = Point.BEFORE_MESSAGE_EDIT
    user: User | None = None
    group: Group | None = None
    seq: int
    text: str


class RecallMessage(Action, frozen=True, kw_only=True):
    """before_message_recall: the actor takes back a message."""

    point = Point.BEFORE_MESSAGE_RECALL
    user: User | None = None
    group: Group | None = None
    seq: int


class RemoveMessage(Action, frozen=True, kw_only=True):
    """before_message_remove: remove a message of a group, as its owner or an admin."""

    point = Point.BEFORE_MESSAGE_REMOVE
    user: User | None = None
    group: Group | None = None
    seq: int


class MarkRead(Action, frozen=True, kw_only=True):
    """before_read_mark: tell the others that the actor has read up to seq."""

    point = Point.BEFORE_READ_MARK
    user: User | None = None
    group: Group | None = None
    seq: int


class ChangeProfile(Action, frozen=True, kw_only=True):
    """before_profile_change. fields: nickname, avatar, status, about, as far as they are changed; "" = emptied."""

    point = Point.BEFORE_PROFILE_CHANGE
    fields: Mapping[str, str]


class ViewProfile(Action, frozen=True, kw_only=True):
    """before_profile_view. user: whose profile; it may be the actor."""

    point = Point.BEFORE_PROFILE_VIEW
    user: User


class ChangePassword(Action, frozen=True, kw_only=True):
    """before_password_change: the actor's own. There is no password here, as in Registration."""

    point = Point.BEFORE_PASSWORD_CHANGE


class ViewPresence(Action, frozen=True, kw_only=True):
    """before_presence: see whether users are online. watch: also be notified from now on."""

    point = Point.BEFORE_PRESENCE
    users: tuple[User, ...]
    watch: bool


class EndSession(Action, frozen=True, kw_only=True):
    """before_session_end: end the actor's own session on another wire. ended: "chatserver" or "mobileimsdk"."""

    point = Point.BEFORE_SESSION_END
    ended: str


class BlockUser(Action, frozen=True, kw_only=True):
    """before_block: accept nothing from the user any more."""

    point = Point.BEFORE_BLOCK
    user: User


class UnblockUser(Action, frozen=True, kw_only=True):
    """before_unblock"""

    point = Point.BEFORE_UNBLOCK
    user: User


class ChangePrivacy(Action, frozen=True, kw_only=True):
    """before_privacy_change. choices: write, ask, see, add, as far as they are changed: default, everybody, contacts,
    friends or nobody."""

    point = Point.BEFORE_PRIVACY_CHANGE
    choices: Mapping[str, str]
