"""One plug-in: its time limit, its guards, and what its failures mean.

Owns: one call as core sees it. A plug-in runs in separate threads (core.plugins.executors), so a function that hangs
or blocks is waited for no longer than its limit; the number of calls under way is limited; answers are checked.
Elsewhere: the contract (core.plugins.contract), when a function that fails is no longer called (core.plugins.guard).
Fails: PluginFailed, logged here. The text of a plug-in's exception is not logged: it may contain a message or a
password.
"""

from __future__ import annotations

import asyncio
from typing import Any

from chatd import log, security_log
from chatd.config.schema import PluginOptions
from chatd.core.plugins import guard
from chatd.core.plugins.contract import Point, functions_of, is_async, verdict_of
from chatd.core.plugins.contract import Verdict as Answer
from chatd.core.plugins.executors import Failure, PluginCall, PluginLoop, PluginThreads
from chatd.core.plugins.guard import Admission, Cause, PointGuard
from chatd.errors import ChatdError
from chatd.security_log import SecurityEvent

MAX_CALLS = 1000
"""Maximum calls under way in one plug-in, including those whose answer is no longer waited for."""


class PluginFailed(ChatdError):
    """There is no valid answer. Caught in core.plugins.pipeline and core.plugins.notifier."""


class Plugin:
    """A plug-in of one worker. All methods are called from the worker's loop."""

    def __init__(self, options: PluginOptions, made: object, loop: asyncio.AbstractEventLoop) -> None:
        """made: what the entry point returned. Raises ValueError if that is not a plug-in. core.plugins.loading has
        checked whether the options fit it."""
        self.name = options.name
        self.fail_closed = options.fail == "closed"
        self.failures = 0
        """Calls that failed, total. A call that was not made is not counted."""
        self._functions = functions_of(made)
        self._loop = loop
        self._options = options
        self._limit_s = options.time_limit_ms / 1000
        self._guards = {point: PointGuard(options.breaker_failures, options.breaker_s) for point in self._functions}
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
    def suspended(self) -> int:
        """Its functions that are not called for now."""
        return sum(one.is_suspended for one in self._guards.values())

    @property
    def held(self) -> int:
        """Users for whom one of its functions is not called for now, added up over its functions."""
        now = self._loop.time()
        return sum(one.held(now) for one in self._guards.values())

    async def call(self, point: Point, event: object, cause: Cause, body_bytes: int = 0) -> Answer:
        """Its answer, within the time limit. body_bytes: the longest text it may put in place of another.

        Raises:
            PluginFailed: there is no answer, or an invalid one; or the call was not made, because too many have failed.
        """
        call = self._guards[point].admit(cause, self._loop.time())
        if call is None:
            raise PluginFailed
        failure: Failure | None = Failure("given up")
        try:
            answer = await self._answer(point, event, cause)
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
                self._failed(call, point, failure)
            else:
                self._succeeded(call, point)

    async def _answer(self, point: Point, event: object, cause: Cause) -> object:
        """What the function answers, or a Failure."""
        if self._under_way >= MAX_CALLS:
            return Failure("too many calls under way")
        self._under_way += 1
        call = PluginCall(self._functions[point], event, self._loop.create_future(), point, cause)
        executor = self._executors[point]
        executor.run(call)
        timer = self._loop.call_later(self._limit_s, _time_out, call)
        try:
            return await call.answer
        finally:
            timer.cancel()
            if not call.ended:
                call.abandoned = True
                if call.begun:
                    call.overdue = True
                    self._guards[point].overdue(cause)
                executor.abandon(call)

    def _ended(self, call: PluginCall, answer: object) -> None:
        """In the worker's loop, also for calls whose answer is no longer waited for."""
        self._under_way -= 1
        call.ended = True
        if call.overdue:
            self._guards[call.point].overdue_ended(call.cause)
        if not call.answer.done():
            call.answer.set_result(answer)

    def _succeeded(self, call: Admission, point: Point) -> None:
        match self._guards[point].succeeded(call):
            case guard.Verdict.RESUMED:
                self._log.info("plug-in works again", point=str(point))
            case guard.Verdict.RELEASED:
                self._log.info("plug-in works again for a user", point=str(point), **_shown(call.cause))

    def _failed(self, call: Admission, point: Point, failure: Failure) -> None:
        self.failures += 1
        stack = {"stack": failure.stack} if failure.stack else {}
        self._log.error("plug-in failed", point=str(point), why=failure.why, **_shown(call.cause), **stack)
        match self._guards[point].failed(call, self._loop.time()):
            case guard.Verdict.SUSPENDED:
                self._report(point, "for all users", self._options.breaker_s)
            case guard.Verdict.HELD:
                self._report(point, "for one user", guard.HELD_FACTOR * self._options.breaker_s, call.cause)

    def _report(self, point: Point, scope: str, for_s: float, cause: Cause | None = None) -> None:
        """The function is not called for a while, for all users or for one."""
        fields: dict[str, Any] = {"point": str(point), "scope": scope, "for_s": for_s}
        if cause is not None:
            fields |= _shown(cause)
        if point.decides:
            security_log.record(SecurityEvent.HOOK_SUSPENDED, hook=self.name, fail=self._options.fail, **fields)
        else:
            self._log.error("plug-in failed too often and is not called for a while", **fields)

    def close(self) -> None:
        """Start nothing more. A call that hangs is left behind."""
        for executor in set(self._executors.values()):
            executor.close()


def _time_out(call: PluginCall) -> None:
    if not call.answer.done():
        call.answer.set_result(Failure("no answer in time"))


def _shown(cause: Cause) -> dict[str, Cause]:
    return {"source": cause} if isinstance(cause, str) else {"user": cause}
