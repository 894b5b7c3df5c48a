"""Which of this worker's sessions belong to members of which group, even if the bus loses messages.

Owns: applying joins and leaves to sessions, reading memberships again after a gap, and holding back events for the
members of a later version until those members are known.
Elsewhere: the changes themselves and who is notified of them (core.groups), the index (core.sessions.hub), the versions
(store.group_contract.GroupTables).
Fails: while the store cannot be read, it is tried again every second. Nothing is lost, because messages are in the
store.

The bus may report a join or a leave late, out of order, or never. Versions make up for that (decision 20):
* A membership begins with a version (since_version) and ends with a later one. Of each session and group the newest
  counts, in whatever order they arrive (Hub.enter, Hub.leave).
* A message has the members_version of its group at its commit. A worker that knows only of earlier changes reads which
  of its sessions' users are members before it gives the message to any of them: one read per group and change.
* Messages read from the store for a session are used only if its user's membership was the same before and after
  (members_only).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Protocol

from chatd.core.group_names import GroupNames
from chatd.core.services import Services
from chatd.core.sessions.hub import NEWEST, LocalGroup
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable
from chatd.model import ConversationId, GroupId, UserId
from chatd.store.contract import Membership, Tables, Waiting

RETRY_S = 1.0
_SESSIONS_AT_ONCE = 50
"""Maximum sessions whose memberships are read again in one statement."""

ByGroup = Mapping[GroupId, Membership]
"""The memberships of one user."""


class MembershipListener(Protocol):
    """Called after a session has entered or left a group."""

    def groups_entered(self, session: Session, group_ids: Iterable[GroupId]) -> None:
        """The session has entered groups: the store may have messages of them that the session was not given."""

    def group_left(self, session: Session, group_id: GroupId) -> None:
        """Nothing of the group may be given to the session any more, not even again."""


def read_memberships(tables: Tables, user_ids: Collection[UserId]) -> dict[UserId, dict[GroupId, Membership]]:
    found: dict[UserId, dict[GroupId, Membership]] = {user_id: {} for user_id in user_ids}
    for membership in tables.groups.memberships(user_ids):
        found[membership.user_id][membership.group_id] = membership
    return found


def members_only(waiting: Waiting, session: Session, before: Mapping[GroupId, int], after: ByGroup) -> Waiting:
    """Only what the session may be given: of a group, if the user's membership was the same during the whole read.

    before: session.groups before it was read. after: the memberships as they were read after the messages."""

    def belongs(conversation: ConversationId) -> bool:
        if conversation > 0:
            return True
        membership = after.get(-conversation)
        since = (session.groups or {}).get(-conversation)
        return membership is not None and membership.since_version == since == before.get(-conversation)

    return waiting._replace(
        messages=[message for message in waiting.messages if belongs(message.conversation)],
        delivered={conversation: seq for conversation, seq in waiting.delivered.items() if belongs(conversation)},
    )


class Memberships:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._hub = services.hub
        self._config = services.config
        self._background = services.background
        self._listener: MembershipListener | None = None
        self.names = GroupNames(services)
        """Of the groups that sessions of this worker are in."""
        if self.names.is_needed:
            services.hub.on_subscribed = self.names.learn
        self._stale: set[Session] = set()
        """Sessions whose memberships are to be read again."""
        self._is_reading = False
        """_read_again() runs."""

    def set_listener(self, listener: MembershipListener) -> None:
        """To be called once, before anything else."""
        self._listener = listener

    # ---------------------------------------------------------------- changes, as they are heard of

    async def joined(self, user_id: UserId, group_id: GroupId, since_version: int) -> None:
        """The user's sessions on this worker are given the group's messages from now on, and those since the user
        joined. Returns when other workers' messages reach them. since_version 0: not known, ask the store."""
        sessions = self._hub.of_user(user_id)
        if not since_version:
            self._read_soon(sessions)
            return
        entered = [session for session in sessions if self._enter(session, group_id, since_version, since_version)]
        self.changed(group_id, since_version)
        if any(group_id in (session.groups or ()) for session in sessions):
            await self._hub.subscribe([group_id])
        self._tell_entered(dict.fromkeys(entered, (group_id,)))

    def left(self, user_id: UserId, group_id: GroupId, members_version: int) -> None:
        """The user's sessions on this worker are given nothing more of the group, unless they are in a later
        membership. members_version 0: not known, ask the store."""
        if not members_version:
            self._read_soon(self._hub.of_user(user_id))
            return
        for session in self._hub.of_user(user_id):
            self._leave(session, group_id, members_version)
        self.changed(group_id, members_version)

    def ended(self, group_id: GroupId, members_version: int) -> None:
        """All memberships of the group have ended with this version."""
        group = self._hub.group(group_id)
        for session in () if group is None else tuple(group.sessions):
            self._leave(session, group_id, members_version)

    def changed(self, group_id: GroupId, members_version: int) -> None:
        """The change that made this version has been applied to this worker's sessions. If the version before it is the
        one known, the new one is known without asking the store."""
        group = self._hub.group(group_id)
        if group is None:
            return
        group.member_count = 0
        if group.waiting is None and group.known_version == members_version - 1:
            group.known_version = members_version

    def _enter(self, session: Session, group_id: GroupId, since_version: int, known_version: int) -> bool:
        before = (session.groups or {}).get(group_id)
        if before is not None and before < since_version:
            self._leave(session, group_id, before)
        return self._hub.enter(session, group_id, since_version, known_version)

    def _leave(self, session: Session, group_id: GroupId, members_version: int) -> None:
        if self._hub.leave(session, group_id, members_version):
            assert self._listener is not None
            self._listener.group_left(session, group_id)

    def _tell_entered(self, entered: Mapping[Session, Iterable[GroupId]]) -> None:
        assert self._listener is not None
        for session, group_ids in entered.items():
            if not session.is_over:
                self._listener.groups_entered(session, group_ids)

    # ---------------------------------------------------------------- what the store says

    def take(self, session: Session, before: Mapping[GroupId, int], found: ByGroup) -> list[GroupId]:
        """Apply what the store says, except where something newer has arrived meanwhile. Returns the groups that the
        session has entered; the caller subscribes to them.

        before: session.groups before the store was asked."""
        for group_id, since_version in before.items():
            membership = found.get(group_id)
            if membership is None or membership.since_version != since_version:
                self._leave(session, group_id, since_version)
        entered = []
        for group_id, membership in found.items():
            if self._enter(session, group_id, membership.since_version, membership.members_version):
                entered.append(group_id)
            if (group := self._hub.group(group_id)) is not None:
                group.member_count = membership.member_count
        return entered

    def gap(self) -> None:
        """Joins and leaves may have been missed: read the memberships of all sessions of this worker."""
        self._read_soon(self._hub.sessions())
        self.names.gap()

    def _read_soon(self, sessions: Iterable[Session]) -> None:
        self._stale.update(sessions)
        if self._stale and not self._is_reading:
            self._is_reading = True
            self._background.start(self._read_again())

    async def _read_again(self) -> None:
        try:
            while self._stale:
                some = [self._stale.pop() for _ in range(min(_SESSIONS_AT_ONCE, len(self._stale)))]
                try:
                    await self._read_some([session for session in some if not session.is_over])
                except Unavailable:
                    self._stale.update(some)
                    await asyncio.sleep(RETRY_S)
        finally:
            self._is_reading = False

    async def _read_some(self, sessions: list[Session]) -> None:
        before = [dict(session.groups or {}) for session in sessions]
        users = {session.user.id for session in sessions}
        found = await self._store.read(partial(read_memberships, user_ids=users))
        entered = {
            session: groups
            for session, groups_before in zip(sessions, before, strict=True)
            if (groups := self.take(session, groups_before, found[session.user.id]))
        }
        if entered:
            await self._hub.subscribe({group_id for groups in entered.values() for group_id in groups})
            self._tell_entered(entered)

    # ---------------------------------------------------------------- what is for members not yet known

    def wait(self, group_id: GroupId, group: LocalGroup, members_version: int, act: Callable[[], None]) -> None:
        """Call `act` when this worker knows the members of that version (0: not known, ask the store), in the order of
        the calls. At most limits.in_flight wait per group: over that, those that wait are dropped, and each member's
        session reads the store instead."""
        if group.waiting is None:
            group.waiting = deque()
            self._background.start(self._learn(group_id, group))
        if len(group.waiting) >= self._config().limits.in_flight:
            self._leave_to_the_store(group_id, group)
        group.waiting.append((members_version or NEWEST, act))

    def _leave_to_the_store(self, group_id: GroupId, group: LocalGroup) -> None:
        group.waiting = deque([(NEWEST, lambda: self._tell_entered(dict.fromkeys(group.sessions, (group_id,))))])

    async def _learn(self, group_id: GroupId, group: LocalGroup) -> None:
        """Ask the store for the members until nothing waits. The answer is valid for everything that waited when it was
        asked, and for later arrivals of no later version."""
        try:
            while group.waiting and self._hub.group(group_id) is group:
                ready, group.waiting = group.waiting, deque()
                try:
                    await self._read_members(group_id, group)
                except Unavailable:
                    self._leave_to_the_store(group_id, group)
                    await asyncio.sleep(RETRY_S)
                    continue
                for _, act in ready:
                    act()
                while group.waiting and group.waiting[0][0] <= group.known_version:
                    group.waiting.popleft()[1]()
        finally:
            group.waiting = None

    async def _read_members(self, group_id: GroupId, group: LocalGroup) -> None:
        before = {session: (session.groups or {})[group_id] for session in group.sessions}
        users = {session.user.id for session in before}
        group.known_version = NEWEST  # a session that enters while the store is asked lowers it
        try:
            version, since = await self._store.read(lambda tables: tables.groups.members_among(group_id, users))
        except Unavailable:
            group.known_version = 0
            raise
        entered = []
        for session, since_version in before.items():
            now = since.get(session.user.id)
            if now != since_version:
                self._leave(session, group_id, since_version)
                if now is not None and self._enter(session, group_id, now, version):
                    entered.append(session)
        group.known_version = min(group.known_version, version)
        if entered:
            await self._hub.subscribe([group_id])
            self._tell_entered(dict.fromkeys(entered, (group_id,)))
