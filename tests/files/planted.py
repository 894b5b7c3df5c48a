"""Bugs that could lose the content of a file, or keep it for ever, planted in the process that is killed.

Owns: BUGS, by name; each replaces a part of chatd in this process.
Elsewhere: the process (tests.files.killed), and the test that it finds them (tests.files.test_killed).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from chatd.core import file_upkeep, uploads
from chatd.core.file_upkeep import FileUpkeep
from chatd.core.uploads import Uploads
from chatd.files.content import FileContent
from chatd.store.contract import Content, FileRow
from chatd.store.file_contract import blob_name
from chatd.store.sql import accounts, files, revisions


async def _row_first(self: Uploads, file: FileRow) -> FileRow:
    """The row is complete before the content has its name."""
    if file.state:
        return file
    seen = await self._content.see(file.id, is_picture=False)
    content = Content(blob_name(file.id, seen.sha256), seen.sha256)
    done = await self._store.write(partial(uploads._complete, file.id, content))
    await self._content.keep(file.id, seen.sha256)
    return done


def row_before_content() -> None:
    Uploads.finish = _row_first  # type: ignore[method-assign]


def nothing_is_doomed() -> None:
    """Rows go, and nobody remembers their content."""

    def forget(db: Any, condition: str, values: Any) -> None:
        db.execute(f"DELETE FROM file WHERE {condition}", values)

    for module in files, revisions, accounts:
        module.forget = forget  # type: ignore[attr-defined]


async def _mark_first(self: FileUpkeep, content: FileContent) -> None:
    """What is to be deleted is off the list before it is deleted."""
    before_ms, now_ms = file_upkeep.wall_clock.now_ms() - 600_000, file_upkeep.wall_clock.now_ms()  # type: ignore[attr-defined]
    names = await self._store.write(partial(file_upkeep._expire, before_ms, now_ms))
    await self._store.write(partial(file_upkeep._deleted, names, now_ms))
    for name in names:
        await content.delete(name)


def off_the_list_first() -> None:
    FileUpkeep._work = _mark_first  # type: ignore[method-assign]


def a_blob_in_use_is_deleted() -> None:
    """Two files have the same content, and one of them goes."""
    files.SqlFiles._is_in_use = lambda self, name: False  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        row_before_content,
        nothing_is_doomed,
        off_the_list_first,
        a_blob_in_use_is_deleted,
    )
}
