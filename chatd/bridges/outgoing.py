"""From this side to the other: messages to its users, from the store to RabbitMQ.

Owns: Outgoing: reading behind the cursor, publishing in the order of each conversation, moving the cursor.
Elsewhere: which messages these are (store.sql.bridges), the connection (bridges.link), the packets (bridges.packets).
Fails: LeaseLost and Unavailable end it; it begins again where the store says. While RabbitMQ does not take messages,
they wait in the store, and their senders were answered long ago.

A message is published when RabbitMQ has confirmed the one before it in the same conversation; those of other
conversations are published meanwhile. What was confirmed is not published again unless this worker ends before the
cursor is moved: then with the same fp, by which clients recognise it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chatd.bridges import packets
from chatd.bridges.contract import HEADER, RETRY_S, BridgeParts, Direction, Figures, Report
from chatd.bridges.link import Link, LinkFailed
from chatd.feeds import back_off
from chatd.feeds.lease import Lease, boot_time_s
from chatd.model import ConversationId, MessageState, Seq, User, UserId
from chatd.store.bridge_contract import Outgoing as StoredOutgoing
from chatd.store.bridge_contract import OutgoingPart
from chatd.store.contract import Advance, Tables
from chatd.store.event_contract import Position, Progress

_AT_ONCE = 200
"""Messages between two moves of the cursor."""
_SKIP_S = 5.0
"""How often the cursor moves over messages that are not for the other side."""
_COUNT_S = 1.0
_HAS_TEXT = (MessageState.SENT, MessageState.EDITED)


class Outgoing:
    def __init__(self, parts: BridgeParts, lease: Lease, figures: Figures, report: Report) -> None:
        self._parts = parts
        self._options = parts.options
        self._lease = lease
        self._figures = figures
        self._report = report
        self._link: Link | None = None
        self._failures = 0
        self._counted_at = 0.0

    async def run(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        state = self._lease.state
        assert state is not None
        with self._parts.feed.followed():
            await self._lease.settled()
            try:
                await self._connected()
                await self._forward(state.position)
            finally:
                await self._close()

    async def _forward(self, position: Position) -> None:
        moved_at = boot_time_s()
        while True:
            self._figures.waiting = self._figures.oldest_ms = 0
            if not await self._parts.feed.beyond(position, _SKIP_S):
                continue
            part, upto = await self._read(position)
            if part.messages:
                await self._publish(part)
            if part.messages or boot_time_s() - moved_at > _SKIP_S:
                moved_at = boot_time_s()
                await self._move(part.messages, upto)
            position = upto

    async def _read(self, position: Position) -> tuple[OutgoingPart, Position]:
        """The next part, and the position behind it."""
        settled, name = self._parts.feed.settled, self._options.name
        end = max(settled.message, position.message)
        part = await self._parts.feed.ask(lambda reader: reader.outgoing.waiting(name, position.message, end, _AT_ONCE))
        event = settled.event if part.upto == end else position.event
        return part, Position(part.upto, max(event, position.event))

    async def _move(self, done: Sequence[StoredOutgoing], upto: Position) -> None:
        """Raises: LeaseLost, Unavailable."""
        delivered: dict[tuple[UserId, ConversationId], Seq] = {}
        for one in done:
            message = one.message
            key = message.to_id, message.conversation
            delivered[key] = max(message.seq, delivered.get(key, 0))
        advances = [Advance(*key, seq) for key, seq in delivered.items()]

        def move(tables: Tables, name: str, fence: int, lease_ms: int) -> bool:
            if not tables.webhooks.move(name, fence, Progress(upto, upto, len(done)), lease_ms):
                return False
            if advances:
                tables.advance(advances)
            return True

        await self._lease.write(move)
        self._figures.sent += len(done)

    # ---------------------------------------------------------------- publishing

    async def _publish(self, part: OutgoingPart) -> None:
        """Until RabbitMQ has all of them. Raises: LeaseLost, Unavailable."""
        self._figures.oldest_ms = part.messages[0].message.sent_at_ms
        await self._count(part)
        left = part.messages
        while left:
            self._lease.check()
            link = await self._connected()
            left, failed = await self._attempt(link, left)
            if failed is not None:
                await self._failed(failed)
                await self._count(part)

    async def _attempt(
        self, link: Link, messages: Sequence[StoredOutgoing]
    ) -> tuple[list[StoredOutgoing], LinkFailed | None]:
        """Those that RabbitMQ has not confirmed, and why."""
        chains: dict[ConversationId, list[StoredOutgoing]] = {}
        for one in messages:
            chains.setdefault(one.message.conversation, []).append(one)
        outcomes = await asyncio.gather(*(self._publish_chain(link, chain) for chain in chains.values()))
        left = {id(one) for rest, _ in outcomes for one in rest}
        failed = next((failed for _, failed in outcomes if failed is not None), None)
        return [one for one in messages if id(one) in left], failed

    async def _publish_chain(
        self, link: Link, chain: Sequence[StoredOutgoing]
    ) -> tuple[Sequence[StoredOutgoing], LinkFailed | None]:
        for at, one in enumerate(chain):
            try:
                await self._publish_one(link, one)
            except LinkFailed as failed:
                return chain[at:], failed
        return (), None

    async def _publish_one(self, link: Link, one: StoredOutgoing) -> None:
        """Raises: LinkFailed."""
        message, options = one.message, self._options
        if message.state not in _HAS_TEXT:
            return  # recalled before it was sent
        sender = self._parts.people.shown(User(message.sender_id, message.sender_name), options)
        links = self._parts.links_of(message) if message.attachments else ()
        packet = packets.write(options.name, message, sender, one.remote, links)
        if links and len(packet) > options.outgoing_bytes:
            packet = packets.write(options.name, message, sender, one.remote)
        if len(packet) <= options.outgoing_bytes:
            await link.publish(options.outgoing, packet)
            return
        text = f"a packet of {len(packet)} bytes, at most {options.outgoing_bytes} (outgoing_bytes)"
        headers = {HEADER + "reason": "too_large", HEADER + "text": text, HEADER + "queue": options.outgoing}
        await link.publish(options.dead_letters, packet, headers)
        self._figures.dead += 1

    async def _count(self, part: OutgoingPart) -> None:
        """What waits; anew at most once in _COUNT_S. Raises: Unavailable."""
        if boot_time_s() - self._counted_at > _COUNT_S:
            self._counted_at = boot_time_s()
            settled, name = self._parts.feed.settled.message, self._options.name
            more = await self._parts.feed.ask(lambda reader: reader.outgoing.count(name, part.upto, settled))
            self._figures.waiting = len(part.messages) + more

    # ---------------------------------------------------------------- the connection

    async def _connected(self) -> Link:
        """Raises: LeaseLost, Unavailable."""
        while self._link is None:
            link = Link(self._options, "out")
            try:
                await link.open()
            except LinkFailed as failed:
                await self._failed(failed)
                continue
            self._link, self._failures = link, 0
            await self._report(Direction.OUTGOING, None)
        return self._link

    async def _failed(self, failed: LinkFailed) -> None:
        await self._close()
        self._failures += 1
        await self._report(Direction.OUTGOING, failed)
        await asyncio.sleep(back_off.delay_s(self._failures, longest_s=RETRY_S))

    async def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()
