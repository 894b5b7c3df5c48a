"""Where a plug-in's functions run, and how their answers come back to the worker's loop.

Owns: PluginThreads, a few threads for plain functions, and PluginLoop, a thread with an event loop for async ones, with
a maximum number of tasks. Whatever a call raises, even SystemExit, becomes a Failure. The answers of one moment wake
the worker's loop once.
Elsewhere: how long an answer is waited for, and how many calls there may be (core.plugins.plugin).
Fails: never. A call that does not end keeps its thread or its task; the threads end with the process.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from chatd import log
from chatd.core.plugins.contract import Point
from chatd.core.plugins.guard import Cause

MAX_TASKS = 2000
"""Maximum tasks in the loop of one plug-in, including those that it starts itself."""
_CANCEL_S = 2.0
"""Time that a plug-in's tasks have to end after they are cancelled at the end."""
_CANCEL_STEP_S = 0.01
_MAX_FRAMES = 20
"""Maximum frames of a stack in the log."""


class Failure(NamedTuple):
    """Why there is no answer. why: the type of the exception, or a text of ours. stack: where it was raised."""

    why: str
    stack: str = ""


class PluginCall:
    """One call under way.

    answer: a future of the worker's loop. begun: the function has been called. abandoned: no one waits for the answer
    any more. ended: the function has returned. overdue: it was abandoned after it had begun. task: in the plug-in's
    loop, while it runs there. point, cause: what the call is about, and for whom it is made.
    """

    __slots__ = ("abandoned", "answer", "begun", "cause", "ended", "event", "function", "overdue", "point", "task")

    def __init__(
        self,
        function: Callable[[Any], Any],
        event: object,
        answer: asyncio.Future[object],
        point: Point,
        cause: Cause,
    ) -> None:
        self.function = function
        self.event = event
        self.answer = answer
        self.point = point
        self.cause = cause
        self.begun = False
        self.abandoned = False
        self.overdue = False
        self.ended = False
        self.task: asyncio.Task[object] | None = None


OnEnd = Callable[[PluginCall, object], None]
"""Called in the worker's loop with a call that has ended, and its answer or Failure."""


class _LoopQueue:
    """Items from any thread to a function in one loop. Many put at one moment wake the loop once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[..., None]) -> None:
        self._loop = loop
        self._take = take
        self._items: deque[tuple[Any, ...]] = deque()
        self._woken = False
        """The loop has been woken and has not taken the items yet."""

    def put(self, *item: Any) -> None:
        """From any thread. Two threads that put at the same moment may both wake the loop, which does no harm."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_all)
            except RuntimeError:
                if not self._loop.is_closed():  # if it is, no one is left to take the item
                    raise

    def _take_all(self) -> None:
        self._woken = False  # first, so that an item put from now on wakes the loop again
        while self._items:
            self._take(*self._items.popleft())


class PluginThreads:
    """Runs plain functions. A thread is started with each of the first calls, up to the number of threads."""

    def __init__(self, name: str, threads: int, on_end: OnEnd, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._threads = threads
        self._calls: queue.SimpleQueue[PluginCall | None] = queue.SimpleQueue()
        self._answers = _LoopQueue(loop, on_end)
        self._started = 0

    def run(self, call: PluginCall) -> None:
        self._calls.put(call)
        if self._started < self._threads:
            self._started += 1
            threading.Thread(target=self._serve, name=f"hook-{self._name}", daemon=True).start()

    def abandon(self, call: PluginCall) -> None:
        """A call that has not begun does not begin. One that has begun cannot be stopped."""

    def close(self) -> None:
        for _ in range(self._started):
            self._calls.put(None)

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            if call.abandoned:
                answer: object = Failure("given up")
            else:
                call.begun = True
                answer = _run(call.function, call.event)
            self._answers.put(call, answer)
            del call, answer


class PluginLoop:
    """Runs async functions. Its thread starts with the first call."""

    def __init__(self, name: str, on_end: OnEnd, loop: asyncio.AbstractEventLoop) -> None:
        """loop: the worker's."""
        self._name = name
        self._answers = _LoopQueue(loop, on_end)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: _LoopQueue | None = None
        self._tasks = 0
        """Tasks in the loop, see MAX_TASKS."""
        self._closing = False
        """close() was called. Changed by the worker's thread."""
        self._stopping = False
        """The loop is to end. Changed by the plug-in's thread."""
        self._log = log.get(hook=name)

    def run(self, call: PluginCall) -> None:
        if self._calls is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_task_factory(self._make_task)
            self._loop.set_exception_handler(self._log_background_failure)
            self._calls = _LoopQueue(self._loop, self._begin)
            threading.Thread(target=self._serve, name=f"hook-{self._name}-loop", daemon=True).start()
        self._calls.put(call)

    def abandon(self, call: PluginCall) -> None:
        """Cancel it."""
        if self._loop is not None and call.task is not None and not self._closing:
            self._loop.call_soon_threadsafe(call.task.cancel)

    def close(self) -> None:
        """Cancel its tasks. Calls that have not begun do not begin."""
        if self._loop is not None and not self._closing:
            self._closing = True
            self._loop.call_soon_threadsafe(self._stop)

    # ---------------------------------------------------------------- in the plug-in's thread

    def _serve(self) -> None:
        assert self._loop is not None
        while not self._stopping:
            self._run_loop(self._loop)
        self._cancel_tasks(self._loop)

    def _stop(self) -> None:
        assert self._loop is not None
        self._stopping = True
        self._loop.stop()

    def _cancel_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel every task and run each to its end: asyncio complains about a task that is dropped unfinished."""
        deadline, cancelled = time.monotonic() + _CANCEL_S, set[asyncio.Task[Any]]()
        while (tasks := asyncio.all_tasks(loop)) and time.monotonic() < deadline:
            for task in tasks - cancelled:
                task.cancel()
            cancelled |= tasks
            loop.call_later(_CANCEL_STEP_S, loop.stop)
            self._run_loop(loop)
        loop.close()

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until it is stopped, or something in it stops it."""
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  a task of the plug-in may even raise SystemExit
            self._log.error("plug-in stopped its loop", why=type(error).__name__)

    def _begin(self, call: PluginCall) -> None:
        assert self._loop is not None
        if call.abandoned or self._stopping:
            self._answers.put(call, Failure("given up"))
            return
        call.begun = True
        try:
            call.task = self._loop.create_task(_run_async(call.function, call.event))
        except RuntimeError as error:
            self._answers.put(call, Failure(str(error)))
            return
        call.task.add_done_callback(lambda task: self._end(call, task))

    def _end(self, call: PluginCall, task: asyncio.Task[object]) -> None:
        call.task = None
        self._answers.put(call, Failure("cancelled") if task.cancelled() else task.result())

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        if self._tasks >= MAX_TASKS:
            work.close()
            raise RuntimeError("this plug-in has too many tasks")
        task = asyncio.Task(work, loop=loop, **more)
        self._tasks += 1
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks -= 1

    def _log_background_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task that the plug-in started and does not await has failed, or a callback."""
        error = context.get("exception")
        failure = _failure(error) if isinstance(error, BaseException) else Failure(str(context.get("message")))
        self._log.error("plug-in failed in the background", **_fields(failure))


def _fields(failure: Failure) -> dict[str, str]:
    return {"why": failure.why, "stack": failure.stack} if failure.stack else {"why": failure.why}


def _failure(error: BaseException) -> Failure:
    """The innermost frame last. Source lines are not read: this runs in many threads, whenever something fails."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    lines = (f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames[-_MAX_FRAMES:])
    return Failure(type(error).__name__, "\n".join(lines))


def _run(function: Callable[[Any], Any], event: object) -> object:
    """The function's answer, or a Failure."""
    try:
        answer = function(event)
    except BaseException as error:  # noqa: BLE001  logged by core.plugins.plugin
        return _failure(error)
    if isinstance(answer, Coroutine):
        answer.close()
        return Failure("it returned a coroutine: it must be declared async")
    return answer


async def _run_async(function: Callable[[Any], Any], event: object) -> object:
    """The function's answer, or a Failure. A CancelledError that the function raises itself is a failure like any
    other; if we cancelled the call, nobody reads its result."""
    try:
        answer: object = await function(event)
    except BaseException as error:  # noqa: BLE001  logged by core.plugins.plugin
        return _failure(error)
    return answer
