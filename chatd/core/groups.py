"""Groups: creating and joining.

Owns: CreateGroup and JoinGroup. Who may write is decided by the store, inside the message's transaction.
Fails: Refused, Unavailable; then nothing changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatd.config import Config
from chatd.core.login import Logins
from chatd.core.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Group
from chatd.protocol import CreateGroup, GroupReady, JoinGroup
from chatd.store.commit import GroupCommit

_DESCRIPTION_CHARS = 200


class Groups:
    def __init__(self, store: GroupCommit, logins: Logins, config: Callable[[], Config]) -> None:
        self._store = store
        self._logins = logins
        self._config = config

    async def create(self, session: Session, command: CreateGroup) -> None:
        limits = self._config().limits
        name, description = command.name.strip(), command.description
        if not 0 < len(name) <= limits.name_chars or len(description) > _DESCRIPTION_CHARS:
            raise Refused(ErrorCode.BAD_FIELD, "the group's name or description is empty or too long")
        owner, limit, now_ms = session.user.id, limits.groups_per_user, time.time_ns() // 1_000_000
        group_id = await self._store.write(lambda tables: tables.create_group(owner, name, description, limit, now_ms))
        await self._logins.join(session, group_id)
        session.peer.push(GroupReady(Group(group_id, name, description), True))

    async def join(self, session: Session, command: JoinGroup) -> None:
        limits, now_ms = self._config().limits, time.time_ns() // 1_000_000
        user_id, group_id = session.user.id, command.group_id
        group = await self._store.write(
            lambda tables: tables.join_group(user_id, group_id, limits.group_members, limits.groups_per_user, now_ms)
        )
        await self._logins.join(session, group_id)
        session.peer.push(GroupReady(group, False))
