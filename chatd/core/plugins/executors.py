"""The threads in which a plug-in runs, and the way there and back.

Owns: Pool, threads for plain functions; OwnLoop, a thread with a loop for async ones, bounded in tasks. Whatever a call
raises, SystemExit too, becomes a Raised. Answers of one turn come back with one wake-up of the worker's loop.
Elsewhere: how long is waited, and how many calls there may be (core.plugins.plugin).
Fails: never. A call that does not end keeps its thread or task; the threads end with the process.
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

_MOST_TASKS = 2000
"""In the loop of one plug-in, those it has started itself included."""
_WIND_UP_S, _WIND_UP_STEP_S = 2.0, 0.01
"""At the end, a plug-in's tasks have so long to take notice that they are cancelled."""
_FRAMES = 20


class Raised(NamedTuple):
    """Why there is no answer: an exception's type and where it was raised, or words of ours."""

    why: str
    stack: str


class Call:
    """One call on its way. answer: a future of the worker's loop. given_up: nobody waits for it any more."""

    __slots__ = ("answer", "ended", "event", "function", "given_up", "task")

    def __init__(self, function: Callable[[Any], Any], event: object, answer: asyncio.Future[object]) -> None:
        self.function = function
        self.event = event
        self.answer = answer
        self.given_up = False
        self.ended = False
        self.task: asyncio.Task[object] | None = None


OnEnd = Callable[[Call, object], None]


class _Way:
    """Things from one thread to a loop: many put in one turn wake it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[..., None]) -> None:
        self._loop = loop
        self._take = take
        self._things: deque[tuple[Any, ...]] = deque()
        self._woken = False

    def put(self, *thing: Any) -> None:
        """From any thread. Two that put at once may both wake it, which does no harm."""
        self._things.append(thing)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                if not self._loop.is_closed():  # else nobody is left to be told
                    raise

    def _empty(self) -> None:
        self._woken = False  # first: what is put from now on wakes again
        while self._things:
            self._take(*self._things.popleft())


class Pool:
    """Plain functions. Each of the first calls starts a thread."""

    def __init__(self, name: str, threads: int, on_end: OnEnd, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._threads = threads
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._back = _Way(loop, on_end)
        self._started = 0

    def run(self, call: Call) -> None:
        self._calls.put(call)
        if self._started < self._threads:
            self._started += 1
            threading.Thread(target=self._serve, name=f"hook-{self._name}", daemon=True).start()

    def give_up(self, call: Call) -> None:
        """One that has begun cannot be stopped."""

    def close(self) -> None:
        for _ in range(self._started):
            self._calls.put(None)

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            self._back.put(call, Raised("given up", "") if call.given_up else _guard(call.function, call.event))
            del call


class OwnLoop:
    """Async functions. The thread starts with the first call."""

    def __init__(self, name: str, on_end: OnEnd, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._back = _Way(loop, on_end)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._way: _Way | None = None
        self._tasks = 0
        self._closing = False
        self._stopping = False
        self._log = log.get(hook=name)

    def run(self, call: Call) -> None:
        if self._way is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_task_factory(self._make_task)
            self._loop.set_exception_handler(self._complain)
            self._way = _Way(self._loop, self._begin)
            threading.Thread(target=self._serve, name=f"hook-{self._name}-loop", daemon=True).start()
        self._way.put(call)

    def give_up(self, call: Call) -> None:
        if self._loop is not None and call.task is not None and not self._closing:
            self._loop.call_soon_threadsafe(call.task.cancel)

    def close(self) -> None:
        """Its tasks are cancelled, also those that have not begun."""
        if self._loop is not None and not self._closing:
            self._closing = True
            self._loop.call_soon_threadsafe(self._stop)

    # ---------------------------------------------------------------- in its thread

    def _serve(self) -> None:
        assert self._loop is not None
        while not self._stopping:
            self._turn(self._loop)
        self._wind_up(self._loop)

    def _stop(self) -> None:
        assert self._loop is not None
        self._stopping = True
        self._loop.stop()

    def _wind_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task that is not run any more would complain when it is forgotten; so each is run to its end."""
        ends, told = time.monotonic() + _WIND_UP_S, set[asyncio.Task[Any]]()
        while (tasks := asyncio.all_tasks(loop)) and time.monotonic() < ends:
            for task in tasks - told:
                task.cancel()
            told |= tasks
            loop.call_later(_WIND_UP_STEP_S, loop.stop)
            self._turn(loop)
        loop.close()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  a task of the plug-in may even raise SystemExit
            self._log.error("plug-in stopped its loop", why=type(error).__name__)

    def _begin(self, call: Call) -> None:
        assert self._loop is not None
        if call.given_up or self._stopping:
            self._back.put(call, Raised("given up", ""))
            return
        try:
            call.task = self._loop.create_task(_guard_async(call.function, call.event))
        except RuntimeError as error:
            self._back.put(call, Raised(str(error), ""))
            return
        call.task.add_done_callback(lambda task: self._end(call, task))

    def _end(self, call: Call, task: asyncio.Task[object]) -> None:
        call.task = None
        self._back.put(call, Raised("cancelled", "") if task.cancelled() else task.result())

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

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task it has left alone has failed, or a callback."""
        error = context.get("exception")
        told = _raised(error)._asdict() if isinstance(error, BaseException) else {"why": str(context.get("message"))}
        self._log.error("plug-in failed in the background", **told)


def _raised(error: BaseException) -> Raised:
    """Innermost last. Lines of source are not read for it: this runs in many threads, whenever something fails."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    told = (f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames[-_FRAMES:])
    return Raised(type(error).__name__, "\n".join(told))


def _guard(function: Callable[[Any], Any], event: object) -> object:
    try:
        answer = function(event)
    except BaseException as error:  # noqa: BLE001  told by core.plugins.plugin
        return _raised(error)
    if isinstance(answer, Coroutine):
        answer.close()
        return Raised("it returned a coroutine: it must be declared async", "")
    return answer


async def _guard_async(function: Callable[[Any], Any], event: object) -> object:
    """A CancelledError of its own is a failure; nobody reads the result of one of ours."""
    try:
        answer: object = await function(event)
    except BaseException as error:  # noqa: BLE001  told by core.plugins.plugin
        return _raised(error)
    return answer
