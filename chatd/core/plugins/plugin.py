"""One plug-in: its time limit, its circuit breaker, and what its failures mean.

Owns: one call as core sees it. A plug-in runs in separate threads (core.plugins.executors), so a function that hangs
or blocks is waited for no longer than its limit; the number of calls under way is limited; answers are checked.
Elsewhere: the contract (core.plugins.contract), the states of the breaker (core.plugins.breaker).
Fails: PluginFailed, logged here. The text of a plug-in's exception is not logged: it may contain a message or a
password.
"""

from __future__ import annotations

import asyncio

from chatd import log
from chatd.config.schema import PluginOptions
from chatd.core.plugins.breaker import Breaker, Permit
from chatd.core.plugins.contract import Point, Verdict, functions_of, is_async, verdict_of
from chatd.core.plugins.executors import Failure, PluginCall, PluginLoop, PluginThreads
from chatd.errors import ChatdError

MAX_CALLS = 1000
"""Maximum calls under way in one plug-in, including those whose answer is no longer waited for."""


class PluginFailed(ChatdError):
    """There is no valid answer. Caught in core.plugins.pipeline and core.plugins.notifier."""


class Plugin:
    """A plug-in of one worker. All methods are called from the worker's loop."""

    def __init__(self, options: PluginOptions, made: object, loop: asyncio.AbstractEventLoop) -> None:
        """made: what the entry point returned. Raises ValueError if that is not a plug-in."""
        self.name = options.name
        self.fail_closed = options.fail == "closed"
        self.failures = 0
        """Calls that failed, total. A call that was not made because the breaker is open is not counted."""
        self._functions = functions_of(made)
        self._loop = loop
        self._limit_s = options.time_limit_ms / 1000
        self._breaker = Breaker(options.breaker_failures, options.breaker_s)
        self._under_way = 0
        threads = PluginThreads(options.name, options.threads, self._ended, loop)
        own_loop = PluginLoop(options.name, self._ended, loop)
        self._executors = {
            point: own_loop if is_async(function) else threads for point, function in self._functions.items()
        }
        self._log = log.get(hook=options.name)

    @property
    def points(self) -> frozenset[Point]:
        return frozenset(self._functions)

    @property
    def is_open(self) -> bool:
        """Its breaker is open: it is not called for now."""
        return self._breaker.is_open

    async def call(self, point: Point, event: object, body_bytes: int) -> Verdict:
        """Its answer, within the time limit. body_bytes: the longest text it may put in place of another.

        Raises:
            PluginFailed: there is no answer, or an invalid one; or the breaker is open.
        """
        permit = self._breaker.admit(self._loop.time())
        if permit is None:
            raise PluginFailed
        failure: Failure | None = Failure("given up")
        try:
            answer = await self._answer(point, event)
            if isinstance(answer, Failure):
                failure = answer
                raise PluginFailed
            verdict = verdict_of(point, answer, body_bytes)
            failure = None
            return verdict
        except ValueError as error:
            failure = Failure(str(error))
            raise PluginFailed from None
        finally:
            if failure is not None:
                self._failed(permit, point, failure)
            elif self._breaker.succeeded(permit):
                self._log.info("plug-in works again")

    async def _answer(self, point: Point, event: object) -> object:
        """What the function answers, or a Failure."""
        if self._under_way >= MAX_CALLS:
            return Failure("too many calls under way")
        self._under_way += 1
        call = PluginCall(self._functions[point], event, self._loop.create_future())
        executor = self._executors[point]
        executor.run(call)
        timer = self._loop.call_later(self._limit_s, _time_out, call)
        try:
            return await call.answer
        finally:
            timer.cancel()
            if not call.ended:
                call.abandoned = True
                executor.abandon(call)

    def _ended(self, call: PluginCall, answer: object) -> None:
        """In the worker's loop, also for calls whose answer is no longer waited for."""
        self._under_way -= 1
        call.ended = True
        if not call.answer.done():
            call.answer.set_result(answer)

    def _failed(self, permit: Permit, point: Point, failure: Failure) -> None:
        self.failures += 1
        stack = {"stack": failure.stack} if failure.stack else {}
        self._log.error("plug-in failed", point=str(point), why=failure.why, **stack)
        if self._breaker.failed(permit, self._loop.time()):
            self._log.error("plug-in failed too often and is not called for a while", point=str(point))

    def close(self) -> None:
        """Start nothing more. A call that hangs is left behind."""
        for executor in set(self._executors.values()):
            executor.close()


def _time_out(call: PluginCall) -> None:
    if not call.answer.done():
        call.answer.set_result(Failure("no answer in time"))
