"""The sessions of this worker, by user and by group, and the topics of the bus that they need.

Owns: the index, what it knows of each group's memberships (LocalGroup), and the worker's subscriptions.
Elsewhere: keeping memberships true (core.memberships), what is sent to whom (core.delivery).
Fails: never.

Memberships have versions, counted by the store (store.group_contract.GroupTables), so the order in which joins and
leaves arrive does not matter: of each session and group the newest counts, and an older one changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from chatd.bus.contract import Bus, Topic, topic_of_group, topic_of_user
from chatd.core.sessions.session import Session
from chatd.model import GroupId, UserId
from chatd.store.contract import Membership

NEWEST = 1 << 62
"""No members_version is as high."""
GROUPS_LEFT_KEPT = 1000
"""Ended memberships one session remembers at most."""


class LocalGroup:
    """A group with members who have sessions on this worker.

    sessions: those of its members. A user who stopped being a member by known_version is not among them.
    waiting: None unless the store is being asked for the members: then what is for the members of a later version, in
    order, each with that version and what is to be done. Only core.memberships changes these.
    member_count: of the group, everywhere; 0 = not known since the last change of its members. For core.allowances."""

    __slots__ = ("known_version", "member_count", "sessions", "waiting")

    def __init__(self, known_version: int) -> None:
        self.known_version = known_version
        self.member_count = 0
        self.sessions: set[Session] = set()
        self.waiting: deque[tuple[int, Callable[[], None]]] | None = None


class Hub:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._users: dict[UserId, tuple[Session, ...]] = {}
        self._groups: dict[GroupId, LocalGroup] = {}
        self.on_subscribed: Callable[[Iterable[GroupId]], Awaitable[None]] | None = None
        """Awaited when the worker has subscribed to groups that its sessions have entered."""

    def __len__(self) -> int:
        """Users with a session on this worker."""
        return len(self._users)

    def sessions(self) -> list[Session]:
        return [session for sessions in self._users.values() for session in sessions]

    def of_user(self, user_id: UserId) -> tuple[Session, ...]:
        """Those of the user on this worker, including sessions that are still logging in."""
        return self._users.get(user_id, ())

    def of_group(self, group_id: GroupId) -> Collection[Session]:
        group = self._groups.get(group_id)
        return () if group is None else group.sessions

    def group(self, group_id: GroupId) -> LocalGroup | None:
        """None where no member has a session on this worker."""
        return self._groups.get(group_id)

    async def elsewhere(self, user_id: UserId) -> bool:
        """Whether the user has a session on another worker, as the bus knows it."""
        return bool(await self._bus.subscribed_elsewhere([topic_of_user(user_id)]))

    async def online(self, user_ids: Iterable[UserId]) -> set[UserId]:
        """Those of the users who have a session anywhere, on other workers as far as the bus knows. Asks the bus
        once."""
        wanted = set(user_ids)
        away = {topic_of_user(user_id): user_id for user_id in wanted if user_id not in self._users}
        elsewhere = await self._bus.subscribed_elsewhere(away.keys()) if away else ()
        return {user_id for user_id in wanted if user_id in self._users} | {away[topic] for topic in elsewhere}

    async def add(self, session: Session, memberships: Mapping[GroupId, Membership]) -> None:
        """Index the session. Returns when messages of other workers reach it."""
        user_id = session.user.id
        topics: list[Topic] = [topic_of_user(user_id)]
        self._users[user_id] = (*self.of_user(user_id), session)
        for group_id, membership in memberships.items():
            if self.enter(session, group_id, membership.since_version, membership.members_version):
                self._groups[group_id].member_count = membership.member_count
            topics.append(topic_of_group(group_id))
        # Including topics that are subscribed already: that may still be under way on behalf of another session.
        await self._bus.subscribe(topics)
        if self.on_subscribed is not None and memberships:
            await self.on_subscribed(memberships)

    def enter(self, session: Session, group_id: GroupId, since_version: int, known_version: int) -> bool:
        """The session's user is a member. known_version: the user was still one then. Returns False if something as new
        is known already; nothing has changed then. To be followed by subscribe()."""
        groups = session.groups
        if groups is None:
            groups = session.groups = {}
        known = max(groups.get(group_id, 0), (session.groups_left or {}).get(group_id, 0))
        if session.is_over or since_version <= known:
            return False
        groups[group_id] = since_version
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = LocalGroup(known_version)
        group.sessions.add(session)
        group.known_version = min(group.known_version, known_version)
        return True

    async def subscribe(self, group_ids: Iterable[GroupId]) -> None:
        """Returns when other workers' messages to these groups reach this worker."""
        entered = list(group_ids)
        await self._bus.subscribe([topic_of_group(group_id) for group_id in entered])
        if self.on_subscribed is not None:
            await self.on_subscribed(entered)

    def remove(self, session: Session) -> None:
        """The session is over. Topics that no other session needs are unsubscribed."""
        topics: list[Topic] = []
        user_id = session.user.id
        rest = tuple(other for other in self.of_user(user_id) if other is not session)
        if rest:
            self._users[user_id] = rest
        elif self._users.pop(user_id, None):
            topics.append(topic_of_user(user_id))
        for group_id in session.groups or ():
            topics += self._exit(session, group_id)
        session.groups = session.groups_left = None
        if topics:
            self._bus.unsubscribe(topics)

    def leave(self, session: Session, group_id: GroupId, members_version: int) -> bool:
        """The membership of the session's user had ended by this version. Returns False if the session is in a later
        membership, or in none; its index entry has not changed then."""
        if session.is_over:
            return False
        left = session.groups_left
        if left is None:
            left = session.groups_left = {}
        left[group_id] = max(members_version, left.pop(group_id, 0))
        if len(left) > GROUPS_LEFT_KEPT:
            del left[next(iter(left))]
        since_version = (session.groups or {}).get(group_id)
        if since_version is None or since_version > members_version:
            return False
        assert session.groups is not None
        del session.groups[group_id]
        if topics := self._exit(session, group_id):
            self._bus.unsubscribe(topics)
        return True

    def _exit(self, session: Session, group_id: GroupId) -> list[Topic]:
        """The topics that no session here needs any more."""
        group = self._groups.get(group_id)
        if group is None:
            return []
        group.sessions.discard(session)
        if group.sessions:
            return []
        del self._groups[group_id]
        return [topic_of_group(group_id)]
