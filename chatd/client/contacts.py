"""Contacts, as reported by the server: friends, groups and their members, people who wrote, open friend requests.

Owns: names <-> numbers, roles and presence as last reported. A login brings whole lists; requests complete them, and
frames and notices keep them up to date.
Elsewhere: logins (app), notices and requests (live), showing contacts (commands).
Fails: never.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from chatd_client.chatserver import Friend, Group, Member
from chatd_client.model import User, is_number
from chatd_client.results import GroupAbout, Seen

MemberChange = Callable[[Member], Member]
PEOPLE = 2000
"""Maximum names remembered of people who are not friends; the oldest is forgotten."""


class Contacts:
    def __init__(self) -> None:
        self.friends: dict[int, Friend] = {}
        """By number."""
        self.groups: dict[int, Group] = {}
        """By number."""
        self.complete: set[int] = set()
        """Groups whose members are all known, with their roles."""
        self.requests: dict[int, str] = {}
        """Open friend requests: the name of each user who asks, by number."""
        self._told: set[tuple[object, ...]] = set()
        """Open invitations and requests to join groups of which the person was told at a login."""
        self._people: OrderedDict[int, str] = OrderedDict()
        """Names of other people by number, the oldest first."""

    # ------------------------------------------------------------ whole lists

    def refresh(self, friends: Iterable[Friend], groups: Iterable[Group]) -> None:
        """The lists of a login replace what was known, except open requests: a reconnect shows none again."""
        self.friends = {friend.id: friend for friend in friends}
        self.groups = {group.id: group for group in groups}
        self.complete.clear()
        for group in self.groups.values():
            for member in group.members:
                self.remember(member.id, member.name)

    def set_friends(self, friends: Iterable[Seen], requests: Iterable[User]) -> None:
        self.friends = {friend.id: Friend(friend.id, friend.name, friend.online) for friend in friends}
        self.requests = {user.id: user.name for user in requests}

    def set_groups(self, groups: Iterable[GroupAbout]) -> None:
        """Members of groups that stay are kept."""
        known = self.groups
        self.groups = {
            group.id: Group(
                group.id, group.name, group.description, known[group.id].members if group.id in known else ()
            )
            for group in groups
        }

    def set_members(self, group_id: int, members: Iterable[Seen]) -> None:
        found = tuple(Member(one.id, one.name, one.online, one.role) for one in members)
        for one in found:
            self.remember(one.id, one.name)
        if group_id in self.groups:
            self.groups[group_id] = msgspec.structs.replace(self.groups[group_id], members=found)
            self.complete.add(group_id)

    # ------------------------------------------------------------ people

    def heard_from(self, user_id: int, name: str) -> None:
        """The user has just sent something, and so is online."""
        self.remember(user_id, name)
        friend = self.friends.get(user_id)
        if friend is not None:
            self.friends[user_id] = msgspec.structs.replace(friend, name=name or friend.name, online=True)

    def set_presence(self, user_id: int, *, online: bool) -> None:
        if user_id in self.friends:
            self.friends[user_id] = msgspec.structs.replace(self.friends[user_id], online=online)
        for group in tuple(self.groups.values()):
            if any(member.id == user_id for member in group.members):
                self._change_member(group, user_id, lambda member: msgspec.structs.replace(member, online=online))

    def befriend(self, user_id: int, online: bool, name: str = "") -> None:
        self.requests.pop(user_id, None)
        self.friends[user_id] = Friend(user_id, name or self.name_of(user_id), online)

    def unfriend(self, user_id: int) -> None:
        friend = self.friends.pop(user_id, None)
        if friend is not None:
            self.remember(user_id, friend.name)

    def ask(self, user_id: int, name: str) -> bool:
        """A request of user_id is open; False when that was known."""
        fresh = user_id not in self.requests
        self.remember(user_id, name)
        self.requests[user_id] = name
        return fresh

    def is_news(self, what: tuple[object, ...]) -> bool:
        """False when the person was told of this at a login before: a reconnect tells nothing again."""
        fresh = what not in self._told
        self._told.add(what)
        return fresh

    # ------------------------------------------------------------ groups

    def enter(self, group_id: int, name: str, description: str = "") -> None:
        self.groups.setdefault(group_id, Group(group_id, name, description))

    def leave(self, group_id: int) -> None:
        self.groups.pop(group_id, None)
        self.complete.discard(group_id)

    def rename(self, group_id: int, name: str, description: str) -> None:
        group = self.groups.get(group_id)
        if group is not None:
            self.groups[group_id] = msgspec.structs.replace(group, name=name, description=description)

    def add_member(self, group_id: int, user: User, *, online: bool) -> None:
        self.remember(user.id, user.name)
        group = self.groups.get(group_id)
        if group is not None and all(member.id != user.id for member in group.members):
            members = (*group.members, Member(user.id, user.name, online, "member"))
            self.groups[group_id] = msgspec.structs.replace(group, members=members)

    def remove_member(self, group_id: int, user_id: int) -> None:
        group = self.groups.get(group_id)
        if group is not None:
            members = tuple(member for member in group.members if member.id != user_id)
            self.groups[group_id] = msgspec.structs.replace(group, members=members)

    def set_role(self, group_id: int, user_id: int, role: str) -> None:
        """A group has one owner: whoever was it before is an admin now."""
        group = self.groups.get(group_id)
        if group is None:
            return
        if role == "owner":
            for member in group.members:
                if member.role == "owner":
                    group = self._change_member(
                        group, member.id, lambda former: msgspec.structs.replace(former, role="admin")
                    )
        self._change_member(group, user_id, lambda member: msgspec.structs.replace(member, role=role))

    def _change_member(self, group: Group, user_id: int, change: MemberChange) -> Group:
        members = tuple(change(member) if member.id == user_id else member for member in group.members)
        self.groups[group.id] = changed = msgspec.structs.replace(group, members=members)
        return changed

    # ------------------------------------------------------------ names and numbers

    def name_of(self, user_id: int) -> str:
        """Empty when unknown."""
        friend = self.friends.get(user_id)
        return friend.name if friend else self._people.get(user_id, "")

    def group_name(self, group_id: int) -> str:
        group = self.groups.get(group_id)
        return group.name if group else ""

    def user_id_of(self, word: str) -> int:
        """The number of a name or number; 0 when the name is not known here."""
        if is_number(word):
            return int(word)
        known = {**self._people, **{friend.id: friend.name for friend in self.friends.values()}}
        return next((user_id for user_id, name in known.items() if name == word), 0)

    def group_id_of(self, word: str) -> int:
        """The number of a group's name or number, with or without "#"; 0 when unknown or when two have the name."""
        named = [group.id for group in self.groups.values() if group.name == word]
        if named or not word.startswith("#"):
            return int(word) if is_number(word) else named[0] if len(named) == 1 else 0
        return self.group_id_of(word[1:])

    def names(self) -> set[str]:
        return {friend.name for friend in self.friends.values()} | set(self._people.values())

    def member_names(self, group_id: int) -> set[str]:
        group = self.groups.get(group_id)
        return {member.name for member in group.members} if group else set()

    def remember(self, user_id: int, name: str) -> None:
        """The name of a user, for completion and for numbers of names."""
        if not name:
            return
        self._people[user_id] = name
        self._people.move_to_end(user_id)
        if len(self._people) > PEOPLE:
            self._people.popitem(last=False)
