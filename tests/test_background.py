"""Background tasks: owned until they end, an unexpected exception is logged once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config.schema import LogOptions
from tests.harness import deadline


def test_settle_waits_also_for_tasks_started_meanwhile() -> None:
    done: list[str] = []

    async def story() -> None:
        tasks = BackgroundTasks(asyncio.get_running_loop())

        async def second() -> None:
            await asyncio.sleep(0)
            done.append("second")

        async def first() -> None:
            await asyncio.sleep(0)
            tasks.start(second())
            done.append("first")

        tasks.start(first())
        assert len(tasks) == 1
        await tasks.settle()
        assert len(tasks) == 0

    deadline.run(story(), 10.0)
    assert done == ["first", "second"]


def test_cancel_ends_every_task_and_is_no_error(tmp_path: Path) -> None:
    async def story() -> None:
        tasks = BackgroundTasks(asyncio.get_running_loop())
        task = tasks.start(asyncio.Event().wait())  # type: ignore[arg-type]  # it is never set
        await asyncio.sleep(0)
        await tasks.cancel()
        assert task.cancelled()
        assert len(tasks) == 0

    assert _logged(tmp_path, story()) == ""


def test_an_unexpected_exception_is_logged_once_with_its_traceback_and_harms_no_other_task(tmp_path: Path) -> None:
    async def story() -> None:
        tasks = BackgroundTasks(asyncio.get_running_loop())
        ended: list[bool] = []

        async def fails() -> None:
            raise ZeroDivisionError("planted")

        async def works() -> None:
            await asyncio.sleep(0)
            ended.append(True)

        tasks.start(fails())
        tasks.start(works())
        await tasks.settle()
        assert ended == [True]

    text = _logged(tmp_path, story())
    assert text.count("unexpected exception in a background task") == 1
    assert "ZeroDivisionError: planted" in text


def _logged(tmp_path: Path, story: Coroutine[Any, Any, None]) -> str:
    log.setup(LogOptions(), str(tmp_path))
    try:
        deadline.run(story, 10.0)
    finally:
        log.setup(LogOptions(format="text"), "-")
    return (tmp_path / "error.log").read_text()
