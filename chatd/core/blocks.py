"""Blocks, and the choices of users who may write to them, ask, see and add them.

Owns: blocking, unblocking and choosing as Changes, about which plug-ins are asked first.
Elsewhere: the rows and their rules (store.consent_contract.ConsentTables), asking whether something is accepted
(core.consent), the arguments of requests (core.requests.consent).
Fails: Refused, Unavailable; then nothing was changed.

Nobody is notified, least of all the user who is blocked. No worker needs to be told either: whoever decides about a
message or a notice reads meta.consent with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from chatd import wall_clock
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import Audience, User
from chatd.store.contract import Audiences, Purpose, Tables


class Blocks:
    def __init__(self, services: Services, plugins: PluginPipeline) -> None:
        self._services = services
        self._plugins = plugins

    async def blocking(self, session: Session, find: Find) -> Change[User]:
        """The result: the user who is blocked now, or was before. Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session, Point.BEFORE_BLOCK, lambda tables, who: actions.BlockUser(**who, user=find(tables))
        )
        me, limit, now_ms = session.user.id, self._limit(), wall_clock.now_ms()

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.consent.block(me, other.id, limit, now_ms)
            return other

        return Change(write)

    def _limit(self) -> int:
        return self._services.config().limits.blocks_per_user

    async def unblocking(self, session: Session, find: Find) -> Change[User]:
        """Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session, Point.BEFORE_UNBLOCK, lambda tables, who: actions.UnblockUser(**who, user=find(tables))
        )
        me = session.user.id

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.consent.unblock(me, other.id)
            return other

        return Change(write)

    async def choosing(self, session: Session, chosen: Mapping[Purpose, Audience]) -> Change[Audiences]:
        """The result: all choices of the user. Raises Refused, Unavailable."""
        shown = {purpose.name.lower(): audience.name.lower() for purpose, audience in chosen.items()}
        await self._plugins.before_action(
            session, Point.BEFORE_PRIVACY_CHANGE, lambda tables, who: actions.ChangePrivacy(**who, choices=dict(shown))
        )
        me = session.user.id
        return Change(lambda tables: tables.consent.choose(me, chosen))
