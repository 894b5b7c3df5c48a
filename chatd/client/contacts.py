"""Contacts, as reported by the server: friends, groups, people who wrote, open friend requests.

Owns: names <-> numbers, and presence as last reported. The wire has no query for them: a login brings whole lists, and
later frames keep them up to date.
Elsewhere: receiving frames (session), showing contacts (commands).
Fails: never.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from chatd.client.frames import Friend, Group, LoginAnswer, is_number

PEOPLE = 2000
"""Maximum names remembered of people who are not friends; the oldest is forgotten."""


class Contacts:
    def __init__(self) -> None:
        self.friends: dict[int, Friend] = {}
        """By number."""
        self.groups: dict[int, Group] = {}
        """By number."""
        self.requests: dict[int, str] = {}
        """Open friend requests: the name of each user who asks, by number."""
        self._people: OrderedDict[int, str] = OrderedDict()
        """Names of other people by number, the oldest first."""

    def refresh(self, answer: LoginAnswer) -> None:
        """The lists of a login replace what was known, except open requests: a reconnect shows none again."""
        self.friends = {friend.id: friend for friend in answer.friends}
        self.groups = {group.id: group for group in answer.groups}
        for group in answer.groups:
            for member in group.members:
                self._remember(member.id, member.name)

    def heard_from(self, user_id: int, name: str) -> None:
        """The user has just sent something, and so is online."""
        self._remember(user_id, name)
        friend = self.friends.get(user_id)
        if friend is not None:
            self.friends[user_id] = msgspec.structs.replace(friend, name=name or friend.name, online=True)

    def befriend(self, user_id: int, online: bool) -> None:
        self.friends[user_id] = Friend(user_id, self.name_of(user_id), online)

    def ask(self, user_id: int, name: str) -> bool:
        """A request of user_id is open; False when that was known."""
        fresh = user_id not in self.requests
        self._remember(user_id, name)
        self.requests[user_id] = name
        return fresh

    def enter(self, group_id: int, name: str) -> None:
        self.groups.setdefault(group_id, Group(group_id, name, ""))

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
        """The number of a group's name or number; 0 when unknown or when two have the name."""
        if is_number(word):
            return int(word)
        named = [group.id for group in self.groups.values() if group.name == word]
        return named[0] if len(named) == 1 else 0

    def names(self) -> set[str]:
        return {friend.name for friend in self.friends.values()} | set(self._people.values())

    def _remember(self, user_id: int, name: str) -> None:
        if not name:
            return
        self._people[user_id] = name
        self._people.move_to_end(user_id)
        if len(self._people) > PEOPLE:
            self._people.popitem(last=False)
