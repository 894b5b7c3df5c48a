"""The names of groups, for listeners that show them to clients which know no groups (listen.group_prefix).

Owns: the names of the groups that sessions of this worker are in, read when a session enters a group and when the group
is renamed.
Elsewhere: writing the name into a message (wire.mobileimsdk), renaming (core.groups).
Fails: never. While a name is not known, "" is given, and clients are shown the group's number.

Nothing is read or kept unless a listener shows names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.model import GroupId
from chatd.store.contract import Tables

_KEPT = 10_000
"""Names kept before those of groups without a session on this worker are dropped."""
_RETRY_S = 1.0
"""Pause after a read that failed."""
_AT_ONCE = 500
"""Maximum names of one read."""


class _Name(NamedTuple):
    """read: the number of the read that found it."""

    text: str
    read: int


class GroupNames:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._names: dict[GroupId, _Name] = {}
        self._reads = 0
        self.is_needed = any("{group}" in listen.group_prefix for listen in services.config().listen)
        """A listener shows names. It stays so: listeners do not change while a worker lives."""

    def of(self, group_id: GroupId) -> str:
        """ "" = not known."""
        name = self._names.get(group_id)
        return name.text if name is not None else ""

    async def learn(self, group_ids: Iterable[GroupId]) -> None:
        """Sessions of this worker have entered these groups, and its subscription is in force: from now on renamed() is
        called for each change. Cost: one read, of the names that are not known yet."""
        unknown = [group_id for group_id in group_ids if group_id not in self._names] if self.is_needed else []
        if unknown and not await self._read(unknown):
            self._services.background.start(self._read_until_known(unknown))

    def renamed(self, group_id: GroupId) -> None:
        """The group has another name than before."""
        if self.is_needed and group_id in self._names:
            self._services.background.start(self._read_until_known([group_id]))

    def gap(self) -> None:
        """Renames may have been missed."""
        if self._names:
            self._services.background.start(self._read_until_known(list(self._names)))

    async def _read_until_known(self, group_ids: list[GroupId]) -> None:
        """Meanwhile the names known before are shown."""
        while True:
            if await self._read(group_ids):
                return
            await asyncio.sleep(_RETRY_S)

    async def _read(self, group_ids: list[GroupId]) -> bool:
        """Of two reads at once, the one that was started later counts. False: the store does not answer."""
        for at in range(0, len(group_ids), _AT_ONCE):
            some = group_ids[at : at + _AT_ONCE]
            self._reads += 1
            number = self._reads

            def names(tables: Tables, some: list[GroupId] = some) -> dict[GroupId, str]:
                return tables.groups.names(some)

            try:
                found = await self._services.store.read(names)
            except Unavailable:
                return False
            for group_id, text in found.items():
                before = self._names.get(group_id)
                if before is None or before.read < number:
                    self._names[group_id] = _Name(text, number)
        if len(self._names) > _KEPT:
            hub = self._services.hub
            self._names = {group_id: name for group_id, name in self._names.items() if hub.group(group_id) is not None}
        return True
