"""What an operator has the chat do, as one worker carries it out: orders of the master that core answers.

Owns: calling core for each of these orders, and the answer to the master.
Elsewhere: the orders (orders), the worker's own ones, such as reload and drain (worker), what they do (core).
Fails: never; what cannot be done is an answer with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chatd.core.core import Core
from chatd.core.sessions.broadcast import Audience
from chatd.core.sessions.kick import KickTarget, Repetition
from chatd.errors import Refused, Unavailable
from chatd.model import Protocol
from chatd.orders import (
    Answer,
    ApplyBansOrder,
    BansApplied,
    BroadcastDone,
    BroadcastOrder,
    ClearPenaltiesOrder,
    ClientsDone,
    ClientsOrder,
    FindUserOrder,
    KickDone,
    KickOrder,
    Order,
    OrderFailed,
    PenaltiesCleared,
    SessionsDone,
    SessionsOrder,
    ShownSession,
    UserFound,
)


class OperatorOrders:
    """slot: the worker's, for the operator."""

    def __init__(self, core: Core, slot: int) -> None:
        self._core = core
        self._slot = slot
        self._table: Mapping[type[Order], Callable[[Any], Awaitable[Answer]]] = {
            KickOrder: self._kick,
            ClearPenaltiesOrder: self._clear_penalties,
            SessionsOrder: self._list_sessions,
            BroadcastOrder: self._broadcast,
            ApplyBansOrder: self._apply_bans,
            ClientsOrder: self._list_clients,
            FindUserOrder: self._find_user,
        }

    def answer(self, order: Order) -> Awaitable[Answer] | None:
        """The answer to the order, when it has been carried out. None: it is none of these."""
        carry_out = self._table.get(type(order))
        return None if carry_out is None else carry_out(order)

    def _why(self, error: Unavailable) -> str:
        return f"worker {self._slot}: {error}"

    async def _kick(self, order: KickOrder) -> Answer:
        target = KickTarget(order.user, order.user_id, order.credentials, _protocol(order.wire), order.network)
        try:
            again = Repetition(order.age_s, order.repeat_s, order.unanswered) if order.repeat_s else None
            ended = await self._core.kicks.kick(target, order.reason, again)
        except Unavailable as error:
            return OrderFailed(ref=order.ref, why=self._why(error))
        return KickDone(ref=order.ref, **ended._replace(unanswered=dict(ended.unanswered))._asdict())

    async def _clear_penalties(self, order: ClearPenaltiesOrder) -> Answer:
        try:
            return PenaltiesCleared(order.ref, await self._core.clearing.clear(order.subject))
        except Unavailable as error:
            return OrderFailed(ref=order.ref, why=self._why(error))

    async def _list_sessions(self, order: SessionsOrder) -> Answer:
        found = await self._core.session_query.sessions_of(order.user_id)
        shown = tuple(
            ShownSession(Protocol(info.protocol).name.lower(), info.since_ms, info.remote, host, slot)
            for info, host, slot in found.sessions
        )
        return SessionsDone(ref=order.ref, sessions=shown, complete=found.complete)

    async def _broadcast(self, order: BroadcastOrder) -> Answer:
        audience = Audience(_protocol(order.wire), order.user, order.group_id)
        try:
            told = await self._core.broadcasts.send(order.text, order.at_ms, audience)
        except Refused as refused:
            return OrderFailed(ref=order.ref, why=refused.text, unknown=True)
        except Unavailable as error:
            return OrderFailed(ref=order.ref, why=self._why(error))
        return BroadcastDone(ref=order.ref, **told._asdict())

    async def _apply_bans(self, order: ApplyBansOrder) -> Answer:
        try:
            applied = await self._core.bans.apply()
        except Unavailable as error:
            return OrderFailed(ref=order.ref, why=self._why(error))
        return BansApplied(ref=order.ref, **applied._asdict())

    async def _list_clients(self, order: ClientsOrder) -> Answer:
        listing = self._core.session_listing
        if not order.everywhere:
            return ClientsDone(ref=order.ref, page=await listing.page(order.query))
        found = await listing.everywhere(order.query)
        return ClientsDone(ref=order.ref, page=found.page, complete=found.complete)

    async def _find_user(self, order: FindUserOrder) -> Answer:
        try:
            account = await self._core.store.read(lambda tables: tables.accounts.find_any(order.user))
        except Unavailable as error:
            return OrderFailed(ref=order.ref, why=self._why(error))
        if account is None:
            return OrderFailed(ref=order.ref, why=f"{order.user}: no such user", unknown=True)
        return UserFound(ref=order.ref, user_id=account.user.id, name=account.user.name)


def _protocol(wire: str) -> int:
    """Its number in model.Protocol; 0 = every wire."""
    return int(Protocol[wire.upper()]) if wire else 0
