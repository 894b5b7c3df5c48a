"""Notifying users who are away, on the one worker of a cluster that does it.

Owns: Delivery: looking for messages to absent users with subscriptions, sending what is due, and recording what became
of it.
Elsewhere: which worker it is (feeds.lease), reading (feeds.feed), what is stored (store.sql.push), one request
(push.sender), the gateways of plug-ins (core.plugins.pipeline).
Fails: never. A store that does not answer and a lease that is lost end the work, which begins again where the store
says, so notifications are sent at least once.

Three tasks share the lease. One moves through the messages and notes in the store who is to be told, and when. One
sends what is due then, if the user is still away and the message still waits. The third one watches users who were
online when a message came, and whose session ends without it; only of these, memory knows more than the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

import msgspec

from chatd import log, wall_clock
from chatd.config.push_options import PushOptions
from chatd.core.plugins.contract import PushNote
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.sessions.hub import Hub
from chatd.feeds import back_off
from chatd.feeds.feed import Feed
from chatd.feeds.lease import Lease, LeaseParts, boot_time_s
from chatd.model import ConversationId, Message, UserId
from chatd.push.payload import content_of, note_of
from chatd.push.places import AT_ONCE, Places
from chatd.push.sender import Outcome, Result, Sender
from chatd.store.contract import Tables
from chatd.store.event_contract import Position, Progress
from chatd.store.push_contract import PUSH_READER, DuePush, Missed, MissedPart

_AT_ONCE_NOTED = 200
"""Conversations of users that are noted in one transaction, which messages share."""
_SKIP_S = 5.0
"""How often the cursor moves over messages of which nobody is to be told."""
_LOOK_S = 30.0
"""Longest time between two looks for what is due."""
_LOG_EVERY_S = 60.0
"""Failures are logged at most this often."""
_TOPIC_CHARS = 32
WATCHED_S = 120.0
"""How long after a message a session that ends may not have given it to the user."""
_WATCH_EVERY_S = 5.0
_MOST_WATCHED = 10_000

Work = Callable[[Tables], None]
"""What is recorded of a notification."""
_Served = tuple[DuePush, Outcome | None]
"""A notification and what came of sending it; None = it was not to be sent."""


class Figures(msgspec.Struct, kw_only=True):
    """Since the worker started. sent: notifications that a push service or a gateway has taken. failed: attempts that
    failed. removed: subscriptions that have ended."""

    sent: int = 0
    failed: int = 0
    removed: int = 0


class DeliveryParts(msgspec.Struct, frozen=True, kw_only=True):
    """sender: None = there is no Web Push, only gateways of plug-ins. options: in force."""

    feed: Feed
    lease: LeaseParts
    hub: Hub
    plugins: PluginPipeline
    sender: Sender | None
    options: Callable[[], PushOptions]


class Delivery:
    """Of the whole server. feeds.readers.Reader."""

    def __init__(self, parts: DeliveryParts) -> None:
        self.figures = Figures()
        self._parts = parts
        self._store = parts.lease.store
        self._lease = Lease("push", PUSH_READER, parts.lease, shown="push")
        self._noted = asyncio.Event()
        """Something is due, maybe sooner than what was known before."""
        self._watched: dict[tuple[UserId, ConversationId], tuple[float, Missed]] = {}
        """The last message to users who had a session, and until when it is of interest, by boot_time_s()."""
        self._log = log.get()
        self._log_again_at = 0.0

    async def run(self) -> None:
        """Until it is cancelled; then give_back() is to be called."""
        try:
            await self._lease.run(lambda: [self._note(), self._watch(), self._tell()], lambda: None)
        finally:
            if self._parts.sender is not None:
                await self._parts.sender.close()

    async def give_back(self) -> None:
        """After run() was cancelled: let another worker go on at once."""
        await self._lease.give_back()

    # ---------------------------------------------------------------- who is to be told

    async def _note(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        state = self._lease.state
        assert state is not None
        feed, position, moved_at = self._parts.feed, state.position, boot_time_s()
        with feed.followed():
            await self._lease.settled()
            while True:
                if not await feed.beyond(position, _SKIP_S):
                    continue
                part, upto = await self._read(position)
                missed = await self._absent(part.found)
                if missed or boot_time_s() - moved_at > _SKIP_S:
                    moved_at = boot_time_s()
                    await self._put_off(missed, upto)
                position = upto

    async def _read(self, position: Position) -> tuple[MissedPart, Position]:
        """What was sent to users with subscriptions, and the position behind it."""
        settled = self._parts.feed.settled
        end = max(settled.message, position.message)
        part = await self._parts.feed.ask(lambda reader: reader.missed(position.message, end))
        event = settled.event if part.upto == end else position.event
        return part, Position(part.upto, max(event, position.event))

    async def _absent(self, found: list[Missed]) -> list[Missed]:
        if not found:
            return []
        online = await self._parts.hub.online({one.user_id for one in found})
        until = boot_time_s() + WATCHED_S
        for one in found:
            if one.user_id in online and len(self._watched) < _MOST_WATCHED:
                self._watched[one.user_id, one.conversation] = until, one
        return [one for one in found if one.user_id not in online]

    async def _watch(self) -> None:
        """Note messages to users whose sessions end before they have them: a client that is gone has a session until
        its silence is noticed. Raises: LeaseLost, Unavailable."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            now = boot_time_s()
            self._watched = {key: one for key, one in self._watched.items() if one[0] > now}
            online = await self._parts.hub.online({user_id for user_id, _ in self._watched})
            left = [key for key in self._watched if key[0] not in online]
            if left:
                await self._put_off([self._watched.pop(key)[1] for key in left], None)

    async def _put_off(self, missed: list[Missed], upto: Position | None) -> None:
        """In transactions of a bounded length. upto: everything before it was looked at. Raises: LeaseLost,
        Unavailable."""
        slices = [missed[at : at + _AT_ONCE_NOTED] for at in range(0, len(missed), _AT_ONCE_NOTED)] or [[]]
        for one in slices[:-1]:
            await self._put_some_off(one, None)
        await self._put_some_off(slices[-1], upto)
        if missed:
            self._noted.set()

    async def _put_some_off(self, missed: list[Missed], upto: Position | None) -> None:
        options = self._parts.options()
        due_at_ms, pause_ms = wall_clock.now_ms() + int(options.delay_s * 1000), int(options.pause_s * 1000)

        def write(tables: Tables, name: str, fence: int, lease_ms: int) -> bool:
            if upto is None:
                holds = tables.webhooks.renew(name, fence, lease_ms)
            else:
                holds = tables.webhooks.move(name, fence, Progress(upto, upto, 0), lease_ms)
            if not holds:
                return False
            tables.push.put_off(missed, max(1, due_at_ms), pause_ms)
            return True

        await self._lease.write(write)

    # ---------------------------------------------------------------- telling them

    async def _tell(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        under_way: dict[int, asyncio.Task[_Served]] = {}
        places = Places()
        try:
            while True:
                self._noted.clear()
                next_ms = await self._begin(under_way, places)
                await self._wait(under_way, next_ms)
                for number in [number for number, task in under_way.items() if task.done()]:
                    one, outcome = under_way.pop(number).result()
                    places.give_back(one.service, is_answered=None if outcome is None else outcome.is_answered)
        finally:
            for task in under_way.values():
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)

    async def _begin(self, under_way: dict[int, asyncio.Task[_Served]], places: Places) -> int:
        """Send what is due, as far as there is room. When the next one is due, since the epoch; 0 = none is."""
        now_ms, limit = wall_clock.now_ms(), AT_ONCE + len(under_way)
        full = set[str]()
        while places.free():
            full |= places.full()
            found = await self._store.read(partial(_due, now_ms, limit, sorted(full)))
            begun = [one for one in found if one.id not in under_way and places.take(one.service)]
            for one in begun:
                under_way[one.id] = asyncio.create_task(self._serve(one))
            if not begun:
                break  # all that is due is under way, or waits for the end of one of the same service
        if not places.free():
            return 0  # the end of one makes room
        return await self._store.read(lambda tables: tables.push.next_due_ms(now_ms))

    async def _wait(self, under_way: dict[int, asyncio.Task[_Served]], next_ms: int) -> None:
        """Until something is due, or one of those that are under way has ended."""
        within_s = min(_LOOK_S, max(0.0, (next_ms - wall_clock.now_ms()) / 1000)) if next_ms else _LOOK_S
        noted = asyncio.create_task(self._noted.wait())
        try:
            await asyncio.wait({noted, *under_way.values()}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            noted.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await noted

    async def _serve(self, one: DuePush) -> _Served:
        """Raises: LeaseLost, Unavailable."""
        outcome = None
        if not one.valid:
            self.figures.removed += 1
            await self._record(lambda tables: tables.push.remove(one))
        elif not one.waits or one.message is None or await self._parts.hub.online([one.user.id]):
            await self._record(lambda tables: tables.push.drop(one))
        else:
            self._lease.check()
            outcome = await self._send(one, one.message)
            await self._settle(one, one.message, outcome)
        return one, outcome

    async def _send(self, one: DuePush, message: Message) -> Outcome:
        options = self._parts.options()
        if one.gateway:
            return await self._send_to_gateway(one, message)
        if self._parts.sender is None:
            return Outcome(Result.REFUSED, "there is no Web Push any more")
        content = content_of(note_of(one, message, options))
        topic = sha256(str(message.conversation).encode()).hexdigest()[:_TOPIC_CHARS]
        return await self._parts.sender.send(one, content, options.ttl_s, topic)

    async def _send_to_gateway(self, one: DuePush, message: Message) -> Outcome:
        note = PushNote(user=one.user, gateway=one.gateway, token=one.endpoint, message=message, count=one.waiting)
        pushed = await self._parts.plugins.push(note)
        if pushed is None:
            return Outcome(Result.AGAIN, f"no plug-in has served gateway {one.gateway}", is_answered=False)
        return Outcome(Result.SENT if pushed else Result.GONE)

    # ---------------------------------------------------------------- what became of it

    async def _settle(self, one: DuePush, message: Message, outcome: Outcome) -> None:
        """Raises: LeaseLost, Unavailable."""
        options, now_ms = self._parts.options(), wall_clock.now_ms()
        is_late = now_ms - message.sent_at_ms > options.ttl_s * 1000
        if outcome.result is Result.SENT:
            self.figures.sent += 1
            await self._record(lambda tables: tables.push.told(one, now_ms, int(options.pause_s * 1000)))
            return
        is_given_up = outcome.result is Result.REFUSED or is_late
        if outcome.result is Result.GONE or (is_given_up and not one.worked_at_ms):
            self.figures.removed += 1
            self._log.info("push subscription removed", user=one.user.id, why=outcome.error or "it has ended")
            await self._record(lambda tables: tables.push.remove(one))
            return
        self.figures.failed += 1
        self._report(one, outcome)
        delay_s = back_off.delay_s(one.failures + 1, outcome.wait_s)
        due_at_ms = now_ms + int(delay_s * 1000)
        if is_given_up:
            await self._record(lambda tables: tables.push.drop(one))
        else:
            await self._record(lambda tables: tables.push.failed(one, due_at_ms))

    def _report(self, one: DuePush, outcome: Outcome) -> None:
        now = boot_time_s()
        if now >= self._log_again_at:
            self._log_again_at = now + _LOG_EVERY_S
            self._log.warning("a notification was not taken", user=one.user.id, why=outcome.error)

    async def _record(self, work: Work) -> None:
        """Raises: LeaseLost, Unavailable."""

        def write(tables: Tables, name: str, fence: int, lease_ms: int) -> bool:
            if not tables.webhooks.renew(name, fence, lease_ms):
                return False
            work(tables)
            return True

        await self._lease.write(write)


def _due(now_ms: int, limit: int, without: Sequence[str], tables: Tables) -> list[DuePush]:
    return tables.push.due(now_ms, limit, without)
