"""Address bans in one worker: knowing those of the store, and having connections ended when they change.

Owns: reading them before the first client comes, again when another process says so and at intervals, and telling the
workers of all hosts.
Elsewhere: the bans themselves (address_bans), the rows (store.ban_contract.AddressBanTables), refusing and ending
connections (net), the operator's order (master.questions.bans), the command, which writes to the store (chatctl.bans).
Fails: open() and apply() raise Unavailable from the store. Where the message bus does not reach, a worker finds the
change within CHECK_S; while the store does not answer, the bans stay as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chatd.address_bans import AddressBans
from chatd.bus.contract import EVERYBODY, topic_of_answer
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import BansApplied, BansChanged
from chatd.core.services import Services
from chatd.core.store_watch import StoreWatch
from chatd.errors import Unavailable

CHECK_S = 2.0
"""How often the store is asked whether the bans have changed: one row."""
ANSWER_S = 2.5
"""How long the operator waits for other workers."""
AGAIN_S = 0.25
"""Asked again after this, for a worker that subscribed a moment ago and missed the question."""
_REMEMBERED = 100
"""Questions whose number of ended connections is remembered, in case they are asked again."""


class BansResult(NamedTuple):
    """ended: connections, on all workers that answered. unanswered: hosts (or workers of this host) that have not.
    cut_off: the bus is not whole, so there may be more of these."""

    ended: int
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False


async def _nobody() -> int:
    return 0


class BanWatch:
    """end_banned: ends the connections of this worker that a ban is about, and says how many. Set by the worker."""

    def __init__(self, services: Services, bans: AddressBans) -> None:
        self._services = services
        self._bans = bans
        self.end_banned: Callable[[], Awaitable[int]] = _nobody
        self._version = ""
        """Of the bans that are known: store.ban_contract.AddressBanTables.version."""
        self._watch = StoreWatch(services, CHECK_S, self._check)
        self._ended: OrderedDict[int, int | None] = OrderedDict()
        """By ref: connections ended for this question; None = it is being carried out."""

    async def open(self) -> None:
        """Before the first client comes. Raises Unavailable."""
        await self._read()

    async def _read(self) -> None:
        version, bans = await self._services.store.read(
            lambda tables: (tables.address_bans.version(), tables.address_bans.all())
        )
        self._version = version
        self._bans.replace(bans)

    async def _refresh(self) -> int:
        """Read them, and end connections. Raises Unavailable."""
        await self._read()
        return await self.end_banned()

    # ---------------------------------------------------------------- as an operator asks

    async def apply(self) -> BansResult:
        """The bans in the store have changed: have every worker of every host apply them. Raises Unavailable."""
        ended = await self._refresh()
        answers: dict[str, BansApplied] = {}
        bus = self._services.bus

        def missing() -> set[str]:
            return {place for name, place in bus.other_workers().items() if name not in answers}

        def is_complete() -> bool:
            return bus.healthy and not missing()

        def take(answer: BansApplied) -> None:
            answers[answer.worker] = answer

        question = Question(EVERYBODY, lambda ref: bus_messages.encode(BansChanged(ref)), BansApplied, private=True)
        with contextlib.closing(self._services.surveys.open(question, take)) as survey:
            await survey.run(is_complete, asyncio.get_running_loop().time() + ANSWER_S, AGAIN_S)
        ended += sum(answer.ended for answer in answers.values())
        return BansResult(ended, tuple(sorted(missing())), not bus.healthy)

    def asked(self, question: BansChanged) -> None:
        """Another worker asks."""
        self._services.background.start(self._answer(question.ref))

    async def _answer(self, ref: int) -> None:
        if ref not in self._ended:
            self._ended[ref] = None
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            try:
                self._ended[ref] = await self._refresh()
            except Unavailable:
                self._ended.pop(ref, None)  # not answered: asked again in a moment
                return
        ended = self._ended[ref]
        if ended is not None:  # otherwise it is answered in a moment
            answer = BansApplied(ref, self._services.bus.name, ended)
            self._services.bus.publish(topic_of_answer(ref), bus_messages.encode(answer))

    # ---------------------------------------------------------------- changed by whomever

    def tick(self) -> None:
        """About twenty times a second."""
        self._watch.tick()

    async def _check(self) -> None:
        version = await self._services.store.read(lambda tables: tables.address_bans.version())
        if version != self._version:
            await self._refresh()
