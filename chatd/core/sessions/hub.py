"""Who is here: the sessions of this worker by user and by group, and the topics they need.

Owns: the index and the worker's subscriptions. Not here: what is sent to whom (core.delivery).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chatd.bus.contract import Bus, Topic, topic_of_group, topic_of_user
from chatd.core.sessions.session import Session
from chatd.model import GroupId, UserId


class Hub:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._users: dict[UserId, tuple[Session, ...]] = {}
        self._groups: dict[GroupId, set[Session]] = {}

    def __len__(self) -> int:
        return len(self._users)

    def sessions(self) -> list[Session]:
        return [session for sessions in self._users.values() for session in sessions]

    def of_user(self, user_id: UserId) -> tuple[Session, ...]:
        return self._users.get(user_id, ())

    def of_group(self, group_id: GroupId) -> Collection[Session]:
        return self._groups.get(group_id, ())

    async def elsewhere(self, user_id: UserId) -> bool:
        """Whether the user has a session on another worker, as the bus knows it."""
        return bool(await self._bus.subscribed_elsewhere([topic_of_user(user_id)]))

    async def online(self, user_ids: Iterable[UserId]) -> set[UserId]:
        """Those with a session anywhere; of other workers as the bus knows it. One question to it for all."""
        wanted = set(user_ids)
        away = {topic_of_user(user_id): user_id for user_id in wanted if user_id not in self._users}
        elsewhere = await self._bus.subscribed_elsewhere(away.keys()) if away else ()
        return {user_id for user_id in wanted if user_id in self._users} | {away[topic] for topic in elsewhere}

    async def add(self, session: Session, groups: Iterable[GroupId]) -> None:
        """Returns when messages of other workers reach the session."""
        user_id = session.user.id
        topics: list[Topic] = [topic_of_user(user_id)]
        self._users[user_id] = (*self.of_user(user_id), session)
        for group_id in groups:
            self._enter(session, group_id)
            topics.append(topic_of_group(group_id))
        # Also what is subscribed already: it may still be on its way on behalf of another session.
        await self._bus.subscribe(topics)

    async def join(self, session: Session, *groups: GroupId) -> None:
        """Returns when what other workers say to these groups reaches the session."""
        if session.is_over:
            return
        for group_id in groups:
            self._enter(session, group_id)
        await self._bus.subscribe([topic_of_group(group_id) for group_id in groups])

    def _enter(self, session: Session, group_id: GroupId) -> None:
        if session.groups is None:
            session.groups = set()
        session.groups.add(group_id)
        members = self._groups.get(group_id)
        if members is None:
            self._groups[group_id] = {session}
        else:
            members.add(session)

    def remove(self, session: Session) -> None:
        topics: list[Topic] = []
        user_id = session.user.id
        rest = tuple(other for other in self.of_user(user_id) if other is not session)
        if rest:
            self._users[user_id] = rest
        elif self._users.pop(user_id, None):
            topics.append(topic_of_user(user_id))
        for group_id in session.groups or ():
            topics += self._exit(session, group_id)
        session.groups = None
        if topics:
            self._bus.unsubscribe(topics)

    def leave(self, session: Session, group_id: GroupId) -> None:
        if session.groups is not None and group_id in session.groups:
            session.groups.discard(group_id)
            if topics := self._exit(session, group_id):
                self._bus.unsubscribe(topics)

    def _exit(self, session: Session, group_id: GroupId) -> list[Topic]:
        """The topics nobody here needs any more."""
        members = self._groups.get(group_id)
        if members is None:
            return []
        members.discard(session)
        if members:
            return []
        del self._groups[group_id]
        return [topic_of_group(group_id)]
