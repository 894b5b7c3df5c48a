"""The parts of store.contract.Tables over the classes that implement all of them at once.

Temporary: the classes of store.sql become such parts themselves.
"""

from __future__ import annotations

from typing import Any


class AccountPart:
    def __init__(self, flat: Any) -> None:
        self.create = flat.create_user
        self.find = flat.account
        self.set_password = flat.set_password
        self.delete = flat.delete_user
        self.all = flat.users
        self.profile = flat.profile
        self.set_profile = flat.set_profile
        self.last_seen = flat.last_seen


class FriendPart:
    def __init__(self, flat: Any) -> None:
        self.request = flat.request_friend
        self.answer = flat.answer_friend
        self.remove = flat.remove_friend
        self.of = flat.friends_of
        self.requests_to = flat.friend_requests
        self.may_see = flat.may_see


class GroupPart:
    def __init__(self, flat: Any) -> None:
        self.create = flat.create_group
        self.join = flat.join_group
        self.leave = flat.leave_group
        self.kick = flat.kick_member
        self.rename = flat.rename_group
        self.set_role = flat.set_role
        self.find = flat.group
        self.role = flat.role
        self.members = flat.members
        self.ids_of = flat.group_ids
        self.memberships = flat.memberships
        self.members_among = flat.members_among
        self.of = flat.groups_of


class HistoryPart:
    def __init__(self, flat: Any) -> None:
        self.waiting = flat.waiting
        self.conversation_of = flat.conversation_of
        self.messages = flat.messages
        self.heads = flat.heads
        self.mark_seen = flat.mark_seen


class RequestPart:
    def __init__(self, flat: Any) -> None:
        self.answered = flat.answered
        self.remember = flat.remember
