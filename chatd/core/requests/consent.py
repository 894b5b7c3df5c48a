"""Requests about what a user accepts from others: blocks, and who may write, ask, see and add.

Owns: the arguments and answers of these operations.
Elsewhere: their rules (core.blocks, core.consent, the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chatd.core import consent
from chatd.core.blocks import Blocks
from chatd.core.change import Change
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.requests.arguments import PAGE, After, NoArguments, OneUser, PageSize, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import Audience, User
from chatd.store.contract import Audiences, Purpose

_OWN = NotAsked("it changes nothing, and shows nothing of anybody else")
_Choice = Literal["default", "everybody", "contacts", "friends", "nobody"]


class BlocksPage(msgspec.Struct, frozen=True):
    """Blocked users, by id."""

    after: After = 0
    limit: PageSize = PAGE


class Choices(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A choice left out stays as it is."""

    write: _Choice | None = None
    ask: _Choice | None = None
    see: _Choice | None = None
    add: _Choice | None = None


class ConsentOperations:
    def __init__(self, services: Services, blocks: Blocks) -> None:
        self._services = services
        self._blocks = blocks

    def table(self) -> OperationTable:
        return {
            "block": Operation(
                OneUser,
                "block a user, who is not told: neither can write to the other, and the user can neither ask, see nor "
                "add the caller; ends a friendship and withdraws requests",
                '{"user":U}',
                asks=Point.BEFORE_BLOCK,
                write=self._block,
                shown=_user,
            ),
            "unblock": Operation(
                OneUser,
                "end a block",
                '{"user":U}',
                asks=Point.BEFORE_UNBLOCK,
                write=self._unblock,
                shown=_user,
            ),
            "block.list": Operation(
                BlocksPage, "whom the caller blocks", '{"users":[U],"more":bool}', asks=_OWN, read=self._list
            ),
            "privacy.get": Operation(
                NoArguments,
                "the caller's choices, and what applies where the choice is `default`",
                '{"privacy":{"write":str,"ask":str,"see":str,"add":str},"defaults":{…}}',
                asks=_OWN,
                read=self._get,
            ),
            "privacy.set": Operation(
                Choices,
                "choose who may write to the caller, ask to become friends, see profile and presence, add to groups",
                '{"privacy":{"write":str,"ask":str,"see":str,"add":str}}',
                asks=Point.BEFORE_PRIVACY_CHANGE,
                write=self._set,
                shown=lambda audiences: {"privacy": _shown(audiences)},
            ),
        }

    async def _block(self, session: Session, arguments: OneUser) -> Change[User]:
        return await self._blocks.blocking(session, user_named(arguments.user))

    async def _unblock(self, session: Session, arguments: OneUser) -> Change[User]:
        return await self._blocks.unblocking(session, user_named(arguments.user))

    async def _list(self, session: Session, arguments: BlocksPage) -> object:
        me, after, limit = session.user.id, arguments.after, arguments.limit
        users = await self._services.store.read(lambda tables: tables.consent.blocked(me, after, limit))
        return {"users": [of_user(user) for user in users], "more": len(users) == limit}

    async def _get(self, session: Session, arguments: NoArguments) -> object:
        me, config = session.user.id, self._services.config()
        audiences = await self._services.store.read(lambda tables: tables.consent.audiences(me))
        defaults = Audiences(*(consent.default_of(config, purpose) for purpose in Purpose))
        return {"privacy": _shown(audiences), "defaults": _shown(defaults)}

    async def _set(self, session: Session, arguments: Choices) -> Change[Audiences]:
        given: dict[str, str] = msgspec.to_builtins(arguments)
        chosen = {Purpose[field.upper()]: Audience[word.upper()] for field, word in given.items()}
        return await self._blocks.choosing(session, chosen)


def _user(user: User) -> object:
    return {"user": of_user(user)}


def _shown(audiences: Audiences) -> dict[str, str]:
    return {field: audience.name.lower() for field, audience in audiences._asdict().items()}
