"""One plug-in and everything it may do wrong. The worker's loop is the test's own: it must go on."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from chatd import log
from chatd.config.schema import PluginOptions
from chatd.core.plugins import executors
from chatd.core.plugins import plugin as module
from chatd.core.plugins.contract import Point, Reply, Request, Rewrite, Veto
from chatd.core.plugins.guard import Cause
from chatd.core.plugins.plugin import Plugin, PluginFailed
from chatd.model import User
from chatd.repeats import Repeats
from tests.harness.deadline import run, until

ASKED = Request(User(1, "alice"), "hello", -1, "fp", "", "mobileimsdk")
BODY_BYTES = 100
CLOCK_STEP_S = 0.001
"""A loop may call so much too early."""
Function = Callable[[Any], Any]


class Clock:
    """The running loop, with a time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Made:
    def __init__(self, function: Function) -> None:
        self.before_request = function


def plugin_of_made(made: object) -> Plugin:
    return Plugin(PluginOptions(name="it", fail="open"), made, asyncio.get_running_loop())


def plugin_of(function: Function, clock: Any = None, **options: Any) -> Plugin:
    return Plugin(PluginOptions(**{"name": "it", "fail": "open", **options}), Made(function), clock or Clock())


async def ask(plugin: Plugin, cause: Cause = 1) -> object:
    return await plugin.call(Point.BEFORE_REQUEST, ASKED, cause, BODY_BYTES)


async def fails(plugin: Plugin, cause: Cause = 1) -> bool:
    try:
        await ask(plugin, cause)
    except PluginFailed:
        return True
    return False


def play(function: Function, story: Callable[[Plugin], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def whole() -> None:
        plugin = plugin_of(function, **options)
        try:
            await story(plugin)
        finally:
            plugin.close()

    run(whole(), 30.0)


@pytest.fixture(autouse=True)
def no_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have logged does not hold anything back here."""
    monkeypatch.setattr(log._sink, "repeats", Repeats())


def plain(answer: object) -> Function:
    return lambda request: answer


def eager(answer: object) -> Function:
    async def function(request: Request) -> object:
        await asyncio.sleep(0)
        return answer

    return function


@pytest.mark.parametrize("kind", [plain, eager])
@pytest.mark.parametrize(
    "answer", [None, Reply("hi"), Veto(), Veto("no", 2000), Veto("no", 1038), Rewrite("other"), Rewrite(None, 7)]
)
def test_an_answer_comes_back(kind: Callable[[object], Function], answer: object) -> None:
    async def story(plugin: Plugin) -> None:
        assert await ask(plugin) == answer
        assert plugin.failures == 0

    play(kind(answer), story)


class Sly(str):
    """Would run in the worker's loop."""

    def encode(self, *args: Any, **more: Any) -> bytes:
        raise SystemExit


def test_what_is_not_quite_a_text_becomes_one() -> None:
    async def story(plugin: Plugin) -> None:
        answer = await ask(plugin)
        assert isinstance(answer, Reply)
        assert type(answer.text) is str

    play(plain(Reply(Sly("hi"))), story)


@pytest.mark.parametrize("kind", [plain, eager])
@pytest.mark.parametrize(
    "answer",
    [
        True,
        "hi",
        {"text": "hi"},
        Reply(None),  # type: ignore[arg-type]
        Reply("\ud800"),
        Veto(b"no"),  # type: ignore[arg-type]
        Veto("no", "1039"),  # type: ignore[arg-type]
        Veto("no", 0),
        Veto("no", 301),
        Veto("no", 10000),
        Rewrite("x" * (BODY_BYTES + 1)),
        Rewrite("é" * BODY_BYTES),
        Rewrite(7),  # type: ignore[arg-type]
        Rewrite(None, 2**31),
        Rewrite(None, "7"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_nonsense_is_a_failure(kind: Callable[[object], Function], answer: object) -> None:
    async def story(plugin: Plugin) -> None:
        assert await fails(plugin)
        assert plugin.failures == 1

    play(kind(answer), story)


def raising(error: type[BaseException]) -> Function:
    def function(request: Request) -> None:
        raise error

    return function


def raising_async(error: type[BaseException]) -> Function:
    async def function(request: Request) -> None:
        raise error

    return function


@pytest.mark.parametrize("kind", [raising, raising_async])
@pytest.mark.parametrize(
    "error", [ValueError, StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
def test_whatever_is_raised_ends_in_the_plugin(
    kind: Callable[[type[BaseException]], Function], error: type[BaseException]
) -> None:
    async def story(plugin: Plugin) -> None:
        assert [await fails(plugin) for _ in range(3)] == [True] * 3
        assert plugin.failures == 3

    play(kind(error), story)


def test_what_an_exception_says_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    def function(request: Request) -> None:
        raise ValueError(f"cannot read {request.body} of {request.sender}")

    async def story(plugin: Plugin) -> None:
        assert await fails(plugin)

    play(function, story)
    told = capfd.readouterr().err
    assert "ValueError" in told
    assert "in function" in told
    assert "cannot read hello" not in told
    assert "alice" not in told


def test_a_plain_function_that_returns_a_coroutine_is_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    async def story(plugin: Plugin) -> None:
        assert await fails(plugin)

    play(lambda request: eager(None)(request), story)
    assert "must be declared async" in capfd.readouterr().err


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_blocks_is_waited_for_no_longer_than_its_limit(is_async: bool) -> None:
    """The async one blocks its own loop, which is worse."""
    gate = threading.Event()

    def block(request: Request) -> None:
        gate.wait(30)

    async def block_async(request: Request) -> None:
        gate.wait(30)

    async def story(plugin: Plugin) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(tick())
        try:
            for user in (1, 2, 3):
                began, before = loop.time(), ticks
                assert await fails(plugin, user)
                assert 0.1 - CLOCK_STEP_S <= loop.time() - began < 20, "it blocks for 30 s"
                assert ticks > before, "this loop went on"
        finally:
            gate.set()
            ticking.cancel()

    play(block_async if is_async else block, story, time_limit_ms=100)


def test_one_that_does_not_let_itself_be_cancelled() -> None:
    gate = threading.Event()

    async def function(request: Request) -> None:
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def story(plugin: Plugin) -> None:
        try:
            assert await fails(plugin)
        finally:
            gate.set()

    play(function, story, time_limit_ms=50)


def test_calls_that_wait_for_a_thread_are_bounded_and_those_given_up_never_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 8)
    gate, ran = threading.Event(), []

    def function(request: Request) -> None:
        ran.append(request)
        gate.wait(30)

    async def story(plugin: Plugin) -> None:
        assert all(await asyncio.gather(*(fails(plugin) for _ in range(20))))
        assert len(ran) == 2
        gate.set()

        async def works() -> bool:
            return not await fails(plugin)

        ends = time.monotonic() + 10
        while not await works():
            assert time.monotonic() < ends
            await asyncio.sleep(0.01)
        assert len(ran) >= 3
        assert len(ran) < 12, "what was given up in the queue did not run later"

    play(function, story, time_limit_ms=1000, threads=2, breaker_failures=1000)


def test_tasks_it_leaks_are_bounded_and_end_in_its_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "MAX_TASKS", 50)
    kept = []

    async def function(request: Request) -> None:
        for _ in range(20):
            kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))

    async def story(plugin: Plugin) -> None:
        before = len(asyncio.all_tasks())
        assert [await fails(plugin) for _ in range(4)] == [False, False, True, True]
        assert len(kept) <= 50
        assert len(asyncio.all_tasks()) == before

    play(function, story, breaker_failures=1000)


def test_a_leaked_task_that_stops_its_loop_stops_only_one_round(capfd: pytest.CaptureFixture[str]) -> None:
    kept = []

    async def leave() -> None:
        raise SystemExit

    async def function(request: Request) -> None:
        kept.append(asyncio.get_running_loop().create_task(leave()))

    async def story(plugin: Plugin) -> None:
        for _ in range(3):
            assert not await fails(plugin)
        await until(5, "every leaked task has run", lambda: all(task.done() for task in kept))
        assert not await fails(plugin)

    play(function, story)
    assert "stopped its loop" in capfd.readouterr().err


@pytest.mark.filterwarnings("error")
def test_tasks_end_with_the_plugin_also_those_that_have_not_begun() -> None:
    """Otherwise each of them complains when it is garbage collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what other tests have left is not this one's
    kept: list[asyncio.Task[Any]] = []
    began: list[Request] = []
    gate, held = threading.Event(), threading.Event()

    async def function(request: Request) -> None:
        began.append(request)
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))
        held.set()
        gate.wait(30)  # its loop does not turn

    async def story(plugin: Plugin) -> None:
        calls = [asyncio.create_task(fails(plugin))]
        await until(10, "it holds the loop", held.is_set)
        calls.append(asyncio.create_task(fails(plugin)))
        await asyncio.sleep(0)
        plugin.close()
        gate.set()
        await asyncio.gather(*calls)
        await until(10, "its thread has ended", lambda: "hook-it-loop" not in [t.name for t in threading.enumerate()])
        assert (len(began), kept[0].cancelled()) == (1, True)
        gc.collect()

    play(function, story)


def test_the_breaker_opens_and_after_a_while_one_call_tries_it(capfd: pytest.CaptureFixture[str]) -> None:
    works = False
    calls = 0

    def function(request: Request) -> Reply:
        nonlocal calls
        calls += 1
        if not works:
            raise ValueError
        return Reply("hi")

    async def whole() -> None:
        nonlocal works
        clock = Clock()
        plugin = plugin_of(function, clock, breaker_failures=3, breaker_s=30.0, fail="closed")
        assert [await fails(plugin, user) for user in range(10)] == [True] * 10
        assert (calls, plugin.failures, plugin.suspended) == (3, 3, 1)
        clock.now += 30
        assert [await fails(plugin, user) for user in range(10)] == [True] * 10
        assert (calls, plugin.failures, plugin.suspended) == (4, 4, 1)
        works = True
        clock.now += 29.9
        assert await fails(plugin, 20)
        clock.now += 0.1
        assert await ask(plugin, 20) == Reply("hi")
        assert (calls, plugin.failures, plugin.suspended) == (5, 4, 0)
        assert await ask(plugin) == Reply("hi"), "also for those for whom it failed"
        plugin.close()

    run(whole())
    told = capfd.readouterr().err
    assert told.count("[ERROR]") == 4 + 1
    assert told.count("security=hook_suspended") == told.count("scope='for all users'") == 1
    assert told.count("fail=closed") == 1
    assert told.count("plug-in works again") == 1


def test_each_function_is_suspended_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    class Two:
        def before_message(self, event: object) -> None:
            raise ValueError

        def after_stored(self, event: object) -> None:
            raise ValueError

        def before_login(self, event: object) -> Veto:
            return Veto("not you")

    async def whole() -> None:
        options = PluginOptions(name="it", fail="closed", breaker_failures=3)
        plugin = Plugin(options, Two(), asyncio.get_running_loop())
        for point in (Point.BEFORE_MESSAGE, Point.AFTER_STORED):
            for user in range(3):
                with pytest.raises(PluginFailed):
                    await plugin.call(point, ASKED, user)
        assert plugin.suspended == 2
        assert await plugin.call(Point.BEFORE_LOGIN, ASKED, "192.0.2.1") == Veto("not you")
        plugin.close()

    run(whole())
    told = capfd.readouterr().err
    assert told.count("security=hook_suspended") == 1, "of the one that decides"
    assert told.count("plug-in failed too often and is not called for a while") == 1, "of the one that is told"


def test_a_user_for_whom_it_fails_is_held_back_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def function(request: Request) -> Reply:
        if request.body == "bad":
            raise ValueError
        return Reply("hi")

    async def whole() -> None:
        clock = Clock()
        plugin = plugin_of(function, clock, breaker_failures=3, breaker_s=30.0)
        bad = Request(User(7, "mallory"), "bad", -1, "fp", "", "mobileimsdk")
        for _ in range(10):
            with pytest.raises(PluginFailed):
                await plugin.call(Point.BEFORE_REQUEST, bad, 7)
            assert await ask(plugin, 1) == Reply("hi")
        assert (plugin.failures, plugin.suspended, plugin.held) == (3, 0, 1)
        assert await fails(plugin, 7), "whatever they say"
        clock.now += 60
        assert plugin.held == 0
        assert await ask(plugin, 7) == Reply("hi")
        plugin.close()

    run(whole())
    told = capfd.readouterr().err
    assert told.count("security=hook_suspended") == told.count("scope='for one user' for_s=60.0 user=7") == 1
    assert told.count("plug-in works again for a user") == 1


def test_a_user_whose_call_goes_on_has_no_other() -> None:
    """Otherwise a few users could take all threads of a plug-in."""
    gate, called = threading.Event(), []

    def function(request: Request) -> None:
        called.append(request)
        if len(called) == 1:
            gate.wait(30)

    async def story(plugin: Plugin) -> None:
        assert await fails(plugin, 1)
        assert await fails(plugin, 1)
        assert (len(called), plugin.held) == (1, 1)
        assert not await fails(plugin, 2)
        gate.set()
        await until(10, "the call has ended", lambda: not plugin.held)
        assert not await fails(plugin, 1)

    play(function, story, time_limit_ms=100)


def test_a_call_given_up_by_its_caller_counts_and_leaves_nothing_behind() -> None:
    gate = threading.Event()

    async def story(plugin: Plugin) -> None:
        call = asyncio.create_task(ask(plugin))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert plugin.failures == 1

    play(lambda request: gate.wait(30), story)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (object(), "none of"),
        (type("Typo", (), {"before_massage": lambda self, event: None})(), "no point before_massage"),
        (type("Flag", (), {"before_login": True})(), "not a function"),
        (None, "none of"),
    ],
)
def test_what_is_no_plugin_is_told_at_the_start(made: object, why: str) -> None:
    async def story() -> None:
        with pytest.raises(ValueError, match=why):
            plugin_of_made(made)

    run(story())
