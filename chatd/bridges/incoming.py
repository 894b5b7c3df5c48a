"""From the other side to this one: packets from RabbitMQ to the store.

Owns: Incoming: reading packets, storing them in order, acknowledging them after the commit, dead letters.
Elsewhere: the connection (bridges.link), reading a packet (bridges.packets), who is who (bridges.people), storing
(core.calls).
Fails: LeaseLost and Unavailable end it. What was not acknowledged to RabbitMQ comes again, and what of it was stored
before is recognised by its sender and fp.

Packets are taken in rounds of what has arrived, at most `prefetch`. All of a round are queued for the store in their
order, and share a commit; when each is stored or in the dead letters, the round is acknowledged. What the store, or
anything else, cannot do at present is tried again; the rest of a round waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aio_pika.abc import AbstractIncomingMessage

from chatd import log
from chatd.bridges.contract import HEADER, RETRY_S, BridgeParts, Direction, Figures, Report
from chatd.bridges.link import Link, LinkFailed
from chatd.bridges.packets import UNKNOWN_RECIPIENT, Packet, Unusable, read, refusal
from chatd.core.calls import Caller
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.feeds import back_off
from chatd.protocol import Accepted, SendMessage

_AGAIN_S = 0.5
"""Between two attempts to store what cannot be stored at present."""
_BUGS = 3
"""Attempts at a packet that chatd fails at unexpectedly."""
_LATER = frozenset((ErrorCode.UNAVAILABLE, ErrorCode.BUSY, ErrorCode.TOO_FAST))
"""Refusals that say nothing about the packet. (A mailbox may be full for days: that is one about the packet.)"""

Arrived = AbstractIncomingMessage
_Pending = asyncio.Future[Accepted] | Unusable | None
"""A message that is queued for the store; what is wrong with it; None = it is to be tried again."""


class _Ready(NamedTuple):
    caller: Caller
    command: SendMessage


class Incoming:
    def __init__(self, parts: BridgeParts, figures: Figures, report: Report) -> None:
        self._parts = parts
        self._options = parts.options
        self._figures = figures
        self._report = report
        self._log = log.get()
        self._arrived: asyncio.Queue[Arrived | LinkFailed] = asyncio.Queue()
        """Bounded by prefetch."""
        self._bugs: dict[int, int] = {}
        """Unexpected failures, by the delivery tag of the packet."""

    async def run(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        failures = 0
        while True:
            self._arrived, self._bugs = asyncio.Queue(), {}
            link = Link(self._options, "in")
            try:
                await link.open()
                await link.consume(self._arrived.put_nowait)
                failures = 0
                await self._report(Direction.INCOMING, None)
                while True:
                    await self._round(link, await self._taken())
            except LinkFailed as error:
                failed = error
            finally:
                await link.close()
            failures += 1
            await self._report(Direction.INCOMING, failed)
            await asyncio.sleep(back_off.delay_s(failures, longest_s=RETRY_S))

    async def _taken(self) -> list[Arrived]:
        """What has arrived, at least one. Raises: LinkFailed."""
        found = [await self._arrived.get()]
        while not self._arrived.empty():
            found.append(self._arrived.get_nowait())
        messages = []
        for one in found:
            if isinstance(one, LinkFailed):
                raise one
            messages.append(one)
        return sorted(messages, key=_tag)

    # ---------------------------------------------------------------- a round

    async def _round(self, link: Link, messages: Sequence[Arrived]) -> None:
        """Raises: LinkFailed."""
        left = messages
        while left:
            pending = await self._begin_all(left)
            left = [message for message, begun in pending if not await self._end(link, message, begun)]
            if left:
                self._raise_if_lost()
                await asyncio.sleep(_AGAIN_S)
        await link.acknowledge(messages[-1])

    async def _begin_all(self, messages: Sequence[Arrived]) -> list[tuple[Arrived, _Pending]]:
        """Queue them for the store, up to the first that cannot be queued at present. First everybody is found, then
        all are queued in one turn of the loop: they share a transaction, so none is stored without those before it.
        (Where plug-ins are asked about messages, they do not.)"""
        ready: list[_Ready | Unusable] = []
        for message in messages:
            one = await self._prepare(message)
            if one is None:
                break
            ready.append(one)
        begin = self._parts.calls.begin
        pending: list[_Pending] = [one if isinstance(one, Unusable) else await begin(*one) for one in ready]
        waits = [None] * (len(messages) - len(pending))
        return list(zip(messages, [*pending, *waits], strict=True))

    def _raise_if_lost(self) -> None:
        """Nothing of this round can be acknowledged any more."""
        kept = []
        while not self._arrived.empty():
            one = self._arrived.get_nowait()
            if isinstance(one, LinkFailed):
                raise one
            kept.append(one)
        for one in kept:
            self._arrived.put_nowait(one)

    async def _prepare(self, message: Arrived) -> _Ready | Unusable | None:
        """What is to be stored, or what is wrong with it; None = that cannot be said at present."""
        parts, options = self._parts, self._options
        try:
            packet = read(message.body, options.incoming_bytes, parts.config())
            sender = await parts.people.sender(options, packet.sender)
            to = await parts.people.recipient(options, packet.to)
        except Unusable as unusable:
            return unusable
        except Unavailable:
            return None
        return _Ready(Caller(sender, f"bridge {options.name}"), _command(packet, to.id))

    async def _end(self, link: Link, message: Arrived, begun: _Pending) -> bool:
        """Whether the packet is stored or in the dead letters. Raises: LinkFailed."""
        if begun is None:
            return False
        unusable = begun if isinstance(begun, Unusable) else None
        if unusable is None:
            assert isinstance(begun, asyncio.Future)
            try:
                await begun
            except Refused as refused:
                if self._is_for_later(message, refused):
                    return False
                unusable = refusal(refused)
        if unusable is None:
            self._figures.received += 1
        else:
            await self._bury(link, message, unusable)
        return True

    def _is_for_later(self, message: Arrived, refused: Refused) -> bool:
        if refused.code == ErrorCode.INTERNAL:
            tag = _tag(message)
            self._bugs[tag] = self._bugs.get(tag, 0) + 1
            return self._bugs[tag] < _BUGS
        return refused.code in _LATER

    async def _bury(self, link: Link, message: Arrived, unusable: Unusable) -> None:
        """Raises: LinkFailed."""
        if unusable.reason == UNKNOWN_RECIPIENT and self._options.return_unknown:
            await link.publish(self._options.outgoing, message.body)
            self._figures.returned += 1
            return
        headers = {
            HEADER + "reason": unusable.reason,
            HEADER + "text": unusable.text,
            HEADER + "queue": self._options.incoming,
        }
        await link.publish(self._options.dead_letters, message.body, headers)
        self._figures.dead += 1
        self._log.warning(
            "bridge: packet to the dead letters", bridge=self._options.name, reason=unusable.reason, why=unusable.text
        )


def _tag(message: Arrived) -> int:
    return message.delivery_tag or 0


def _command(packet: Packet, to_id: int) -> SendMessage:
    """By the id of the recipient: a name could be taken for a number."""
    return SendMessage("", to_id, 0, packet.text, packet.fp, bool(packet.fp), packet.typeu)
