"""`python -m tests.cluster.planted BUG -c FILE …` is chatd with a bug planted in what makes hosts a cluster.

Owns: the bugs (BUGS below). How they are planted: tests.faults.planted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.faults.planted import main


def numbers_without_lock() -> None:
    """P3: who numbers a message does not hold the conversation, and the later of two takes the place."""
    from chatd.store.mysql import messages as mysql_messages

    mysql_messages.LOCK_CONVERSATIONS = mysql_messages.LOCK_CONVERSATIONS.replace(b" FOR UPDATE", b"")
    mysql_messages.INSERT_MESSAGES = mysql_messages.INSERT_MESSAGES.replace(b"INSERT", b"REPLACE")


def forgets_the_gap() -> None:
    """P5: when the bus is back, nobody looks what was missed."""
    from chatd.bus.redis.bus import RedisBus

    join = RedisBus.open

    async def deaf(self: RedisBus, on_message: Any, on_gap: Any, on_lost: Any, **options: Any) -> None:
        await join(self, on_message, lambda: None, on_lost, **options)

    RedisBus.open = deaf  # type: ignore[method-assign]


def deaf_hosts() -> None:
    """P4: publishes between hosts are lost."""
    from chatd.bus.redis.bus import RedisBus
    from chatd.core.bus_messages import MessageStored, decode

    publish = RedisBus.publish

    def silent(self: RedisBus, topic: int, data: bytes) -> None:
        if not isinstance(decode(data), MessageStored):
            publish(self, topic, data)

    RedisBus.publish = silent  # type: ignore[method-assign]


def unknown_is_offline() -> None:
    """A user who cannot be asked about is reported as gone."""
    from chatd.bus.redis.bus import RedisBus
    from chatd.core.core import Core

    elsewhere, tick = RedisBus.subscribed_elsewhere, Core.tick

    async def hasty(self: RedisBus, topics: Any) -> set[int]:
        return await elsewhere(self, topics) if self.healthy else set()

    def curious(self: Any) -> None:
        tick(self)
        if not self._bus.healthy:
            self.presence.gap()

    RedisBus.subscribed_elsewhere, Core.tick = hasty, curious  # type: ignore[method-assign]


def locks_for_everybody() -> None:
    """Every worker that asks for a lock gets it."""
    from chatd.bus.redis.bus import RedisBus

    async def generous(self: RedisBus, key: int) -> bool:
        return True

    RedisBus.lock = generous  # type: ignore[method-assign]


def gives_before_it_knows_the_members() -> None:
    """P4: a message of a later members_version is given to those who were members before."""
    from chatd.core.memberships import Memberships

    def hasty(self: Memberships, group_id: int, group: Any, members_version: int, act: Callable[[], None]) -> None:
        act()

    Memberships.wait = hasty  # type: ignore[method-assign]


def obeys_late_leaves() -> None:
    """P4: a leave that is told late ends a membership that began after it."""
    from chatd.core.sessions.hub import Hub

    leave = Hub.leave

    def obedient(self: Hub, session: Any, group_id: int, members_version: int) -> bool:
        return leave(self, session, group_id, max(members_version, (session.groups or {}).get(group_id, 0)))

    Hub.leave = obedient  # type: ignore[method-assign]


def trusts_redis() -> None:
    """Signatures and numbers of messages are not looked at."""
    from chatd.bus.redis.envelope import Opener

    Opener.content = lambda self, channel, raw: raw[raw[2] :]  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        numbers_without_lock, forgets_the_gap, deaf_hosts, unknown_is_offline, locks_for_everybody,
        gives_before_it_knows_the_members, obeys_late_leaves, trusts_redis,
    )
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(BUGS))
