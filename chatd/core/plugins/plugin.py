"""One plug-in: the time limit of a call, its circuit breaker, and what its failures mean.

Owns: one call as core sees it. A plug-in runs in threads of its own (core.plugins.executors), so a function that hangs
or blocks is waited for no longer than its limit; calls under way are bounded; what it answers is checked.
Elsewhere: the contract (core.plugins.contract), the breaker's states (core.plugins.breaker).
Fails: PluginFailed, logged here. An exception's own text is not logged: it may have a message or a password in it.
"""

from __future__ import annotations

import asyncio

from chatd import log
from chatd.config.schema import PluginOptions
from chatd.core.plugins.breaker import Breaker
from chatd.core.plugins.contract import Point, Verdict, functions_of, is_async, verdict_of
from chatd.core.plugins.executors import Call, OwnLoop, Pool, Raised
from chatd.errors import ChatdError

_MOST_CALLS = 1000
"""Under way in one plug-in, those nobody waits for any more included."""


class PluginFailed(ChatdError):
    """No answer to go by. Caught in core.plugins.pipeline and core.plugins.notifier."""


class Plugin:
    """made: what the entry point returned. Raises ValueError when that is no plug-in."""

    def __init__(self, config: PluginOptions, made: object, loop: asyncio.AbstractEventLoop) -> None:
        self.name = config.name
        self.fail_closed = config.fail == "closed"
        self.failures = 0
        """Calls that failed, total. One that was not made because the breaker is open is none."""
        self._functions = functions_of(made)
        self._loop = loop
        self._limit_s = config.time_limit_ms / 1000
        self._breaker = Breaker(config.breaker_failures, config.breaker_s)
        self._under_way = 0
        pool = Pool(config.name, config.threads, self._ended, loop)
        own_loop = OwnLoop(config.name, self._ended, loop)
        self._runners = {point: own_loop if is_async(made) else pool for point, made in self._functions.items()}
        self._log = log.get(hook=config.name)

    @property
    def points(self) -> frozenset[Point]:
        return frozenset(self._functions)

    @property
    def is_open(self) -> bool:
        """It is not called for now."""
        return self._breaker.is_open

    async def call(self, point: Point, event: object, body_bytes: int) -> Verdict:
        """Its answer, within the limit. body_bytes: the longest text it may put in the place of another."""
        turn = self._breaker.admit(self._loop.time())
        if turn is None:
            raise PluginFailed
        failure: Raised | None = Raised("given up", "")
        try:
            answer = await self._answer(point, event)
            if isinstance(answer, Raised):
                failure = answer
                raise PluginFailed
            verdict = verdict_of(point, answer, body_bytes)
            failure = None
            return verdict
        except ValueError as error:
            failure = Raised(str(error), "")
            raise PluginFailed from None
        finally:
            if failure is not None:
                self._failed(turn, point, failure)
            elif self._breaker.succeeded(turn):
                self._log.info("plug-in works again")

    async def _answer(self, point: Point, event: object) -> object:
        if self._under_way >= _MOST_CALLS:
            return Raised("too many calls under way", "")
        self._under_way += 1
        call = Call(self._functions[point], event, self._loop.create_future())
        runner = self._runners[point]
        runner.run(call)
        timer = self._loop.call_later(self._limit_s, _too_late, call)
        try:
            return await call.answer
        finally:
            timer.cancel()
            if not call.ended:
                call.given_up = True
                runner.give_up(call)

    def _ended(self, call: Call, answer: object) -> None:
        """In the worker's loop, also for calls nobody waits for any more."""
        self._under_way -= 1
        call.ended = True
        if not call.answer.done():
            call.answer.set_result(answer)

    def _failed(self, turn: int, point: Point, failure: Raised) -> None:
        self.failures += 1
        told = {"stack": failure.stack} if failure.stack else {}
        self._log.error("plug-in failed", point=str(point), why=failure.why, **told)
        if self._breaker.failed(turn, self._loop.time()):
            self._log.error("plug-in failed too often and is not called for a while", point=str(point))

    def close(self) -> None:
        """Start nothing more; what hangs in it is left behind."""
        for runner in set(self._runners.values()):
            runner.close()


def _too_late(call: Call) -> None:
    if not call.answer.done():
        call.answer.set_result(Raised("no answer in time", ""))
