"""Which user a message names, for plug-ins: by name in any spelling, or by number, they are given the same user.

Owns: Recipients, a cache in front of the store, because messages are frequent and go to the same few users.
Elsewhere: to whom a message is really sent is decided in the transaction that stores it (store).
Fails: Unavailable from the store.
"""

from __future__ import annotations

from collections import OrderedDict

from chatd.core.services import Services
from chatd.model import User, UserId
from chatd.protocol import SendMessage

MAX_CACHED = 4096
"""Users remembered; the one looked up longest ago is forgotten first."""
CACHED_S = 5.0
"""An account that was deleted, and its name given to another, is noticed after this time."""


class Recipients:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._loop = services.loop
        self._found: OrderedDict[str | UserId, tuple[User, float]] = OrderedDict()
        """By name as it was given, or by id; with the loop's time until which it is believed. The oldest first."""

    async def of(self, command: SendMessage) -> User | None:
        """None: a group, or there is no such user. Raises Unavailable."""
        if command.to_group:
            return None
        key: str | UserId = command.to_name or command.to_id
        known = self._found.get(key)
        now = self._loop.time()
        if known is not None and now < known[1]:
            return known[0]
        account = await self._store.read(lambda tables: tables.accounts.find(command.to_name, command.to_id))
        self._found.pop(key, None)
        if account is None:
            return None
        if len(self._found) >= MAX_CACHED:
            self._found.popitem(last=False)
        self._found[key] = account.user, now + CACHED_S
        return account.user
