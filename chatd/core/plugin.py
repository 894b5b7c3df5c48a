"""One plug-in: its threads, the time limit of a call, its circuit breaker, and what its failures mean.

Owns: everything that keeps a plug-in from harming the worker. It runs in threads of its own, so a function that hangs
or blocks is waited for no longer than its limit; calls and tasks under way are bounded; what it raises (SystemExit too)
ends here; what it answers is checked.
Elsewhere: the contract (core.hooks), the breaker's states (core.breaker).
Fails: PluginFailed, logged here. An exception's own text is not logged: it may have a message or a password in it.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from chatd import log
from chatd.config import Hook
from chatd.core.breaker import Breaker
from chatd.core.hooks import Point, Verdict, functions_of, is_async, verdict_of
from chatd.errors import ChatdError

_MOST_CALLS = 1000
"""Under way in one plug-in, those nobody waits for any more included."""
_FRAMES = 20
_MOST_TASKS = 2000
"""In its loop, those it has started itself included."""


class PluginFailed(ChatdError):
    """No answer to go by. Caught in core.chain and core.afterwards."""


class _Raised(NamedTuple):
    """What a call raised: the exception's type, and where."""

    why: str
    stack: str


def _raised(error: BaseException) -> _Raised:
    """Innermost last. Lines of source are not read for it: this runs in many threads, whenever something fails."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    told = (f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames[-_FRAMES:])
    return _Raised(type(error).__name__, "\n".join(told))


class Plugin:
    """made: what the entry point returned. Raises ValueError when that is no plug-in."""

    def __init__(self, config: Hook, made: object, loop: asyncio.AbstractEventLoop) -> None:
        self.name = config.name
        self.fail_closed = config.fail == "closed"
        self.failures = 0
        """Calls that failed, total. One that was not made because the breaker is open is none."""
        self._functions = functions_of(made)
        self._async = {point for point, function in self._functions.items() if is_async(function)}
        self._loop = loop
        self._limit_s = config.time_limit_ms / 1000
        self._breaker = Breaker(config.breaker_failures, config.breaker_s)
        self._room = threading.BoundedSemaphore(_MOST_CALLS)
        self._threads = ThreadPoolExecutor(config.threads, thread_name_prefix=f"hook-{config.name}")
        self._own_loop = _OwnLoop(config.name) if self._async else None
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
        why, stack = "given up", ""
        try:
            answer = await self._answer(point, event)
            if isinstance(answer, _Raised):
                why, stack = answer
                raise PluginFailed
            verdict = verdict_of(point, answer, body_bytes)
            why = ""
            return verdict
        except TimeoutError:
            why = "no answer in time"
            raise PluginFailed from None
        except ValueError as error:
            why = str(error)
            raise PluginFailed from None
        finally:
            if why:
                self._failed(turn, point, why, stack)
            elif self._breaker.succeeded(turn):
                self._log.info("plug-in works again")

    async def _answer(self, point: Point, event: object) -> object:
        if not self._room.acquire(blocking=False):
            return _Raised("too many calls under way", "")
        call = self._submit(point, event)
        call.add_done_callback(lambda call: self._room.release())
        answer = asyncio.wrap_future(call)
        try:
            done, _ = await asyncio.wait([answer], timeout=self._limit_s)
        finally:
            answer.cancel()  # nothing, where it is done
        if not done:
            raise TimeoutError
        if answer.cancelled():
            return _Raised("cancelled by itself", "")
        error = answer.exception()
        return _raised(error) if error is not None else answer.result()

    def _submit(self, point: Point, event: object) -> Future[object]:
        function = self._functions[point]
        if point in self._async:
            assert self._own_loop is not None
            return self._own_loop.submit(_guard_async(function, event))
        return self._threads.submit(_guard, function, event)

    def _failed(self, turn: int, point: Point, why: str, stack: str) -> None:
        self.failures += 1
        told = {"stack": stack} if stack else {}
        self._log.error("plug-in failed", point=str(point), why=why, **told)
        if self._breaker.failed(turn, self._loop.time()):
            self._log.error("plug-in failed too often and is not called for a while", point=str(point))

    def close(self) -> None:
        """Start nothing more; what hangs in it is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._own_loop is not None:
            self._own_loop.stop()


class _OwnLoop:
    """The loop of a plug-in's async functions, in a thread that ends with the process. Bounded in tasks."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self._make_task)
        self._loop.set_exception_handler(self._complain)
        self._tasks = 0
        self._stopping = False
        self._log = log.get(hook=name)
        threading.Thread(target=self._run, name=f"hook-{name}-loop", daemon=True).start()

    def submit(self, work: Coroutine[Any, Any, object]) -> Future[object]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001  a task of the plug-in may even raise SystemExit
                self._log.error("plug-in stopped its loop", why=type(error).__name__)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task it has left alone has failed, or a callback."""
        error = context.get("exception")
        told = _raised(error)._asdict() if isinstance(error, BaseException) else {"why": str(context.get("message"))}
        self._log.error("plug-in failed in the background", **told)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        if self._tasks >= _MOST_TASKS:
            work.close()
            raise RuntimeError("this plug-in has too many tasks")
        task = asyncio.Task(work, loop=loop, **more)
        self._tasks += 1
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks -= 1


def _guard(function: Callable[[Any], Any], event: object) -> object:
    """In a thread of the plug-in."""
    try:
        answer = function(event)
    except BaseException as error:  # noqa: BLE001  told by Plugin.call
        return _raised(error)
    if isinstance(answer, Coroutine):
        answer.close()
        return _Raised("it returned a coroutine: it must be declared async", "")
    return answer


async def _guard_async(function: Callable[[Any], Any], event: object) -> object:
    """In the plug-in's loop. A CancelledError of its own is a failure; nobody reads the result of one of ours."""
    try:
        answer: object = await function(event)
    except BaseException as error:  # noqa: BLE001  told by Plugin.call
        return _raised(error)
    return answer
